# SPDX-License-Identifier: Apache-2.0
"""Building overlays: Vitis HLS and Vivado, driven from the board files.

In: a board's name.  Out: a folder with a bitstream and its other files.
"""
