# SPDX-License-Identifier: Apache-2.0
"""The ONNX model that a ModelGraph becomes, under construction.

In: layers' tensors as ``Value`` and ``Pending``.  Out: nodes, constants and notes.

A tensor of fixed-point numbers is a real tensor behind a node FixedPoint, which prescribes its
steps, and how values are brought to them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, log2
from typing import Any

import numpy as np

from ...ir.types import Array, Shape
from ..onnx.context import fresh_name
from ..onnx.load import require_onnx
from ..onnx.ops.fixed_point import DOMAIN
from .fixed import INT16, Fixed

OPSET = 18


@dataclass(frozen=True)
class Value:
    """A tensor of the model (1, *shape) whose reals are multiples of ``fixed.step``, within low and
    high."""

    name: str
    shape: Shape
    fixed: Fixed
    low: float
    high: float

    @property
    def peak(self) -> int:
        """The largest magnitude in steps."""
        return int(np.ceil(max(-self.low, self.high, 0.0) / self.fixed.step))


@dataclass(frozen=True)
class Pending:
    """The exact result of a layer before its cast: a function behind it may come first.

    ``finish`` appends the layer, a function and the cast to a type.  ``fixed`` is the layer's own
    type; ``fraction`` the bits behind the point of the exact result.
    """

    shape: Shape
    fixed: Fixed
    fraction: int | None
    low: float
    high: float
    finish: Callable[[str, Fixed, Function | None], Value]

    @property
    def lossless(self) -> bool:
        """Whether the cast to the layer's type changes nothing."""
        exact = self.fraction is not None and self.fixed.fraction >= self.fraction
        return exact and self.fixed.holds(self.low, self.high)


@dataclass(frozen=True)
class Function:
    """A monotone function between a layer and its cast: an ONNX operator with attributes, and what
    it does to bounds."""

    op: str
    bounds: Callable[[float], float]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Steps:
    """How the array holds a type: attributes of FixedPoint, and the grid that values then have."""

    fixed: Fixed
    zero_point: int = 0
    int16: bool = False
    ends: tuple[int, int] | None = None


