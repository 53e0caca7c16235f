# SPDX-License-Identifier: Apache-2.0
"""The float reference of a MatGraph: batches, prescribed scales, kept values, bad feeds.

In: small Graphs, lowered.  Out: the values that their nodes have.
"""

from __future__ import annotations

import norm_graphs
import numpy as np
import pytest
from cnn_graphs import Q1, conv, make, relu
from lowering_graphs import feeds_of, random
from neuralmatrix.errors import BadInput
from neuralmatrix.ir.graph import operators
from neuralmatrix.ir.graph.nodes import Binary, Concat, Graph, Reduce, Softmax, Transpose
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float, run_points
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Array, QParams
from targets import lower


def batch_graph() -> Graph:
    return make(
        conv("x", "w", "c"), Concat(("c", "x"), "j", axis=1),
        Reduce(("j",), "m", kind="mean", axes=(2, 3)), Binary(("j", "m"), "s", kind="sub"),
        Transpose(("s",), "t", perm=(0, 2, 3, 1)), Softmax(("t",), "y", axis=3),
    )  # fmt: skip


def test_more_images_than_the_models_batch() -> None:
    mg = lower(batch_graph())
    x = random(9, 5, 4, 6, 6)
    together = port_outputs(mg, run_float(mg, {"x": x}))["y"]
    alone = [port_outputs(mg, run_float(mg, {"x": x[i : i + 1]}))["y"] for i in range(5)]
    # BLAS may sum in another order for another number of rows
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_prescribed_scales_round_and_saturate() -> None:
    """In a QDQ model without its ReLU, zero point -128 saturates negative values at 0."""
    q = QParams(0.01, -128)
    g = make(conv("x", "w", "c"), conv("c", "v", "y"), quant={"x": Q1, "c": q})
    feeds = feeds_of(g)
    values = run_float(lower(g), feeds)
    assert values["c"].min() == 0 and values["c"].max() == np.float32(255) * np.float32(0.01)
    wanted = operators.run_graph(g, feeds, quantized=True, keep_all=True)
    # a float32 sum halfway between two quantised values may round to either
    difference = np.abs(values["c"].transpose(0, 3, 1, 2) - wanted["c"]) / 0.01
    assert difference.max() < 1.01 and (difference > 0.01).mean() < 0.02


def test_only_outputs_are_kept_on_demand() -> None:
    g = batch_graph()
    mg, feeds = lower(g), feeds_of(g)
    everything = run_float(mg, feeds)
    few = run_float(mg, feeds, keep=False)
    assert set(everything) == set(mg.tensors) and set(few) == {"y"}
    np.testing.assert_array_equal(few["y"], everything["y"])


def test_values_around_the_epilogue() -> None:
    g = make(conv("x", "w", "c"), relu("c", "r"), Binary(("r", "x"), "y", kind="mul"))
    mg = lower(g)
    values = run_points(mg, feeds_of(g))
    x, y, pre, act = Point("x"), Point("y"), Point("y", "pre_activation"), Point("y", "pre_product")
    assert set(values) == {x, y, pre, act}
    np.testing.assert_array_equal(values[act], np.maximum(values[pre], 0))
    np.testing.assert_array_equal(values[y], values[act] * values[x])


@pytest.mark.parametrize(
    "feeds, message",
    [
        ({}, "the inputs are \\['x'\\]"),
        ({"x": np.zeros((1, 4, 6, 5))}, "feed 'x' has shape \\(1, 4, 6, 5\\); allowed is"),
        ({"x": np.zeros((0, 4, 6, 6))}, "or a multiple of it"),
    ],
)
def test_bad_feeds(feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run_float(lower(batch_graph()), feeds)


@pytest.mark.parametrize("value", [5.1, 50.7, -123.4])
def test_a_constant_row_has_no_negative_variance(value: float) -> None:
    """float32 cancels mean square less square of the mean to values below the epsilon."""
    x = random(1, 1, 5, 24)
    x[0, 2] = value
    points = run_points(lower(norm_graphs.make(norm_graphs.norm("x", "y"))), {"x": x})
    (variance,) = (v for p, v in points.items() if p.at == "pre_activation")
    assert variance.min() >= np.float32(1e-5)
    assert all(np.isfinite(array).all() for array in points.values())
