# SPDX-License-Identifier: Apache-2.0
"""Arithmetic on logarithms: products, powers and sums of positive tensors of a wide range.

In: tensors in the form gain * tensor + shift, each the logarithm of a positive one.  Out: the nodes
that compute such logarithms.  All of it is exact in real arithmetic.

int16 holds a power to 45 dB of loudness, and its logarithm to any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ....ir.graph.nodes import AxisMatMul, Binary, Node, Reduce, Slice, Unary
from ....ir.graph.operators import infer_shape
from ....ir.graph.uses import GraphUses
from ....ir.types import Array, Function, Shape
from ..rewrite import Change

# Terms of a sum are split at these parts of the row's largest, each part in steps of its own.
# int16 holds 45 dB of power; three parts hold 93 dB, as much as int16 magnitudes have.
SPLITS = (1.0, 2.0**-8, 2.0**-16)


@dataclass(frozen=True)
class Log:
    """The logarithm gain * tensor + shift of a positive tensor; the shift broadcasts to it."""

    tensor: str
    gain: float = 1.0
    shift: Array = field(default_factory=lambda: np.zeros(()))

    def times(self, gain: float) -> Log:
        """Return the logarithm of the tensor to the power ``gain``."""
        return Log(self.tensor, self.gain * gain, self.shift * gain)

    def plus(self, shift: Array | float) -> Log:
        """Return the logarithm of the tensor times e^shift."""
        value = np.asarray(shift, np.float64)
        value = value.reshape(()) if value.size == 1 else value
        return replace(self, shift=self.shift + value)


class LogNodes:
    """Collects the nodes and constants of one change."""

    def __init__(self, uses: GraphUses, out: str, source: str) -> None:
        self.uses, self.out, self.source = uses, out, source
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self.shapes: dict[str, Shape] = dict(uses.graph.shapes)
        self._sizes: dict[str, str] = {
            node.inputs[0]: node.output
            for node in uses.graph.nodes
            if isinstance(node, Unary) and node.function.name == "log_abs"
        }

    def change(self) -> Change:
        return Change(tuple(self.nodes), self.constants)

    # ------------------------------------------------------------ nodes

    def add(self, make: Callable[[str], Node], part: str, out: str | None = None) -> str:
        """Append the node that ``make`` returns for the name of its output."""
        name = out or self._fresh(part)
        node = make(name)
        self.nodes.append(node)
        self.shapes[name] = infer_shape(node, self.shapes)
        return name

    def _fresh(self, part: str) -> str:
        name, number = f"{self.out}.{part}", 1
        while name in self.shapes:
            number += 1
            name = f"{self.out}.{part}.{number}"
        return name

    def constant(self, part: str, value: Array | float) -> str:
        name = self._fresh(part)
        self.constants[name] = np.asarray(value, np.float32)
        self.shapes[name] = self.constants[name].shape
        return name

    def unary(self, x: str, part: str, function: str, *params: float, out: str = "") -> str:
        made = Function(function, params)
        return self.add(lambda n: Unary((x,), n, self.source, function=made), part, out or None)

    def binary(self, kind: str, a: str, b: str, part: str, out: str = "") -> str:
        return self.add(
            lambda n: Binary((a, b), n, self.source, kind=kind),  # type: ignore[arg-type]
            part,
            out or None,
        )

    def affine(self, x: str, gain: float, shift: Array | float, part: str) -> str:
        """Append gain * x + shift, as far as there is something to compute."""
        if gain != 1.0:
            x = self.binary("mul", x, self.constant("gain", gain), part)
        if np.any(shift):
            x = self.binary("add", x, self.constant("shift", shift), part)
        return x

    def slice(self, x: str, at: Mapping[int, int]) -> str:
        """Append the elements ``at`` these places of some axes, which stay."""
        slices = tuple(
            (at[i], at[i] + 1, 1) if i in at else (0, n, 1) for i, n in enumerate(self.shapes[x])
        )
        return self.add(lambda n: Slice((x,), n, self.source, slices=slices), "part")

    # ------------------------------------------------------------ logarithms

    def magnitude(self, x: str) -> Log:
        """Return log|x|; every tensor gets one."""
        if x not in self._sizes:
            self._sizes[x] = self.unary(x, "log", "log_abs")
        return Log(self._sizes[x])

    def plain(self, log: Log, part: str = "whole") -> str:
        """Return a tensor that is the logarithm itself."""
        return self.affine(log.tensor, log.gain, log.shift, part)

    def sum_of(self, a: Log, b: Log) -> Log:
        """Return log(e^a + e^b) = a + log(1 + e^(b - a))."""
        if a.gain != b.gain:
            a, b = Log(self.plain(a)), Log(self.plain(b))
        gain, shift = a.gain, b.shift - a.shift
        apart = self.binary("sub", b.tensor, a.tensor, "apart")
        more = self.unary(self.affine(apart, gain, shift, "apart"), "more", "log_sum")
        more = self.affine(more, 1.0 / gain, 0.0, "more")
        return replace(a, tensor=self.binary("add", more, a.tensor, "sum"))

    def plus_constant(self, a: Log, c: Array) -> Log:
        """Return log(e^a + c) = log c + log(1 + e^(a - log c)) for positive c."""
        least = np.log(np.asarray(c.reshape(()) if c.size == 1 else c, np.float64))
        apart = self.affine(a.tensor, a.gain, a.shift - least, "apart")
        return Log(self.unary(apart, "more", "log_sum"), 1.0, least)

    def clipped(self, a: Log, low: float, high: float) -> Log:
        """Return log(min(max(e^a, low), high)); low may be 0, high infinite."""
        if a.shift.size > 1 or a.gain < 0:
            a = Log(self.plain(a))
        ends = np.log([low, high]) if low > 0 else np.array([-math.inf, math.log(high)])
        lo, hi = (float(end) for end in (ends - a.shift.reshape(())) / a.gain)
        return replace(a, tensor=self.unary(a.tensor, "clipped", "clip", lo, hi))

    def product_with(self, a: Log, matrix: Array, axis: int) -> Log:
        """Return log(sum over k of matrix[m, k] * e^a[k]) along ``axis`` for weights from 0 up.

        With the largest a of every row subtracted, terms are at most 1; the parts of each between
        two of SPLITS are summed apart.
        """
        a = Log(self.plain(a)) if a.gain != 1.0 or a.shift.size > 1 else a
        share = matrix.sum(1, dtype=np.float64)
        share = np.where(share > 0, share, 1.0)
        weights = self.constant("weights", matrix / share[:, None])
        peak = self.add(
            lambda n: Reduce((a.tensor,), n, self.source, kind="max", axes=(axis,)), "peak"
        )
        found: Log | None = None
        for top, least in zip(SPLITS, (*SPLITS[1:], 0.0), strict=True):
            part = (math.log(1.0 / top), least / top)
            log = Log(self._sum(a.tensor, peak, weights, axis, part)).plus(math.log(top))
            found = log if found is None else self.sum_of(found, log)
        assert found is not None
        whole = self.binary("add", self.plain(found), peak, "total")
        shape = [1] * len(self.shapes[whole])
        shape[axis] = len(share)
        return Log(whole, 1.0, a.shift).plus(np.log(share).reshape(shape))

    def _sum(self, x: str, peak: str, weights: str, axis: int, part: tuple[float, float]) -> str:
        """Append log(weights @ one part of exp(x - peak))."""
        apart = self.binary("sub", x, peak, "terms")
        power = self.unary(apart, "part", "exp_part", *part)
        total = self.add(
            lambda n: AxisMatMul((power, weights), n, self.source, axis=axis), "part.sum"
        )
        return self.unary(total, "part.log", "log_share")

    def finish_power(self, a: Log) -> None:
        """Append e^a as the output of the change."""
        self.unary(self.plain(a), "", "exp_wide", out=self.out)

    def finish_log(self, a: Log) -> None:
        """Append the logarithm itself as the output of the change."""
        gain, shift = (self.constant(part, v) for part, v in (("gain", a.gain), ("shift", a.shift)))
        scaled = self.binary("mul", a.tensor, gain, "scaled")
        self.binary("add", scaled, shift, "", out=self.out)
