# SPDX-License-Identifier: Apache-2.0
"""The table of hls4ml's layers: what each computes, as ONNX operators on fixed-point tensors.

In: a layer of a ModelGraph and its inputs.  Out: its outputs.  hls4ml's tensors have no batch and
keep channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ...ir.types import Array, Shape
from ..onnx.context import Refused
from .builder import Builder, Function, Pending, Value
from .fixed import Fixed, cast_weights, fixed_of
from .products import Weights, product

Tensor = Value | Pending


@dataclass(frozen=True)
class Layer:
    """One layer of a ModelGraph, as its handler sees it."""

    node: Any

    @property
    def name(self) -> str:
        return str(self.node.name)

    @property
    def shape(self) -> Shape:
        """Shape of the first output, without the batch."""
        return tuple(int(n) for n in self.node.get_output_variable().shape)

    @property
    def fixed(self) -> Fixed:
        """Type of the first output."""
        return fixed_of(self.node.get_output_variable().type.precision, self.name)

    def attr(self, name: str, default: Any = None) -> Any:
        found = self.node.get_attr(name, default)
        return default if found is None else found

    def ints(self, *names: str) -> list[int]:
        return [int(self.attr(name, 0)) for name in names]

    def type(self, name: str) -> Fixed | None:
        """Return the type ``name`` of the layer, None if it has none."""
        found = self.node.types.get(name)
        return None if found is None else fixed_of(found.precision, f"{self.name}.{name}")

    def weights(self, name: str) -> tuple[Array, Fixed]:
        """Return the integers of weights, and their type."""
        found = self.node.weights[name]
        _refuse_binary(found.type.precision)
        fixed = fixed_of(found.type.precision, f"{self.name}.{name}")
        return cast_weights(fixed, found.data), fixed

    def has(self, name: str) -> bool:
        return name in self.node.weights


def _refuse_binary(precision: Any) -> None:
    if "Xnor" in type(precision).__name__ or "Exponent" in type(precision).__name__:
        raise Refused(f"weights of the type {precision}; fixed<W,I> and int<W> are supported")


Handler = Callable[[Builder, Layer, Sequence[Tensor]], Tensor]


# ---------------------------------------------------------------- layers with weights


def _accumulated(b: Builder, layer: Layer, made: Pending) -> Pending:
    """Note where hls4ml's accumulator rounds or overflows, which the array's does not."""
    accum = layer.type("accum_t")
    if accum is None or made.fraction is None:
        return made
    if accum.fraction < made.fraction:
        b.note(
            f"{layer.name}: accum_t {accum.text} has fewer bits behind the point than products "
            f"({made.fraction}) and rounds each; the array's sums are exact: set accum to auto"
        )
    wraps = accum.overflow == "WRAP" and made.fixed.holds(made.low, made.high)
    if not accum.holds(made.low, made.high) and not wraps:
        b.note(
            f"{layer.name}: accum_t {accum.text} may overflow (up to "
            f"{max(-made.low, made.high):.4g} by its weights); the array's sums do not: set accum "
            "to auto"
        )
    return made


def _bias(layer: Layer, count: int) -> tuple[Array, int]:
    if not layer.has("bias"):
        return np.zeros(count, np.int64), 0
    codes, fixed = layer.weights("bias")
    return codes.reshape(-1), fixed.fraction


def _dense(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    codes, fixed = layer.weights("weight")
    count = layer.shape[-1]
    codes = codes.T if layer.attr("_weights_transposed", False) else codes
    codes = codes.reshape(-1, count)
    bias, bias_fraction = _bias(layer, count)

    def apply(name: str, weight: str, bias_name: str, hint: str) -> str:
        out = b.emit("MatMul", [name, weight], hint)
        return b.emit("Add", [out, bias_name], f"{hint}.biased") if bias_name else out

    weights = Weights(codes, fixed.fraction, bias, bias_fraction, 1)
    made = product(b, x, weights, layer.shape, layer.fixed, apply, layer.name)
    return _accumulated(b, layer, made)


def channels_first(b: Builder, x: str, rank: int, hint: str) -> str:
    """Append the transpose from (1, ..., C) to (1, C, ...)."""
    return b.emit("Transpose", [x], hint, perm=[0, rank, *range(1, rank)]) if rank > 1 else x


def channels_last(b: Builder, x: str, rank: int, hint: str) -> str:
    """Append the transpose from (1, C, ...) to (1, ..., C)."""
    return b.emit("Transpose", [x], hint, perm=[0, *range(2, rank + 1), 1]) if rank > 1 else x


def _window(layer: Layer, axes: Sequence[str]) -> dict[str, list[int]]:
    """Return the attributes of a convolution or pooling over ``axes``."""
    sides = {"height": ("top", "bottom"), "width": ("left", "right")}
    begins = layer.ints(*(f"pad_{sides[axis][0]}" for axis in axes))
    ends = layer.ints(*(f"pad_{sides[axis][1]}" for axis in axes))
    return {"strides": layer.ints(*(f"stride_{axis}" for axis in axes)), "pads": [*begins, *ends]}


def _axes(rank: int) -> tuple[str, ...]:
    return ("height", "width")[3 - rank :]


def _conv(b: Builder, layer: Layer, xs: Sequence[Tensor], depthwise: bool = False) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    rank = len(layer.shape)
    axes = _axes(rank)
    kernel = layer.ints(*(f"filt_{axis}" for axis in axes))
    chans, filters = int(layer.attr("n_chan")), layer.shape[-1]
    codes, fixed = layer.weights("weight")
    if layer.attr("_weights_transposed", False):  # (F, ...) instead of (..., F)
        codes = np.moveaxis(codes, 0, -1)
    if depthwise:
        codes = codes.reshape(*kernel, 1, filters)
    else:
        codes = codes.reshape(*kernel, chans, filters)
    codes = np.moveaxis(codes, (-1, -2), (0, 1))
    bias, bias_fraction = _bias(layer, filters)
    attrs: dict[str, Any] = {**_window(layer, axes), "group": chans if depthwise else 1}
    dilation = int(layer.attr("dilation", 1) or 1)
    if dilation > 1:
        attrs["dilations"] = [dilation] * len(axes)

    def apply(name: str, weight: str, bias_name: str, hint: str) -> str:
        first = channels_first(b, name, rank, f"{hint}.x")
        inputs = [first, weight, *([bias_name] if bias_name else [])]
        return b.emit("Conv", inputs, f"{hint}.first", kernel_shape=kernel, **attrs)

    weights = Weights(codes, fixed.fraction, bias, bias_fraction, 0)
    made = _in_channels_first(b, x, weights, layer, apply)
    return _accumulated(b, layer, made)


def _in_channels_first(b: Builder, x: Value, weights: Weights, layer: Layer, apply: Any) -> Pending:
    """Return a product whose cast comes before the transpose to channels last."""
    made = product(b, x, weights, layer.shape, layer.fixed, apply, layer.name)

    def finish(name: str, fixed: Fixed, function: Function | None) -> Value:
        first = made.finish(f"{name}.first", fixed, function)
        out = channels_last(b, first.name, len(layer.shape), name)
        return Value(out, layer.shape, first.fixed, first.low, first.high)

    return Pending(made.shape, made.fixed, made.fraction, made.low, made.high, finish)


def _scale(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    """BatchNormalization and ApplyAlpha: scale and bias per channel, or per element."""
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    codes, fixed = layer.weights("scale")
    bias, bias_fraction = _bias(layer, codes.size)
    count = int(layer.attr("n_filt", -1))
    shape = layer.shape
    # one row of channels, each its own group
    groups = shape[-1] if count == shape[-1] or codes.size == shape[-1] else prod(shape)
    codes = np.broadcast_to(codes.reshape(-1), (groups,)) if codes.size == 1 else codes.reshape(-1)
    bias = np.broadcast_to(bias, (groups,)) if bias.size == 1 else bias
    flat = [1, prod(shape) // groups, groups]

    def apply(name: str, weight: str, bias_name: str, hint: str) -> str:
        rows = b.emit("Reshape", [name, b.constant(f"{hint}.rows", np.array(flat))], f"{hint}.flat")
        first = b.emit("Transpose", [rows], f"{hint}.x", perm=[0, 2, 1])
        inputs = [first, weight, *([bias_name] if bias_name else [])]
        return b.emit("Conv", inputs, f"{hint}.first", kernel_shape=[1], group=groups)

    weights = Weights(codes.reshape(groups, 1, 1), fixed.fraction, bias, bias_fraction, 0)
    made = product(b, x, weights, shape, layer.fixed, apply, layer.name)

    def finish(name: str, target: Fixed, function: Function | None) -> Value:
        first = made.finish(f"{name}.first", target, function)
        last = b.emit("Transpose", [first.name], f"{name}.last", perm=[0, 2, 1])
        size = b.constant(f"{name}.shape", np.array([1, *shape]))
        out = b.emit("Reshape", [last, size], name)
        return Value(out, shape, first.fixed, first.low, first.high)

    return Pending(shape, made.fixed, made.fraction, made.low, made.high, finish)


# ---------------------------------------------------------------- pooling


def _pool(b: Builder, layer: Layer, xs: Sequence[Tensor], whole: bool = False) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    rank = len(x.shape)
    axes = _axes(rank)
    kernel = list(x.shape[:-1]) if whole else layer.ints(*(f"pool_{axis}" for axis in axes))
    window: dict[str, list[int]] = {"strides": [1] * len(axes), "pads": [0] * 2 * len(axes)}
    window = window if whole else _window(layer, axes)
    first = channels_first(b, x.name, rank, f"{layer.name}.x")
    if str(layer.attr("pool_op")) == "Max":
        out = b.emit("MaxPool", [first], f"{layer.name}.first", kernel_shape=kernel, **window)
        return b.recast(x, layer.shape, _back(b, out, layer, rank, whole), layer.fixed, layer.name)
    return _mean(b, layer, x, first, kernel, window, whole)


def _back(b: Builder, out: str, layer: Layer, rank: int, whole: bool) -> str:
    if whole:
        size = b.constant(f"{layer.name}.shape", np.array([1, *layer.shape]))
        return b.emit("Reshape", [out, size], layer.name)
    return channels_last(b, out, rank, layer.name)


def _mean(
    b: Builder, layer: Layer, x: Value, first: str, kernel: list[int], window: dict[str, list[int]],
    whole: bool,
) -> Tensor:  # fmt: skip
    """A mean is cast twice: to accum_t, then to the result's type."""
    count, accum = prod(kernel), layer.type("accum_t") or layer.fixed
    if any(window["pads"]) and not layer.attr("count_pad", False):
        out = b.emit("AveragePool", [first], f"{layer.name}.mean", kernel_shape=kernel, **window)
        b.note(f"{layer.name}: a mean over fewer values at the border is rounded as the array does")
        fraction: int | None = None
    else:
        out, fraction = _counted_mean(b, layer, x, first, kernel, window, accum)
    if accum.width > 16 and layer.fixed.rounding in ("TRN", "RND"):
        # what is dropped first, in the finer steps of accum_t, decides neither
        last = b.value(out, layer.shape, layer.fixed, (x.low, x.high), fraction,
                       f"{layer.name}.last")  # fmt: skip
        name = _back(b, last.name, layer, len(x.shape), whole)
        return Value(name, layer.shape, last.fixed, last.low, last.high)
    mean = b.value(out, layer.shape, accum, (x.low, x.high), fraction, f"{layer.name}.accum")
    back = _back(b, mean.name, layer, len(x.shape), whole)
    if count * max(-x.low, x.high) > accum.highest * accum.step:
        b.note(f"{layer.name}: accum_t {accum.text} may overflow; the array's sums do not")
    return b.recast(mean, layer.shape, back, layer.fixed, layer.name)


