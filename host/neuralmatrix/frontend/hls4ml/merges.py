# SPDX-License-Identifier: Apache-2.0
"""hls4ml's layers of two inputs: sums, products, concatenation.

In: a layer and its inputs.  Out: its output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..onnx.context import Refused
from .builder import Builder, Function, Pending, Value
from .fixed import Fixed
from .layer import Handler, Layer, Tensor

_MERGE = {"add": "Add", "subtract": "Sub", "average": "Add", "maximum": "Max", "minimum": "Min",
          "multiply": "Mul"}  # fmt: skip


def _merge(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    kind = str(layer.attr("op", "")).lower()
    if kind.startswith("concat"):
        return _concatenate(b, layer, xs)
    if kind not in _MERGE:
        raise Refused(f"a merge by {kind}; concatenate and {', '.join(_MERGE)} are supported")
    x, y = (b.finished(v, str(n)) for v, n in zip(xs, layer.node.inputs, strict=True))
    fraction = max(x.fixed.fraction, y.fixed.fraction) + (kind == "average")
    low, high = _merged_bounds(kind, x, y)
    exact: int | None = fraction
    if kind == "multiply":
        exact = None
        b.note(f"{layer.name}: a product of two tensors is rounded to the nearest step")

    def finish(name: str, fixed: Fixed, function: Function | None) -> Value:
        real = b.emit(_MERGE[kind], [x.name, y.name], f"{layer.name}.real")
        if kind == "average":
            half = b.constant(f"{layer.name}.half", np.float32(0.5))
            real = b.emit("Mul", [real, half], f"{layer.name}.mean")
        ends = (low, high)
        if function is not None:
            real = b.emit(function.op, [real], f"{layer.name}.function", **function.attrs)
            ends = (function.bounds(low), function.bounds(high))
        return b.value(real, layer.shape, fixed, ends, exact, name, layer.name)

    return Pending(layer.shape, layer.fixed, exact, low, high, finish)


def _merged_bounds(kind: str, x: Value, y: Value) -> tuple[float, float]:
    if kind == "subtract":
        return x.low - y.high, x.high - y.low
    if kind == "multiply":
        ends = [p * q for p in (x.low, x.high) for q in (y.low, y.high)]
        return min(ends), max(ends)
    if kind == "maximum":
        return max(x.low, y.low), max(x.high, y.high)
    if kind == "minimum":
        return min(x.low, y.low), min(x.high, y.high)
    half = 0.5 if kind == "average" else 1.0
    return half * (x.low + y.low), half * (x.high + y.high)


def _concatenate(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    parts = []
    for i, (x, name) in enumerate(zip(xs, layer.node.inputs, strict=True)):
        value = b.finished(x, str(name))
        same = value.fixed == layer.fixed or all(
            isinstance(v, Value) and v.fixed == value.fixed for v in xs
        )
        if not same:
            value = b.value(value.name, value.shape, layer.fixed, (value.low, value.high),
                            value.fixed.fraction, f"{layer.name}.part{i}")  # fmt: skip
        parts.append(value)
    axis = int(layer.attr("axis", -1))
    out = b.emit("Concat", [p.name for p in parts], layer.name, axis=axis if axis != 0 else 1)
    low, high = min(p.low for p in parts), max(p.high for p in parts)
    return Value(out, layer.shape, parts[0].fixed, low, high)


HANDLERS: Mapping[str, Handler] = {"Merge": _merge, "Concatenate": _concatenate}
