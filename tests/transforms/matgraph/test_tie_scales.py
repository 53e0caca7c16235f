# SPDX-License-Identifier: Apache-2.0
"""Scale groups: tensors that share one scale because an operation copies or compares values.

In: small graphs.  Out: golden texts of the graph and of the groups; the same values.
"""

from __future__ import annotations

import numpy as np
import pytest
from chains import bounds, chain, feed
from golden_passes import (
    Exact,
    before,
    check_texts,
    exact,
    same_values,
    tied,
)
from graph_text import graph_text
from lowering_graphs import graph
from neuralmatrix.ir.graph.nodes import (
    Concat,
    Conv,
    Graph,
    MatMul,
    Node,
    Normalize,
    Pool,
    Softmax,
    Unary,
)
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.quantized_values import dequantize_array, quantize_array
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.integer_reference import run_integer
from quantized import quantized

IMAGE = {"x": (1, 4, 4, 4)}
ROWS = {"x": (1, 3, 8)}
WEIGHTS = {"w": exact(1, 4, 4, 1, 1), "v": exact(2, 4, 4, 1, 1), "b": exact(3, 4)}
MATRIX = {"m": exact(4, 8, 8)}
Q1, Q2, Q3 = QParams(0.1), QParams(0.2, 3), QParams(0.05)


def conv(x: str, w: str, y: str) -> Conv:
    return Conv((x, w, "b"), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1))


JOINED: tuple[Node, ...] = (
    conv("x", "w", "c"),
    conv("x", "v", "d"),
    Concat(("c", "d"), "y", axis=1),
)
POOL = Pool(("c",), "y", kind="max", kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1))


def mean() -> MatGraph:
    """Return a graph with a mean that nothing subtracts."""
    b = Exact()
    b.tensor("x", (1, 1, 3, 8))
    b.gemm("y", "x", 8, epilogue=Epilogue(rows=b.rows((1, 1, 3, 8), ("mean", "mean"))))
    return b.graph()


CASES: dict[str, Graph | MatGraph] = {
    "mean": mean(),
    "concatenation": graph(JOINED, IMAGE, WEIGHTS),
    "concatenation_of_prescribed_scales": graph(
        JOINED, IMAGE, WEIGHTS, quant={"x": Q1, "c": Q2, "d": Q3, "y": Q3}
    ),
    "maximum": graph([conv("x", "w", "c"), POOL], IMAGE, {n: WEIGHTS[n] for n in "wb"}),
    "row_statistics": graph(
        [MatMul(("x", "m"), "h"), Normalize(("h",), "n", "", (2,)), Softmax(("n",), "y", axis=2)],
        ROWS, MATRIX,
    ),
    "kept_product": graph(
        [MatMul(("x", "m"), "h"), Unary(("h",), "y", function=Function("relu"))], ROWS, MATRIX
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    """The golden text ends with the groups of two or more tensors."""
    given = CASES[case]
    mg = before("tie_scales", given) if isinstance(given, Graph) else given
    found, groups = tied(mg)
    lines = "".join(f"group: {', '.join(group)}\n" for group in groups)
    check_texts(request, f"tie_scales/{case}", graph_text(mg), graph_text(found) + lines)
    same_values(mg, found)


def test_copies_share_their_scale() -> None:
    index = np.arange(24).reshape(1, 2, 3, 4)[:, ::-1]
    mg = chain((1, 2, 3, 4), Move("y", ("x",), np.ascontiguousarray(index)))
    q = quantized(mg, bounds(mg, feed(1, 2, 3, 4)), "int8")
    assert q.qparams["x"] == q.qparams["y"]


def test_a_copy_between_prescribed_scales_requantises() -> None:
    index = np.arange(24).reshape(1, 2, 3, 4)[:, ::-1]
    given = {"x": QParams(0.1, 3), "y": QParams(0.05, -7)}
    mg = chain((1, 2, 3, 4), Move("y", ("x",), np.ascontiguousarray(index)), quant=given)
    x = feed(1, 2, 3, 4)
    q = quantized(mg, bounds(mg, x), "int8")
    assert [type(op.op).__name__ for op in q.ops] == ["Window", "Move"]
    assert (q.qparams["x"], q.qparams["y"]) == (given["x"], given["y"])
    got = run_integer(q, {"x": x})["y"]
    held = dequantize_array(quantize_array(x, given["x"]), given["x"])
    want = quantize_array(held[:, ::-1], given["y"])
    np.testing.assert_array_equal(got, want)
