# SPDX-License-Identifier: Apache-2.0
"""One layer of a ModelGraph, as the handlers of its kind see it.

In: hls4ml's node.  Out: its shape, types, attributes and weights as integers.  hls4ml's tensors
have no batch and keep channels last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...ir.types import Array, Shape
from ..onnx.context import Refused
from .builder import Builder, Pending, Value
from .fixed import Fixed, cast_weights, fixed_of

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
        raise Refused(
            f"weights of the type {precision}; fixed<W,I> and int<W> are supported: choose one, or "
            "export the network as QONNX and give that file to nm.compile"
        )


Handler = Callable[[Builder, Layer, Sequence[Tensor]], Tensor]


def channels_first(b: Builder, x: str, rank: int, hint: str) -> str:
    """Append the transpose from (1, ..., C) to (1, C, ...)."""
    return b.emit("Transpose", [x], hint, perm=[0, rank, *range(1, rank)]) if rank > 1 else x


def channels_last(b: Builder, x: str, rank: int, hint: str) -> str:
    """Append the transpose from (1, C, ...) to (1, ..., C)."""
    return b.emit("Transpose", [x], hint, perm=[0, *range(2, rank + 1), 1]) if rank > 1 else x


def window_of(layer: Layer, axes: Sequence[str]) -> dict[str, list[int]]:
    """Return the attributes of a convolution or pooling over ``axes``."""
    sides = {"height": ("top", "bottom"), "width": ("left", "right")}
    begins = layer.ints(*(f"pad_{sides[axis][0]}" for axis in axes))
    ends = layer.ints(*(f"pad_{sides[axis][1]}" for axis in axes))
    return {"strides": layer.ints(*(f"stride_{axis}" for axis in axes)), "pads": [*begins, *ends]}


def axes_of(rank: int) -> tuple[str, ...]:
    return ("height", "width")[3 - rank :]
