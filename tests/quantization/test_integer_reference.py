# SPDX-License-Identifier: Apache-2.0
"""Activation-activation matmuls, attention and normalisation in integers.

In: small MatGraphs.  Out: integers that follow the floats.
"""

from __future__ import annotations

import numpy as np
import pytest
from blocks import Maker, attention, bounds, feed, layer_norm
from integer_checks import relative_error
from neuralmatrix.ir.matgraph.ops import Epilogue
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.integer_reference import run_images, run_integer
from neuralmatrix.quantization.qgraph import QGraph
from plain_integers import plain_integers
from quantized import observed, quantized
from random_nets import random_net


# q, k, v and weights have int8's relative noise of about 1 % each, the exponent doubles that of
# the scores; in int16 the int8 weights alone remain
@pytest.mark.parametrize("precision, most", [("int8", 0.025), ("int16", 0.01)])
@pytest.mark.parametrize("mask", ["", "add", "keep"])
@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.0])
def test_attention(mask: str, precision: str, most: float, sharpness: float) -> None:
    mg = attention(mask=mask, sharpness=sharpness)
    assert relative_error(mg, precision) < most * max(1.0, sharpness / 2)


def test_masked_keys_have_no_weight() -> None:
    mg = attention(mask="keep", sharpness=4.0)
    x = feed(mg)
    q = quantized(mg, bounds(mg, x), "int8")
    other = x.copy()
    other[:, :, -6:] += 3.0  # the masked positions, as keys and as queries
    one, two = (run_integer(q, {"x": v})["y"][:, :, :-6] for v in (x, other))
    np.testing.assert_array_equal(one, two)


# the int8 weights of the Gemm cancel in the normalisation only as far as all rows scale alike
@pytest.mark.parametrize("direct", [True, False])
@pytest.mark.parametrize("centered", [True, False])
@pytest.mark.parametrize("precision, most", [("int8", 0.012), ("int16", 0.006)])
def test_normalisation(centered: bool, direct: bool, precision: str, most: float) -> None:
    assert relative_error(layer_norm(centered=centered, direct=direct), precision) < most


def test_rows_far_from_zero_and_of_different_size_are_normalised() -> None:
    mg = layer_norm(shape=(1, 1, 30, 24))
    x = feed(mg) * np.geomspace(0.05, 2.0, 30).reshape(1, 1, 30, 1).astype(np.float32)
    q = quantized(mg, bounds(mg, x), "int16")
    y = run_float(mg, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    # the rows of least variance keep 8 bits of it
    assert np.abs(got - y).max() < 0.05


def test_raising_tensors_reduces_the_error() -> None:
    mg = attention(sharpness=3.0)
    x = feed(mg)
    y, ranges = run_float(mg, {"x": x})["y"], bounds(mg, x)
    errors = []
    for promoted in ((), ("q", "k"), ("x", "q", "k", "v", "e")):
        q = quantized(mg, ranges, "int8", promoted)
        got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
        errors.append(float(np.linalg.norm(got - y)))
    assert errors[0] > errors[1] > errors[2]


def random_integers(seed: int) -> tuple[QGraph, dict[str, Array]]:
    mg, feeds = random_net(seed)
    return quantized(mg, observed(mg, feeds), "int16" if seed % 3 == 0 else "int8"), feeds


def assert_equal(found: dict[str, Array], wanted: dict[str, Array]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], values, name)


@pytest.mark.parametrize("seed", range(60))
def test_all_tensors_equal_the_plain_form(seed: int) -> None:
    graph, feeds = random_integers(seed)
    assert_equal(run_integer(graph, feeds), plain_integers(graph, feeds))


@pytest.mark.parametrize("seed", range(60, 80))
def test_inputs_far_beyond_the_calibrated_range(seed: int) -> None:
    graph, feeds = random_integers(seed)
    far = {name: x * np.float32(1e4) for name, x in feeds.items()}
    assert_equal(run_integer(graph, far), plain_integers(graph, far))


@pytest.mark.parametrize("seed", range(80, 110))
def test_images_side_by_side_equal_single_ones(seed: int) -> None:
    graph, feeds = random_integers(seed)
    several = [{"x": feeds["x"] * np.float32(gain)} for gain in (1, -0.5, 0.25)]
    found = run_images(graph, several)
    for one, feed_ in zip(found, several, strict=True):
        assert_equal(one, plain_integers(graph, feed_))


def test_constants_belong_to_all_images_of_a_product_with_a_constant_side() -> None:
    made = Maker()
    made.tensor("x", (1, 1, 12, 16))
    weight = made.constant("weight", made.rng.normal(size=(1, 1, 2, 16)))
    bias = made.tensor("bias", (1, 1, 2, 1), broadcast=True)
    made.constants[bias] = np.float32([[[[0.5], [-2.0]]]])
    made.product("y", weight, "x", 12, rhs_transposed=True, epilogue=Epilogue(residual=bias))
    mg = made.graph()
    several = [{"x": made.rng.normal(size=(1, 1, 12, 16)).astype(np.float32)} for _ in range(3)]
    graph = quantized(mg, observed(mg, several[0]))
    for one, feed_ in zip(run_images(graph, several), several, strict=True):
        assert_equal(one, plain_integers(graph, feed_))


def test_only_the_tensors_asked_for_are_kept() -> None:
    graph, feeds = random_integers(3)
    name = graph.ops[-1].op.output
    wanted = plain_integers(graph, feeds)[name]
    assert_equal(run_integer(graph, feeds, keep=[name]), {name: wanted})
    for values in run_images(graph, [feeds] * 3, keep=[name]):
        assert_equal(values, {name: wanted})
    assert run_integer(graph, feeds, keep=()) == {}
    assert run_images(graph, []) == []
