# SPDX-License-Identifier: Apache-2.0
"""Units applied to graphs: any divisors, one per label, leave all real values as they are.

In: random graphs and networks, random divisors.  Out: equal values; BadModel for units that an
operation cannot absorb.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blocks import ONE, Maker
from neuralmatrix.compiler import front_end
from neuralmatrix.errors import BadModel, NeuralMatrixError
from neuralmatrix.ir.matgraph.facts import facts_of
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.quantized_values import real_values
from neuralmatrix.ir.types import Array, Function, Units
from neuralmatrix.quantization.apply_units import with_units
from neuralmatrix.quantization.split_scales import _arrays, scale_groups
from neuralmatrix.quantization.tensor_units import as_units, units_of
from neuralmatrix.quantization.unit_labels import FIXED, labels_of
from parted_networks import PARTED
from random_models import random_model
from random_nets import random_net
from slow import slow_after
from targets import target


def check(mg: MatGraph, feeds: dict[str, Array], seed: int) -> int:
    """Compare all tensors of ``mg`` in random units; return how many have any."""
    rng = np.random.default_rng(seed)
    labels = labels_of(mg, facts_of(mg, scale_groups(mg)), int(rng.integers(1, 20)))
    kinds = np.unique(np.concatenate([found.ravel() for found in labels.values()]))
    divisors = {int(kind): float(np.exp(rng.normal())) for kind in kinds} | {FIXED: 1.0}
    units = as_units(_arrays(mg, labels, divisors))
    found = verify_matgraph(with_units(mg, target(), units=units))
    with np.errstate(all="ignore"):
        wanted, got = run_float(mg, feeds), run_float(found, feeds)
    known = units_of(mg, units)
    for name in wanted.keys() & got.keys():
        x, shape = wanted[name].astype(np.float64), mg.tensors[name].shape
        y = real_values(got[name].reshape(-1, *shape), known.get(name)).reshape(x.shape)
        used = np.isfinite(x) & (np.abs(x) < 1e30)
        # sums of float32 that cancel: relative to the largest value in front of them
        size = max(map(_largest, _near(mg, name, wanted)))
        assert np.all(np.abs(x - y)[used] <= 2e-4 * size + 1e-6), name
    return len(known)


def _largest(values: Array) -> float:
    return float(np.abs(values[np.isfinite(values)]).max(initial=0.0))


def _near(mg: MatGraph, name: str, values: dict[str, Array]) -> list[Array]:
    makers = [op for op in mg.ops if name in op.outputs]
    return [values[name], *(values[n] for op in makers for n in op.inputs)]


@pytest.mark.parametrize("seed", slow_after(40, range(200)))
def test_random_graphs(seed: int) -> None:
    mg, feeds = random_net(seed)
    check(mg, feeds, seed)


@pytest.mark.parametrize("seed", slow_after(8, range(40)))
def test_random_networks(seed: int) -> None:
    proto, feeds = random_model(seed)
    try:
        mg = front_end(proto, target())
    except NeuralMatrixError:
        pytest.skip("refused")
    shapes = {port.name: port.shape for port in mg.inputs}
    check(mg, {name: x[: shapes[name][0]] for name, x in feeds.items()}, seed)


@pytest.mark.parametrize("kind", PARTED)
def test_networks_of_parts(kind: str) -> None:
    net = PARTED[kind](100.0)
    assert check(front_end(net.proto, target()), dict(net.feeds[0]), 1)


# ---------------------------------------------------------------- what cannot be absorbed


def chain() -> MatGraph:
    b = Maker()
    b.tensor("x", (2, 1, 3, 4))
    b.window("a", "x", epilogue=Epilogue(activation=Function("tanh")))
    b.window("m", "a", weight=ONE, reduce="max")
    b.window("t", "m", weight=ONE, reduce="max", epilogue=Epilogue(activation=Function("tanh")))
    b.gemm("g", "m", 4)
    b.ops.append(Move("v", ("g",), np.arange(24).reshape(2, 1, 3, 4)))
    b.tensor("v", (2, 1, 3, 4))
    b.window("y", "v", epilogue=Epilogue("x", hadamard="a"))
    return b.graph()


WHOLE, CHANNELS, IMAGES = (1, 1, 1, 1), (1, 1, 1, 4), (2, 1, 1, 1)
BAD: dict[str, tuple[str, Units, str]] = {
    "no such tensor": ("z", Units(WHOLE, (2.0,)), "do not fit its shape"),
    "another shape": ("x", Units((1, 1, 1, 3), (1.0, 2.0, 3.0)), "do not fit its shape"),
    "too few numbers": ("x", Units(CHANNELS, (2.0,)), "do not fit its shape"),
    "too few offsets": ("x", Units(CHANNELS, (1.0,) * 4, (2.0,)), "do not fit its shape"),
    "zero": ("x", Units(WHOLE, (0.0,)), "is not above 0"),
    "infinite": ("x", Units(WHOLE, (float("inf"),)), "is not above 0"),
    "a table": ("a", Units(CHANNELS, (1.0, 2.0, 3.0, 4.0)), "cannot absorb"),
    "a maximum": ("m", Units(WHOLE, (2.0,)), "takes a maximum"),
    "images in front of a table": ("x", Units(IMAGES, (1.0, 2.0)), "position to position"),
    "a result of a Move": ("v", Units(WHOLE, (2.0,)), "follow from its parts"),
    "an offset of a factor": ("a", Units(WHOLE, (1.0,), (2.0,)), "offset"),
}


@pytest.mark.parametrize("case", BAD)
def test_units_that_do_not_fit_are_refused(case: str) -> None:
    name, units, message = BAD[case]
    with pytest.raises(BadModel, match=message):
        with_units(chain(), target(), units=((name, units),))


def test_offsets_go_to_biases_and_ports() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 2, 3))
    b.gemm("g", "x", 3)
    b.ops.append(Move("y", ("g",), np.arange(6)[::-1].reshape(1, 1, 2, 3)))
    b.tensor("y", (1, 1, 2, 3))
    mg = b.graph()
    given: Any = {"x": np.full((1, 1, 1, 3), 100.0), "g": np.full((1, 1, 1, 3), -7.0)}
    found = with_units(mg, target(), units=as_units({}, given))
    assert found.inputs[0].units == Units((1, 1, 1, 1), (1.0,), (100.0,))
    (output,) = found.outputs
    assert output.units is not None and set(output.units.offset) == {-7.0}
    feed = {"x": np.float32(100 + np.arange(6).reshape(1, 1, 2, 3))}
    stored = run_float(found, feed)
    np.testing.assert_allclose(stored["x"].ravel(), np.arange(6))
    # float32 sums of values near 100
    np.testing.assert_allclose(stored["y"] - 7, run_float(mg, feed)["y"], atol=1e-4)
