# SPDX-License-Identifier: Apache-2.0
"""Schedules a QGraph as a Program: memory, tiles, instructions, tokens.

In: ``QGraph``, ``Target``.  Out: ``schedule(graph, target) -> Program``; ``for_board`` gives it a
board's name and clock.
"""

from .build import for_board, schedule

__all__ = ["for_board", "schedule"]
