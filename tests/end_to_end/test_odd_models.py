# SPDX-License-Identifier: Apache-2.0
"""Models of unusual form and size, each compiled, emulated and compared.

In: small graphs.  Out: emulation equal to the integer reference, outputs like onnxruntime's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.verification import signal_to_noise
from onnx import TensorProto

pytestmark = pytest.mark.gxx

IMAGE = {"x": (1, 3, 8, 8)}
WEIGHTS = {"w": signed((5, 3, 3, 3))}
INDEX = {"types": {"y": TensorProto.INT64}}
CASTS = {"INT32": TensorProto.INT32, "FLOAT": TensorProto.FLOAT}
# int8 gives about 40 dB; a sum over 192 values of mixed sign keeps 31 dB of it
LEAST_DB = 28.0


def conv(x: str = "x", w: str = "w", y: str = "y", **attrs: Any) -> onnx.NodeProto:
    return node("Conv", [x, w], [y], **attrs)


def same(y: str = "y") -> onnx.NodeProto:
    return conv(y=y, pads=[1] * 4)


def op(kind: str, x: str = "x", y: str = "y", **attrs: Any) -> onnx.NodeProto:
    return node(kind, [x], [y], **attrs)


def longs(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def gemm(shape: tuple[int, ...], columns: int) -> onnx.ModelProto:
    weight = np.random.default_rng(0).normal(0, 0.01, (shape[1], columns)).astype(np.float32)
    return model([node("Gemm", ["x", "w"], ["y"])], {"x": shape}, ["y"], {"w": weight})


def reshape(shape: tuple[int, ...], new: tuple[int, ...]) -> onnx.ModelProto:
    return model([node("Reshape", ["x", "s"], ["y"])], {"x": shape}, ["y"], {"s": longs(*new)})


def single(kind: str, shape: tuple[int, ...], **attrs: Any) -> onnx.ModelProto:
    return model([op(kind, **attrs)], {"x": shape}, ["y"])


def conv_of(shape: tuple[int, ...], weight: tuple[int, ...], **attrs: Any) -> onnx.ModelProto:
    return model([conv(**attrs)], {"x": shape}, ["y"], {"w": signed(weight)})


def class_index(**attrs: Any) -> onnx.ModelProto:
    nodes = [node("Gemm", ["x", "w"], ["g"]), op("ArgMax", "g", **attrs)]
    return model(nodes, {"x": (1, 7)}, ["y"], {"w": signed((7, 5))}, **INDEX)


def cast_index() -> onnx.ModelProto:
    """Return an index unchanged, in two other types, and cast twice."""
    nodes = [node("Gemm", ["x", "w"], ["g"]), op("ArgMax", "g", "y", axis=1)]
    nodes += [op("Cast", "y", name, to=to) for name, to in CASTS.items()]
    nodes.append(op("Cast", "INT32", "again", to=TensorProto.UINT8))
    types = {"y": TensorProto.INT64, **CASTS, "again": TensorProto.UINT8}
    return model(nodes, {"x": (1, 7)}, [*types], {"w": signed((7, 5))}, types=types)


def channels(count: int) -> onnx.ModelProto:
    nodes = [same("a"), op("Relu", "a", "r"), conv("r", "d", pads=[1] * 4, group=count)]
    weights = {"w": signed((count, count, 3, 3)), "d": signed((count, 1, 3, 3), 1)}
    return model(nodes, {"x": (1, count, 6, 6)}, ["y"], weights)


def pools(count: int) -> onnx.ModelProto:
    nodes = [op("MaxPool", "x", "m", kernel_shape=[3, 3], strides=[2, 2])]
    nodes += [op("AveragePool", "m", "a", kernel_shape=[2, 2]), op("GlobalMaxPool", "a")]
    return model(nodes, {"x": (1, count, 7, 7)}, ["y"])


def speech() -> onnx.ModelProto:
    nodes = [conv(y="a", strides=[4], pads=[38, 38]), op("Relu", "a", "r")]
    nodes += [op("MaxPool", "r", "p", kernel_shape=[4], strides=[4])]
    nodes += [conv("p", "v", "b", pads=[1, 1]), op("GlobalAveragePool", "b")]
    weights = {"w": signed((16, 1, 80)), "v": signed((16, 16, 3), 1)}
    return model(nodes, {"x": (1, 1, 16000)}, ["y"], weights)


def batch_of_4() -> onnx.ModelProto:
    nodes = [same("c"), op("Flatten", "c", "f"), node("Gemm", ["f", "g"], ["y"])]
    return model(nodes, {"x": (4, 3, 8, 8)}, ["y"], {**WEIGHTS, "g": signed((320, 10))})


def with_scalar() -> onnx.ModelProto:
    return model([node("Mul", ["x", "s"], ["y"])], {**IMAGE, "s": ()}, ["y"])


def used_inside() -> onnx.ModelProto:
    nodes = [same("a"), op("Relu", "a", "b"), node("Add", ["a", "b"], ["y"])]
    return model(nodes, IMAGE, ["a", "b", "y"], WEIGHTS)


def dot() -> onnx.ModelProto:
    return model([node("MatMul", ["x", "w"], ["y"])], {"x": (7,)}, ["y"], {"w": signed((7,))})


def split() -> onnx.ModelProto:
    nodes = [node("Split", ["x", "p"], ["a", "b", "c"], axis=1)]
    return model(nodes, {"x": (1, 20, 8, 8)}, ["a", "b", "c"], {"p": longs(1, 3, 16)})


RUN: dict[str, Callable[[], onnx.ModelProto]] = {
    "unused input": lambda: model([same()], {**IMAGE, "u": (1, 4)}, ["y"], WEIGHTS),
    "unused node": lambda: model([same(), op("NonZero", y="q")], IMAGE, ["y"], WEIGHTS),
    "output is an input": lambda: model([same()], IMAGE, ["y", "x"], WEIGHTS),
    "two outputs, one tensor": lambda: model(
        [same("c"), op("Identity", "c", "y"), op("Identity", "c", "z")], IMAGE, ["y", "z"], WEIGHTS
    ),
    "outputs used inside": used_inside,
    "only Reshape": lambda: reshape((1, 3, 5, 7), (7, 15)),
    "only Transpose": lambda: single("Transpose", (1, 3, 5, 7), perm=[3, 1, 0, 2]),
    "only Identity": lambda: single("Identity", (1, 3, 5, 7)),
    "batch of 4": batch_of_4,
    "1-D": lambda: single("Relu", (7,)),
    "5-D": lambda: single("Relu", (1, 2, 3, 4, 5)),
    "scalar input": with_scalar,
    "scalar mean": lambda: single("ReduceMean", (1, 7), keepdims=0),
    "scalar sum": lambda: single("ReduceSum", (1, 3, 8, 8), keepdims=0),
    "scalar product": dot,
    "ArgMax": lambda: class_index(axis=1),
    "ArgMax without axis": lambda: class_index(axis=-1, keepdims=0),
    "ArgMax of channels": lambda: model(
        [same("c"), op("ArgMax", "c", axis=1)], IMAGE, ["y"], WEIGHTS, **INDEX
    ),
    "ArgMax cast": cast_index,
    "speech": speech,
    "long signal": lambda: conv_of((1, 1, 16000), (8, 1, 9), pads=[4, 4]),
    "wide image": lambda: conv_of((1, 3, 1, 4096), (5, 3, 3, 3), pads=[1] * 4),
    "tall image": lambda: conv_of((1, 3, 4096, 1), (5, 3, 3, 3), pads=[1] * 4),
    **{f"{n} channels": lambda n=n: channels(n) for n in (1, 3, 17, 1000)},
    **{f"pools of {n}": lambda n=n: pools(n) for n in (1, 17, 1000)},
    "kernel 11x11": lambda: conv_of((1, 3, 32, 32), (8, 3, 11, 11), pads=[5] * 4),
    "kernel 64x64": lambda: conv_of((1, 4, 64, 64), (3, 4, 64, 64)),
    "depthwise 7x7": lambda: conv_of((1, 24, 16, 16), (24, 1, 7, 7), pads=[3] * 4, group=24),
    "depthwise 17x17, dilated": lambda: conv_of(
        (1, 8, 40, 40), (8, 1, 17, 17), pads=[16] * 4, group=8, dilations=[2, 2]
    ),
    "stride 7": lambda: conv_of((1, 3, 50, 50), (5, 3, 3, 3), strides=[7, 7]),
    "dilation 9": lambda: conv_of((1, 3, 50, 50), (5, 3, 3, 3), dilations=[9, 9]),
    "max of 9x9": lambda: single("MaxPool", (1, 8, 20, 20), kernel_shape=[9, 9], pads=[4] * 4),
    "mean of 13x5": lambda: single("AveragePool", (1, 8, 20, 20), kernel_shape=[13, 5]),
    "mean of 112x112": lambda: single("GlobalAveragePool", (1, 32, 112, 112)),
    "max of 113x111": lambda: single("GlobalMaxPool", (1, 3, 113, 111)),
    "25088 inputs": lambda: gemm((1, 25088), 128),
    "4096 outputs": lambda: gemm((1, 512), 4096),
    "uneven split": split,
}


def feeds_of(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input
    }
    return {
        name: signed(shape, seed) if shape else np.asarray(1.5, np.float32)
        for seed, (name, shape) in enumerate(shapes.items())
    }


def check_runs(proto: onnx.ModelProto, program: nm.Program) -> None:
    feeds = feeds_of(proto)
    assert nm.verify(proto, program, feeds).ok
    expected, found = onnxruntime_outputs(proto, feeds), nm.Session(program).run(feeds)
    assert list(found) == list(expected)
    for name, y in found.items():
        assert (y.shape, y.dtype) == (expected[name].shape, expected[name].dtype)
        assert signal_to_noise(expected[name], y) > LEAST_DB


@pytest.mark.parametrize(
    "what", [pytest.param(k, marks=pytest.mark.slow) if k == "1000 channels" else k for k in RUN]
)
def test_odd_models_run(what: str) -> None:
    proto = RUN[what]()
    check_runs(proto, nm.compile(proto, calibration=feeds_of(proto)))


WIDE: dict[str, Callable[[], onnx.ModelProto]] = {
    "signal": lambda: single("Relu", (1, 1, 16000)),
    "vector": lambda: single("Sigmoid", (1, 9216)),
    "softmax": lambda: single("Softmax", (1, 9216)),
    "depthwise": lambda: conv_of((1, 9216, 3, 3), (9216, 1, 3, 3), pads=[1] * 4, group=9216),
}


@pytest.mark.parametrize("what", WIDE)
def test_more_channels_than_the_smallest_board_holds(what: str) -> None:
    """These run, or are refused with a message that says what to do."""
    proto = WIDE[what]()
    try:
        program = nm.compile(proto, calibration=feeds_of(proto))
    except nm.DoesNotFit as error:
        assert str(error).endswith("choose a larger board or a smaller layer")
    else:
        check_runs(proto, program)


def test_a_constant_output_is_returned() -> None:
    proto = model([same(), op("Identity", "k", "z")], IMAGE, ["y", "z"], {**WEIGHTS, "k": longs(7)},
                  types={"z": 7})  # fmt: skip
    program = nm.compile(proto, calibration=feeds_of(proto))
    ((name, image),) = feeds_of(proto).items()
    for count in (1, 3):
        found = nm.Session(program).run({name: np.concatenate([image] * count)})
        assert list(found) == ["y", "z"] and len(found["y"]) == count
        assert found["z"].dtype == np.int64 and found["z"].tolist() == [7]
