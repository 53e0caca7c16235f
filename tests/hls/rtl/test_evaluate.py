# SPDX-License-Identifier: Apache-2.0
"""The translator's graphs compute what g++ computes, and no value leaves its node's range.

In: small C++ functions and the kernels' wrappers.  Out: values of graphs run in Python.
"""

from __future__ import annotations

import random
import re
from functools import cache
from pathlib import Path

import pytest
from neuralmatrix.hardware.board import load_board
from rtl import sources
from rtl.arithmetic import Graph
from rtl.delays import FABRICS
from rtl.evaluate import evaluate
from rtl.llvm import RtlError
from rtl.sums import balance, needed
from rtl.translate import translate
from rtl.unit import Bank, Port, Unit, port, ram
from rtl_units import draw, library, needs_clang, needs_gxx, read, run_nodes, write

pytestmark = [needs_clang, needs_gxx]
BOARD = load_board("pynq-z2")
SNIPPETS = Path(__file__).with_name("snippets.cpp")
SOURCE = str(SNIPPETS.with_suffix(""))
NAMES = re.findall(r"^SNIPPET\((\w+)\)", SNIPPETS.read_text(encoding="utf-8"), re.M)
BAD = ("endless", "floating", "global")
PORTS = (
    port("a", "in", "i16*4"),
    port("b", "in", "u8*4"),
    port("c", "in", "i64*2"),
    port("out", "out", "i32*4"),
    port("wide", "out", "i64"),
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rtl")


@cache
def llvm_ir(source: str, build: Path) -> str:
    return sources.llvm_ir(source, BOARD, build).read_text(encoding="utf-8")


loaded = cache(library)


def compare(name: str, source: str, ports: tuple[Port, ...], build: Path, vectors: int) -> int:
    """Holds a graph against the g++ build; returns how many outputs it compared."""
    graph = Graph()
    outputs = evaluate(graph, llvm_ir(source, build), name, ports)
    outputs = balance(graph, outputs, FABRICS["xc7"])
    nodes = needed(graph, [each.node for each in outputs])
    call = getattr(loaded(source, BOARD, build), name)
    rng = random.Random(name)
    by_name = {p.name: p for p in ports}
    compared = 0
    for _ in range(vectors):
        drawn = {p.name: draw(p, rng) for p in ports if p.enters}
        memory = {p.name: write(p, drawn.get(p.name, [0] * len(p.elements))) for p in ports}
        call(*(memory[p.name] for p in ports))
        values = run_nodes(nodes, {(n, k): v for n, d in drawn.items() for k, v in enumerate(d)})
        for each in outputs:
            element = by_name[each.port].elements[each.element]
            expected = read(by_name[each.port], memory[each.port], each.element)
            found = values[each.node.ident]
            assert (found - expected) % (1 << element.bits) == 0, (name, each.port, each.element)
            compared += 1
    return compared


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BAD])
def test_a_graph_computes_what_the_compiler_computes(name: str, build: Path) -> None:
    assert compare(name, SOURCE, PORTS, build, 300) >= 300


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("endless", "its trip count is not constant"),
        ("floating", "no hardware for the instruction: sitofp"),
        ("global", "@kept, which is no port and no local"),
    ],
)
def test_what_has_no_hardware_is_said(name: str, message: str, build: Path) -> None:
    with pytest.raises(RtlError, match=re.escape(message)):
        evaluate(Graph(), llvm_ir(SOURCE, build), name, PORTS)


def test_a_wrapper_with_other_ports_is_refused(build: Path) -> None:
    with pytest.raises(RtlError, match="the wrapper has 5 pointers, the unit 4 ports"):
        evaluate(Graph(), llvm_ir(SOURCE, build), "trees", PORTS[:4])
    with pytest.raises(RtlError, match="no function forest in the LLVM IR"):
        evaluate(Graph(), llvm_ir(SOURCE, build), "forest", PORTS)


def test_an_output_that_is_not_written_is_said(build: Path) -> None:
    llvm_ir(SOURCE, build)
    unit = Unit("bytes", "bytes", SOURCE, lambda board: PORTS)
    message = "bytes for pynq-z2: the wrapper does not write wide[0]"
    with pytest.raises(RtlError, match=re.escape(message)):
        translate(unit, BOARD, build / BOARD.name / "snippets.ll")


def test_a_ram_is_only_read(build: Path) -> None:
    memory = ram("out", "int32_t", Bank("words", 4, 4, 32, ""))
    with pytest.raises(RtlError, match="a store to out, which is a RAM that units only read"):
        evaluate(Graph(), llvm_ir(SOURCE, build), "bytes", (*PORTS[:3], memory, PORTS[4]))


def test_all_snippets_are_in_the_module_that_is_simulated() -> None:
    listed = re.search(r"#define EACH\(act\)(.*?)\n\n", SNIPPETS.read_text("utf-8"), re.S)
    assert listed is not None
    assert set(re.findall(r"act\((\w+)\)", listed.group(1))) == set(NAMES) - set(BAD)


SIMULATED = Unit(
    "all_snippets",
    "snippets",
    SOURCE,
    lambda board: (
        *PORTS[:3],
        port("out", "out", f"i32*{4 * (len(NAMES) - len(BAD))}"),
        port("wide", "out", f"i64*{len(NAMES) - len(BAD)}"),
    ),
)
