# SPDX-License-Identifier: Apache-2.0
"""Devices that run a program; they need only numpy and the standard library.

In: a program's instructions, constants and arena.  Out: the arena after the run, and its cycles.
"""
