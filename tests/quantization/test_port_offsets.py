# SPDX-License-Identifier: Apache-2.0
"""Offsets of ports whose values lie far from 0, and ports that must have none.

In: graphs whose input lies near 1,000.  Out: which tensors get an offset.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.ir.matgraph.facts import facts_of
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.fake_quant import sample
from neuralmatrix.quantization.port_offsets import port_offsets
from neuralmatrix.quantization.split_scales import scale_groups
from neuralmatrix.quantization.unit_labels import labels_of


def offsets(build: Callable[[Maker], object], runs: int = 16) -> dict[str, list[float]]:
    b = Maker()
    b.tensor("x", (1, 1, 2, 3))
    build(b)
    mg: MatGraph = b.graph()
    rng = np.random.default_rng(0)
    far = np.float32([0, 1000, -1000])
    feeds = [{"x": np.float32(far + rng.uniform(-8, 8, (1, 1, 2, 3)))} for _ in range(runs)]
    seen = sample(mg, feeds)
    found = port_offsets(mg, labels_of(mg, facts_of(mg, scale_groups(mg)), runs), seen)
    return {name: values.ravel().tolist() for name, values in found.items()}


def moved(b: Maker) -> None:
    b.ops.append(Move("m", ("x",), np.arange(3).reshape(1, 1, 1, 3)))
    b.tensor("m", (1, 1, 1, 3))
    b.gemm("y", "m", 2, epilogue=Epilogue(activation=Function("tanh")))


TAKEN = {
    "a product": lambda b: b.gemm("y", "x", 2, epilogue=Epilogue(activation=Function("tanh"))),
    "a window": lambda b: b.window("y", "x", epilogue=Epilogue(activation=Function("relu"))),
    "a product of moved rows": moved,
}
NOT_TAKEN = {
    "padding": lambda b: b.window(
        "y", "x", weight=np.ones((1, 3, 1)), pads=(0, 1, 0, 1),
        epilogue=Epilogue(activation=Function("relu")),
    ),
    "a maximum": lambda b: b.window("y", "x", reduce="max"),
    "a factor": lambda b: b.window("y", "x", epilogue=Epilogue(hadamard="x")),
    "statistics": lambda b: b.window(
        "y", "x", epilogue=Epilogue("x", rows=b.rows((1, 1, 2, 3), ("mean", "m")))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_biases_of_readers_take_offsets(case: str) -> None:
    low, *far = offsets(TAKEN[case])["x"][:3]
    assert low == 0.0
    np.testing.assert_allclose(far, [1000, -1000], atol=4)


@pytest.mark.parametrize("case", NOT_TAKEN)
def test_what_no_bias_can_take_stays(case: str) -> None:
    assert "x" not in offsets(NOT_TAKEN[case])


def test_an_output_leaves_its_bias_to_the_host() -> None:
    bias = np.array([0.0, 500.0])

    def linear(b: Maker) -> None:
        b.gemm("g", "x", 2, epilogue=Epilogue(activation=Function("tanh")))
        b.gemm("y", "g", 2, bias=bias)

    def read(b: Maker) -> None:
        linear(b)
        b.ops[-1] = b.ops[-1].renamed({"y": "h"})
        b.tensor("h", (1, 1, 2, 2))
        b.window("y", "h", epilogue=Epilogue(activation=Function("relu")))

    np.testing.assert_allclose(offsets(linear)["y"], bias, atol=4)
    assert "h" not in offsets(read)


def test_few_samples_decide_nothing() -> None:
    assert "x" not in offsets(TAKEN["a window"], runs=2)
