# SPDX-License-Identifier: Apache-2.0
"""Sums of products with fixed-point weights, exact before one cast.

In: a tensor, integer weights and biases, and how the sum is written as an ONNX operator.
Out: ``Pending``.

Weights of more than 8 bits are two digits, W = 2^k * H + L.  The sums x*L do not fit an int16; they
are kept as t = 2^p * t1 + t0, both exact, and x*W = 2^k * (x*H) + t0 is cast before the whole steps
of t1 are added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

from ...ir.types import Array, Shape
from .builder import Builder, Function, Pending, Steps, Value
from .fixed import INT16, Fixed

INT8 = 127
MOST_PART = 15  # bits of t0
Apply = Callable[[str, str, str, str], str]  # (x, weights, bias or "", hint) -> its output


@dataclass(frozen=True)
class Weights:
    """Integers (..., M) or as ``apply`` takes them, with ``axis`` M; real = 2^-fraction * codes."""

    codes: Array
    fraction: int
    bias: Array  # integers (M,)
    bias_fraction: int
    axis: int

    def sums(self, low: float, high: float) -> tuple[float, float]:
        """Return the bounds of the sums over x from low to high."""
        flat = np.moveaxis(self.codes, self.axis, 0).reshape(len(self.bias), -1).astype(np.float64)
        up, down = np.maximum(flat, 0).sum(1), np.minimum(flat, 0).sum(1)
        step, bias = 2.0**-self.fraction, self.bias * 2.0**-self.bias_fraction
        least = (up * low + down * high) * step + bias
        most = (up * high + down * low) * step + bias
        return float(least.min()), float(most.max())

    def reach(self, x: Value, unit: int) -> float:
        """Return the largest magnitude of a sum, in steps of 2^-unit."""
        taps = np.abs(np.moveaxis(self.codes, self.axis, 0)).reshape(len(self.bias), -1).sum(1)
        return float((x.peak * taps + np.abs(self.bias) * 2.0 ** (unit - self.bias_fraction)).max())

    def reduced(self) -> Weights:
        """Return weights without common factors of two."""
        odd = np.bitwise_or.reduce(np.abs(self.codes).reshape(-1)) if self.codes.size else 0
        shift = int(odd & -odd).bit_length() - 1 if odd else 0
        return Weights(
            self.codes >> shift, self.fraction - shift, self.bias, self.bias_fraction, self.axis
        )


def product(
    b: Builder, x: Value, weights: Weights, shape: Shape, fixed: Fixed, apply: Apply, where: str
) -> Pending:
    """Return the sums of ``x`` with ``weights``, not yet cast."""
    low, high = weights.sums(min(x.low, 0.0), max(x.high, 0.0))
    exact = x.fixed.fraction + weights.fraction
    fraction = max(exact, weights.bias_fraction if weights.bias.any() else exact)
    reduced = weights.reduced()
    single = -INT8 - 1 <= reduced.codes.min() and reduced.codes.max() <= INT8

    def finish(name: str, target: Fixed, function: Function | None) -> Value:
        bounds = (low, high) if function is None else (function.bounds(low), function.bounds(high))
        steps = b.steps(target, *bounds, fraction, where)
        real = (
            apply(x.name, _weight(b, where, reduced.codes, reduced.fraction),
                  _bias(b, where, weights), f"{where}.sums")
            if single else _two_digits(b, x, reduced, steps, apply, where)
        )  # fmt: skip
        if function is not None:
            real = b.emit(function.op, [real], f"{where}.function", **function.attrs)
        return b.value(real, shape, target, bounds, fraction, name, where)

    return Pending(shape, fixed, fraction, low, high, finish)


def _weight(b: Builder, where: str, codes: Array, fraction: int) -> str:
    return b.weights(f"{where}.weight", codes, 2.0**-fraction)


def _bias(b: Builder, where: str, weights: Weights) -> str:
    if not weights.bias.any():
        return ""
    real = weights.bias * 2.0**-weights.bias_fraction
    return b.constant(f"{where}.bias", real.astype(np.float32))


def _two_digits(b: Builder, x: Value, w: Weights, steps: Steps, apply: Apply, where: str) -> str:
    """Append the sums with weights of up to 16 bits; the cast to ``steps`` follows."""
    radix = _radix(b, w.codes, where)
    high = np.clip((w.codes + 2 ** (radix - 1)) >> radix, -INT8 - 1, INT8)
    low = np.clip(w.codes - (high << radix), -INT8 - 1, INT8)
    unit = x.fixed.fraction + w.fraction  # bits behind the point of a sum
    reach = Weights(low, w.fraction, w.bias, w.bias_fraction, w.axis).reach(x, unit)
    upper = apply(x.name, _weight(b, f"{where}.high", high, w.fraction - radix), "",
                  f"{where}.high.sums")  # fmt: skip

    def lower() -> str:
        name = f"{where}.low"
        return apply(x.name, _weight(b, name, low, w.fraction), _bias(b, where, w), f"{name}.sums")

    def part(real: str, bits: int, what: str) -> str:
        """Append a cast to int16 steps of 2^-bits."""
        held = Steps(Fixed(16, 16 - bits, True, "RND_CONV", "SAT"), int16=True)
        return b.cast(real, f"{where}.{what}", held, -1.0)

    if reach <= INT16:
        return b.emit("Add", [upper, part(lower(), unit, "low")], f"{where}.sums")
    whole = max(unit - steps.fixed.fraction + 1, ceil(log2(reach / INT16)))
    if whole > MOST_PART:
        b.note(f"{where}: sums of more bits than two int16 hold; results may differ by one step")
        kept = unit - ceil(log2(reach / INT16))
        return b.emit("Add", [upper, part(lower(), kept, "low")], f"{where}.sums")
    t1 = part(lower(), unit - whole, "low.whole")
    t0 = part(b.emit("Sub", [lower(), t1], f"{where}.low.rest.real"), unit, "low.rest")
    near = b.emit("Add", [upper, t0], f"{where}.near.real")
    held = b.cast(near, f"{where}.near", Steps(steps.fixed, int16=True), -1.0)
    return b.emit("Add", [held, t1], f"{where}.sums")


def _radix(b: Builder, codes: Array, where: str) -> int:
    """Return the fewest bits of the low digit with which the high one fits int8."""
    for radix in range(1, 9):
        high = (codes + 2 ** (radix - 1)) >> radix
        if -INT8 - 1 <= high.min() and high.max() <= INT8:
            return radix
    b.note(f"{where}: weights beyond 32639 steps are the nearest that two int8 digits hold")
    return 8
