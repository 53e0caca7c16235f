# SPDX-License-Identifier: Apache-2.0
"""From a QGraph to a Program: memory, tiles, instructions, tokens.

In: ``QGraph``, ``Board``.  Out: ``schedule(graph, board) -> Program``.
"""

from .build import schedule

__all__ = ["schedule"]
