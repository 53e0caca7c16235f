# SPDX-License-Identifier: Apache-2.0
"""Units of the parts of tensors, applied: stored = (real - offset) / divisor.

In: a MatGraph and the units of some of its tensors.  Out: an equal MatGraph: weights, biases,
gains and constants absorb the units, Moves pass them on, and ports name those that the host
converts.  BadModel: an operation cannot absorb them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import BadModel
from ..hardware.target import Target
from ..ir.matgraph.ops import (
    Epilogue,
    Gemm,
    Linear,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    Tensor,
    Window,
)
from ..ir.matgraph.rewrite import fresh_name
from ..ir.recipe import TensorUnits
from ..ir.types import Array, Function
from .tensor_units import ONE, GraphUnits, compressed, varies

# f(a x) = a f(x) for every a > 0
PROPORTIONAL = frozenset({"identity", "relu", "leaky_relu", "neg", "abs"})


def with_units(graph: MatGraph, target: Target, *, units: TensorUnits) -> MatGraph:
    """Return ``graph`` with the named tensors in the given units, and those that follow from them.

    BadModel: a name or a shape is not the graph's, or an operation cannot absorb the units.
    """
    if not units:
        return graph
    return _Applied(graph, units).result(units)


def proportional(activation: Function | None) -> bool:
    """Return whether a positive factor passes an activation, channel by channel."""
    return activation is None or activation.name in PROPORTIONAL


class _Applied:
    """A graph whose operations are rewritten for the units of its tensors."""

    def __init__(self, mg: MatGraph, units: TensorUnits) -> None:
        self.mg = mg
        self.tensors = dict(mg.tensors)
        self.constants = dict(mg.constants)
        self._units = GraphUnits(mg, units)

    def result(self, units: TensorUnits) -> MatGraph:
        """Return the rewritten graph."""
        mg = self.mg
        for name, value in mg.constants.items():
            if self._units.touches([name]):
                self.constants[name] = _float32(value / self._units.divisor(name))
        ops = tuple(map(self._rewritten, mg.ops))
        read = {name for op in ops for name in op.inputs}
        unread = self.constants.keys() - read - {port.tensor for port in mg.outputs}
        return replace(
            mg,
            inputs=tuple(map(self._input, mg.inputs)),
            outputs=tuple(replace(p, units=self._units.of(p.tensor)) for p in mg.outputs),
            ops=ops,
            tensors={name: t for name, t in self.tensors.items() if name not in unread},
            constants={name: c for name, c in self.constants.items() if name not in unread},
            recipe=replace(mg.recipe, units=units),
        )

    # ------------------------------------------------------------ ports

    def _input(self, port: Port) -> Port:
        if port.table is None:
            return replace(port, units=self._units.of(port.tensor))
        where = f"the table of input {port.name!r}"
        divisor = _scalar(self._units.divisor(port.tensor), where)
        rows = np.asarray(port.table) / divisor if divisor != 1 else port.table
        return replace(port, table=np.asarray(rows, np.float32))

    # ------------------------------------------------------------ operations

    def _rewritten(self, op: MatOp) -> MatOp:
        if not self._units.touches((*op.inputs, *op.outputs)):
            return op
        if isinstance(op, Move):
            return replace(op, fill=self._fill(op))
        if isinstance(op, RowMax):
            self._same(op, op.input, op.output)
            return op
        assert isinstance(op, Linear)
        for row in op.epilogue.rows:
            self._same(op, op.output, row.tensor)
        return self._linear(op)

    def _fill(self, op: Move) -> float:
        """Return what a Move writes where it copies nothing."""
        if op.fill == 0.0:
            return 0.0
        divisor = np.broadcast_to(self._units.divisor(op.output), op.index.shape)[op.index < 0]
        return op.fill / (_scalar(compressed(divisor.reshape(-1, 1, 1, 1)), _name(op))
                          if divisor.size else 1.0)  # fmt: skip

    def _same(self, op: MatOp, *names: str) -> None:
        """Raise BadModel unless the tensors have one common divisor of 1 part, and no offset."""
        found = {_scalar(self._units.divisor(name), _name(op)) for name in names}
        if len(found) > 1 or any(np.any(self._units.offset(name)) for name in names):
            raise BadModel(f"{_name(op)} needs tensors of one unit: {', '.join(names)}")

    def _linear(self, op: Linear) -> Linear:
        total = self._divisor_of_sum(op)
        if isinstance(op, Gemm) and op.rhs is not None:
            made: Linear = self._product(op, op.rhs, _scalar(total, _name(op)))
        else:
            made = self._weighted(op, total)
        return replace(made, epilogue=self._epilogue(made, total))

    def _divisor_of_sum(self, op: Linear) -> Array:
        """Return the divisor in front of the activation: that of the operands which fix it, or what
        leaves the rest of the epilogue as it is."""
        e, x, out = op.epilogue, self._units.divisor(op.input), self._units.divisor(op.output)
        if not _takes_factor(e):
            return ONE
        if isinstance(op, Window) and op.reduce == "max":
            return x
        if e.residual is not None and e.residual not in self.mg.constants:
            return self._units.divisor(e.residual)
        if isinstance(op, Gemm) and op.rhs is not None:
            return ONE if e.hadamard else out
        if varies(x):
            return x
        if e.hadamard is None:
            return out
        u = self._units.divisor(e.hadamard)
        if e.hadamard in self.mg.constants:
            return ONE if varies(out) else out
        return ONE if varies(u) else compressed(out / u)

    def _product(self, op: Gemm, rhs: str, total: float) -> Gemm:
        """Return an activation-activation matmul: its gain takes scalars, a constant left operand
        the units of the channels over which it sums."""
        if np.any(self._units.offset(op.input)) or np.any(self._units.offset(rhs)):
            raise BadModel(f"{_name(op)} multiplies a tensor with an offset")
        w, source = self._units.divisor(rhs), op.input
        k = w if op.rhs_transposed else w.swapaxes(2, 3)
        if k.size > 1 and source in self.mg.constants:
            value = self.constants[source] * _channels(k, _name(op))
            source, w = self._constant(source, value), ONE
        x = self._units.divisor(op.input)
        gain = op.gain * _scalar(x, _name(op)) * _scalar(w, _name(op)) / total
        bias = (op.bias + self._side_shift(op)) / total
        return replace(op, input=source, gain=float(gain), bias=_float32(bias))

    def _weighted(self, op: Linear, total: Array) -> Linear:
        assert op.weight is not None
        where, x = _name(op), self._units.divisor(op.input)
        bias = op.bias + self._shift(op) + self._side_shift(op)
        if varies(total) and np.any(bias):
            op, bias = self._with_addend(op, bias), np.zeros_like(bias)
        scaled = bias / (_channels(total, where) if np.any(bias) else 1.0)
        if isinstance(op, Gemm):
            outs = _channels(total, where)
            weight = op.weight * _by_group(_channels(x, where), op) / outs
            scale = _weight_scale(op, _channels(x, where), outs)
            return replace(op, weight=_float32(weight), bias=_float32(scaled), weight_scale=scale)
        assert isinstance(op, Window)
        if op.minus is not None:
            self._same(op, op.input, op.minus)
        ratio = _channels(compressed(x / total), where)
        if op.reduce == "max" and np.any(ratio != 1):
            raise BadModel(f"{where} takes a maximum and cannot change units")
        weight = op.weight if op.reduce == "max" else op.weight * ratio
        scale = _weight_scale(op, ratio, np.ones(1))
        return replace(op, weight=_float32(weight), bias=_float32(scaled), weight_scale=scale)

    def _with_addend(self, op: Linear, bias: Array) -> Linear:
        """Return ``op`` with its bias as a constant residual, which can absorb all units."""
        if op.epilogue.residual is not None:
            raise BadModel(f"{_name(op)} cannot absorb units that differ from position to position")
        value = bias[:1] if np.all(bias == bias[0]) else bias
        name = fresh_name(f"{op.output}:bias", self.tensors)
        self.tensors[name] = Tensor(name, (1, 1, 1, len(value)), len(value) == 1)
        self.constants[name] = _float32(value.reshape(1, 1, 1, -1))
        return replace(op, epilogue=replace(op.epilogue, residual=name, residual_gain=1.0))

    def _shift(self, op: Linear) -> Array:
        """Return what the offset of the main input adds to the bias."""
        x = self._units.offset(op.input)
        if not np.any(x):
            return np.zeros(len(op.bias))
        is_max = isinstance(op, Window) and (op.reduce == "max" or op.minus is not None)
        if any(op.pads) or is_max:
            raise BadModel(f"{_name(op)} cannot absorb the offset of {op.input!r}")
        shift, weight = _channels(x, _name(op)), np.asarray(op.weight, np.float64)
        if isinstance(op, Gemm):
            weight = (weight * _by_group(shift, op)).sum(2)
        else:
            weight = weight * shift
        return np.asarray(weight.sum((0, 1)))

    def _side_shift(self, op: Linear) -> Array:
        """Return what the offsets of the residual and of the result add to the bias."""
        found, e = np.zeros(len(op.bias)), op.epilogue
        if e.residual is not None and np.any(self._units.offset(e.residual)):
            found = found + e.residual_gain * _channels(self._units.offset(e.residual), _name(op))
        if e.hadamard is not None and np.any(self._units.offset(e.hadamard)):
            raise BadModel(f"{_name(op)} multiplies by a tensor with an offset")
        out = self._units.offset(op.output)
        if np.any(out) and (e.activation or e.hadamard or e.rows):
            raise BadModel(f"{_name(op)} cannot leave an offset to its readers")
        return found - _channels(out, _name(op))

    # ------------------------------------------------------------ epilogues

    def _epilogue(self, op: Linear, total: Array) -> Epilogue:
        e, where = op.epilogue, _name(op)
        if e.activation is not None and e.activation.name == "clip" and _takes_factor(e):
            ends = tuple(p / _scalar(total, where) for p in e.activation.params)
            e = replace(e, activation=Function("clip", ends))
        if (name := e.residual) is not None:
            ratio = compressed(self._units.divisor(name) / total)
            if ratio.size == 1:
                e = replace(e, residual_gain=e.residual_gain * float(ratio.flat[0]))
            else:
                e = replace(e, residual=self._absorbing(op, name, ratio))
        factor = ONE if e.hadamard is None else self._units.divisor(e.hadamard)
        ratio = compressed(total * factor / self._units.divisor(op.output))
        if e.hadamard is None or ratio.size == 1:
            return replace(e, factor=e.factor * _scalar(ratio, where))
        return replace(e, hadamard=self._absorbing(op, e.hadamard, ratio))

    def _absorbing(self, op: Linear, name: str, ratio: Array) -> str:
        """Return a constant operand multiplied by ``ratio``."""
        if name not in self.constants:
            raise BadModel(f"{_name(op)} cannot absorb the units of {name!r}")
        return self._constant(name, self.constants[name] * ratio)

    def _constant(self, name: str, value: Array) -> str:
        fresh = fresh_name(f"{name}:units", self.tensors)
        n, h, w, c = value.shape
        broadcast = self.tensors[name].broadcast and c == 1
        self.tensors[fresh] = Tensor(fresh, (n, h, w, c), broadcast)
        self.constants[fresh] = _float32(value)
        return fresh


def _takes_factor(e: Epilogue) -> bool:
    """Return whether a factor passes the activation; that of a clip is one number in its ends."""
    is_clip = e.activation is not None and e.activation.name == "clip"
    return proportional(e.activation) or (is_clip and e.hadamard is None)


def _name(op: MatOp) -> str:
    return f"{type(op).__name__} {op.output!r}"


def _float32(values: Array) -> Array:
    return np.asarray(values, np.float32)


def _scalar(divisor: Array, where: str) -> float:
    if divisor.size > 1:
        raise BadModel(f"{where} cannot absorb units that differ within a tensor")
    return float(divisor.flat[0])


def _channels(divisor: Array, where: str) -> Array:
    """Return the divisor of every channel, or of all of them as one."""
    if varies(divisor):
        raise BadModel(f"{where} cannot absorb units that differ from position to position")
    return np.asarray(divisor.reshape(-1))


def _weight_scale(op: Linear, x: Array, outs: Array) -> Array | None:
    """Return the prescribed scale of weights that are multiplied by x / outs; None where x differs
    from one summed channel to another."""
    if op.weight_scale is None or (isinstance(op, Gemm) and x.size > 1):
        return None
    return np.asarray(op.weight_scale * np.abs(x / outs))


def _by_group(values: Array, op: Gemm) -> Array:
    """Return values of input channels as (C/groups, M or 1)."""
    if values.size == 1 or op.groups == 1:
        return values.reshape(-1, 1)
    of_groups = values.reshape(op.groups, -1).T
    return np.repeat(of_groups, len(op.bias) // op.groups, 1)


__all__ = ["proportional", "with_units"]
