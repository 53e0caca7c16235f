# SPDX-License-Identifier: Apache-2.0
"""Units of the open RTL path under test: run on numbers in Python, and by the g++ build.

In: a data-flow graph, or a wrapper's shared library.  Out: values of its outputs.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from neuralmatrix.hardware.board import Board
from rtl import sources, tools
from rtl.llvm import RtlError
from rtl.nodes import Node, wrap
from rtl.unit import Port

Inputs = dict[tuple[str, int], int]


def clang_missing() -> str:
    """Why no unit can be translated here; empty if one can."""
    try:
        tools.clang()
    except RtlError as error:
        return str(error)
    return ""


needs_clang = pytest.mark.skipif(bool(clang_missing()), reason=clang_missing())
needs_gxx = pytest.mark.skipif(not shutil.which("g++"), reason="no g++: apt-get install g++")
needs_verilator = pytest.mark.skipif(
    not shutil.which("verilator"), reason="no verilator: apt-get install verilator"
)
needs_yosys = pytest.mark.skipif(
    not shutil.which("yosys"), reason="no yosys: apt-get install yosys"
)

COMPARED: dict[str, Callable[[int, int], bool]] = {
    "gt": int.__gt__,
    "ge": int.__ge__,
    "lt": int.__lt__,
    "le": int.__le__,
    "eq": int.__eq__,
    "ne": int.__ne__,
}


def value(node: Node, args: list[int], inputs: Inputs) -> int:
    """What a node is, said a second time: by Python's own integers."""
    mask = (1 << node.args[0].width) - 1 if node.args else 0
    rules: dict[str, Callable[[], int]] = {
        "const": lambda: node.extra,
        "in": lambda: inputs[node.extra],
        "alias": lambda: args[0],
        "low": lambda: args[0],
        "uns": lambda: args[0] & mask,
        "bit0": lambda: args[0] & 1,
        "not": lambda: 1 - args[0],
        "and": lambda: args[0] & args[1],
        "or": lambda: args[0] | args[1],
        "xor": lambda: args[0] ^ args[1],
        "add": lambda: args[0] + args[1],
        "sub": lambda: args[0] - args[1],
        "mul": lambda: args[0] * args[1],
        "mac": lambda: args[0] * args[1] + args[2],
        "shl": lambda: args[0] << min(args[1] & 127, node.width),
        "ashr": lambda: args[0] >> min(args[1] & 127, node.width),
        "lshr": lambda: (args[0] & mask) >> min(args[1] & 127, node.width),
        "icmp": lambda: int(COMPARED[node.extra](args[0], args[1])),
        "select": lambda: args[1] if args[0] else args[2],
    }
    return wrap(rules[node.op](), node.width)


def run_nodes(nodes: list[Node], inputs: Inputs) -> dict[int, int]:
    """The value of every node; fails where one lies outside the range that the node promises."""
    values: dict[int, int] = {}
    for node in nodes:
        found = value(node, [values[x.ident] for x in node.args], inputs)
        assert node.low <= found <= node.high, (node.op, node.low, node.high, found)
        values[node.ident] = found
    return values


def library(source: str, board: Board, build: Path) -> ctypes.CDLL:
    """The g++ build of a source's wrappers."""
    to = build / f"{Path(source).name}.so"
    include = sources.include_folders(board, build, device=False)
    command = ["g++", "-std=c++17", "-O1", "-w", "-fwrapv", "-shared", "-fPIC", *include]
    subprocess.run([*command, str(sources.wrapper(source)), "-o", str(to)], check=True)
    return ctypes.CDLL(str(to))


def draw(port: Port, rng: random.Random) -> list[int]:
    """One vector of a port: extremes as often as all else."""
    found = []
    for each in port.elements:
        low = -(1 << each.bits - 1) if each.signed else 0
        high = low + (1 << each.bits) - 1
        found.append(rng.choice([low, high, 0, 1, rng.randint(low, high), rng.randint(low, high)]))
    return found


def write(port: Port, values: list[int]) -> ctypes.Array[ctypes.c_char]:
    """A port's memory with these elements."""
    memory = ctypes.create_string_buffer(port.size + 16)
    for each, number in zip(port.elements, values, strict=True):
        size = each.width // 8
        raw = number.to_bytes(size, "little", signed=each.signed)
        memory[each.offset : each.offset + size] = raw
    return memory


def read(port: Port, memory: ctypes.Array[ctypes.c_char], element: int) -> int:
    each = port.elements[element]
    raw = memory.raw[each.offset : each.offset + each.width // 8]
    return int.from_bytes(raw, "little", signed=each.signed)