@dataclass
class Builder:
    """Nodes and constants so far; ``notes`` says what may differ from hls4ml."""

    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)

    def note(self, line: str) -> None:
        """Say once what differs from hls4ml."""
        if line not in self.notes:
            self.notes.append(line)

    def fresh(self, hint: str) -> str:
        """Return a new name that begins with ``hint``."""
        return fresh_name(self.names, hint)

    def constant(self, hint: str, values: Any) -> str:
        """Add a constant."""
        name = self.fresh(hint)
        self.constants[name] = np.ascontiguousarray(values)
        return name

    def emit(self, op: str, inputs: Sequence[str], hint: str, **attrs: Any) -> str:
        """Append a node and return its output."""
        name = self.fresh(hint)
        helper = require_onnx().helper
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=name, **attrs))
        return name

    def emit_two(self, op: str, inputs: Sequence[str], hint: str, **attrs: Any) -> tuple[str, str]:
        """Append a node of two outputs and return them."""
        names = self.fresh(f"{hint}.0"), self.fresh(f"{hint}.1")
        helper = require_onnx().helper
        self.nodes.append(helper.make_node(op, list(inputs), list(names), name=names[0], **attrs))
        return names

    def weights(self, hint: str, codes: Array, scale: float) -> str:
        """Add int8 weights that stand for ``scale * codes``."""
        name = self.constant(f"{hint}.codes", codes.astype(np.int8))
        step = self.constant(f"{hint}.step", np.float32(scale))
        return self.emit("DequantizeLinear", [name, step], hint)

    def steps(
        self, fixed: Fixed, low: float, high: float, fraction: int | None, where: str
    ) -> Steps:
        """Return how the array holds values of low to high that are cast to a type.

        ``fraction``: bits behind the point before the cast, None for a function's values.
        """
        self._note_modes(fixed, low, high, fraction, where)
        if fixed.width == 8 and not fixed.signed:
            return Steps(fixed, zero_point=-128)
        bits = fixed.width + (not fixed.signed)  # of a signed integer
        if bits > 16:
            return self._wide(fixed, low, high, fraction, where)
        whole = bits in (8, 16) and fixed.signed and fixed.overflow != "SAT_SYM"
        ends = None if whole else (fixed.lowest, fixed.highest)
        return Steps(fixed, int16=bits > 8, ends=ends)

    def _wide(
        self, fixed: Fixed, low: float, high: float, fraction: int | None, where: str
    ) -> Steps:
        """Return the finest int16 steps that hold what a type of more bits can be."""
        peak = min(max(-low, high), max(-fixed.lowest, fixed.highest) * fixed.step)
        finest = fixed.fraction if fraction is None else min(fraction, fixed.fraction)
        bits = min(finest, -ceil(log2(max(peak, 2.0**-60) / INT16)))
        if bits < finest:
            self.note(
                f"{where}: {fixed.text} has more than the 16 bits of the array's tensors; values "
                f"are rounded to steps of 2^{-bits}; choose a narrower result type in hls_config"
            )
        rounding = fixed.rounding if bits == fixed.fraction else "RND_CONV"
        return Steps(Fixed(16, 16 - bits, True, rounding, "SAT"), int16=True)

    def _note_modes(
        self, fixed: Fixed, low: float, high: float, fraction: int | None, where: str
    ) -> None:
        """Note an overflow or rounding mode that may show and that the array has not."""
        if fixed.overflow in ("WRAP", "SAT_ZERO") and not fixed.holds(low, high):
            self.note(
                f"{where}: {fixed.text} may overflow (up to {max(-low, high):.4g} by its weights); "
                f"hls4ml then has {_OVERFLOW[fixed.overflow]}, the array the nearest value"
            )
        if fraction is not None and fraction > fixed.fraction:
            if not fixed.array_rounding(low >= 0)[1]:
                self.note(
                    f"{where}: {fixed.rounding} of {fixed.text} is for negative values another "
                    f"rounding than the array's ({fixed.array_rounding(True)[0]}), by one step"
                )

    def cast(self, x: str, hint: str, steps: Steps, low: float) -> str:
        """Append the cast of a tensor whose values are ``low`` or more."""
        attrs: dict[str, Any] = {
            "scale": steps.fixed.step,
            "zero_point": steps.zero_point,
            "int16": int(steps.int16),
            "rounding": steps.fixed.array_rounding(low >= 0)[0],
        }
        if steps.ends is not None:
            attrs["ends"] = steps.ends
        return self.emit("FixedPoint", [x], hint, domain=DOMAIN, **attrs)

    def value(
        self, x: str, shape: Shape, fixed: Fixed, bounds: tuple[float, float],
        fraction: int | None, hint: str, where: str = "",
    ) -> Value:  # fmt: skip
        """Append the cast of a tensor to a type, and return the result, named after ``hint``;
        ``where`` is the layer in notes."""
        low, high = bounds
        steps = self.steps(fixed, low, high, fraction, where or hint)
        name = self.cast(x, hint, steps, low)
        ends = _ends(steps.fixed)
        return Value(name, shape, steps.fixed, max(low, ends[0]), min(high, ends[1]))

    def finished(self, x: Value | Pending, name: str) -> Value:
        """Return the value of a layer, in its own type where it is still pending."""
        return x if isinstance(x, Value) else x.finish(name, x.fixed, None)

    def recast(self, x: Value, shape: Shape, name: str, fixed: Fixed, where: str) -> Value:
        """Return a value that another layer passes on as ``name``, cast only where it changes."""
        if fixed.fraction >= x.fixed.fraction and fixed.holds(x.low, x.high):
            return replace(x, name=name, shape=shape)
        return self.value(name, shape, fixed, (x.low, x.high), x.fixed.fraction, where)


_OVERFLOW = {"WRAP": "a value of the other end", "SAT_ZERO": "0"}


def _ends(fixed: Fixed) -> tuple[float, float]:
    return fixed.lowest * fixed.step, fixed.highest * fixed.step
