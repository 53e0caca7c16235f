# SPDX-License-Identifier: Apache-2.0
"""Whole small programs: golden listings, and the contents of programs besides instructions.

In: small QGraphs.  Out: verified programs, as golden texts.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_passes import BOARD, Exact, exact, quantized, scheduled
from golden_text import check_golden
from graph_text import array_text, graph_text
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.types import Function
from neuralmatrix.program.disassembly import listing
from neuralmatrix.program.verify import verify_program
from neuralmatrix.quantization.qgraph import QGraph
from quantized import observed


def residual_block() -> MatGraph:
    """Two products, a ReLU between them and a sum after them."""
    b = Exact()
    b.tensor("x", (1, 1, 6, 20))
    b.gemm("h", "x", 8, bias=exact(7, 8), epilogue=Epilogue(activation=Function("relu")))
    b.gemm("y", "h", 20, epilogue=Epilogue("x", 0.5))
    return b.graph()


def scaled_and_moved() -> MatGraph:
    """A window, the maximum of its rows, and a rearrangement across lanes."""
    b = Exact()
    b.tensor("x", (1, 2, 3, 4))
    rows = b.rows((1, 2, 3, 4), ("max", "max"))
    b.window("s", "x", weight=exact(1, 1, 1, 4), epilogue=Epilogue(rows=rows))
    b.window("d", "s", epilogue=Epilogue("max", -1.0))
    turned = np.arange(24).reshape(1, 2, 3, 4).transpose(0, 3, 1, 2)
    b.ops.append(Move("y", ("d",), np.ascontiguousarray(turned)))
    b.tensor("y", (1, 4, 2, 3))
    return b.graph()


def quantized_graph(mg: MatGraph, precision: str = "int8") -> QGraph:
    return quantized(mg, observed(mg, {"x": exact(5, *mg.inputs[0].shape)}), precision)


CASES = {
    "residual_int8": quantized_graph(residual_block()),
    "residual_int16": quantized_graph(residual_block(), "int16"),
    "scaled_and_moved": quantized_graph(scaled_and_moved()),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    program = scheduled(CASES[case])
    check_golden(request, f"schedule/{case}.in.txt", graph_text(CASES[case]))
    text = f"{listing(program)}; constants {array_text(program.const)}\n"
    check_golden(request, f"schedule/{case}.out.txt", text)
    verify_program(program)


def test_tensors_of_a_program_for_inspection_share_no_bytes() -> None:
    apart = scheduled(CASES["residual_int8"], shared=False)
    slots = [point.tensor for point in apart.watchpoints] + [apart.inputs[0].slot]
    spans = sorted((slot.offset, slot.offset + slot.layout.nbytes) for slot in slots)
    assert all(one[1] <= other[0] for one, other in zip(spans, spans[1:], strict=False))
    assert apart.arena_bytes >= scheduled(CASES["residual_int8"]).arena_bytes


def test_a_network_beyond_the_dram_is_refused() -> None:
    tiny = replace(BOARD, dram=replace(BOARD.dram, mbytes=0))
    with pytest.raises(DoesNotFit, match="MiB of DRAM, .* has 0 MiB"):
        scheduled(CASES["residual_int8"], tiny)


def test_layers_are_named_after_what_they_run() -> None:
    layers = scheduled(CASES["scaled_and_moved"]).layers
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("s", "Elementwise"), ("d", "Elementwise"), ("y", "Move"),
    ]  # fmt: skip
    macs = [layer.macs for layer in scheduled(CASES["residual_int8"]).layers]
    assert macs == [6 * 20 * 8, 6 * 8 * 20]
