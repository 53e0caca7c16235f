# SPDX-License-Identifier: Apache-2.0
"""The tensors of a spectrum: what a logarithm of magnitudes is made of, and what is made of it.

In: a MatGraph.  Out: names of tensors whose small values count as much as their large ones.
"""

from __future__ import annotations

from .ops import Linear, MatGraph, MatOp, Move, RowMax
from .predicates import is_elementwise
from .uses import Uses

# Functions that only the arithmetic of logarithms uses.
OF_LOGARITHMS = ("log_floor", "log_above", "log_share", "log_sum")
MAGNITUDES = ("abs", "abs_below")
LOGARITHMS = frozenset({*OF_LOGARITHMS, "exp_part"})


def in_log_domain(op: MatOp | None) -> bool:
    """Return whether the function of an operation belongs to the arithmetic of logarithms."""
    activation = op.epilogue.activation if op is not None else None
    return activation is not None and activation.name in LOGARITHMS


def logarithms(mg: MatGraph) -> frozenset[str]:
    """Return the tensors that are logarithms: those of the functions, their sums and copies."""
    found: set[str] = set()
    for op in mg.ops:
        activation = op.epilogue.activation
        inner = in_log_domain(op) or any(name in found for name in _main_operands(op))
        if activation is not None and activation.name not in (*OF_LOGARITHMS, "clip"):
            continue
        if inner and (isinstance(op, Move | RowMax) or in_log_domain(op) or is_elementwise(op)):
            found |= {op.output, *(row.tensor for row in op.epilogue.rows if row.kind == "max")}
    return frozenset(found)


def wide_tensors(mg: MatGraph, uses: Uses) -> set[str]:
    """Return the logarithms, the operands of this arithmetic, and the linear operations that make
    them, back to where they begin."""
    found = set(logarithms(mg))
    for op in mg.ops:
        if in_log_domain(op):
            _trace(op, uses, found)
    return found


def _main_operands(op: MatOp) -> tuple[str, ...]:
    """Return what an operation reads, apart from a factor."""
    factor = op.epilogue.hadamard
    return tuple(name for name in op.inputs if name != factor)


def _trace(op: MatOp, uses: Uses, found: set[str]) -> None:
    """Add the operands of ``op``, and those of the linear operations and Moves that make them."""
    for name in _main_operands(op):
        if name in found:
            continue
        found.add(name)
        maker = uses.maker(name)
        if isinstance(maker, Move | RowMax):
            _trace(maker, uses, found)
        elif isinstance(maker, Linear) and maker.epilogue.hadamard is None:
            activation = maker.epilogue.activation
            if activation is None or activation.name in MAGNITUDES:
                _trace(maker, uses, found)
