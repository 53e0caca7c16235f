# SPDX-License-Identifier: Apache-2.0
"""The table of supported ONNX operators and what to use instead of the others.

In: an operator's name and opset.  Out: its handler, or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from . import onnx_fold, onnx_layout, onnx_linear, onnx_pointwise, onnx_quant, onnx_resize
from .onnx_context import Call, Handler, Refused, Versions

HANDLERS: Mapping[str, Versions] = {
    **onnx_linear.HANDLERS,
    **onnx_pointwise.HANDLERS,
    **onnx_layout.HANDLERS,
    **onnx_resize.HANDLERS,
    **onnx_quant.HANDLERS,
    **onnx_fold.HANDLERS,
}

# Operators that are the same in com.microsoft as in ai.onnx.
MICROSOFT = frozenset({"QuantizeLinear", "DequantizeLinear"})

_QDQ = "quantise the model in the QDQ format (QuantizeLinear, DequantizeLinear) instead"
_STATIC = "only a static graph is supported: unroll or trace it when exporting"
_RECURRENT = "recurrent layers are not supported; Conv, Gemm and MatMul are"
_NORM = "BatchNormalization is supported"

NEAREST: Mapping[str, str] = {
    "QLinearConv": _QDQ,
    "QLinearMatMul": _QDQ,
    "QLinearAdd": _QDQ,
    "QGemm": _QDQ,
    "ConvInteger": _QDQ,
    "MatMulInteger": _QDQ,
    "DynamicQuantizeLinear": "scales must be constants; " + _QDQ,
    "If": _STATIC,
    "Loop": _STATIC,
    "Scan": _STATIC,
    "NonZero": "shapes must not depend on data; constant indices with Gather are supported",
    "NonMaxSuppression": "shapes must not depend on data; cut the model before this node",
    "TopK": "ArgMax at an output is supported",
    "ArgMin": "ArgMax at an output is supported (of the negated tensor)",
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "LayerNormalization": _NORM,
    "InstanceNormalization": _NORM,
    "GroupNormalization": _NORM,
    "LRN": _NORM,
    "LpPool": "AveragePool and MaxPool are supported",
    "GlobalLpPool": "GlobalAveragePool and GlobalMaxPool are supported",
    "MaxUnpool": "ConvTranspose and Resize are supported",
    "ThresholdedRelu": "Relu, LeakyRelu and Clip are supported",
    "Where": "Mul by a constant mask and Add are supported",
    "Einsum": "MatMul and Transpose are supported",
    "GatherND": "Gather with constant indices is supported",
    "GatherElements": "Gather with constant indices is supported",
    "ScatterND": "Concat, Slice and Pad are supported",
    "ScatterElements": "Concat, Slice and Pad are supported",
    "ReduceL2": "Mul, ReduceSum and Sqrt are supported",
    "ReduceProd": "ReduceSum, ReduceMean, ReduceMax and ReduceMin are supported",
}


def handler_of(call: Call, in_opset: bool) -> Handler:
    """The handler for a node; Refused with the nearest supported thing where there is none."""
    if call.domain and not (call.domain == "com.microsoft" and call.op in MICROSOFT):
        raise Refused(f"domain {call.domain!r}; operators of ai.onnx are supported")
    if not call.domain and not in_opset:
        raise Refused(f"ai.onnx opset {call.opset} has no such operator; {_nearest(call.op)}")
    versions = {n: h for n, h in HANDLERS.get(call.op, {}).items() if n <= call.opset}
    if not versions:
        raise Refused(_nearest(call.op))
    return versions[max(versions)]


def _nearest(op: str) -> str:
    if op in NEAREST:
        return NEAREST[op]
    close = get_close_matches(op, HANDLERS, n=3, cutoff=0.6)
    if close:
        return f"not supported; the nearest supported are {', '.join(close)}"
    return f"not supported; rebuild it from the {len(HANDLERS)} supported operators"
