# SPDX-License-Identifier: Apache-2.0
"""LLVM IR text: one function's blocks, and the sizes of types in bytes.

In: what clang wrote.  Out: ``Function`` and ``Types``; nothing is computed here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NAME = r'%[\w.$-]+|%"[^"]+"'
LABEL = re.compile(r'^([\w.$-]+|"[^"]+"):')


class RtlError(Exception):
    """A unit cannot be translated, a tool is missing or failed; the text says what to do."""


@dataclass(frozen=True)
class Function:
    """A function's pointer parameters, and its instructions by block, in the order written."""

    parameters: tuple[str, ...]
    blocks: dict[str, list[str]]

    def in_order(self) -> list[str]:
        """The blocks so that each comes after all that lead to it."""
        after = {b: re.findall(rf"label ({NAME})", lines[-1]) for b, lines in self.blocks.items()}
        done: list[str] = []
        open_blocks: set[str] = set()

        def visit(block: str) -> None:
            open_blocks.add(block)
            for successor in after[block]:
                if successor in open_blocks:
                    raise RtlError(f"a loop at {successor} is left: its trip count is not constant")
                if successor not in done:
                    visit(successor)
            open_blocks.discard(block)
            done.append(block)

        visit(next(iter(self.blocks)))
        return done[::-1]


def function(text: str, name: str) -> Function:
    """The function of a name; a switch of several lines becomes one instruction."""
    pattern = rf"^define [^\n]*@{re.escape(name)}\(([^\n]*)\)[^\n]*\{{\n(.*?)^\}}"
    found = re.search(pattern, text, re.S | re.M)
    if found is None:
        raise RtlError(f"no function {name} in the LLVM IR")
    parameters = tuple(re.findall(r"ptr [^%,]*(%[\w.]+)", found.group(1)))
    blocks: dict[str, list[str]] = {}
    current: list[str] = []
    lines = iter(found.group(2).split("\n"))
    for raw in lines:
        line = raw.split(" ;")[0].rstrip()
        label = LABEL.match(line)
        if label:
            current = blocks.setdefault("%" + label.group(1), [])
        elif line:
            line = line.strip()
            while line.startswith("switch") and "]" not in line:
                line += " " + next(lines).strip()
            if not blocks:  # an entry block without a label
                current = blocks.setdefault("%0", [])
            current.append(re.sub(r", ![\w.]+ !\d+|, align \d+|, !srcloc.*", "", line))
    return Function(parameters, blocks)


def _members(body: str) -> list[str]:
    """The types between a struct's braces."""
    parts, depth, part = [], 0, ""
    for c in body:
        depth += (c in "[{") - (c in "]}")
        if c == "," and depth == 0:
            parts.append(part.strip())
            part = ""
        else:
            part += c
    return [*parts, part.strip()]


class Types:
    """Sizes, alignments and members' offsets, in bytes, of a 64-bit target."""

    def __init__(self, text: str) -> None:
        found = re.findall(r'^(%[\w.":]+) = type \{(.*)\}$', text, re.M)
        self.members = {name: _members(body) for name, body in found}

    @staticmethod
    def array(t: str) -> tuple[int, str]:
        """The length and the element type of an array type."""
        found = re.match(r"\[(\d+) x (.*)\]$", t)
        if found is None:
            raise RtlError(f"no array type: {t}")
        return int(found.group(1)), found.group(2)

    def size(self, t: str) -> int:
        """The distance of two consecutive elements."""
        if t == "ptr":
            return 8
        if t.startswith("["):
            count, inner = self.array(t)
            return count * self.size(inner)
        if t.startswith("%"):
            end = self.offset(t, len(self.members[t]))
            return -(-end // self.align(t)) * self.align(t)
        if not re.fullmatch(r"i\d+", t):
            raise RtlError(f"type {t} has no hardware here: only integers, arrays and structs")
        store = -(-int(t[1:]) // 8)
        return 1 << (store - 1).bit_length()

    def align(self, t: str) -> int:
        if t.startswith("["):
            return self.align(self.array(t)[1])
        if t.startswith("%"):
            return max(map(self.align, self.members[t]))
        return min(self.size(t), 8)

    def offset(self, t: str, index: int) -> int:
        """Where a struct's member begins; that after the last is where the members end."""
        at = 0
        for k, member in enumerate(self.members[t]):
            at = -(-at // self.align(member)) * self.align(member)
            if k == index:
                return at
            at += self.size(member)
        return at
