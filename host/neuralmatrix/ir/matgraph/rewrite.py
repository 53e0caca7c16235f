# SPDX-License-Identifier: Apache-2.0
"""Small rewrites that several passes need.

In: an operation of a MatGraph.  Out: the same with other names.
"""

from __future__ import annotations

from dataclasses import replace

from .ops import Gemm, MatOp, Move, RowMax


def renamed(op: MatOp, old: str, new: str) -> MatOp:
    """``op`` reading ``new`` wherever it read ``old``."""
    if isinstance(op, Move):
        return replace(op, inputs=tuple(new if t == old else t for t in op.inputs))
    x = new if op.input == old else op.input
    if isinstance(op, RowMax):
        return replace(op, input=x)
    e = op.epilogue
    epilogue = replace(
        e,
        residual=new if e.residual == old else e.residual,
        hadamard=new if e.hadamard == old else e.hadamard,
    )
    if isinstance(op, Gemm):
        return replace(op, input=x, epilogue=epilogue, rhs=new if op.rhs == old else op.rhs)
    return replace(op, input=x, epilogue=epilogue, minus=new if op.minus == old else op.minus)
