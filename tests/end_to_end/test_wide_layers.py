# SPDX-License-Identifier: Apache-2.0
"""Layers at the widths of real networks: vocabularies, 21,841 classes, waveforms.

In: ONNX models of one or two such layers.  Out: the emulated array against onnxruntime; integers
that are equal byte for byte; estimated cycles beside those of layers within the limits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from slow import slow_after

pytestmark = pytest.mark.gxx

LEAST_DB = {"int8": 20.0, "int16": 35.0}
WAVE = 160_000


def values(*shape: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.standard_normal(shape) * scale).astype(np.float32)


def head(inputs: int, outputs: int, *more: str) -> onnx.ModelProto:
    """A product, and operators behind it."""
    names = ["h", *(f"h{i}" for i in range(len(more)))]
    nodes = [node("MatMul", ["x", "w"], ["h"])]
    nodes += [node(op, [names[i]], [names[i + 1]]) for i, op in enumerate(more)]
    constants = {"w": values(inputs, outputs, scale=inputs**-0.5)}
    return model(nodes, {"x": (4, inputs)}, [names[-1]], constants)


def classifier() -> onnx.ModelProto:
    """A small CNN with as many classes as ImageNet-21k."""
    constants = {"w": values(64, 3, 3, 3, scale=0.3), "v": values(21_841, 64, scale=0.2),
                 "b": values(21_841)}  # fmt: skip
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c"], ["r"]), node("GlobalAveragePool", ["r"], ["g"]),
        node("Flatten", ["g"], ["f"]), node("Gemm", ["f", "v", "b"], ["y"], transB=1),
    ]  # fmt: skip
    return model(nodes, {"x": (1, 3, 32, 32)}, ["y"], constants)


def single(op: str, shape: Sequence[int], **attributes: object) -> onnx.ModelProto:
    return model([node(op, ["x"], ["y"], **attributes)], {"x": shape}, ["y"])


def element_wise(shape: Sequence[int]) -> onnx.ModelProto:
    nodes = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"], ["m"]),
             node("Mul", ["m", "a"], ["n"]), node("Add", ["n", "x"], ["y"])]  # fmt: skip
    return model(nodes, {"x": shape}, ["y"], {"a": values(shape[-1])})


def normalisation(channels: int) -> onnx.ModelProto:
    constants = {"a": values(channels) + 2, "b": values(channels)}
    nodes = [node("LayerNormalization", ["x", "a", "b"], ["y"], axis=-1)]
    return model(nodes, {"x": (1, channels)}, ["y"], constants)


def stem(pool: str = "") -> onnx.ModelProto:
    """Two convolutions on a waveform, and its mean or maximum."""
    constants = {"w": values(64, 1, 10, scale=0.3), "b": values(64),
                 "v": values(32, 64, 3, scale=0.1)}  # fmt: skip
    nodes = [node("Conv", ["x", "w", "b"], ["c"], strides=[5]), node("Relu", ["c"], ["r"]),
             node("Conv", ["r", "v"], ["y"], strides=[2])]  # fmt: skip
    nodes += [node(pool, ["y"], ["z"])] if pool else []
    return model(nodes, {"x": (1, 1, WAVE)}, ["z" if pool else "y"], constants)


def centred() -> onnx.ModelProto:
    """A waveform less its mean, in frames of 160 samples."""
    constants = {"w": values(160, 40, scale=0.1), "s": np.array([1, WAVE // 160, 160])}
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[1]), node("Sub", ["x", "m"], ["d"]),
             node("Reshape", ["d", "s"], ["f"]), node("MatMul", ["f", "w"], ["y"])]  # fmt: skip
    return model(nodes, {"x": (1, WAVE)}, ["y"], constants)


KINDS: dict[str, Callable[[], onnx.ModelProto]] = {
    "classes": classifier,
    "waveform": stem,
    "softmax": lambda: single("Softmax", (2, 100_000)),
    "vocabulary": lambda: head(64, 50_257),
    "vocabulary, softmax": lambda: head(64, 50_257, "Softmax"),
    "vocabulary, logarithm": lambda: head(64, 50_257, "LogSoftmax"),
    "vocabulary of 768": lambda: head(768, 50_257),
    "gates": lambda: head(64, 20_000, "Sigmoid"),
    "element-wise": lambda: element_wise((1, WAVE)),
    "element-wise over positions": lambda: element_wise((1, 1, WAVE)),
    "normalisation": lambda: normalisation(20_000),
    "long normalisation": lambda: normalisation(100_000),
    "long line": lambda: single("LpNormalization", (1, 100_000), axis=1),
    "mean of a waveform": lambda: stem("GlobalAveragePool"),
    "maximum of a waveform": lambda: stem("GlobalMaxPool"),
    "frames": centred,
    "padding": lambda: model(
        [node("Conv", ["x", "w"], ["y"], pads=[400, 300])], {"x": (1, 3, 500)}, ["y"],
        {"w": values(8, 3, 5)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("precision", ["int8", pytest.param("int16", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", slow_after(3, KINDS))
def test_wide_layers_run(kind: str, precision: str) -> None:
    proto = KINDS[kind]()
    (given,) = proto.graph.input
    shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
    feed = {"x": np.random.default_rng(7).standard_normal(shape).astype(np.float32)}
    program = nm.compile(proto, calibration=[feed], precision=precision, accuracy=False)
    wanted = onnxruntime_outputs(proto, feed)
    found = nm.Session(program, threads=1).run(feed)
    for name, right in wanted.items():
        noise = np.square(right.astype(np.float64) - found[name]).sum()
        ratio = 10 * np.log10(np.square(right.astype(np.float64)).sum() / noise)
        assert ratio >= LEAST_DB[precision], f"{name}: {ratio:.1f} dB"
    assert nm.verify(proto, program, feed).ok


def cycles(proto: onnx.ModelProto, shape: tuple[int, ...]) -> int:
    return int(
        nm.compile(proto, calibration=[{"x": values(*shape)}], accuracy=False).estimate().cycles
    )


def beside(rows: int, inputs: int, outputs: Sequence[int]) -> onnx.ModelProto:
    """Products of the same rows, each an output."""
    nodes = [node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(len(outputs))]
    weights = {f"w{i}": values(inputs, m, scale=inputs**-0.5) for i, m in enumerate(outputs)}
    return model(nodes, {"x": (rows, inputs)}, [f"y{i}" for i in range(len(outputs))], weights)


@pytest.mark.parametrize("size", slow_after(1, [(1, 64), (128, 64), (700, 32)]))
def test_a_wide_product_costs_what_products_within_the_limit_do(size: tuple[int, int]) -> None:
    """Estimated cycles of 21,000 outputs beside those of three times 7,000."""
    rows, inputs = size
    wide = cycles(beside(rows, inputs, [21_000]), (rows, inputs))
    assert wide <= 1.1 * cycles(beside(rows, inputs, [7_000] * 3), (rows, inputs))