def _counted_mean(
    b: Builder, layer: Layer, x: Value, first: str, kernel: list[int], window: dict[str, list[int]],
    accum: Fixed,
) -> tuple[str, int | None]:  # fmt: skip
    """Append a mean of ``prod(kernel)`` values, as a convolution with weights of 1.

    A reciprocal that is no binary number is rounded: half the distance of a mean to the next step
    is added, so that means which are steps stay so.  hls4ml divides in the bits of accum_t and
    drops the rest, toward 0.
    """
    count, channels = prod(kernel), x.shape[-1]
    binary = count & (count - 1) == 0
    up = not binary and accum.rounding in ("TRN", "RND")
    codes = np.ones((channels, 1, *kernel), np.int8)
    weight = b.weights(f"{layer.name}.ones", codes, 1.0 / count)
    inputs = [first, weight]
    if up:
        half = np.full(channels, 0.5 * min(x.fixed.step, accum.step) / count, np.float32)
        inputs.append(b.constant(f"{layer.name}.half", half))
    out = b.emit("Conv", inputs, f"{layer.name}.mean", kernel_shape=kernel, group=channels,
                 **window)  # fmt: skip
    return out, x.fixed.fraction + count.bit_length() - 1 if binary else x.fixed.fraction + 40


# ---------------------------------------------------------------- functions


