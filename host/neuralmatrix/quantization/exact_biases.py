# SPDX-License-Identifier: Apache-2.0
"""Biases between prescribed scales, to a millionth of a step of the result.

In: a MatGraph with prescribed scales.  Out: an equal one: a bias that is no whole number of
accumulator steps, as a normalisation leaves it behind prescribed weights, is the next whole number,
and a constant residual that holds the rest.  A rounded bias alone would move results across ties.
Where a sum of two layers occupies that operand, the layer reads an int16 copy of its input instead,
a power of two finer, so that an accumulator step is finer too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Move, Tensor, Window
from ..ir.matgraph.rewrite import fresh_name
from ..ir.matgraph.uses import Uses
from ..ir.types import Array, QParams
from .integer_epilogues import CLAMPS, FRACTION_BITS, INT24
from .integer_weights import BIAS_LIMIT, int_weight, is_weighted
from .scales import ACC_LIMIT

NEGLIGIBLE = 2.0**-17  # steps of the result; float32 holds biases of 100 steps no better
MOST = 32639  # the largest int16 value
MOST_WHOLE = 2.0**22  # accumulator steps that float32 holds exactly


def exact_biases(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with constant residuals for what biases are beside whole steps."""
    if not mg.quant:
        return mg
    made = _Made(mg, Uses.of(mg))
    for op in mg.ops:
        made.ops.append(made.exact(op))
    return replace(
        mg,
        ops=tuple(made.ops),
        tensors={**mg.tensors, **made.tensors},
        constants={**mg.constants, **made.constants},
        quant={**mg.quant, **made.quant},
    )


@dataclass
class _Made:
    """The operations, residuals and finer copies made so far."""

    mg: MatGraph
    uses: Uses
    ops: list[MatOp] = field(default_factory=list)
    copies: dict[tuple[str, int], str] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    quant: dict[str, QParams] = field(default_factory=dict)

    def exact(self, op: MatOp) -> MatOp:
        """Return ``op`` with the rest of its bias as a residual, or with a finer input, where it
        has one."""
        if not isinstance(op, Gemm | Window) or not _is_exact_sum(op):
            return op
        source = prescribed_source(self.mg, self.uses, op.input)
        out = _prescribed_result(self.mg, self.uses, op.output)
        if source is None or out is None:
            return op
        step = np.float64(np.float32(source.scale) * int_weight(op).scale.astype(np.float32))
        unit = out.scale / op.epilogue.factor
        if not step.all() or np.abs(op.bias / step).max() > MOST_WHOLE:
            return op
        whole = np.rint(op.bias / step) * step
        rest = np.asarray(op.bias, np.float64) - whole
        if np.abs(rest).max() < NEGLIGIBLE * unit:
            return op
        if op.epilogue.residual:
            return self._with_finer_input(op, source, float(np.abs(op.bias / step).max()))
        name = self._residual(op, rest, _unit_of(rest, np.abs(step).max(), unit))
        epilogue = replace(op.epilogue, residual=name, residual_gain=1.0)
        return replace(op, bias=np.asarray(whole, np.float32), epilogue=epilogue)

    def _with_finer_input(self, op: Gemm | Window, source: QParams, bias: float) -> Gemm | Window:
        """Return ``op``, with a bias of up to ``bias`` accumulator steps, on a copy of its input in
        int16 steps, as fine as the accumulator holds."""
        fine = _finest(source, int_weight(op).reach, bias)
        if fine == 1:
            return op
        key = (op.input, fine)
        if key not in self.copies:
            self.copies[key] = self._copy(op, source, fine)
        return replace(op, input=self.copies[key])

    def _copy(self, op: Gemm | Window, source: QParams, fine: int) -> str:
        name = fresh_name(f"{op.input}:finer", {**self.mg.tensors, **self.tensors})
        tensor = self.mg.tensors[op.input]
        self.tensors[name] = replace(tensor, name=name, copy_of=op.input)
        ends = tuple(fine * (q - source.zero_point) for q in (source.qmin, source.qmax))
        self.quant[name] = QParams(source.scale / fine, 0, True, ends=(ends[0], ends[1]))
        one, none = np.ones((1, 1, 1), np.float32), np.zeros(tensor.shape[3], np.float32)
        self.ops.append(Window(name, op.input, one, none, source=op.source))
        return name

    def _residual(self, op: Linear, rest: Array, unit: float) -> str:
        name = fresh_name(f"{op.output}:rest", {**self.mg.tensors, **self.tensors})
        channels = len(rest)
        self.tensors[name] = Tensor(name, (1, 1, 1, channels), channels == 1)
        self.constants[name] = np.asarray(rest.reshape(1, 1, 1, -1), np.float32)
        self.quant[name] = QParams(unit, 0, True)
        return name


def prescribed_source(mg: MatGraph, uses: Uses, name: str) -> QParams | None:
    """Return the prescribed integers of a tensor, or of what it is a copy of."""
    while name not in mg.quant:
        op = uses.maker(name)
        if op is None or not _copies(op) or len(set(op.inputs)) != 1:
            return None
        name = op.inputs[0]
    return mg.quant[name]


def _prescribed_result(mg: MatGraph, uses: Uses, name: str) -> QParams | None:
    """Return the prescribed integers of a tensor, or of the one copy that is made of it."""
    while name not in mg.quant:
        op = uses.only_reader(name)
        if op is None or not _copies(op) or len(set(op.inputs)) != 1:
            return None
        name = op.output
    return mg.quant[name]


def _copies(op: MatOp) -> bool:
    is_max = isinstance(op, Window) and op.reduce == "max" and op.epilogue == Epilogue()
    return is_max or isinstance(op, Move)


def _is_exact_sum(op: Gemm | Window) -> bool:
    """Return whether an operation with exact weights has nothing but a bias, a sum with another
    tensor, and a clamp."""
    e = op.epilogue
    if not is_weighted(op) or not np.any(op.bias) or e.hadamard or e.rows:
        return False
    if isinstance(op, Window) and (op.reduce == "max" or op.minus is not None):
        return False
    plain = isinstance(op, Window) and op.weight.shape[:2] == (1, 1)
    prescribed = op.weight_scale is not None or (plain and not e.residual)
    return prescribed and (e.activation is None or e.activation.name in CLAMPS)


def _finest(source: QParams, reach: int, bias: float) -> int:
    """Return the largest power of two by which int16 and an accumulator let integers of ``source``
    be multiplied; 1 if they are int16 already."""
    if source.int16:
        return 1
    peak = max(source.qmax - source.zero_point, source.zero_point - source.qmin, 1)
    sums = (ACC_LIMIT - 2 * BIAS_LIMIT) // (peak * max(reach, 1))
    most = max(1, int(min(MOST // peak, sums, BIAS_LIMIT // max(bias, 1))))
    return 1 << (most.bit_length() - 1)


def _unit_of(rest: Array, step: float, unit: float) -> float:
    """Return the scale of a residual: a power of two of the result's, as fine as multipliers and
    int16 allow."""
    fraction = np.clip(np.floor(np.log2(INT24 * unit / step)), 0, FRACTION_BITS)
    coarsest = np.ceil(np.log2(np.abs(rest).max() / unit / MOST))
    return float(unit * 2.0 ** max(-fraction, coarsest))
