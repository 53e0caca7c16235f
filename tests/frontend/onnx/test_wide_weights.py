# SPDX-License-Identifier: Apache-2.0
"""Quantised weights with a zero point: codes less that reach beyond int8.

In: QDQ models.  Out: onnxruntime's codes, up to one in a hundred; refusals beyond two int8 parts.
"""

from __future__ import annotations

from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx

RNG = np.random.default_rng(0)
IMAGE, ROWS = (1, 4, 6, 6), (5, 12)
U8, I8 = np.uint8, np.int8
# operator, input, shape of the weight, zero point of it, attributes
CASES: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], np.ndarray, dict[str, Any]]] = {
    "Conv": ("Conv", IMAGE, (8, 4, 3, 3), U8(150), {}),
    "per channel": ("Conv", IMAGE, (8, 4, 3, 3), np.arange(-30, 34, 8).astype(I8), {}),
    "depthwise": ("Conv", IMAGE, (4, 1, 3, 3), U8(110), {"group": 4}),
    "groups": ("Conv", IMAGE, (6, 2, 2, 2), I8(-40), {"group": 2}),
    "volume": ("Conv", (1, 2, 3, 4, 4), (3, 2, 2, 2, 2), U8(140), {}),
    "MatMul": ("MatMul", ROWS, (12, 7), U8(121), {}),
    "Gemm": ("Gemm", ROWS, (7, 12), I8(9), {"transB": 1}),
}


def quantised(case: str, step: float = 1.0) -> Any:
    """Return the case between quantised tensors, whose output has steps of ``step``."""
    op, shape, weight, zero, attrs = CASES[case]
    limits = np.iinfo(zero.dtype)
    codes = RNG.integers(limits.min, limits.max + 1, weight).astype(zero.dtype)
    scale = np.full(zero.shape, 0.01, np.float32)
    q = ["QuantizeLinear", "DequantizeLinear"]
    nodes = [
        node(q[0], ["x", "sx", "zx"], ["xq"]), node(q[1], ["xq", "sx", "zx"], ["xd"]),
        node(q[1], ["w", "sw", "zw"], ["wd"], axis=0), node(op, ["xd", "wd"], ["c"], **attrs),
        node(q[0], ["c", "sy", "zy"], ["yq"]), node(q[1], ["yq", "sy", "zy"], ["y"]),
    ]  # fmt: skip
    constants = {"sx": np.float32(0.02), "zx": I8(-3), "w": codes, "sw": scale, "zw": zero,
                 "sy": np.float32(step), "zy": I8(4)}  # fmt: skip
    return model(nodes, {"x": shape}, ["y"], constants, opset=13), shape


@pytest.mark.gxx
@pytest.mark.parametrize("case", CASES)
def test_codes_equal_those_of_onnxruntime(case: str) -> None:
    step = 0.05
    net, shape = quantised(case, step)
    x = {"x": np.random.default_rng(1).uniform(-2.4, 2.4, shape).astype(np.float32)}
    program = nm.compile(net)
    wanted = onnxruntime_outputs(net, x, optimize=False)["y"]
    apart = (nm.Session(program, threads=1).run(x)["y"] - wanted) / step
    assert np.abs(apart).max() < 1.01 and (np.abs(apart) > 0.5).mean() <= 0.01
    assert nm.verify(net, program, x).ok


def test_only_what_int8_does_not_hold_is_computed_twice() -> None:
    net, _ = quantised("Conv")
    assert any(weight.shape == (8, 8, 3, 3) for weight in import_onnx(net, {}).constants.values())
    CASES["fits"] = ("Conv", IMAGE, (8, 4, 3, 3), U8(128), {})
    net, _ = quantised("fits")
    del CASES["fits"]
    assert all(weight.shape != (8, 8, 3, 3) for weight in import_onnx(net, {}).constants.values())


def test_what_reads_one_part_alone_refuses_them() -> None:
    net, _ = quantised("Conv")
    (conv,) = [n for n in net.graph.node if n.op_type == "Conv"]
    conv.op_type = "ConvTranspose"
    with pytest.raises(UnsupportedModel, match=r"minus their zero point reach .* symmetrically"):
        import_onnx(net, {})
