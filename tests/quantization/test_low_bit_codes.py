# SPDX-License-Identifier: Apache-2.0
"""Prescribed weights of few levels and a real bias behind them.

In: QDQ convolutions and products with codes of 1 to 3 levels on either side.
Out: onnxruntime's codes.
"""

from __future__ import annotations

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.ir.matgraph.ops import Window
from neuralmatrix.ir.types import QParams
from neuralmatrix.quantization.integer_weights import int_weight
from neuralmatrix.quantization.quantize import _finer

OUT_STEP = 0.5


def network(top: int, kind: str) -> tuple[onnx.ModelProto, tuple[int, ...]]:
    """Return x -> product with codes -top..top -> bias, as its own node -> quantised y."""
    rng = np.random.default_rng(top)
    shape, x = ((16, 8, 3, 3), (1, 8, 12, 12)) if kind == "conv" else ((64, 16), (1, 64))
    op, axis = ("Conv", 0) if kind == "conv" else ("MatMul", 1)
    gains = rng.uniform(0.5, 1.5, 16)
    along = (1, 16, 1, 1) if kind == "conv" else (1, 16)
    constants = {
        "xs": np.float32(0.5), "xz": np.int8(0), "ys": np.float32(OUT_STEP), "yz": np.int8(0),
        "w": rng.integers(-top, top + 1, shape).astype(np.int8),
        "ws": np.full(16, 0.5, np.float32), "wz": np.zeros(16, np.int8),
        "g": gains.astype(np.float32).reshape(along),
        "b": rng.normal(size=along).astype(np.float32),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        node("DequantizeLinear", ["q", "xs", "xz"], ["d"]),
        node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=axis),
        node(op, ["d", "wd"], ["c"]),
        node("Mul", ["c", "g"], ["m"]),
        node("Add", ["m", "b"], ["n"]),
        node("QuantizeLinear", ["n", "ys", "yz"], ["yq"]),
        node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    arrays = {name: np.asarray(a) for name, a in constants.items()}
    return model(nodes, {"x": x}, ["y"], arrays, opset=13), x


@pytest.mark.gxx
@pytest.mark.parametrize("kind", ["conv", "product"])
@pytest.mark.parametrize("top", [1, 2, 3])
def test_the_codes_of_onnxruntime(top: int, kind: str) -> None:
    proto, shape = network(top, kind)
    program = nm.compile(proto)
    differ = []
    for seed in range(8 if kind == "conv" else 128):
        x = {"x": np.random.default_rng(seed).normal(size=shape).astype(np.float32)}
        right = onnxruntime_outputs(proto, x, optimize=False)["y"]
        found = nm.Session(program).run(x)["y"]
        differ.append(np.rint((found - right) / OUT_STEP) != 0)
    assert np.mean(differ) <= 0.01
    assert nm.verify(proto, program, x).ok


def coded(codes: list[int], bias: float) -> Window:
    weight = 0.25 * np.array(codes, np.float32).reshape(1, -1, 1)
    scale = np.full(1, 0.25, np.float32)
    return Window("y", "x", weight, np.full(1, bias, np.float32), weight_scale=scale)


@pytest.mark.parametrize(
    ("codes", "bias", "times"),
    [
        ([1, -1, 0], 0.0, 1),  # nothing to round
        ([1, -1, 0], 0.3, 127),
        ([1, -1, 0], 3.0, 64),  # an integer already: ties stay exact
        ([3, -1, 0], 0.3, 42),
        ([100, 1, 0], 0.3, 1),
    ],
)
def test_how_far_codes_are_enlarged(codes: list[int], bias: float, times: int) -> None:
    op, source = coded(codes, bias), QParams(0.5)
    found = _finer(op, int_weight(op), source)
    assert found.values.reshape(-1).tolist() == [times * code for code in codes]
    np.testing.assert_allclose(found.values * found.scale, op.weight, rtol=1e-6)
    assert found.reach == times * sum(map(abs, codes))


def test_a_large_bias_keeps_its_room() -> None:
    op = coded([1, -1, 0], 0.125 * 2.0**24 + 0.03)
    assert _finer(op, int_weight(op), QParams(0.5)).values.max() <= 4
