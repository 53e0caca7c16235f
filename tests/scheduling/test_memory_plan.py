# SPDX-License-Identifier: Apache-2.0
"""Memory: Moves by addresses only, shared bytes, and tensors that are not stored.

In: small QGraphs.  Out: places, and the layers of programs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move, Port, RowStat, Tensor
from neuralmatrix.scheduling.memory_plan import ConstRegion, plan_memory
from quantized import observed, quantized
from targets import scheduled


def concat_graph(c1: int, c2: int, h: int = 3, w: int = 5) -> MatGraph:
    """Two dense layers whose results are joined along the channels."""
    rng = np.random.default_rng(0)
    shapes = {"x": (1, h, w, 8), "a": (1, h, w, c1), "b": (1, h, w, c2), "y": (1, h, w, c1 + c2)}
    tensors = {n: Tensor(n, s) for n, s in shapes.items()}
    first = np.arange(h * w * c1).reshape(1, h, w, c1)
    second = np.arange(h * w * c2).reshape(1, h, w, c2) + first.size
    ops = (
        Gemm("a", "x", rng.standard_normal((1, 1, 8, c1)), np.zeros(c1)),
        Gemm("b", "x", rng.standard_normal((1, 1, 8, c2)), np.zeros(c2)),
        Move("y", ("a", "b"), np.concatenate([first, second], 3)),
    )
    return MatGraph(
        (Port("x", shapes["x"], "x", ()),), (Port("y", shapes["y"], "y", ()),), ops, tensors, {}
    )


def qgraph(mg: MatGraph) -> object:
    (port,) = mg.inputs
    feed = {"x": np.random.default_rng(1).standard_normal(port.shape)}
    return quantized(mg, observed(mg, feed))


@pytest.mark.parametrize("c1, c2, free", [(16, 16, True), (32, 5, True), (5, 16, False)])
def test_concat_of_whole_blocks_is_only_addresses(c1: int, c2: int, free: bool) -> None:
    graph = qgraph(concat_graph(c1, c2))
    program = scheduled(graph)  # type: ignore[arg-type]
    assert [layer.kind for layer in program.layers].count("Move") == (0 if free else 1)


@pytest.mark.parametrize("c1, c2, free", [(12, 16, False), (16, 12, True), (8, 4, False)])
def test_parts_of_one_position_begin_at_words(c1: int, c2: int, free: bool) -> None:
    """The channels of one position follow each other, but a STORE writes whole words."""
    mg = concat_graph(c1, c2, 1, 1)
    reader = Gemm("z", "y", np.ones((1, 1, c1 + c2, 8)), np.zeros(8))  # of y in int8
    shown = Port("z", (1, 1, 1, 8), "z", ())
    tensors = {**mg.tensors, "z": Tensor("z", shown.shape)}
    mg = replace(mg, outputs=(shown,), ops=(*mg.ops, reader), tensors=tensors)
    program = scheduled(qgraph(mg))  # type: ignore[arg-type]
    assert [layer.kind for layer in program.layers].count("Move") == (0 if free else 1)


def test_live_tensors_never_share_bytes() -> None:
    graph = qgraph(concat_graph(5, 16))
    plan = plan_memory(graph, 16, ConstRegion())  # type: ignore[arg-type]
    spans = {n: (p.offset, p.offset + p.layout.nbytes) for n, p in plan.places.items()}
    for one, other in (("a", "b"), ("a", "y"), ("b", "y"), ("x", "a"), ("x", "b")):
        assert spans[one][1] <= spans[other][0] or spans[other][1] <= spans[one][0]


def product_graph(kinds: tuple[str, ...], read: bool) -> MatGraph:
    """Two heads of 16 channels, the product of their halves, and statistics of its rows."""
    shape = (2, 1, 20, 20)
    tensors = {"x": Tensor("x", (1, 1, 20, 32)), "y": Tensor("y", (2, 1, 20, 16)),
               "s": Tensor("s", shape)}  # fmt: skip
    tensors |= {kind: Tensor(kind, (2, 1, 20, 1), True) for kind in kinds}
    split = np.arange(640).reshape(1, 20, 2, 16).transpose(2, 0, 1, 3)
    rows = tuple(RowStat(kind, kind) for kind in kinds)  # type: ignore[arg-type]
    ops = (
        Move("y", ("x",), np.ascontiguousarray(split)),
        Gemm("s", "y", None, np.zeros(20), rhs="y", rhs_transposed=True,
             epilogue=Epilogue(rows=rows)),
    )  # fmt: skip
    outputs = [Port(name, tensors[name].shape, name, ()) for name in kinds]
    outputs += [Port("s", shape, "s", ())] if read else []
    return MatGraph((Port("x", (1, 1, 20, 32), "x", ()),), tuple(outputs), ops, tensors, {})


@pytest.mark.parametrize("kinds, read", [(("max",), False), (("mean", "square"), True)])
def test_only_what_is_read_is_stored(kinds: tuple[str, ...], read: bool) -> None:
    mg = product_graph(kinds, read)
    feed = {"x": np.random.default_rng(1).standard_normal((1, 1, 20, 32))}
    graph = quantized(mg, observed(mg, feed))
    assert ("s" in plan_memory(graph, 16, ConstRegion()).places) == read
    program = scheduled(graph)
    stored = [point.tensor.name for point in program.watchpoints]
    assert stored == (["s"] if read else []) + list(kinds)
    (layer,) = program.layers  # the heads are split by addresses alone
    assert layer.kind == ("MatMul" if read else "MatMulStatistic")
    assert layer.macs == (2 * 20 * 20 * 16 if read else 0)
