# SPDX-License-Identifier: Apache-2.0
"""Running programs on a board over SSH.

In: a program's file, a board's address.  Out: outputs, statistics, bench results.
``deploy``, ``bundles``, ``remote_board`` and ``ssh`` run on this machine; ``board_receive`` and
``board_run`` run on the board.
"""
