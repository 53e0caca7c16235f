# SPDX-License-Identifier: Apache-2.0
"""hls4ml's functions: piece-wise linear ones are exact, others are tables of the array.

In: a layer and its input.  Out: its output, cast to the layer's type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..onnx.context import Refused
from .builder import Builder, Function, Pending
from .fixed import Fixed
from .layer import Handler, Layer, Tensor


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


HANDLERS: Mapping[str, Handler] = {
    "Activation": _activation,
    "HardActivation": _activation,
    "ParametrizedActivation": _parametrized,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "LayerNormalization": _layer_norm,
    "FixedPointQuantizer": _quantizer,
}
