# SPDX-License-Identifier: Apache-2.0
"""Which tensors are int16, which are symmetric, and which hold attention scores.

In: a MatGraph and its groups of tensors that share a scale.  Out: sets of tensor names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ..ir.types import Array
from ..transforms.matgraph.tie_scales import Groups

WIDE_ACTIVATIONS = frozenset({"exp", "log", "reciprocal", "rsqrt", "sqrt", "square", "triangle"})
# A constant left operand whose rows int8 holds to this fraction of their size needs no int16.
CLOSE_ENOUGH = 0.02


def wide_tensors(
    mg: MatGraph, groups: Groups, precision: str, raised: Iterable[str] = ()
) -> frozenset[str]:
    """Roots of the tie groups that are int16: by need, by ``precision``, or because ``raised``."""
    # In a QDQ model the int8 tensors are those it names; what lies between was float there.
    all_wide = precision == "int16" or bool(mg.quant)
    chosen = {name for name in mg.tensors if all_wide} | set(raised)
    chosen |= _wide_constants(mg) | {p.tensor for p in mg.inputs if p.table is not None}
    chosen |= {p.tensor for p in mg.outputs if not is_read(mg, p.tensor)}
    powers = _product_inputs(mg, groups)
    for op in mg.ops:
        chosen |= {n for n in _wide_by_use(op, mg) if groups.root(n) not in powers}
        chosen |= set(_wide_by_statistics(op))
    chosen |= _streams(mg, groups) | _position_scores(mg)
    prescribed = {groups.root(n): q.wide for n, q in mg.quant.items()}
    roots = {groups.root(name) for name in chosen}
    return frozenset(r for r in roots if prescribed.get(r, True)) | frozenset(
        r for r, is_wide in prescribed.items() if is_wide
    )


def is_read(mg: MatGraph, name: str) -> bool:
    """Whether an operation reads the tensor."""
    return any(name in op.inputs for op in mg.ops)


def symmetric_tensors(mg: MatGraph, groups: Groups) -> frozenset[str]:
    """Roots of the tie groups whose zero point is 0: both sides of a product of two tensors."""
    found = set()
    for op in mg.ops:
        if isinstance(op, Gemm) and op.rhs is not None:
            found |= {groups.root(op.input), groups.root(op.rhs)}
    return frozenset(found)


def score_tensors(mg: MatGraph) -> frozenset[str]:
    """What goes into a row maximum, and the maxima: a mask may push them to minus infinity."""
    found: set[str] = set()
    for op in mg.ops:
        if isinstance(op, RowMax):
            found |= {op.input, op.output}
        elif not isinstance(op, Move):
            maxima = {row.tensor for row in op.epilogue.rows if row.kind == "max"}
            found |= maxima | ({op.output} if maxima else set())
    found |= _position_scores(mg)
    for op in mg.ops:  # the end of a LogSoftmax
        if isinstance(op, Window) and op.input in found and _is_difference(op):
            found.add(op.output)
    return frozenset(found)


def _is_difference(op: Window) -> bool:
    """x minus something, and nothing more."""
    e = op.epilogue
    plain = e.activation is None and e.hadamard is None and op.minus is None and op.reduce == "add"
    return (
        plain
        and e.residual_gain == -1.0
        and op.weight.size == 1
        and float(op.weight.flat[0]) == 1.0
    )


def _position_scores(mg: MatGraph) -> set[str]:
    """The same where the maximum is a window's, over positions; and the difference of both."""
    makers: dict[str, MatOp] = {op.output: op for op in mg.ops}
    found: set[str] = set()
    for op in mg.ops:
        if isinstance(op, Window) and op.epilogue.residual and op.epilogue.residual_gain == -1.0:
            way = _way_of_maximum(op.epilogue.residual, makers)
            if way[-1] == op.input:
                found |= {*way, *([] if op.epilogue.activation else [op.output])}
    return found


def _way_of_maximum(name: str, makers: Mapping[str, MatOp]) -> list[str]:
    """``name``, through the Moves and maximum windows that made it, and what those are of."""
    way = [name]
    while (op := makers.get(way[-1])) is not None:
        if isinstance(op, Move) and len(op.inputs) == 1:
            way.append(op.inputs[0])
        elif isinstance(op, Window) and op.reduce == "max":
            way.append(op.input)
        else:
            break
    return way


def _product_inputs(mg: MatGraph, groups: Groups) -> set[str]:
    """Roots of what streams into products of two tensors: int8 keeps those one pass each."""
    return {groups.root(op.input) for op in mg.ops if isinstance(op, Gemm) and op.rhs is not None}


def _wide_by_use(op: MatOp, mg: MatGraph) -> tuple[str, ...]:
    """Tensors whose relative precision matters: softmax and normalisation statistics."""
    if isinstance(op, RowMax):
        return (op.input,)
    if isinstance(op, Move):
        return ()
    activation = op.epilogue.activation
    if mg.tensors[op.output].replicated or (activation and activation.name in WIDE_ACTIVATIONS):
        return (op.output,)
    return ()


def _wide_by_statistics(op: MatOp) -> tuple[str, ...]:
    """Row statistics; what has a maximum, mean or square taken; what a mean is subtracted from."""
    if not isinstance(op, Gemm | Window):
        return ()
    rows = op.epilogue.rows
    found = tuple(row.tensor for row in rows)
    if any(row.kind != "sum" for row in rows):
        found += (op.output,)
    if isinstance(op, Window) and op.minus is not None:
        found += (op.input, op.minus)
    return found


def _wide_constants(mg: MatGraph) -> set[str]:
    """Constants, but for left operands of products that int8 holds well: those cost passes."""
    streamed = {op.input for op in mg.ops if isinstance(op, Gemm) and op.rhs is not None}
    return {
        name
        for name, value in mg.constants.items()
        if name not in streamed or _int8_error(value) > CLOSE_ENOUGH
    }


def _int8_error(x: Array) -> float:
    """Mean over rows: norm of the rounding error of symmetric int8 codes over the row's norm."""
    step = float(np.abs(x).max(initial=0.0)) / 127 or 1.0
    size = np.linalg.norm(x, axis=-1)
    lost = np.linalg.norm(np.rint(x / step) * step - x, axis=-1)
    used = size > 0
    return float(np.mean(lost[used] / size[used])) if used.any() else 0.0


def _streams(mg: MatGraph, groups: Groups) -> set[str]:
    """What is added up before a normalisation, unless a matrix product reads it too."""
    multiplied = {groups.root(op.input) for op in mg.ops if isinstance(op, Gemm)}
    stream: set[str] = set()
    for op in reversed(mg.ops):
        if not isinstance(op, Gemm | Window):
            continue
        normalised = any(row.kind in ("mean", "square") for row in op.epilogue.rows)
        if normalised or groups.root(op.output) in stream:
            main = (op.input,) if isinstance(op, Window) and op.reduce == "add" else ()
            parts = (*main, *((op.epilogue.residual,) if op.epilogue.residual else ()))
            stream |= {groups.root(t) for t in parts} - multiplied
    return stream
