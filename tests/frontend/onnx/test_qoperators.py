# SPDX-License-Identifier: Apache-2.0
"""Operators that compute with quantised integers.

In: networks of one such operator between QuantizeLinear and DequantizeLinear, as quantisers write
them.  Out: onnxruntime's codes, but for those that float32 rounds the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed

pytestmark = pytest.mark.gxx

MICROSOFT = "com.microsoft"
RNG = np.random.default_rng(0)


def codes(*shape: int, dtype: type = np.int8) -> np.ndarray:
    # Of 7 bits: on a CPU without VNNI, onnxruntime adds two products in 16 bits, which saturate.
    return RNG.integers(-63, 64, shape).astype(dtype)


def f32(value: Any) -> np.ndarray:
    return np.asarray(value, np.float32)


SCALES = {
    "xs": f32(0.05), "xz": np.uint8(120), "zs": f32(0.04), "zz": np.uint8(130),
    "ws": f32(0.01), "wz": np.int8(0), "cs": f32([0.01, 0.02, 0.005, 0.03]),
    "cz": np.zeros(4, np.int8), "ys": f32(0.2), "yz": np.uint8(110),
}  # fmt: skip
X, W, Y, Z = (["qx", "xs", "xz"], ["w", "ws", "wz"], ["ys", "yz"], ["qz", "zs", "zz"])
BIAS = RNG.integers(-3000, 3000, 4).astype(np.int32)
IMAGE, ROWS = (1, 3, 6, 7), (5, 6)

CASES: dict[str, tuple[onnx.NodeProto, tuple[int, ...], dict[str, np.ndarray]]] = {
    "QLinearConv": (node("QLinearConv", [*X, *W, *Y, "b"], ["qy"], pads=[1] * 4), IMAGE,
                    {"w": codes(4, 3, 3, 3), "b": BIAS}),
    "QLinearConv by channel": (node("QLinearConv", [*X, "w", "cs", "cz", *Y], ["qy"]), IMAGE,
                               {"w": codes(4, 3, 3, 3)}),
    "QLinearMatMul": (node("QLinearMatMul", [*X, *W, *Y], ["qy"]), ROWS, {"w": codes(6, 4)}),
    "QGemm": (node("QGemm", [*X, *W, "b", *Y], ["qy"], transB=1, domain=MICROSOFT), ROWS,
              {"w": codes(4, 6), "b": BIAS}),
    "QLinearAdd": (node("QLinearAdd", [*X, *Z, *Y], ["qy"], domain=MICROSOFT), ROWS, {}),
    "QLinearMul": (node("QLinearMul", [*X, *Z, *Y], ["qy"], domain=MICROSOFT), ROWS, {}),
    "QLinearLeakyRelu": (
        node("QLinearLeakyRelu", [*X, "cy", "zy"], ["qy"], alpha=0.23, domain=MICROSOFT), ROWS,
        {"cy": f32(0.037), "zy": np.uint8(40)}),
    "QLinearSigmoid": (node("QLinearSigmoid", [*X, "cy", "zy"], ["qy"], domain=MICROSOFT), ROWS,
                       {"cy": f32(1 / 256), "zy": np.uint8(0)}),
    "QLinearAveragePool": (
        node("QLinearAveragePool", [*X, *Y], ["qy"], kernel_shape=[2, 3], domain=MICROSOFT),
        IMAGE, {}),
    "QLinearGlobalAveragePool": (
        node("QLinearGlobalAveragePool", [*X, *Y], ["qy"], channels_last=0, domain=MICROSOFT),
        IMAGE, {}),
}  # fmt: skip


def built(
    made: onnx.NodeProto, shape: Sequence[int], own: dict[str, np.ndarray]
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return the model between floats, and feeds."""
    step = ["cy", "zy"] if "cy" in own else Y
    names = [name for name in ("x", "z") if f"q{name}" in made.input]
    nodes = [node("QuantizeLinear", [n, f"{n}s", f"{n}z"], [f"q{n}"]) for n in names]
    nodes += [made, node("DequantizeLinear", ["qy", *step], ["y"])]
    read = {name for n in nodes for name in n.input}
    constants = {n: np.asarray(a) for n, a in {**SCALES, **own}.items() if n in read}
    domains = [MICROSOFT] if made.domain else []
    proto = model(nodes, dict.fromkeys(names, shape), ["y"], constants, domains=domains)
    return proto, {name: signed(shape, i) for i, name in enumerate(names)}


@pytest.mark.parametrize("name", CASES)
def test_codes_are_those_of_onnxruntime(name: str) -> None:
    made, shape, own = CASES[name]
    proto, feeds = built(made, shape, own)
    right = onnxruntime_outputs(proto, feeds, optimize=False)["y"]
    program = nm.compile(proto, calibration=None)
    found = nm.Session(program, threads=1).run(feeds)["y"]
    apart = np.rint((found - right) / float(own.get("cy", SCALES["ys"])))
    assert np.abs(apart).max() <= 1
    assert (apart != 0).mean() < 0.05
    assert np.ptp(right) > 0
    assert nm.verify(proto, program, feeds).ok


@pytest.mark.parametrize("op", ["MatMulInteger", "ConvInteger"])
def test_dynamically_quantised_products(op: str) -> None:
    """The scale of the input is found at run time there, and by calibration here."""
    shape, weight = (ROWS, codes(6, 4)) if op == "MatMulInteger" else (IMAGE, codes(4, 3, 3, 3))
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node(op, ["q", "w", "z", "wz"], ["i"]),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["s", "ws"], ["t"]),
        node("Mul", ["f", "t"], ["y"]),
    ]
    constants = {"w": weight, "wz": np.asarray(SCALES["wz"]), "ws": SCALES["ws"]}
    proto, feeds = model(nodes, {"x": shape}, ["y"], constants), {"x": signed(shape)}
    right = onnxruntime_outputs(proto, feeds)["y"]
    found = nm.Session(nm.compile(proto, calibration=[feeds]), threads=1).run(feeds)["y"]
    # two roundings of x to 8 bits, theirs and ours
    assert np.linalg.norm(found - right) < 0.03 * np.linalg.norm(right)
