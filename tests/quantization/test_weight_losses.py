# SPDX-License-Identifier: Apache-2.0
"""The loss by the weights of each layer alone.

In: a chain with one layer of uneven weights.  Out: the order of its layers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import Linear, MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.quantization.fake_quant import rounded_weight, sample, with_rounded_weights
from neuralmatrix.quantization.weight_losses import weight_losses
from precision_nets import runs


def uneven_net() -> MatGraph:
    b = Maker()
    b.tensor("x", (1, 1, 40, 24))
    b.gemm("a", "x", 24)
    b.window("scaled", "a", weight=np.full((1, 1, 1), 3.0))
    b.gemm("b", "scaled", 24)
    weight = b.ops[-1].weight  # type: ignore[union-attr]
    weight[0, 0, 0] *= 200.0  # type: ignore[index]
    b.ops[-3].weight[..., 0] = 0.0  # type: ignore[union-attr]
    b.gemm("y", "b", 10)
    return b.graph()


def test_the_layer_of_uneven_weights_loses_most() -> None:
    mg = uneven_net()
    seen = sample(mg, runs(mg))
    losses = weight_losses(mg, seen)
    assert list(losses) == ["a", "b", "y"]  # not the window, whose factor is a scale
    assert losses["b"] > 20 * max(losses["a"], losses["y"])


def test_a_loss_is_that_of_one_rounded_layer() -> None:
    mg = uneven_net()
    seen = sample(mg, runs(mg))
    ops = tuple(rounded_weight(op) if op.output == "y" else op for op in mg.ops)
    found = run_float(replace(mg, ops=ops), seen.feeds)["y"]
    wanted = seen.values["y"]
    error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted.astype(np.float64))
    np.testing.assert_allclose(weight_losses(mg, seen)["y"], error, rtol=1e-5)


def test_exact_weights_lose_nothing() -> None:
    mg = with_rounded_weights(uneven_net())
    assert all(isinstance(op, Linear) for op in mg.ops)
    losses = weight_losses(mg, sample(mg, runs(mg)))
    assert all(loss < 1e-6 for loss in losses.values())  # float32