def _monotone(op: str, bounds: Callable[[float], float], **attrs: float) -> Function:
    return Function(op, bounds, dict(attrs))


def _relu(v: float) -> float:
    return max(v, 0.0)


RELU = _monotone("Relu", _relu)
_SMOOTH: Mapping[str, tuple[str, tuple[float, float] | None]] = {
    "sigmoid": ("Sigmoid", (0.0, 1.0)),
    "tanh": ("Tanh", (-1.0, 1.0)),
    "softplus": ("Softplus", None),
    "softsign": ("Softsign", (-1.0, 1.0)),
    "elu": ("Elu", None),
    "selu": ("Selu", None),
}


def _activation(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    kind = str(layer.attr("activation", "linear")).lower()
    if kind in ("linear", "relu"):
        return _exact(b, layer, xs[0], RELU if kind == "relu" else None)
    if kind in ("relu6", "relu1"):
        return _clipped(b, layer, xs[0], float(kind[4:]))
    if kind in ("hard_sigmoid", "hard_tanh"):
        return _hard(b, layer, xs[0], kind)
    if kind not in _SMOOTH:
        raise Refused(f"the activation {kind}; linear, relu, {', '.join(_SMOOTH)} are supported")
    op, ends = _SMOOTH[kind]
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    attrs = {"alpha": float(layer.attr("activ_param", 1.0))} if kind == "elu" else {}
    out = b.emit(op, [x.name], f"{layer.name}.real", **attrs)
    bounds = ends or (min(x.low, 0.0) - 2.0, max(x.high, 0.0) + 1.0)
    return b.value(out, layer.shape, layer.fixed, bounds, None, layer.name)


def _exact(b: Builder, layer: Layer, x: Tensor, function: Function | None) -> Tensor:
    """Append a piece-wise linear function in front of the cast of the layer before it, where the
    order makes no difference."""
    alone = len(layer.node.get_input_node().get_output_nodes()) == 1
    is_output = layer.node.inputs[0] in layer.node.model.outputs
    if isinstance(x, Pending) and alone and not is_output and _commutes(x, layer.fixed):
        return x.finish(layer.name, layer.fixed, function)
    value = b.finished(x, str(layer.node.inputs[0]))
    if function is None:
        fits = layer.fixed.fraction >= value.fixed.fraction
        if fits and layer.fixed.holds(value.low, value.high):
            return value
        out, low, high = value.name, value.low, value.high
    else:
        out = b.emit(function.op, [value.name], f"{layer.name}.real", **function.attrs)
        low, high = function.bounds(value.low), function.bounds(value.high)
    return b.value(out, layer.shape, layer.fixed, (low, high), value.fixed.fraction, layer.name)


def _commutes(x: Pending, fixed: Fixed) -> bool:
    """Whether a cast to the type of ``x`` and one to ``fixed`` behind a function are as one."""
    mine = (x.fixed.width, x.fixed.integer, x.fixed.signed, x.fixed.rounding)
    return x.lossless or mine == (fixed.width, fixed.integer, fixed.signed, fixed.rounding)


def _quantizer(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    """FixedPointQuantizer of HGQ: a type for every element; width 0 stands for the constant 0."""
    signs, widths, integers = (np.asarray(mask)[0] for mask in layer.node.mask_kbi)
    used = widths > 0
    modes = (str(layer.node.RND), str(layer.node.SAT))
    if not used.any():
        raise Refused("a quantiser that makes all elements 0; remove the layers in front of it")
    fraction, integer = int((widths - integers)[used].max()), int(integers[used].max())
    fixed = Fixed(fraction + integer, integer, bool(signs[used].any()), *modes)
    kinds = {(int(k), int(w), int(i)) for k, w, i in zip(
        *(np.broadcast_to(m, layer.shape)[np.broadcast_to(used, layer.shape)]
          for m in (signs, widths, integers)), strict=True)}  # fmt: skip
    if len(kinds) > 1:
        b.note(
            f"{layer.name}: elements have {len(kinds)} types; the array has one for all of them, "
            f"{fixed.text}: quantise activations with one type (heterogeneous_axis=()) for equal "
            "results"
        )
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    name, low, high = x.name, x.low, x.high
    if not used.all():
        mask = np.broadcast_to(used, layer.shape).astype(np.float32)[None]
        name = b.emit("Mul", [name, b.constant(f"{layer.name}.used", mask)], f"{layer.name}.real")
        low, high = min(low, 0.0), max(high, 0.0)
    if used.all() and fixed.fraction >= x.fixed.fraction and fixed.holds(low, high):
        return x
    return b.value(name, layer.shape, fixed, (low, high), x.fixed.fraction, layer.name)


def _clipped(b: Builder, layer: Layer, x: Tensor, top: float) -> Tensor:
    value = b.finished(x, str(layer.node.inputs[0]))
    ends = [b.constant(f"{layer.name}.end", np.float32(end)) for end in (0.0, top)]
    out = b.emit("Clip", [value.name, *ends], f"{layer.name}.real")
    bounds = (max(value.low, 0.0), min(max(value.high, 0.0), top))
    return b.value(out, layer.shape, layer.fixed, bounds, value.fixed.fraction, layer.name)


def _hard(b: Builder, layer: Layer, x: Tensor, kind: str) -> Tensor:
    value = b.finished(x, str(layer.node.inputs[0]))
    slope, shift = float(layer.attr("slope", 0.2)), float(layer.attr("shift", 0.5))
    out = b.emit("HardSigmoid", [value.name], f"{layer.name}.half", alpha=slope, beta=shift)
    bounds = (0.0, 1.0)
    if kind == "hard_tanh":
        two, one = (b.constant(f"{layer.name}.c", np.float32(c)) for c in (2.0, 1.0))
        out = b.emit("Sub", [b.emit("Mul", [out, two], f"{layer.name}.twice"), one],
                     f"{layer.name}.real")  # fmt: skip
        bounds = (-1.0, 1.0)
    return b.value(out, layer.shape, layer.fixed, bounds, None, layer.name)


def _parametrized(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    kind = str(layer.attr("activation", "")).lower().replace("_", "")
    alpha = float(layer.attr("activ_param", 1.0))
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    if kind == "elu":
        out = b.emit("Elu", [x.name], f"{layer.name}.real", alpha=alpha)
        return b.value(out, layer.shape, layer.fixed, (-abs(alpha), max(x.high, 0.0)), None,
                       layer.name)  # fmt: skip
    if kind != "leakyrelu":
        raise Refused(f"the activation {kind}; leaky_relu and elu are supported")
    param = layer.type("param_t")
    alpha = float(param.cast(alpha) * param.step) if param else alpha
    out = b.emit("LeakyRelu", [x.name], f"{layer.name}.real", alpha=alpha)
    bounds = (min(alpha * x.low, x.low, 0.0), max(x.high, 0.0))
    return b.value(out, layer.shape, layer.fixed, bounds, None, layer.name)


def _prelu(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    codes, fixed = layer.weights("param")
    slope = b.constant(f"{layer.name}.slope", (codes * fixed.step).astype(np.float32))
    out = b.emit("PRelu", [x.name, slope], f"{layer.name}.real")
    bounds = (min(x.low * float(np.abs(codes * fixed.step).max()), x.low), max(x.high, 0.0))
    return b.value(out, layer.shape, layer.fixed, bounds, None, layer.name)


def _softmax(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    if str(layer.attr("implementation", "stable")) == "argmax":
        raise Refused("a softmax that is an arg-max; stable, latency and legacy are supported")
    if layer.attr("skip", False):
        return x
    out = b.emit("Softmax", [x.name], f"{layer.name}.real", axis=-1)
    return b.value(out, layer.shape, layer.fixed, (0.0, 1.0), None, layer.name)


def _layer_norm(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    names = []
    for what in ("scale", "bias"):
        codes, fixed = layer.weights(what)
        real = (codes * fixed.step).astype(np.float32)
        names.append(b.constant(f"{layer.name}.{what}", real))
    epsilon = float(layer.attr("epsilon", layer.attr("epsilon_power_of_10", 1e-3)))
    out = b.emit("LayerNormalization", [x.name, *names], f"{layer.name}.real", axis=-1,
                 epsilon=epsilon if epsilon < 1 else 10.0**-epsilon)  # fmt: skip
    ends = (layer.fixed.lowest * layer.fixed.step, layer.fixed.highest * layer.fixed.step)
    return b.value(out, layer.shape, layer.fixed, ends, None, layer.name)


# ---------------------------------------------------------------- two inputs


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


# ---------------------------------------------------------------- copies


def _passed(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    return xs[0]


def _reshape(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    size = b.constant(f"{layer.name}.shape", np.array([1, *layer.shape], np.int64))
    out = b.emit("Reshape", [x.name, size], layer.name)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _transpose(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    perm = [0, *(int(p) + 1 for p in layer.attr("perm"))]
    out = b.emit("Transpose", [x.name], layer.name, perm=perm)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _padding(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    pads = _window(layer, _axes(len(x.shape)))["pads"]
    half = len(pads) // 2
    full = [0, *pads[:half], 0, 0, *pads[half:], 0]
    out = b.emit("Pad", [x.name, b.constant(f"{layer.name}.pads", np.array(full))], layer.name)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _cropping(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    rank = len(x.shape)
    sides = ("crop_top", "crop_left")[3 - rank :]
    starts = layer.ints(*sides)
    stops = [s + n for s, n in zip(starts, layer.shape, strict=False)]
    arrays = [np.array(v, np.int64) for v in (starts, stops, range(1, rank))]
    names = [b.constant(f"{layer.name}.slice", array) for array in arrays]
    out = b.emit("Slice", [x.name, *names], layer.name)
    return b.recast(x, layer.shape, out, layer.fixed, f"{layer.name}.cast")


def _resize(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x = b.finished(xs[0], str(layer.node.inputs[0]))
    if str(layer.attr("algorithm", "nearest")) != "nearest":
        raise Refused("a bilinear resize; the nearest neighbour is supported")
    rank = len(x.shape)
    first = channels_first(b, x.name, rank, f"{layer.name}.x")
    scales = [1.0, 1.0, *(n / m for n, m in zip(layer.shape, x.shape[:-1], strict=False))]
    size = b.constant(f"{layer.name}.scales", np.array(scales, np.float32))
    out = b.emit("Resize", [first, "", size], f"{layer.name}.first", mode="nearest",
                 coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    back = channels_last(b, out, rank, layer.name)
    return b.recast(x, layer.shape, back, layer.fixed, f"{layer.name}.cast")


# by the name of hls4ml's class, or of the nearest class that it is made from
HANDLERS: Mapping[str, Handler] = {
    "Dense": _dense,
    "Conv1D": _conv,
    "Conv2D": _conv,
    "DepthwiseConv1D": partial(_conv, depthwise=True),
    "DepthwiseConv2D": partial(_conv, depthwise=True),
    "BatchNormalization": _scale,
    "Pooling1D": _pool,
    "Pooling2D": _pool,
    "GlobalPooling1D": partial(_pool, whole=True),
    "GlobalPooling2D": partial(_pool, whole=True),
    "Activation": _activation,
    "HardActivation": _activation,
    "ParametrizedActivation": _parametrized,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "Merge": _merge,
    "Concatenate": _concatenate,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "ZeroPadding1D": _padding,
    "ZeroPadding2D": _padding,
    "Cropping1D": _cropping,
    "Cropping2D": _cropping,
    "Resize": _resize,
    "FixedPointQuantizer": _quantizer,
    "Clone": _passed,
    "Repack": _passed,
}
