# SPDX-License-Identifier: Apache-2.0
"""Lowered convolutions: merged pads and biases, their scales, and refusals.

In: small Graphs.  Out: their MatGraphs' operations; values are checked too.
"""

from __future__ import annotations

import numpy as np
import pytest
from cnn_graphs import IMAGE, WEIGHTS, conv, kinds, make, relu
from lowering_graphs import check, graph, random
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.ir.graph.nodes import Binary, Conv, MatMul, Pad, Reshape
from neuralmatrix.ir.matgraph.ops import Gemm, Window
from targets import lower


def test_plain_cnn_has_no_moves() -> None:
    g = make(
        conv("x", "w", "c1"), relu("c1", "r1"),
        conv("r1", "d", "c2", groups=4), relu("c2", "r2"),
        Reshape(("r2",), "flat", shape=(1, 144)), MatMul(("flat", "f"), "m"),
        Binary(("m", "g"), "y", kind="add"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window", "Gemm"]
    last = mg.ops[2]
    assert isinstance(last, Gemm) and last.weight is not None
    assert last.weight.shape == (6, 6, 4, 10)


def test_zero_pad_joins_the_convolution() -> None:
    pad = Pad(("x",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 2)))
    mg = check(make(pad, conv("p", "w", "y", pads=(0, 1, 1, 0))))
    assert kinds(mg) == ["Gemm"]
    assert isinstance(mg.ops[0], Gemm) and mg.ops[0].pads == (1, 1, 1, 2)


@pytest.mark.parametrize("shape", [(), (4,), (4, 1, 1, 1)])
def test_weight_scales_per_output_channel(shape: tuple[int, ...]) -> None:
    scale = np.abs(random(3, *shape)) + 0.1 if shape else np.float32(0.5)
    for name, nodes in {"w": [conv("x", "w", "y")], "d": [conv("x", "d", "y", groups=4)]}.items():
        mg = check(make(*nodes, weight_scales={name: scale}))
        found = mg.ops[0]
        assert isinstance(found, (Gemm, Window)) and found.weight_scale is not None
        np.testing.assert_array_equal(found.weight_scale, np.broadcast_to(scale.reshape(-1), (4,)))


def test_three_spatial_axes_are_refused() -> None:
    node = Conv(("x", "w"), "y", "deep", (1,) * 3, (0,) * 6, (1,) * 3)
    with pytest.raises(UnsupportedModel, match="deep: Conv .*3 spatial axes"):
        lower(graph([node], {"x": (1, 2, 4, 4, 4)}, {"w": random(1, 2, 2, 2, 2, 2)}))


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_computed_parameters_are_refused(which: str) -> None:
    names = {"weight": ("x", "z", "b"), "bias": ("x", "w", "z")}[which]
    shape = {"weight": (4, 4, 3, 3), "bias": (4,)}[which]
    constants = {n: WEIGHTS[n] for n in names[1:] if n != "z"}
    node = Conv(names, "y", "n", (1, 1), (0,) * 4, (1, 1))
    with pytest.raises(UnsupportedModel, match=f"its {which} 'z' is computed at run time"):
        lower(graph([node], {**IMAGE, "z": shape}, constants))
