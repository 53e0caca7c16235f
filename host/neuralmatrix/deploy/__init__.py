# SPDX-License-Identifier: Apache-2.0
"""Running programs on a board over SSH.

In: a program's file, a board's address.  Out: what the run brought back.
``run``, ``pieces``, ``remote_board`` and ``ssh`` work here; ``receive`` and ``remote`` run there.
"""
