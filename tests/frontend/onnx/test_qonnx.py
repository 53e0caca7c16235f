# SPDX-License-Identifier: Apache-2.0
"""QONNX nodes and clipped integers: the integers are those that the node's definition gives.

In: small graphs of Quant, BipolarQuant and Trunc, and of QuantizeLinear, Clip, DequantizeLinear.
Out: the same integers as the definitions computed in numpy, or as onnxruntime's; refusals.
"""

from __future__ import annotations

from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.context import Quantization
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.types import QParams

QONNX = "qonnx.custom_op.general"
F, I8, U8 = np.float32, np.int8, np.uint8
SHAPE = (16, 12)
X = np.random.default_rng(1).normal(size=SHAPE).astype(F) * 2


def quant(x: str, y: str, scale: str, bits: str, **attrs: Any) -> Any:
    given = {"signed": 1, "narrow": 0, "rounding_mode": "ROUND", **attrs}
    return node("Quant", [x, scale, "zero", bits], [y], domain=QONNX, **given)


def run(nodes: list[Any], constants: dict[str, Any], domain: str = QONNX) -> np.ndarray:
    """Compile without calibration, and check that the program can be made again."""
    net = network(nodes, constants, domain)
    program = nm.compile(net)
    assert nm.verify(net, program, {"x": X}).ok
    return np.asarray(nm.Session(program, threads=1).run({"x": X})["y"])


def network(nodes: list[Any], constants: dict[str, Any], domain: str = QONNX) -> Any:
    net = model(nodes, {"x": SHAPE}, ["y"], {"zero": F(0), "s": F(0.25), "b8": F(8), **constants})
    net.opset_import.add(domain=domain, version=1)
    return net


def rounded(x: np.ndarray, scale: float, low: int, high: int, zero: int = 0) -> np.ndarray:
    return (np.clip(np.rint(x / F(scale)) + zero, low, high) - zero) * F(scale)


WIDTHS = {
    "1 bit, not signed": (1, {"signed": 0}, 0, 1), "2 bits": (2, {}, -2, 1),
    "3 bits, narrow": (3, {"narrow": 1}, -3, 3), "4 bits, not signed": (4, {"signed": 0}, 0, 15),
    "8 bits": (8, {}, -128, 127), "8 bits, narrow": (8, {"narrow": 1}, -127, 127),
    "8 bits, not signed": (8, {"signed": 0}, 0, 255), "12 bits": (12, {}, -2048, 2047),
}  # fmt: skip


@pytest.mark.gxx
@pytest.mark.parametrize("width", WIDTHS)
def test_a_quant_of_any_width(width: str) -> None:
    bits, attrs, low, high = WIDTHS[width]
    found = run([quant("x", "y", "fine", "bits", **attrs)], {"bits": F(bits), "fine": F(0.01)})
    np.testing.assert_array_equal(found, rounded(X, 0.01, low, high))


ROUNDINGS = {
    "FLOOR": (1, lambda v: np.floor(v)), "CEIL": (1, lambda v: np.ceil(v)),
    "HALF_UP": (0, lambda v: np.floor(v + 0.5)), "HALF_DOWN": (0, lambda v: np.ceil(v - 0.5)),
    "DOWN": (0, lambda v: np.floor(v)), "UP": (0, lambda v: np.ceil(v)),
}  # fmt: skip


@pytest.mark.gxx
@pytest.mark.parametrize("mode", ROUNDINGS)
def test_rounding_modes_of_values_on_a_grid(mode: str) -> None:
    signed, nearest = ROUNDINGS[mode]
    ends = (-8, 7) if signed else (0, 15)
    nodes = [quant("x", "g", "s", "b8", signed=signed),
             quant("g", "y", "one", "b4", rounding_mode=mode, signed=signed)]  # fmt: skip
    found = run(nodes, {"one": F(1), "b4": F(4)})
    grid = rounded(X, 0.25, *((-128, 127) if signed else (0, 255)))
    np.testing.assert_array_equal(found, np.clip(nearest(grid), *ends))


@pytest.mark.gxx
def test_signs_of_weights_and_values() -> None:
    weight = np.random.default_rng(2).normal(size=(12, 5)).astype(F)
    nodes = [
        quant("x", "q", "s", "b8"), node("MatMul", ["q", "wq"], ["p"]),
        node("BipolarQuant", ["w", "one"], ["wq"], domain=QONNX),
        node("BipolarQuant", ["p", "s"], ["y"], domain=QONNX),
    ]  # fmt: skip
    found = run(nodes, {"w": weight, "one": F(1)})
    product = rounded(X, 0.25, -128, 127) @ np.where(weight >= 0, 1, -1)
    assert (product == 0).any()  # 0 counts as positive
    np.testing.assert_array_equal(found, np.where(product >= 0, 0.25, -0.25))


