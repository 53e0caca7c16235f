# SPDX-License-Identifier: Apache-2.0
"""MatGraph: operations of the array in real arithmetic, which lowering makes.

In: nothing.  Out: ``Gemm``, ``Window``, ``RowMax``, ``Move``, their epilogues, and ``MatGraph``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..axis_view import Relabel
from ..types import Array, Function, QParams, Shape, ViewStep


@dataclass(frozen=True)
class Tensor:
    """A (N, H, W, C) tensor; ``replicated``: C is 1 and every lane of its word holds that value."""

    name: str
    shape: tuple[int, int, int, int]
    replicated: bool = False


@dataclass(frozen=True)
class RowStat:
    """One value per position, over the channels of an operation's results.

    "square" is the mean of their squares.  ``tensor`` is a replicated (N, H, W, 1) output.
    """

    kind: Literal["max", "sum", "mean", "square"]
    tensor: str


@dataclass(frozen=True)
class Epilogue:
    """out = act(lin + residual_gain * residual) * hadamard

    Each of N, H, W of residual/hadamard equals the output's or is 1; C equals the output's, or the
    operand is replicated.  Operands may be constants of the MatGraph.  ``rows``: statistics of the
    finished rows, further outputs of the operation: one "max", or one "sum", or one or both of
    "mean" and "square"; no "square" beside a hadamard.
    """

    residual: str | None = None
    residual_gain: float = 1.0
    activation: Function | None = None
    hadamard: str | None = None
    rows: tuple[RowStat, ...] = ()


@dataclass(frozen=True)
class Gemm:
    """Convolution and matrix product.

    out[n,oh,ow,m] = bias[m] + sum over kh,kw,c of x[n,oh*sh+kh*dh-top,...,c] * w[kh,kw,c,m]

    ``weight`` (KH, KW, C/groups, M) floats; a matrix product has KH = KW = 1.  Padding reads real
    0.  ``pads`` top, left, bottom, right.  If the output tensor is replicated, M == 1.
    ``rhs``: instead of ``weight``, the name of a tensor (N', 1, K, M) or, with ``rhs_transposed``,
    (N', 1, M, K); N is a multiple of N', and image n meets rhs image n * N' // N.  ``gain`` then
    multiplies the sum.  An output that nothing reads is not stored (its row statistics are).
    """

    output: str
    input: str
    weight: Array | None
    bias: Array
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1
    epilogue: Epilogue = Epilogue()
    weight_scale: Array | None = None  # (M,), prescribed by a QDQ model
    rhs: str | None = None
    rhs_transposed: bool = False
    gain: float = 1.0
    source: str = ""


@dataclass(frozen=True)
class Window:
    """Per-channel window: out[..,c] = bias[c] + sum or max over taps of x[.., tap, c] * w[tap, c].

    ``weight`` (KH, KW, C), or (KH, KW, 1) for the same in all channels.  reduce "max" ignores its
    values: taps whose weight is 0 are left out, and padding reads -infinity.  Element-wise
    operators are 1x1 windows.  Where the input has C == 1 and is replicated, the output may have
    more channels.  ``minus``: a replicated (N, H, W, 1) tensor that is subtracted from x before the
    weight (1x1 windows that add).
    """

    output: str
    input: str
    weight: Array
    bias: Array
    reduce: Literal["add", "max"] = "add"
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    epilogue: Epilogue = Epilogue()
    weight_scale: Array | None = None
    minus: str | None = None
    source: str = ""


@dataclass(frozen=True)
class RowMax:
    """out[n,h,w] = max over channels; the output is replicated (N, H, W, 1)."""

    output: str
    input: str
    source: str = ""


@dataclass(frozen=True)
class Move:
    """out.flat[i] = concatenation of the inputs' elements (each flattened as N,H,W,C)[index[i]].

    Index -1 gives ``fill``.  Concat, slices, reshapes, transposes, tiling, nearest resize: all are
    Moves; the scheduler turns those into addresses that it can.
    """

    output: str
    inputs: tuple[str, ...]
    index: Array  # int64, shape of the output (N,H,W,C)
    fill: float = 0.0
    source: str = ""
    relabel: Relabel | None = None  # where the Move only permutes


MatOp = Gemm | Window | RowMax | Move


@dataclass(frozen=True)
class Port:
    """A network input or output: the source's name and shape, and the way to the MatGraph tensor.

    For an input ``steps`` lead from the source shape to (N,H,W,C); for an output from (N,H,W,C) to
    the source shape.  ``argmax`` (axis, keepdims, select_last) runs on the host after the steps.
    ``table`` (V, D): the input holds row numbers; the host gathers those rows before the steps,
    which then lead from shape + (D,).  Several ports may share a name.
    """

    name: str
    shape: Shape
    tensor: str
    steps: tuple[ViewStep, ...]
    argmax: tuple[int, bool, bool] | None = None
    dtype: str = "float32"
    table: Array | None = None


@dataclass(frozen=True)
class MatGraph:
    """Operations in execution order over ``tensors`` (constants included)."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    ops: tuple[MatOp, ...]
    tensors: Mapping[str, Tensor]
    constants: Mapping[str, Array]  # (N,H,W,C) floats used as epilogue operands
    quant: Mapping[str, QParams] = field(default_factory=dict)


def op_outputs(op: MatOp) -> tuple[str, ...]:
    """Names of all tensors an op writes: its output, then its row statistics."""
    if isinstance(op, (Move, RowMax)):
        return (op.output,)
    return (op.output, *(row.tensor for row in op.epilogue.rows))


def op_inputs(op: MatOp) -> tuple[str, ...]:
    """Names of all tensors an op reads: main inputs, rhs or minus, residual, hadamard."""
    if isinstance(op, Move):
        return op.inputs
    if isinstance(op, RowMax):
        return (op.input,)
    second = op.rhs if isinstance(op, Gemm) else op.minus
    extra = tuple(t for t in (second, op.epilogue.residual, op.epilogue.hadamard) if t)
    return (op.input, *extra)
