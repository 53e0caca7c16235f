# SPDX-License-Identifier: Apache-2.0
"""Every supported operator on the emulated array, against onnxruntime on the same QDQ model.

In: the cases of test_onnx_ops, each wrapped in QuantizeLinear/DequantizeLinear pairs.
Out: results at most one output step apart, and emulation equal to the integer reference.
"""

from __future__ import annotations

from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from op_case import Case, float_model
from ops.test_onnx_ops import CASES
from slow import slow_repeats

pytestmark = pytest.mark.gxx

WEIGHTED = {"Conv": 0, "ConvTranspose": None, "Gemm": None, "MatMul": None, "FusedConv": 0}
INDICES = ("ArgMax", "ArgMin")
OPSET = 13  # the first with per-channel DequantizeLinear


def int8_scale(values: np.ndarray) -> tuple[np.float32, np.int8]:
    """Return scale and zero point that cover the values and 0."""
    lo, hi = min(0.0, float(values.min())), max(0.0, float(values.max()))
    scale = np.float32((hi - lo) / 255.0 or 1.0)
    return scale, np.int8(np.clip(np.rint(-128 - lo / scale), -128, 127))


class Wrapper:
    """Collects the nodes and constants of a QDQ model."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def pair(self, name: str, values: np.ndarray) -> str:
        """Append QuantizeLinear and DequantizeLinear behind ``name`` and return the new name."""
        scale, zero = int8_scale(values)
        self.constants[f"{name}_s"], self.constants[f"{name}_z"] = np.asarray(scale), zero
        parameters = [f"{name}_s", f"{name}_z"]
        self.nodes.append(node("QuantizeLinear", [name, *parameters], [f"{name}_q"]))
        self.nodes.append(node("DequantizeLinear", [f"{name}_q", *parameters], [f"{name}_d"]))
        return f"{name}_d"

    def weight(self, name: str, values: np.ndarray, axis: int | None) -> str:
        """Append an int8 constant and its DequantizeLinear."""
        others = tuple(i for i in range(values.ndim) if i != axis)
        peak = np.abs(values).max(others if axis is not None else None)
        scale = np.asarray(peak / 127.0, np.float32)
        shaped = scale.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        self.constants[f"{name}_q"] = np.rint(values / shaped).astype(np.int8)
        self.constants[f"{name}_s"] = scale
        self.constants[f"{name}_z"] = np.zeros(scale.shape, np.int8)
        attrs = {} if axis is None else {"axis": axis}
        inputs = [f"{name}_q", f"{name}_s", f"{name}_z"]
        self.nodes.append(node("DequantizeLinear", inputs, [f"{name}_d"], **attrs))
        return f"{name}_d"


def qdq_model(one: Case) -> tuple[onnx.ModelProto, dict[str, np.ndarray], dict[str, np.float32]]:
    """Return the case between quantised tensors, feeds, and the step of every output."""
    opset = max(one.opset, OPSET) if one.op in WEIGHTED else one.opset
    plain, feeds = float_model(one, opset)
    wanted = onnxruntime_outputs(plain, feeds)
    w = Wrapper()
    names = [w.pair(name, x) for name, x in feeds.items()]
    for i, c in enumerate(one.constants):
        is_weight = one.op in WEIGHTED and i == 0 and c is not None and len(one.shapes) == 1
        if is_weight:
            names.append(w.weight(f"c{i}", np.asarray(c), WEIGHTED[one.op]))
            continue
        names.append("" if c is None else f"c{i}")
        if c is not None:
            w.constants[f"c{i}"] = c
    outputs = [f"y{i}" for i in range(one.outputs)]
    w.nodes.append(node(one.op, names, outputs, domain=one.domain, **one.attrs))
    steps: dict[str, np.float32] = {}
    if one.op not in INDICES:
        outputs = [w.pair(name, wanted[name]) for name in outputs]
        steps = {f"{name}_d": int8_scale(x)[0] for name, x in wanted.items()}
    shapes = {n: x.shape for n, x in feeds.items()}
    types = {"y0": 7} if one.op in INDICES else None
    domains = [one.domain] if one.domain else []
    proto = model(w.nodes, shapes, outputs, w.constants, opset=max(opset, 10), types=types,
                  domains=domains)  # fmt: skip
    return proto, feeds, steps


def skip_reason(one: Case) -> str:
    """Return why a case is skipped: it is slow, or cannot be a QDQ model."""
    if not one.steps:
        return "is slow and covers nothing that another case does not cover"
    if one.opset < 10 and one.op not in WEIGHTED:
        return "QuantizeLinear needs opset 10"
    return ""


RUN = [case for case in CASES if not skip_reason(case.values[0])]


@pytest.mark.parametrize("one", slow_repeats(RUN, lambda case: case.values[0].op))
def test_operator_is_within_one_step(one: Any) -> None:
    proto, feeds, steps = qdq_model(one)
    program = nm.compile(proto, calibration=[feeds] if one.calibrated else None)
    found = nm.Session(program, threads=1).run(feeds)
    wanted = onnxruntime_outputs(proto, feeds, optimize=False)
    for name, y in wanted.items():
        assert found[name].shape == y.shape
        if one.op in INDICES:
            np.testing.assert_array_equal(found[name], y)
            continue
        # one output step: the array rounds once where onnxruntime's float32 rounds differently
        apart = np.abs(found[name] - y).max() / steps[name]
        assert apart < one.steps + 0.01, f"{apart} steps"
    assert nm.verify(proto, program, feeds).ok
