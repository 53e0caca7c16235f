# SPDX-License-Identifier: Apache-2.0
"""Networks with values far beyond all others: "never" before a maximum, masks, degenerate rows.

In: the far value, or the kind of normalisation.  Out: an ONNX model and its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from build_onnx import model, node
from onnx import TensorProto

Net = tuple[onnx.ModelProto, dict[str, np.ndarray]]

IMAGES, STEPS, CHANNELS = 8, 20, 16


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


X = normal(IMAGES, STEPS, CHANNELS)
FIXED = np.arange(STEPS) < 12  # the last positions are padding
LENGTHS = np.random.default_rng(1).integers(6, STEPS, IMAGES)
KEPT = (np.arange(STEPS) < LENGTHS[:, None])[:, :, None]
HEAD = normal(CHANNELS, 5, seed=2)
MASK = {"m": (1, STEPS, 1)}


def _pooled(
    nodes: list[onnx.NodeProto], constants: Mapping[str, object], mask: np.ndarray | None = None
) -> Net:
    """Return a model of nodes that make r, the maximum, and a matrix product of it."""
    arrays = {name: np.asarray(a) for name, a in constants.items()} | {"w": HEAD}
    inputs = {"x": (1, STEPS, CHANNELS)} | (MASK if mask is not None else {})
    feeds = {"x": X} | ({"m": mask} if mask is not None else {})
    types = {"m": TensorProto.BOOL} if mask is not None and mask.dtype == bool else {}
    last = node("Gemm", ["r", "w"], ["y"])
    return model([*nodes, last], inputs, ["y"], arrays, opset=13, types=types), feeds


def _maximum(name: str, kind: str = "ReduceMax") -> onnx.NodeProto:
    return node(kind, [name], ["r"], axes=[1], keepdims=0)


def where_constant(value: float) -> Net:
    nodes = [node("Where", ["k", "x", "v"], ["a"]), _maximum("a")]
    return _pooled(nodes, {"k": FIXED[None, :, None], "v": np.float32(value)})


def where_input(value: float) -> Net:
    nodes = [node("Where", ["m", "x", "v"], ["a"]), _maximum("a")]
    return _pooled(nodes, {"v": np.float32(value)}, KEPT)


def added(value: float) -> Net:
    nodes = [
        node("Sub", ["one", "m"], ["n"]),
        node("Mul", ["n", "v"], ["p"]),
        node("Add", ["x", "p"], ["a"]),
        _maximum("a"),
    ]
    constants = {"v": np.float32(value), "one": np.float32(1)}
    return _pooled(nodes, constants, KEPT.astype(np.float32))


def multiplied(value: float) -> Net:
    nodes = [
        node("Mul", ["x", "m"], ["b"]),
        node("Sub", ["one", "m"], ["n"]),
        node("Mul", ["n", "v"], ["p"]),
        node("Add", ["b", "p"], ["a"]),
        _maximum("a"),
    ]
    constants = {"v": np.float32(value), "one": np.float32(1)}
    return _pooled(nodes, constants, KEPT.astype(np.float32))


def before_tanh(value: float) -> Net:
    nodes = [
        node("Where", ["m", "x", "v"], ["a"]),
        node("Tanh", ["a"], ["b"]),
        _maximum("b"),
    ]
    return _pooled(nodes, {"v": np.float32(value)}, KEPT)


def least(value: float) -> Net:
    nodes = [node("Where", ["k", "x", "v"], ["a"]), _maximum("a", "ReduceMin")]
    return _pooled(nodes, {"k": FIXED[None, :, None], "v": np.float32(-value)})


def appended(value: float) -> Net:
    nodes = [node("Concat", ["x", "c"], ["a"], axis=1), _maximum("a")]
    return _pooled(nodes, {"c": np.full((1, 4, CHANNELS), value, np.float32)})


def read_twice(value: float) -> Net:
    """The masked tensor is also summed, after the mask has removed the far values again."""
    nodes = [
        node("Where", ["k", "x", "v"], ["a"]),
        _maximum("a"),
        node("Mul", ["a", "f"], ["b"]),
        node("ReduceMean", ["b"], ["q"], axes=[1], keepdims=0),
        node("Add", ["r", "q"], ["s"]),
        node("Gemm", ["s", "w"], ["y"]),
    ]
    fixed = FIXED[None, :, None]
    constants = {"k": fixed, "f": fixed.astype(np.float32), "v": np.float32(value), "w": HEAD}
    return model(nodes, {"x": (1, STEPS, CHANNELS)}, ["y"], constants, opset=13), {"x": X}


def padded(value: float) -> Net:
    nodes = [
        node("Conv", ["x", "w1"], ["a"]),
        node("Pad", ["a", "pads", "v"], ["p"]),
        node("MaxPool", ["p"], ["m"], kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", ["m", "w2"], ["y"]),
    ]
    constants = {
        "w1": normal(8, 3, 3, 3, seed=3) / 4,
        "w2": normal(4, 8, 1, 1, seed=4),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "v": np.float32(value),
    }
    feeds = {"x": normal(IMAGES, 3, 12, 12, seed=5)}
    return model(nodes, {"x": (1, 3, 12, 12)}, ["y"], constants, opset=13), feeds


BEFORE_MAXIMA: Mapping[str, Callable[[float], Net]] = {
    make.__name__: make
    for make in (
        where_constant, where_input, added, multiplied, before_tanh, least, appended, read_twice,
        padded,
    )
}  # fmt: skip


# ---------------------------------------------------------------- degenerate rows


def _mean_square(x: str) -> list[onnx.NodeProto]:
    return [
        node("Mul", [x, x], ["q"]),
        node("ReduceMean", ["q"], ["v"], axes=[-1]),
        node("Add", ["v", "eps"], ["e"]),
        node("Sqrt", ["e"], ["s"]),
    ]


def _layer_norm() -> list[onnx.NodeProto]:
    return [node("LayerNormalization", ["x", "g", "b"], ["y"], axis=-1, epsilon=1e-12)]


def _instance_norm() -> list[onnx.NodeProto]:
    return [node("InstanceNormalization", ["x", "gs", "bs"], ["y"], epsilon=1e-12)]


def _written_out() -> list[onnx.NodeProto]:
    mean = [node("ReduceMean", ["x"], ["m"], axes=[-1]), node("Sub", ["x", "m"], ["d"])]
    return [*mean, *_mean_square("d"), node("Div", ["d", "s"], ["y"])]


def _rms_norm() -> list[onnx.NodeProto]:
    return [
        *_mean_square("x"),
        node("Reciprocal", ["s"], ["i"]),
        node("Mul", ["x", "i"], ["n"]),
        node("Mul", ["n", "g"], ["y"]),
    ]


def _length() -> list[onnx.NodeProto]:
    return [
        node("ReduceL2", ["x"], ["n"], axes=[-1]),
        node("Clip", ["n", "eps", ""], ["c"]),
        node("Div", ["x", "c"], ["y"]),
    ]


def _share() -> list[onnx.NodeProto]:
    return [
        node("Abs", ["x"], ["a"]),
        node("ReduceSum", ["a", "axes"], ["n"]),
        node("Add", ["n", "eps"], ["c"]),
        node("Div", ["a", "c"], ["y"]),
    ]


def _lp() -> list[onnx.NodeProto]:
    return [node("LpNormalization", ["x"], ["y"], axis=-1, p=2)]


NORMALIZATIONS: Mapping[str, Callable[[], list[onnx.NodeProto]]] = {
    "layer": _layer_norm,
    "instance": _instance_norm,
    "written out": _written_out,
    "rms": _rms_norm,
    "length": _length,
    "share of a sum": _share,
    "lp": _lp,
}


def normalization(kind: str) -> onnx.ModelProto:
    constants = {
        "eps": np.float32(1e-12),
        "g": np.linspace(0.5, 2, CHANNELS, dtype=np.float32),
        "b": normal(CHANNELS, seed=6),
        "gs": np.ones(STEPS, np.float32),
        "bs": np.zeros(STEPS, np.float32),
        "axes": np.array([-1]),
    }
    return model(NORMALIZATIONS[kind](), {"x": (1, STEPS, CHANNELS)}, ["y"], constants)
