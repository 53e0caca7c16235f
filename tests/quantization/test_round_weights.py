# SPDX-License-Identifier: Apache-2.0
"""Roundings of whole networks: less error, the same integers again, and no overflow.

In: MatGraphs and small models.  Out: errors against float, programs that verify can follow.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from blocks import Maker
from golden_passes import check_texts, exact
from neuralmatrix.errors import BadModel
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.recipe import Rounding, packed, unpacked
from neuralmatrix.ir.types import Array, Function
from neuralmatrix.quantization.calibrated_graph import ScaledGraph
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.quantize import quantize
from neuralmatrix.quantization.round_weights import with_roundings
from neuralmatrix.quantization.scales import choose_scales, most_reach
from quantized import calibrated
from targets import target
from weight_passes import compiled, with_all_roundings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
import zoo  # noqa: E402

RELU = Epilogue(activation=Function("relu"))
RUNS = 12


def inputs(mg: MatGraph, count: int = RUNS, first: int = 0) -> list[dict[str, Array]]:
    """Return inputs whose channels and neighbours are alike, as those of trained networks are."""
    found = []
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        n, h, w, c = mg.inputs[0].shape
        coarse = rng.standard_normal((n, h, w, 3)) @ np.random.default_rng(77).random((3, c))
        smooth = (coarse + np.roll(coarse, 1, 1) + np.roll(coarse, 1, 2)) / 3
        noise = 0.05 * rng.standard_normal(smooth.shape)
        found.append({"x": np.maximum(smooth + noise, 0).astype(np.float32)})
    return found


def conv_net(groups: int = 1, depthwise: bool = False) -> MatGraph:
    b = Maker(3)
    b.tensor("x", (1, 12, 12, 12))
    pads = (1, 1, 1, 1)
    b.gemm("a", "x", 12, groups=groups, pads=pads, epilogue=RELU, bias=exact(1, 12) / 4)
    op = b.ops.pop()
    weight = b.rng.standard_normal((3, 3, 12 // groups, 12)).astype(np.float32)
    b.ops.append(replace(op, weight=weight / 5))  # type: ignore[call-arg]
    if depthwise:
        taps = b.rng.standard_normal((3, 3, 12)).astype(np.float32)
        b.window("d", "a", weight=taps, pads=pads)
    b.gemm("y", "d" if depthwise else "a", 8)
    return b.graph()


def scaled(mg: MatGraph, precision: str = "int8") -> ScaledGraph:
    return choose_scales(calibrated(mg, inputs(mg), "minmax", precision=precision), target())


def rounded(known: ScaledGraph, count: int = RUNS) -> ScaledGraph:
    return with_all_roundings(known, inputs(known.graph, count))


def error(known: ScaledGraph, mg: MatGraph) -> float:
    """Return the error of the integers on unseen inputs against ``mg`` in float."""
    graph, total, size = quantize(known, target()), 0.0, 0.0
    for run in inputs(mg, 4, first=500):
        wanted = run_float(mg, run)["y"]
        found = dequantize_array(run_integer(graph, run)["y"], graph.qparams["y"])
        total += float(np.square(found - wanted).sum())
        size += float(np.square(wanted).sum())
    return float(np.sqrt(total / size))


def exact_net() -> MatGraph:
    """Return six inputs that are sums of two, and weights halfway between integers."""
    b = Maker()
    b.tensor("x", (1, 1, 64, 6))
    b.gemm("y", "x", 4)
    steps = np.array([127, 40.375, -30.5, 20.625, 7.375, -3.375]).reshape(1, 1, 6, 1)
    signs = np.array([1.0, -1.0, 0.5, 2.0])
    b.ops[-1] = replace(b.ops[-1], weight=(steps * signs / 128).astype(np.float32))  # type: ignore
    return b.graph()


def whole_net() -> MatGraph:
    mg = exact_net()
    op = mg.ops[0]
    assert isinstance(op, Gemm) and op.weight is not None
    return replace(mg, ops=(replace(op, weight=np.trunc(op.weight * 128) / 128),))


def two_sources(mg: MatGraph) -> list[dict[str, Array]]:
    first, second = exact(1, 8, 1, 1, 64, 1), exact(2, 8, 1, 1, 64, 1)
    mixed = np.concatenate([first + second * k / 8 for k in range(6)], 4)
    return [{"x": np.asarray(image, np.float32)} for image in mixed]


def weights_text(known: ScaledGraph) -> str:
    """Return integers, and biases in hundredths."""
    lines = []
    for op in known.graph.ops:
        assert isinstance(op, Gemm)
        values = known.weights[op.output].values.reshape(-1, len(op.bias))
        lines += [f"{op.output} bias {np.round(op.bias, 2) + 0.0}", *map(str, values)]
    return "\n".join([*lines, ""])


@pytest.mark.parametrize(
    ("case", "net"), [("sums_of_two", exact_net), ("kept_integers", whole_net)]
)
def test_golden(request: pytest.FixtureRequest, case: str, net: Any) -> None:
    mg, runs = net(), two_sources(net())
    plain = choose_scales(calibrated(mg, runs, "minmax", precision="int16"), target())
    found = with_all_roundings(plain, runs)
    check_texts(request, f"round_weights/{case}", weights_text(plain), weights_text(found))


NETS = {
    "convolution": conv_net,
    "groups": lambda: conv_net(groups=3),
    "depthwise": lambda: conv_net(depthwise=True),
}


# of the error that is left: few inputs of a sum leave few choices
SHARES = {"convolution": 0.5, "groups": 0.7, "depthwise": 0.7}


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("precision", ["int8", "int16"])
def test_errors_cancel_on_unseen_inputs(net: str, precision: str) -> None:
    mg = NETS[net]()
    plain = scaled(mg, precision)
    found = rounded(plain)
    # the depthwise layer leaves the inputs of "y" too different for their errors to cancel
    gained = {"a", "d"} if net == "depthwise" else {"a", "y"}
    assert {name for r in found.graph.recipe.roundings for name in r.names} >= gained
    # at int16 the weights are the only loss; at int8 activations lose more, and stay as they are
    most = SHARES[net] if precision == "int16" else 0.95
    assert error(found, mg) < most * error(plain, mg)


def test_the_same_roundings_again() -> None:
    plain = scaled(conv_net())
    found = rounded(plain)
    recipe = found.graph.recipe
    again = with_roundings(plain, target(), roundings=recipe.roundings)
    for name, weight in found.weights.items():
        np.testing.assert_array_equal(again.weights[name].values, weight.values)
    for op, other in zip(found.graph.ops, again.graph.ops, strict=True):
        np.testing.assert_array_equal(op.bias, other.bias)  # type: ignore[attr-defined]
    assert again.graph.recipe == recipe and again.recipe == found.recipe


def test_the_mean_of_every_channel_stays() -> None:
    """The error of the weights has no mean on the inputs that it is chosen on."""
    mg = conv_net()
    found = rounded(scaled(mg, "int16"))
    graph = quantize(found, target())
    errors, sizes = [], []
    for run in inputs(mg):
        wanted = run_float(mg, run)["a"]
        got = dequantize_array(run_integer(graph, run)["a"], graph.qparams["a"])
        errors.append((got - wanted).reshape(-1, 12))
        sizes.append(wanted.reshape(-1, 12))
    mean, spread = np.concatenate(errors).mean(0), np.concatenate(errors).std(0)
    assert (np.abs(mean) < 0.35 * spread).all()  # the activation keeps only a part of the errors


def recurrence() -> MatGraph:
    b = Maker(5)
    b.tensor("x", (1, 1, 40, 16))
    weight = (b.rng.standard_normal((1, 1, 16, 16)) / 4).astype(np.float32)
    for name, source in (("s1", "x"), ("s2", "s1"), ("y", "s2")):
        b.ops.append(Gemm(name, source, weight.copy(), np.zeros(16), epilogue=RELU))
        b.tensor(name, (1, 1, 40, 16))
    return b.graph()


def test_steps_of_a_recurrence_keep_common_weights() -> None:
    mg = recurrence()
    found = rounded(scaled(mg))
    (rounding,) = found.graph.recipe.roundings
    assert rounding.names == ("s1", "s2", "y")
    np.testing.assert_array_equal(found.weights["s1"].values, found.weights["y"].values)
    biases = [op.bias for op in found.graph.ops]  # type: ignore[attr-defined]
    assert biases[0].any() and (biases[0] == biases[2]).all()


def test_prescribed_exact_and_uniform_weights_stay() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 40, 8))
    b.gemm("a", "x", 8)
    op = b.ops.pop()
    step = np.full(8, 1 / 64, np.float32)
    whole = np.rint(np.asarray(op.weight) * 64) / 64  # type: ignore[attr-defined]
    b.ops.append(replace(op, weight=whole, weight_scale=step))  # type: ignore[call-arg]
    b.window("b", "a", weight=exact(1, 1, 1, 8))
    b.window("y", "b", weight=np.ones((1, 1, 8)), reduce="max")
    plain = scaled(b.graph())
    assert rounded(plain) is plain


def test_few_rows_say_nothing() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 1, 20))
    b.gemm("y", "x", 8)
    plain = scaled(b.graph())
    assert rounded(plain, count=8) is plain


def test_no_accumulator_overflows_by_a_rounding() -> None:
    """An int16 input that the reach of the weights limits: sums stay within the proof."""
    b = Maker()
    b.tensor("x", (1, 1, 40, 1200))
    b.gemm("y", "x", 4)
    op = b.ops.pop()
    weight = np.random.default_rng(0).uniform(0.4, 0.5, (1, 1, 1200, 4)).astype(np.float32)
    b.ops.append(replace(op, weight=weight))  # type: ignore[call-arg]
    plain = scaled(b.graph(), "int16")
    source = plain.qparams["x"]
    assert 0 < source.limit < 32639 and plain.weights["y"].reach <= most_reach(source)
    found = rounded(plain)
    assert found.weights["y"].reach <= most_reach(source)
    quantize(found, target())


def test_a_large_bias_has_coarser_steps_in_roundings_too() -> None:
    mg = conv_net()
    first = mg.ops[0]
    assert isinstance(first, Gemm) and first.weight is not None
    small = first.weight * np.append(np.ones(11), 1e-7).astype(np.float32)
    bias = np.append(np.zeros(11), 50.0).astype(np.float32)
    mg = replace(mg, ops=(replace(first, weight=small, bias=bias), *mg.ops[1:]))
    plain = scaled(mg, "int16")
    found = rounded(plain)
    assert found.weights["a"].scale[11] > plain.weights["a"].scale[11]
    graph = quantize(found, target())
    np.testing.assert_array_equal(graph.ops[0].weight, found.weights["a"].values)


def small_rounding(**fields: Any) -> Rounding:
    steps = packed(np.zeros(8 * 12))
    return replace(Rounding(("y",), 8 * 12, (0.0,) * 8, steps), **fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ("other",)}, "no weights of 'other' can be rounded"),
        ({"weights": 95}, "'y' is one of 95 weights"),
        ({"shift": (0.0,) * 7}, "'y' is one of 96 weights"),
        ({"steps": None}, "'y' is one of 96 weights"),
        ({"steps": packed(np.ones(96))}, "'y' does not fit its weights"),  # above 127
        ({"shift": (1e38,) * 8}, "'y' does not fit its weights"),
    ],
)
def test_roundings_of_other_weights_are_refused(fields: dict[str, Any], message: str) -> None:
    known = scaled(conv_net())
    with_roundings(known, target(), roundings=(small_rounding(),))
    with pytest.raises(BadModel, match=message):
        with_roundings(known, target(), roundings=(small_rounding(**fields),))


@pytest.mark.parametrize("count", [1, 4, 7, 96])
def test_steps_are_packed_four_to_a_byte(count: int) -> None:
    steps = np.random.default_rng(count).integers(-1, 2, count)
    assert len(packed(steps)) == Rounding((), count, ()).bytes
    np.testing.assert_array_equal(unpacked(packed(steps), count), steps)


# ---------------------------------------------------------------- through the file and back


def model_and_feeds() -> tuple[Any, dict[str, Array]]:
    images = np.random.default_rng(0).normal(size=(16, 3, 16, 16)).astype(np.float32)
    return zoo.small_cnn(), {"input": images}


@pytest.mark.parametrize("settings", [{}, {"refine": True, "precision": "int16"}])
def test_verify_follows_roundings_and_digits(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, feeds = model_and_feeds()
    name = "conv2.bn.relu"
    program = compiled(monkeypatch, model, [feeds], widened=(name,), **settings)
    assert program.recipe.roundings and program.recipe.widened == (name,)
    program.save(tmp_path / "net.nmx")
    again = nm.load(tmp_path / "net.nmx")
    assert again.recipe == program.recipe
    one = {"input": feeds["input"][:1]}
    check = nm.verify(model, again, one)
    assert check.ok and f"{name}:fine" in [layer.name for layer in check.layers]
    for foreign in ({"widened": ("other",)}, {"roundings": (small_rounding(),)}):
        recipe = replace(program.recipe, **foreign)  # type: ignore[arg-type]
        with pytest.raises(nm.BadInput, match="its recipe: no weights of"):
            nm.verify(model, replace(program, recipe=recipe), one)
    other = zoo.small_cnn()
    other.graph.initializer[0].raw_data = bytes(len(other.graph.initializer[0].raw_data))
    with pytest.raises(nm.BadInput, match="not compiled from this model"):
        nm.verify(other, again, one)


@pytest.mark.parametrize("factor", [1e-25, 1e30])
def test_inputs_of_any_size(factor: float) -> None:
    mg = conv_net()
    runs = [{"x": run["x"] * np.float32(factor)} for run in inputs(mg)]
    ops = tuple(replace(op, bias=np.zeros_like(op.bias)) for op in mg.ops)  # type: ignore
    known = choose_scales(calibrated(replace(mg, ops=ops), runs, "minmax"), target())
    found = with_all_roundings(known, runs)
    names = [name for r in found.graph.recipe.roundings for name in r.names]
    assert names == ["a", "y"]
