# SPDX-License-Identifier: Apache-2.0
"""Parses a source with clang, with __SYNTHESIS__ defined.

In: a C++ file.  Out: its syntax tree with the places filled in, its functions, its HLS pragmas.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Node = dict[str, Any]

HLS = Path(__file__).resolve().parents[1]
VENDOR = HLS / "lint" / "vendor"
# A loop's label and a vendor's pragma have a meaning only for the HLS compiler.
STRICT = ["-Wall", "-Wextra", "-Werror", "-Wno-unused-label", "-Wno-unknown-pragmas"]
FLAGS = ["-std=c++14", "-D__SYNTHESIS__", f"-I{HLS / 'include'}", "-isystem", str(VENDOR)]

FUNCTIONS = {
    "FunctionDecl",
    "CXXMethodDecl",
    "CXXConstructorDecl",
    "CXXDestructorDecl",
    "CXXConversionDecl",
}
PRAGMA = re.compile(r"^\s*#pragma HLS (\w+)\s*(.*)$")
MARKER = re.compile(r'^# (\d+) "(.*?)"')


class LintError(Exception):
    """The lint cannot parse the file."""


@dataclass(frozen=True)
class Place:
    file: str
    line: int


@dataclass(frozen=True)
class Pragma:
    """One ``#pragma HLS``: its directive in capitals and its options by name."""

    place: Place
    directive: str
    options: dict[str, str]


@dataclass
class Unit:
    """One source as it is synthesized."""

    source: Path
    root: Node
    pragmas: list[Pragma]
    declared: dict[str, Node] = field(default_factory=dict)  # every declaration by its id
    first: dict[str, str] = field(default_factory=dict)  # a redeclaration's id -> the one before
    bodies: dict[str, Node] = field(default_factory=dict)  # functions defined, by their first id
    tops: list[Node] = field(default_factory=list)
    loose: list[Node] = field(default_factory=list)  # fields and globals of our own files

    def canonical(self, ident: str) -> str:
        while ident in self.first:
            ident = self.first[ident]
        return ident

    def ours(self, node: Node) -> bool:
        """True for files in hls/ or the source's folder, false for system headers."""
        file = place(node).file
        if not file:
            return False
        path = Path(file).resolve()
        return path.is_relative_to(HLS) or path.is_relative_to(self.source.resolve().parent)


def children(node: Node) -> list[Node]:
    return [child for child in node.get("inner", ()) if child]


def descend(node: Node) -> Iterator[Node]:
    """Yield the node and everything below it, in order."""
    stack = [node]
    while stack:
        top = stack.pop()
        yield top
        stack.extend(reversed(children(top)))


def _spot(where: Node) -> Place:
    where = where.get("expansionLoc", where)
    return Place(where.get("file", ""), where.get("line", 0))


def place(node: Node) -> Place:
    """Return where the node begins, or where a declaration's name is."""
    found = _spot(node.get("loc", {}))
    return found if found.file else _spot(node.get("range", {}).get("begin", {}))


def lines(node: Node) -> tuple[Place, int]:
    """Return where the node begins, and its last line."""
    extent = node["range"]
    return _spot(extent["begin"]), _spot(extent["end"]).line


def body_of(node: Node) -> Node | None:
    return next((child for child in children(node) if child["kind"] == "CompoundStmt"), None)


def parse(source: Path) -> Unit:
    """Parse a unit.  LintError: there is no clang or the file does not compile."""
    if shutil.which("clang++") is None:
        raise LintError("no clang++: install clang (Debian: apt-get install clang)")
    text = _clang(source, *STRICT, "-fsyntax-only", "-Xclang", "-ast-dump=json")
    unit = Unit(source, _decode(text), list(_pragmas(_clang(source, "-E"))))
    _index(unit, unit.root)
    return unit


def _clang(source: Path, *flags: str) -> str:
    done = subprocess.run(["clang++", *FLAGS, *flags, str(source)], capture_output=True, text=True)
    if done.returncode:
        raise LintError(f"{source} does not compile for synthesis:\n{done.stderr}")
    return done.stdout


def _decode(text: str) -> Node:
    """Fill in the file and line of places, which clang omits if they did not change."""
    last = {"file": "", "line": 0}

    def fill(found: Node) -> Node:
        if "offset" in found and "col" in found:
            last["file"] = found.setdefault("file", last["file"])
            last["line"] = found.setdefault("line", last["line"])
        return found

    root: Node = json.loads(text, object_hook=fill)
    return root


def _pragmas(text: str) -> Iterator[Pragma]:
    file, line = "", 0
    for row in text.splitlines():
        marker, found = MARKER.match(row), PRAGMA.match(row)
        if marker:
            line, file = int(marker[1]), marker[2]
            continue
        if found:
            yield Pragma(Place(file, line), found[1].upper(), _options(found[2]))
        line += 1


def _options(text: str) -> dict[str, str]:
    """Parse ``a = b c`` to {"a": "b", "c": ""}."""
    words = re.sub(r"\s*=\s*", "=", text).split()
    return {name.lower(): value for name, _, value in (word.partition("=") for word in words)}


def _index(unit: Unit, node: Node) -> None:
    """Fill the tables of the unit.  A template's pattern is no code; its instances are."""
    kind, pattern = node["kind"], True
    for child in children(node):
        if not child["kind"].endswith("Decl"):
            continue
        if kind == "FunctionTemplateDecl" and pattern and child["kind"] in FUNCTIONS:
            pattern = False
            unit.declared[child["id"]] = child
            continue
        if kind == "ClassTemplateDecl" and child["kind"] == "CXXRecordDecl":
            continue
        _enter(unit, child, kind)
        if child["kind"] not in FUNCTIONS:
            _index(unit, child)


def _enter(unit: Unit, decl: Node, parent: str) -> None:
    if decl["id"] in unit.declared and "loc" not in decl:
        return  # a later mention of an instance, without its body
    unit.declared[decl["id"]] = decl
    if "previousDecl" in decl:
        unit.first[decl["id"]] = decl["previousDecl"]
    if decl["kind"] in FUNCTIONS:
        if body_of(decl) is not None:
            unit.bodies[unit.canonical(decl["id"])] = decl
            if parent == "LinkageSpecDecl" and unit.ours(decl):
                unit.tops.append(decl)
        for local in descend(decl):
            if local.get("kind") in ("VarDecl", "ParmVarDecl"):
                unit.declared[local["id"]] = local
    elif decl["kind"] in ("FieldDecl", "VarDecl") and unit.ours(decl):
        unit.loose.append(decl)
