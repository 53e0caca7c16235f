# SPDX-License-Identifier: Apache-2.0
"""Scatters and weighted gathers along constant indices.

In: ONNX models.  Out: constant matrices, equal to onnxruntime; clear refusals.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from graph_networks import check_floats, lowered
from neuralmatrix.errors import BadModel, UnsupportedModel
from neuralmatrix.ir.matgraph.ops import Gemm
from neuralmatrix.ir.types import Array


def scatter(
    kind: str, data: Array, index: Array, updates: tuple[int, int], **attrs: object
) -> onnx.ModelProto:
    nodes = [
        node("Mul", ["x", "two"], ["m"]),
        node("ScatterElements", ["d", "i", "m"], ["s"], reduction=kind, **attrs),
        node("Mul", ["s", "two"], ["y"]),
    ]
    constants = {"two": np.float32(2), "d": data, "i": index}
    return model(nodes, {"x": updates}, ["y"], constants, opset=18)


ROWS = np.array([4, 0, 4, 2, -1, 0, 4, 3, 1])


@pytest.mark.parametrize("kind", ["add", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scatters_with_constant_indices(kind: str, axis: int) -> None:
    data = np.full((6, 3), 0.4, np.float32)
    data[0], index = -0.3, np.repeat(ROWS[:, None], 3, 1)
    if axis:
        data, index = data.T.copy(), index.T.copy()
    proto = scatter(kind, data, index, index.shape, axis=axis)
    check_floats(proto, {"x": signed(index.shape)})


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("rows", [6, 5])
def test_extremes_and_computed_data(kind: str, rows: int) -> None:
    """Row 5 of six has no update and keeps its data."""
    nodes = [
        node("Mul", ["d", "two"], ["data"]),
        node("ScatterElements", ["data", "i", "x"], ["y"], axis=0, reduction=kind),
    ]
    constants = {"two": np.float32(2), "i": np.repeat(ROWS[:, None] % 5, 3, 1)}
    proto = model(nodes, {"x": (9, 3), "d": (rows, 3)}, ["y"], constants, opset=18)
    check_floats(proto, {"x": signed((9, 3)), "d": signed((rows, 3), 4)})


def test_extremes_from_infinite_data() -> None:
    """The initial value of a maximum is not an operand: its size would cost all precision."""
    data = np.full((5, 2), -1e38, np.float32)
    proto = scatter("max", data, np.repeat(ROWS[:, None], 2, 1), (9, 2), axis=0)
    mg = check_floats(proto, {"x": signed((9, 2))})
    assert all(np.abs(c).max() < 10 for c in mg.constants.values())


def test_added_rows_of_scatter_nd() -> None:
    nodes = [node("ScatterND", ["d", "i", "x"], ["y"], reduction="add")]
    constants = {"d": signed((6, 4), 3), "i": ROWS[:, None]}
    proto = model(nodes, {"x": (9, 4)}, ["y"], constants, opset=18)
    check_floats(proto, {"x": signed((9, 4))})


def test_weighted_gathers_along_a_later_axis() -> None:
    """Gather, factors and sum along the channels become one constant matrix."""
    nodes = [
        node("Gather", ["x", "j"], ["g"], axis=1), node("Mul", ["g", "w"], ["m"]),
        node("ScatterElements", ["d", "i", "m"], ["y"], axis=1, reduction="add"),
    ]  # fmt: skip
    constants = {"j": np.array([3, 1, 1, -1]), "w": signed((4,), 2),
                 "i": np.tile([0, 2, 2, 1], (5, 1)), "d": np.zeros((5, 3), np.float32)}  # fmt: skip
    proto = model(nodes, {"x": (5, 6)}, ["y"], constants, opset=18)
    mg = check_floats(proto, {"x": signed((5, 6))})
    assert [type(op) for op in mg.ops] == [Gemm]


@pytest.mark.parametrize(
    ("kind", "index", "text"),
    [
        ("mul", np.zeros((3, 2), np.int64), "reduction 'mul'; none, add, max, min"),
        ("add", np.array([[0, 1], [1, 0], [2, 2]]), "reduces single elements"),
    ],
)
def test_scatters_that_are_refused(kind: str, index: Array, text: str) -> None:
    proto = scatter(kind, np.zeros((5, 2), np.float32), index, (3, 2), axis=0)
    with pytest.raises(UnsupportedModel, match=text):
        lowered(proto)


def test_index_out_of_range() -> None:
    proto = scatter("add", np.zeros((5, 2), np.float32), np.full((3, 2), 5), (3, 2), axis=0)
    with pytest.raises(BadModel, match=r"indices 5\.\.5 of an axis of 5"):
        lowered(proto)


def test_edges_at_run_time_are_refused_and_bound() -> None:
    nodes = [
        node("Gather", ["x", "j"], ["g"], axis=0),
        node("ScatterElements", ["d", "i", "g"], ["y"], axis=0, reduction="add"),
    ]
    whole = onnx.TensorProto.INT64
    proto = model([node("Identity", ["x0"], ["x"]), *nodes],
                  {"x0": (5, 2), "j": (9,), "i": (9, 2)}, ["y"],
                  {"d": np.zeros((5, 2), np.float32)}, opset=18,
                  types={"j": whole, "i": whole})  # fmt: skip
    with pytest.raises(UnsupportedModel, match="bind that input"):
        lowered(proto)
    bound = {"j": ROWS % 5, "i": np.repeat(ROWS[:, None] % 5, 2, 1)}
    check_floats(proto, {"x0": signed((5, 2))}, bound)
