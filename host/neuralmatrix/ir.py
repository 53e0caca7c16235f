# SPDX-License-Identifier: Apache-2.0
"""The two graph levels above a Program.

In: nothing.  Out: ``Graph`` (framework operators, importers make it) and ``MatGraph`` (Gemm,
Window, RowMax, Move; ``lower`` makes it), with ``verify_graph``/``verify_matgraph`` and a readable
text form.

Graph tensors have the source model's shapes.  MatGraph tensors are (N, H, W, C): images, positions,
channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class QParams:
    """real = scale * (q - zero_point); ``wide`` is int16 (zero_point 0), else int8.

    ``limit`` > 0 narrows the codes to -limit..limit, where a full-range tensor could overflow an
    accumulator.
    """

    scale: float
    zero_point: int = 0
    wide: bool = False
    limit: int = 0

    @property
    def qmin(self) -> int:
        return max(-32640 if self.wide else -128, -self.limit if self.limit else -32640)

    @property
    def qmax(self) -> int:
        return min(32639 if self.wide else 127, self.limit or 32639)


@dataclass(frozen=True)
class Function:
    """A scalar function of one variable; ``functions.FUNCTIONS[name]`` evaluates it."""

    name: str
    params: tuple[float, ...] = ()


# ---------------------------------------------------------------- Graph: framework operators


@dataclass(frozen=True)
class Node:
    """Base of all Graph nodes: tensor names in, tensor name out, the source model's node name."""

    inputs: tuple[str, ...]
    output: str
    source: str = ""


@dataclass(frozen=True)
class Conv(Node):
    """inputs (x, w[, bias]); x (N,C,*spatial), w (M,C/groups,*kernel); one or two spatial axes.

    ``pads`` as in ONNX: all begins, then all ends.
    """

    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1


@dataclass(frozen=True)
class ConvTranspose(Node):
    """inputs (x, w[, bias]); w (C,M/groups,*kernel); ``pads`` and ``output_padding`` as in ONNX."""

    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()


@dataclass(frozen=True)
class MatMul(Node):
    """numpy.matmul of two tensors (Gemm is imported as MatMul and Binary add)."""


@dataclass(frozen=True)
class Unary(Node):
    """An element-wise scalar function."""

    function: Function = Function("identity")


@dataclass(frozen=True)
class Binary(Node):
    """Element-wise arithmetic of two tensors with numpy broadcasting."""

    kind: Literal["add", "sub", "mul", "div", "min", "max"] = "add"


@dataclass(frozen=True)
class PRelu(Node):
    """inputs (x, slope): x where x >= 0, slope*x elsewhere; the slope is a constant."""


@dataclass(frozen=True)
class Pool(Node):
    """Pooling over all spatial axes."""

    kind: Literal["max", "average"] = "max"
    kernel: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    count_include_pad: bool = False


@dataclass(frozen=True)
class Reduce(Node):
    """Reduction over ``axes`` (never negative)."""

    kind: Literal["mean", "sum", "max", "min"] = "mean"
    axes: tuple[int, ...] = ()
    keepdims: bool = True


@dataclass(frozen=True)
class Softmax(Node):
    axis: int = -1
    log: bool = False


@dataclass(frozen=True)
class Normalize(Node):
    """(x - mean) / sqrt(mean square + epsilon) over ``axes``, then * scale + bias.

    inputs (x[, scale[, bias]]), broadcastable constants, "" for none.  ``centred`` False leaves the
    mean in (RMSNorm); ``kind`` "l2" divides by max(sqrt(sum of squares), epsilon) instead.
    """

    axes: tuple[int, ...] = ()
    epsilon: float = 1e-5
    centred: bool = True
    kind: Literal["variance", "l2"] = "variance"


@dataclass(frozen=True)
class Attention(Node):
    """softmax(scale * q k^T + bias, masked) v; inputs (q, k, v[, mask[, bias]]), "" for none.

    q (..., L, D), k (..., S, D), v (..., S, E), leading axes broadcast (fewer heads of k and v,
    each for several of q: they are repeated before).  ``mask`` broadcasts to the scores: 1 keeps,
    0 leaves out; ``bias`` is added to them.
    """

    scale: float = 1.0


@dataclass(frozen=True)
class Select(Node):
    """inputs (condition, a, b): a where the condition (0 or 1) holds, else b; broadcasting."""


@dataclass(frozen=True)
class Embedding(Node):
    """inputs (ids, table): rows of the constant table (V, D) by a network input of row numbers.

    The look-up runs on the host.
    """


@dataclass(frozen=True)
class AxisMatMul(Node):
    """y = matrix @ x along ``axis``; inputs (x, matrix), matrix (out, in) constant (linear
    resize)."""

    axis: int = 0


@dataclass(frozen=True)
class Reshape(Node):
    shape: Shape = ()


@dataclass(frozen=True)
class Transpose(Node):
    perm: tuple[int, ...] = ()


@dataclass(frozen=True)
class Slice(Node):
    """x[start:stop:step] on every axis; ``stop`` None reaches the end."""

    slices: tuple[tuple[int, int | None, int], ...] = ()


@dataclass(frozen=True)
class Pad(Node):
    """Constant padding; one (before, after) pair per axis, never negative."""

    pads: tuple[tuple[int, int], ...] = ()
    value: float = 0.0


@dataclass(frozen=True)
class Concat(Node):
    axis: int = 0


@dataclass(frozen=True)
class Expand(Node):
    """numpy.broadcast_to."""

    shape: Shape = ()


@dataclass(frozen=True)
class Take(Node):
    """numpy.take with constant indices (nearest resize, constant gather, tile)."""

    axis: int = 0
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArgMax(Node):
    """Only at a network output; runs on the host.  ``dtype``: of its result, and of its port."""

    axis: int = 0
    keepdims: bool = True
    select_last: bool = False
    dtype: str = "int64"


@dataclass(frozen=True)
class Graph:
    """Nodes in execution order.  ``shapes`` covers inputs, constants and every node output.

    ``quant`` holds the quantisation that a QDQ model prescribes for a tensor.  For a weight
    constant the value in ``constants`` is the dequantised float and ``weight_scales`` its scale
    (scalar or per axis 0 of the constant's own layout, broadcastable against it), so that
    round(w/scale) is exact.  ``whole``: inputs of an integer type.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    quant: Mapping[str, QParams] = field(default_factory=dict)
    weight_scales: Mapping[str, Array] = field(default_factory=dict)
    opset: int = 0
    whole: frozenset[str] = frozenset()


# ---------------------------------------------------------------- MatGraph: what the array does


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


MatOp = Gemm | Window | RowMax | Move


@dataclass(frozen=True)
class ViewStep:
    """One step between a source tensor and its (N,H,W,C) form: numpy reshape, transpose or take.

    The arguments of a take are an axis and the order of that axis: a permutation.
    """

    kind: Literal["reshape", "transpose", "take"]
    arg: tuple[int, ...]


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


def apply_steps(x: Array, steps: tuple[ViewStep, ...]) -> Array:
    """Run view steps on an array."""
    for step in steps:
        if step.kind == "take":
            x = np.take(x, step.arg[1:], step.arg[0])
        else:
            x = x.reshape(step.arg) if step.kind == "reshape" else np.transpose(x, step.arg)
    return x


def arg_max(y: Array, axis: int, keepdims: bool, select_last: bool) -> Array:
    """Where the largest value along an axis lies: the first, or the last where several are."""
    found = np.argmax(np.flip(y, axis) if select_last else y, axis)
    index = np.asarray(y.shape[axis] - 1 - found if select_last else found)
    return np.expand_dims(index, axis) if keepdims else index


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
