# SPDX-License-Identifier: Apache-2.0
"""The quantised MatGraph: the operations of a MatGraph with the integers of the array.

In: nothing.  Out: ``QOp`` and ``QGraph``, made by ``quantize``, evaluated exactly by
``integer_reference`` and turned into instructions by ``schedule``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..hardware.isa import Stat
from ..ir.matgraph.ops import MatOp, Port, Tensor
from ..ir.recipe import Recipe
from ..ir.types import Array, QParams
from .pwl.table import PwlTable


@dataclass(frozen=True)
class QEpilogue:
    """The fields of one EPILOGUE instruction and its per-channel parameters (docs/numerics.md).

    ``stat`` MOMENTS: ``u_shift`` is the shift of the squares.  The tensors of the statistics are
    those of the MatOp's ``epilogue.rows``: SUM makes "sum" or "mean", MOMENTS "mean" and "square".
    """

    bias: Array  # int32 (C,)
    m: Array  # int32 (C,), 24 bits
    s: Array  # uint8 (C,)
    f_shift: int
    off: int
    mt: int
    uz: int
    u_shift: int
    zp: int
    lo: int
    hi: int
    table: PwlTable | None = None
    residual: str | None = None
    hadamard: str | None = None
    stat: Stat = Stat.NONE  # row statistic, with its fields
    stat_m: int = 0
    stat_shift: int = 0
    stat_off: int = 0
    sq_m: int = 0
    sq_shift: int = 0


@dataclass(frozen=True)
class QOp:
    """One operation of the array.

    ``weight`` holds integers in the layout of the MatOp's own weight (Window: (KH, KW, C or 1));
    None for RowMax, Move and a Gemm with rhs.  A Move has no epilogue: it copies quantised
    values, ``fill`` included.
    """

    op: MatOp
    weight: Array | None = None
    epilogue: QEpilogue | None = None
    fill: int = 0


@dataclass(frozen=True)
class QGraph:
    """Quantised operations in execution order.  ``recipe``: from it the same integers can be made
    again."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    ops: tuple[QOp, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Array]  # (N,H,W,C) quantised values
    qparams: Mapping[str, QParams]
    recipe: Recipe = Recipe()
