# SPDX-License-Identifier: Apache-2.0
"""hls4ml's LSTM, GRU and SimpleRNN, of one direction or both, as the ONNX operators of these names.

In: a layer and its input (1, T, C).  Out: the states (1, T, H), or the last (1, H).

Weights, inputs and results have hls4ml's types; sums, gates and the cell state are the array's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...ir.types import Array, Shape
from ..onnx.context import Refused
from .builder import Builder, Value
from .fixed import Fixed
from .layer import Handler, Layer, Tensor

# Places of ONNX's gates among those of hls4ml: Keras's order, and torch's where it differs.
_GATES: Mapping[str, tuple[int, ...]] = {
    "LSTM": (0, 3, 1, 2),
    "GRU": (0, 1, 2),
    "GRU of torch": (1, 0, 2),
    "RNN": (0,),
}


def _recurrent(op: str) -> Handler:
    def handler(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
        return _states(b, layer, xs, op)

    return handler


def _states(b: Builder, layer: Layer, xs: Sequence[Tensor], op: str) -> Tensor:
    x = _input(b, layer, xs)
    out = _real(b, layer, x, op, layer.shape)
    return b.value(out, layer.shape, layer.fixed, (-1.0, 1.0), None, layer.name)


def _input(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Value:
    kept = (layer.attr("pass_initial_states", False), layer.attr("return_state", False))
    if len(xs) > 1 or any(kept):
        raise Refused("states that are given or returned; a beginning with 0 is supported")
    b.note(f"{layer.name}: sums, gates and cell state are the array's own, near hls4ml's not equal")
    return b.finished(xs[0], str(layer.node.inputs[0]))


def _real(b: Builder, layer: Layer, x: Value, op: str, shape: Shape) -> str:
    """Append one direction of a recurrence, and return its states of ``shape`` before the cast."""
    of_torch = bool(layer.attr("pytorch", False))
    order = _GATES["GRU of torch" if op == "GRU" and of_torch else op]
    arrays = [_matrix(layer, name, order) for name in ("weight", "recurrent_weight")]
    arrays.append(_biases(layer, order))
    names = [b.constant(f"{layer.name}.{i}", array) for i, array in enumerate(arrays)]
    functions = [str(layer.attr("activation", "tanh")).capitalize()]
    if op == "LSTM":
        functions = [_name(layer, "recurrent_activation"), *functions * 2]
    elif op == "GRU":
        functions = [_name(layer, "recurrent_activation"), *functions]
    attrs = {"linear_before_reset": int(layer.attr("apply_reset_gate", "after") == "after")}
    steps = b.emit("Transpose", [x.name], f"{layer.name}.x", perm=[1, 0, 2])
    backward = layer.attr("direction", "forward") == "backward"
    found = b.emit_two(
        op, [steps, *names], f"{layer.name}.states", hidden_size=arrays[1].shape[-1],
        activations=functions, direction="reverse" if backward else "forward",
        **(attrs if op == "GRU" else {}),
    )  # fmt: skip
    whole = bool(layer.attr("return_sequences", False))
    size = b.constant(f"{layer.name}.shape", np.array([1, *shape]))
    return b.emit("Reshape", [found[0 if whole else 1], size], f"{layer.name}.real")


@dataclass(frozen=True)
class _Direction(Layer):
    """One direction of a Bidirectional, whose attributes and weights begin with its name."""

    direction: str

    @property
    def name(self) -> str:
        return f"{super().name}.{self.direction}"

    def attr(self, name: str, default: Any = None) -> Any:
        if name == "direction":
            return self.direction
        found = super().attr(f"{self.direction}_{name}")
        return super().attr(name, default) if found is None else found

    def weights(self, name: str) -> tuple[Array, Fixed]:
        return super().weights(f"{self.direction}_{name}")

    def has(self, name: str) -> bool:
        return super().has(f"{self.direction}_{name}")


# Keras's merge_mode: an ONNX operator, and how large a result may be
_MERGED: Mapping[str, tuple[str, float]] = {
    "concat": ("Concat", 1.0),
    "sum": ("Add", 2.0),
    "ave": ("Add", 1.0),
    "mul": ("Mul", 1.0),
}


def _bidirectional(b: Builder, layer: Layer, xs: Sequence[Tensor]) -> Tensor:
    x, mode = _input(b, layer, xs), str(layer.attr("merge_mode", "concat"))
    if mode not in _MERGED:
        raise Refused(f"merge_mode {mode}; supported are {', '.join(_MERGED)}")
    parts = []
    for direction in ("forward", "backward"):
        half = _Direction(layer.node, direction)
        op = str(half.attr("class_name")).removeprefix("Q")
        units = half.weights("recurrent_weight")[0].shape
        shape = (*layer.shape[:-1], min(units))
        parts.append(_real(b, half, x, "RNN" if op == "SimpleRNN" else op, shape))
    name, peak = _MERGED[mode]
    attrs = {"axis": -1} if name == "Concat" else {}
    out = b.emit(name, parts, f"{layer.name}.real", **attrs)
    if mode == "ave":
        half_of = b.constant(f"{layer.name}.half", np.float32(0.5))
        out = b.emit("Mul", [out, half_of], f"{layer.name}.mean")
    return b.value(out, layer.shape, layer.fixed, (-peak, peak), None, layer.name)


def _name(layer: Layer, attribute: str) -> str:
    name = str(layer.attr(attribute, "sigmoid")).lower()
    if name not in ("sigmoid", "tanh", "relu"):
        raise Refused(f"the activation {name} of a gate; sigmoid, tanh and relu are supported")
    return name.capitalize()


def _gates(array: Array, order: tuple[int, ...]) -> Array:
    """Return parts of the first axis in ONNX's order."""
    parts = np.split(array, len(order))
    return np.concatenate([parts[i] for i in order])


def _matrix(layer: Layer, name: str, order: tuple[int, ...]) -> Array:
    codes, fixed = layer.weights(name)
    real = (codes * fixed.step).astype(np.float32)
    real = real if layer.attr("_weights_transposed", False) else real.T  # (gates, inputs)
    return _gates(real, order)[None]


def _biases(layer: Layer, order: tuple[int, ...]) -> Array:
    parts = []
    for name in ("bias", "recurrent_bias"):
        if layer.has(name):
            codes, fixed = layer.weights(name)
            parts.append(_gates((codes * fixed.step).astype(np.float32).reshape(-1), order))
        else:
            parts.append(np.zeros_like(parts[0]))
    return np.concatenate(parts)[None]


HANDLERS: Mapping[str, Handler] = {
    "LSTM": _recurrent("LSTM"),
    "GRU": _recurrent("GRU"),
    "SimpleRNN": _recurrent("RNN"),
    "Bidirectional": _bidirectional,
}
