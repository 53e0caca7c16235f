# SPDX-License-Identifier: Apache-2.0
"""Indices, masks and selections on the emulated array, against onnxruntime.

In: models with integer and bool inputs.  Out: small errors; emulation equal to the integer
reference.
"""

from __future__ import annotations

from collections.abc import Callable

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from onnx import TensorProto

pytestmark = pytest.mark.gxx

IDS = np.asarray([[3, 0, 10], [3, 7, 1]])
MASK = np.asarray([[1, 1, 0], [1, 0, 0]])
FEEDS = {"i": IDS, "m": MASK, "x": signed((2, 3, 5), 4)}
TYPES = {"i": TensorProto.INT64, "m": TensorProto.INT64}
CONSTANTS = {
    "t": signed((11, 4)),
    "w": signed((4, 5), 1),
    "k": np.float32(-3.0),
    "low": np.float32(np.finfo(np.float32).min),
    "one": np.float32(1),
    "zero": np.asarray(0, np.int64),
    "last": np.asarray([2], np.int64),
}


def built(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    read = {name for n in nodes for name in n.input}
    shapes = {name: x.shape for name, x in FEEDS.items() if name in read}
    constants = {name: c for name, c in CONSTANTS.items() if name in read}
    types = {name: kind for name, kind in TYPES.items() if name in read}
    return model(nodes, shapes, ["y"], constants, types=types)


def kept() -> list[onnx.NodeProto]:
    """Return nodes that make a bool of shape (2, 3, 1) of the mask."""
    return [node("Unsqueeze", ["m", "last"], ["u"]), node("Equal", ["u", "zero"], ["b"])]


def truth() -> list[onnx.NodeProto]:
    return [node("Unsqueeze", ["m", "last"], ["u"]), node("Cast", ["u"], ["b"], to=9)]


def embedded() -> list[onnx.NodeProto]:
    return [node("Gather", ["t", "i"], ["g"]), node("MatMul", ["g", "w"], ["e"])]


CASES: dict[str, Callable[[], onnx.ModelProto]] = {
    "rows": lambda: built(*embedded(), node("Relu", ["e"], ["y"])),
    "rows where kept": lambda: built(*embedded(), *kept(), node("Where", ["b", "k", "e"], ["y"])),
    "either of two": lambda: built(*embedded(), *truth(), node("Where", ["b", "e", "x"], ["y"])),
    "constants": lambda: built(
        *truth(), node("Where", ["b", "k", "one"], ["s"]), node("Mul", ["s", "x"], ["y"])
    ),
    "masked softmax": lambda: built(
        *truth(),
        node("Where", ["b", "x", "low"], ["s"]),
        node("Softmax", ["s"], ["y"], axis=1),
    ),
    "comparison": lambda: built(
        *kept(), node("Cast", ["b"], ["f"], to=1), node("Add", ["f", "x"], ["y"])
    ),
}


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("what", CASES)
def test_inputs_that_are_no_reals(what: str, precision: str) -> None:
    proto = CASES[what]()
    feeds = {i.name: FEEDS[i.name] for i in proto.graph.input}
    program = nm.compile(proto, calibration=[feeds], precision=precision)
    wanted = onnxruntime_outputs(proto, feeds)["y"]
    found = nm.Session(program, threads=1).run(feeds)["y"]
    assert found.shape == wanted.shape
    # int8 weights, table and up to three int8 activations: each half a step of 1/255 of the range
    assert np.abs(found - wanted).max() < 0.02 * np.ptp(wanted)
    assert nm.verify(proto, program, feeds).ok


COMPARED = {"Less": np.less, "GreaterOrEqual": np.greater_equal, "Equal": np.equal}


@pytest.mark.parametrize("limit", [77, 500, 30_000])
@pytest.mark.parametrize("op", COMPARED)
def test_whole_numbers_compare_exactly(op: str, limit: int) -> None:
    """Comparisons are exact for neighbours of the constant too, which calibration did not see."""
    nodes = [node(op, ["n", "z"], ["b"]), node("Cast", ["b"], ["f"], to=1),
             node("Mul", ["f", "x"], ["y"])]  # fmt: skip
    pivot = limit - 10
    proto = model(nodes, {"n": (1, 20), "x": (1, 20)}, ["y"], {"z": np.asarray(pivot)},
                  types={"n": TensorProto.INT64})  # fmt: skip
    ones = np.ones((1, 20), np.float32)
    spread = np.append(np.linspace(0, limit, 19), pivot).astype(np.int64)[None]
    seen = [{"n": spread, "x": ones * sign} for sign in (1, -1)]
    program = nm.compile(proto, calibration=seen)
    numbers = pivot - 10 + np.arange(20)[None]
    found = nm.Session(program, threads=1).run({"n": numbers, "x": ones})["y"]
    # one int8 step of x; a wrong comparison would differ by 1
    assert np.abs(found - COMPARED[op](numbers, pivot)).max() < 2 / 255


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [1, 2])
def test_masks_cost_no_resolution(op: str, axis: int) -> None:
    """The elements that a mask keeps are as exact as without it, whatever the mask adds."""
    rng = np.random.default_rng(1)
    keep = rng.random((12, 20)) < 0.6
    keep[0], keep[:, 0] = True, True
    mask = np.where(keep, 0, np.finfo(np.float32).min).astype(np.float32)
    nodes = [node("Add", ["x", "b"], ["t"]), node(op, ["t"], ["y"], axis=axis)]
    proto = model(nodes, {"x": (1, 12, 20), "b": (12, 20)}, ["y"])
    feeds = [{"x": rng.normal(0, 2, (1, 12, 20)).astype(np.float32), "b": mask} for _ in range(3)]
    program = nm.compile(proto, calibration=feeds)
    wanted = onnxruntime_outputs(proto, feeds[0])["y"]
    apart = np.abs(nm.Session(program, threads=1).run(feeds[0])["y"] - wanted)[0]
    # half an int8 step of x in -7..7, and as much of the largest one
    assert apart[keep].max() < 14 / 255
