# SPDX-License-Identifier: Apache-2.0
"""The lint's diagnostics and their places.

In: a node of the syntax tree or a place.  Out: one finding, in the form that compilers use.
"""

from __future__ import annotations

from dataclasses import dataclass

from tree import Node, Place, lines, place


@dataclass(frozen=True, order=True)
class Finding:
    file: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.rule}: {self.text}"


def finding(where: Node | Place, rule: str, text: str) -> Finding:
    spot = where if isinstance(where, Place) else place(where)
    return Finding(spot.file, spot.line, rule, text)


def holds(node: Node, spot: Place) -> bool:
    begin, end = lines(node)
    return begin.file == spot.file and begin.line <= spot.line <= end
