# SPDX-License-Identifier: Apache-2.0
"""Devices that run a program: numpy and the standard library are all they need.

In: a program's instructions, constants and arena.  Out: the arena after the run, and its cycles.
"""