@pytest.mark.gxx
@pytest.mark.parametrize("first", (False, True), ids=("with a scale", "first version"))
def test_trunc_drops_bits(first: bool) -> None:
    inputs = ["q", "s", "zero", "b8", *([] if first else ["one"]), "b6"]
    nodes = [quant("x", "q", "s", "b8"),
             node("Trunc", inputs, ["y"], domain=QONNX, signed=1)]  # fmt: skip
    found = run(nodes, {"one": F(1), "b6": F(6)})
    kept = np.floor(rounded(X, 0.25, -128, 127))
    np.testing.assert_array_equal(found, kept * F(0.25) if first else kept)


@pytest.mark.gxx
def test_one_scale_per_channel_of_an_activation() -> None:
    scale = np.geomspace(0.1013, 0.2971, 12).astype(F).reshape(1, 12)
    nodes = [quant("x", "q", "s", "b8"), quant("q", "y", "each", "b4")]
    found = run(nodes, {"each": scale, "b4": F(4)})
    wanted = np.clip(np.rint(rounded(X, 0.25, -128, 127) / scale), -8, 7) * scale
    assert (np.abs(found - wanted) < 1e-3).mean() > 0.99


@pytest.mark.parametrize(
    ("nodes", "text"),
    (
        ([quant("x", "y", "s", "b8", rounding_mode="DOWN")], "DOWN of values that may be negative"),
        ([quant("x", "y", "s", "b8", rounding_mode="ODD")], "rounding mode ODD; ROUND, "),
        ([node("MultiThreshold", ["x", "s"], ["y"], domain=QONNX)], "later stage of FINN"),
        ([quant("x", "y", "x", "b8")], "the scale is computed at run time"),
    ),
)
def test_refused_nodes(nodes: list[Any], text: str) -> None:
    with pytest.raises(UnsupportedModel, match=text):
        import_onnx(network(nodes, {}))


# ---------------------------------------------------------------- clipped integers

CLIPS = {
    "Clip": [node("Clip", ["qx", "lo", "hi"], ["qn"])],
    "upper end": [node("Clip", ["qx", "", "hi"], ["qn"])],
    "lowest value": [node("Clip", ["qx", "least", "hi"], ["qn"])],
    "Max and Min": [node("Max", ["lo", "qx"], ["qm"]), node("Min", ["qm", "hi"], ["qn"])],
    "Relu": [node("Relu", ["qx"], ["qn"])],
    "behind a Transpose": [node("Transpose", ["qx"], ["qt"], perm=[1, 0]),
                           node("Clip", ["qt", "lo", "hi"], ["qu"]),
                           node("Transpose", ["qu"], ["qn"], perm=[1, 0])],
}  # fmt: skip


@pytest.mark.gxx
@pytest.mark.parametrize("zero", (I8(0), I8(3), U8(0), U8(9)), ids=lambda z: f"{z.dtype} {z}")
@pytest.mark.parametrize("clip", CLIPS)
def test_clipped_integers_are_a_smaller_range(clip: str, zero: Any) -> None:
    if clip == "Relu" and zero.dtype == U8:
        pytest.skip("ONNX has no Relu of uint8")
    ends = {"lo": zero.dtype.type(2 if zero.dtype == U8 else -7), "hi": zero.dtype.type(15),
            "least": np.iinfo(zero.dtype).min * np.ones((), zero.dtype)}  # fmt: skip
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["qx"]), *CLIPS[clip],
             node("DequantizeLinear", ["qn", "s", "z"], ["y"])]  # fmt: skip
    net = model(nodes, {"x": SHAPE}, ["y"], {"s": F(0.15), "z": zero, **ends}, opset=14)
    wanted = onnxruntime_outputs(net, {"x": X}, optimize=False)["y"]
    program = nm.compile(net)
    np.testing.assert_array_equal(nm.Session(program, threads=1).run({"x": X})["y"], wanted)


@pytest.mark.parametrize(
    ("quantization", "wanted"),
    (
        (Quantization(1.0, 0, "int4"), QParams(1.0, 0, ends=(-8, 7))),
        (Quantization(1.0, 0, "uint8"), QParams(1.0, -128)),
        (Quantization(1.0, 0, "uint8", (0, 15)), QParams(1.0, 0, ends=(0, 15))),
        (Quantization(1.0, 5, "uint16", (0, 1023)), QParams(1.0, 0, True, ends=(-5, 1018))),
        (Quantization(1.0, 0, "int16"), QParams(1.0, 0, True)),
        (Quantization(1.0, -3, "int8").within(-128, 127), QParams(1.0, -3)),
        (Quantization(1.0, 0, "int8").within(-127, 300), QParams(1.0, 0, ends=(-127, 127))),
    ),
)
def test_ends_of_the_stored_integers(quantization: Quantization, wanted: QParams) -> None:
    assert quantization.params == wanted
