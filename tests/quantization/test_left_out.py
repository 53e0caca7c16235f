# SPDX-License-Identifier: Apache-2.0
"""Values that decide no output do not decide a range.

In: networks with far values in front of maxima, in masks, from degenerate rows.
Out: the accuracy of the same network without them, a note, and kernels that agree.
"""

from __future__ import annotations

from functools import partial

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from far_values import BEFORE_MAXIMA, CHANNELS, NORMALIZATIONS, STEPS, X, normal, normalization

FAR = (-50.0, -1e4, -65504.0, -1e9, -1e30, float(np.finfo(np.float32).min))
ENOUGH = 33.0  # dB; int8 weights and tensors alone leave 36 to 44 in these networks


# Ranges of all inputs: of those that are held back to be measured none would be set.
compiled = partial(nm.compile, accuracy=False)


def decibels(right: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((right**2).sum() / np.square(right - found).sum()))


def reference(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """Return onnxruntime's output y of every image, one by one."""
    images = len(next(iter(feeds.values())))
    each = ({name: a[i : i + 1] for name, a in feeds.items()} for i in range(images))
    return np.concatenate([onnxruntime_outputs(proto, feed)["y"] for feed in each])


@pytest.mark.parametrize("value", FAR)
@pytest.mark.parametrize("name", BEFORE_MAXIMA)
def test_never_in_front_of_a_maximum(name: str, value: float) -> None:
    proto, feeds = BEFORE_MAXIMA[name](value)
    program = compiled(proto, calibration=[feeds])
    found = nm.Session(program).run(feeds)["y"]
    assert decibels(reference(proto, feeds), found) > ENOUGH
    assert "no output depends on them" in "".join(program.notes) or value < -1e38


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["int8", "int16", "mixed"])
@pytest.mark.parametrize("name", BEFORE_MAXIMA)
def test_every_precision_and_the_kernels_agree(name: str, precision: str) -> None:
    proto, feeds = BEFORE_MAXIMA[name](-1e9)
    program = compiled(proto, calibration=[feeds], precision=precision)
    assert nm.verify(proto, program, {n: a[:1] for n, a in feeds.items()}).ok
    found = nm.Session(program).run(feeds)["y"]
    assert decibels(reference(proto, feeds), found) > ENOUGH


def degenerate(value: float) -> np.ndarray:
    x = X.copy()
    x[3, 5] = value
    return x


@pytest.mark.parametrize("value", [0.0, 5.0, 0.1, -1.2345678])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_a_degenerate_row_leaves_the_other_rows_as_they_are(kind: str, value: float) -> None:
    proto = normalization(kind)
    good, right = {"x": X}, reference(proto, {"x": X})
    without = nm.Session(compiled(proto, calibration=[good])).run(good)["y"]
    program = compiled(proto, calibration=[{"x": degenerate(value)}])
    found = nm.Session(program).run(good)["y"]
    # 10 dB of some 40 or 80: a constant row of 5 widens x's own range
    assert decibels(right, found) > decibels(right, without) - 20
    assert decibels(right, found) > ENOUGH


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_a_row_of_zeros_gives_what_it_gives_in_floats(kind: str, precision: str) -> None:
    proto = normalization(kind)
    feeds = {"x": degenerate(0.0)}
    program = compiled(proto, calibration=[feeds], precision=precision)
    assert "no output depends on them" in "".join(program.notes)
    row = nm.Session(program).run({"x": feeds["x"][3:4]})["y"][0, 5]
    wanted = np.nan_to_num(reference(proto, {"x": feeds["x"][3:4]})[0, 5])  # 0/0 of lp
    assert np.abs(row - wanted).max() < 0.03


@pytest.mark.gxx
@pytest.mark.parametrize("kind", ["layer", "length"])
def test_kernels_agree_on_a_degenerate_row(kind: str) -> None:
    proto, feeds = normalization(kind), {"x": degenerate(0.0)}
    program = compiled(proto, calibration=[feeds])
    assert nm.verify(proto, program, {"x": feeds["x"][3:4]}).ok


def shown(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    return model(nodes, {"x": (1, STEPS, CHANNELS)}, ["y"], constants, opset=13)


def test_far_values_that_an_output_shows_keep_their_range() -> None:
    keep = np.arange(STEPS)[:, None] < 12
    proto = shown(node("Where", ["k", "x", "v"], ["y"]), k=keep, v=np.float32(-1e4))
    program = compiled(proto, calibration=[{"x": X}])
    found = nm.Session(program).run({"x": X})["y"]
    assert np.abs(found[:, 12:] + 1e4).max() < 1
    assert "outputs depend on them" in "".join(program.notes)


def test_a_large_row_keeps_its_range_although_a_later_normalisation_hides_its_size() -> None:
    """1/std of a quiet row is large, and only a second normalisation makes it equal to others."""
    x = X.copy()
    x[3, 5] *= np.float32(1e-2)
    proto = model(
        [
            node("LayerNormalization", ["x", "one"], ["h"], axis=-1, epsilon=1e-12),
            node("MatMul", ["h", "w"], ["g"]),
            node("LayerNormalization", ["g", "one"], ["y"], axis=-1, epsilon=1e-12),
        ],
        {"x": (1, STEPS, CHANNELS)},
        ["y"],
        {"one": np.ones(CHANNELS, np.float32), "w": normal(CHANNELS, CHANNELS, seed=7)},
    )
    program = compiled(proto, calibration=[{"x": x}], precision="int16")
    assert not any("inverse" in note for note in program.notes)
    found = nm.Session(program).run({"x": x})["y"]
    assert decibels(reference(proto, {"x": x})[3, 5], found[3, 5]) > 20


def test_the_largest_score_of_a_softmax_keeps_its_range() -> None:
    """Another number in place of the maximum gives the same reals, but overflows in integers."""
    scores = X.copy()
    scores[:, :, 0] *= 0.01
    scores[4] += np.float32(12)
    proto = shown(node("Softmax", ["x"], ["y"], axis=-1))
    program = compiled(proto, calibration=[{"x": scores}])
    assert not program.notes
    found = nm.Session(program).run({"x": scores})["y"]
    assert decibels(reference(proto, {"x": scores}), found) > 25


def test_arg_max_at_an_output_needs_no_far_values() -> None:
    keep = np.arange(STEPS)[:, None] < 12
    nodes = [
        node("Where", ["k", "x", "v"], ["a"]),
        node("ArgMax", ["a"], ["y"], axis=1, keepdims=0),
    ]
    proto = model(
        nodes,
        {"x": (1, STEPS, CHANNELS)},
        ["y"],
        {"k": keep, "v": np.float32(-1e9)},
        opset=13,
        types={"y": onnx.TensorProto.INT64},
    )
    program = compiled(proto, calibration=[{"x": X}], precision="int16")
    found = nm.Session(program).run({"x": X})["y"]
    # two scores that differ by less than an int16 step may change places
    assert (found == reference(proto, {"x": X})).mean() > 0.98


def test_masked_scores_are_told() -> None:
    keep = np.arange(CHANNELS) < 10
    proto = shown(
        node("Where", ["k", "x", "v"], ["a"]),
        node("Softmax", ["a"], ["y"], axis=-1),
        k=keep,
        v=np.float32(-1e9),
    )
    program = compiled(proto, calibration=[{"x": X}])
    assert f"{X.size * 6 // 16:,} values up to -1e+09 are masked scores" in "".join(program.notes)
