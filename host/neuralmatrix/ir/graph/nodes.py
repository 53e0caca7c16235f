# SPDX-License-Identifier: Apache-2.0
"""Graph: framework operators in real arithmetic, which front ends make.

In: nothing.  Out: one frozen dataclass per operator, and ``Graph``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ..types import Array, Function, QParams, Shape


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

    inputs (x[, scale[, bias]]), broadcastable constants, "" for none.  ``centered`` False leaves
    the mean in (RMSNorm); ``kind`` "l2" divides by max(sqrt(sum of squares), epsilon) instead.
    """

    axes: tuple[int, ...] = ()
    epsilon: float = 1e-5
    centered: bool = True
    kind: Literal["variance", "l2"] = "variance"


@dataclass(frozen=True)
class Attention(Node):
    """softmax(scale * q k^T + bias, masked) v; inputs (q, k, v[, mask[, bias]]), "" for none.

    q (..., L, D), k (..., S, D), v (..., S, E), leading axes broadcast (fewer heads of k and v,
    each for several of q: they are repeated first).  ``mask`` broadcasts to the scores: 1 keeps,
    0 leaves out; ``bias`` is added to them.
    """

    scale: float = 1.0


@dataclass(frozen=True)
class Select(Node):
    """inputs (condition, a, b): a where the condition (0 or 1) holds, else b; broadcasting."""


@dataclass(frozen=True)
class Embedding(Node):
    """inputs (ids, table): rows of the constant table (V, D) by a network input of indices.

    The gather runs on the host.
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
    """numpy.broadcast_to of a tensor."""

    shape: Shape = ()


@dataclass(frozen=True)
class Take(Node):
    """numpy.take with constant indices (nearest resize, constant gather, tile)."""

    axis: int = 0
    indices: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArgMax(Node):
    """Index of the maximum, allowed only at a network output; it runs on the host.

    ``dtype`` is the type of its result and of its port.
    """

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
    round(w/scale) is exact.  ``integers``: inputs of an integer type.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    constants: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    quant: Mapping[str, QParams] = field(default_factory=dict)
    weight_scales: Mapping[str, Array] = field(default_factory=dict)
    opset: int = 0
    integers: frozenset[str] = frozenset()
