# SPDX-License-Identifier: Apache-2.0
"""The state of an ONNX import: one node as plain data, and the graph built so far.

In: nodes, constants and input shapes of a checked model.  Out: Graph nodes, their shapes and
quantisation.  Nothing here needs the onnx package.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...errors import BadModel
from ...ir.graph.nodes import Node
from ...ir.graph.operators import ShapeError, infer_shape
from ...ir.types import Array, QParams, Shape


class Refused(Exception):
    """A node cannot run on the array; the importer collects these for the whole model."""


@dataclass(frozen=True)
class Call:
    """One ONNX node.  ``proto`` is the NodeProto itself, for folding and messages.

    ``captures``: values of the surrounding graph that its subgraphs read.
    """

    name: str
    op: str
    domain: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    proto: Any
    captures: tuple[str, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Return every value that the node depends on."""
        return (*self.inputs, *self.captures)

    @property
    def output(self) -> str:
        return self.outputs[0]

    def input(self, index: int) -> str:
        """Return the name of an input, "" where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def has_output(self, index: int) -> bool:
        return index < len(self.outputs) and self.outputs[index] != ""


_MAX_LENGTH = 1 << 24
_LOWEST = np.finfo(np.float32).min
_MASKED = frozenset({"Add", "Attention", "MultiHeadAttention", "Where"})
_EXTREMES = frozenset({"Max", "Min"})
INTEGER_ENDS: Mapping[str, tuple[int, int]] = {
    **{f"int{n}": (-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (2, 4, 8, 16)},
    **{f"uint{n}": (0, 2**n - 1) for n in (2, 4, 8, 16)},
}


@dataclass(frozen=True)
class Quantization:
    """real = scale * (integer - zero_point), in the source model's own integer type.

    ``ends``: the least and the largest integer where they are not those of ``dtype``; a ``dtype``
    that is no type of ONNX always has them.
    """

    scale: float
    zero_point: int
    dtype: str
    ends: tuple[int, int] | None = None

    @property
    def range(self) -> tuple[int, int]:
        """The least and the largest integer."""
        if self.ends is None and self.dtype not in INTEGER_ENDS:
            raise Refused(f"type {self.dtype}; {', '.join(INTEGER_ENDS)} are supported")
        return self.ends or INTEGER_ENDS[self.dtype]

    def within(self, low: int, high: int) -> Quantization:
        """Return the same scale with integers clipped to low..high; ``high`` wins over ``low``."""
        ends = tuple(min(max(end, low), high) for end in self.range)
        return self if ends == self.range else replace(self, ends=(ends[0], ends[1]))

    @property
    def params(self) -> QParams:
        """Return the same scale for int8 or int16; Refused where that is not exact."""
        low, high = self.range
        shift = 0 if -128 <= low and high <= 127 else 128
        zero = self.zero_point - shift
        if min(low - shift, zero) >= -128 and max(high - shift, zero) <= 127:
            return _params(self.scale, self.zero_point, shift, (low, high), _INT8_ENDS)
        low, high = low - self.zero_point, high - self.zero_point
        if low < -32768 or high > 32767:
            raise Refused(
                f"zero point {self.zero_point} of {self.dtype}; 16-bit tensors are supported with "
                f"zero point {sum(self.range) // 2 + 1}"
            )
        return _params(self.scale, self.zero_point, self.zero_point, self.range, _INT16_ENDS)


_INT8_ENDS, _INT16_ENDS = (-128, 127), (-32640, 32639)


def _params(
    scale: float, zero: int, shift: int, ends: tuple[int, int], whole: tuple[int, int]
) -> QParams:
    """Return QParams of integers less ``shift``, which all lie in the type ``whole``."""
    low, high = max(ends[0] - shift, whole[0]), min(ends[1] - shift, whole[1])
    narrow = None if (low, high) == whole else (low, high)
    return QParams(scale, zero - shift, whole is _INT16_ENDS, ends=narrow)


@dataclass(frozen=True)
class RowIndices:
    """Elements of a network input that are indices into constant tables, gathered on the host.

    ``index`` has the shape of the value and holds the position of each element in the flattened
    input.
    """

    input: str
    index: Array

    @property
    def shape(self) -> Shape:
        return self.index.shape


def fresh_name(names: set[str], hint: str, counts: dict[str, int] | None = None) -> str:
    """Return a name that begins with ``hint`` and is not in ``names``; add it.

    ``counts``: up to which number names of a hint are taken, so that many of one hint, as the steps
    of a loop have them, are not counted again each time.
    """
    counts = {} if counts is None else counts
    count = counts.get(hint, 1)
    name = f"{hint}.{count}" if count > 1 else hint
    while name in names:
        count += 1
        name = f"{hint}.{count}"
    names.add(name)
    counts[hint] = count
    return name


@dataclass
class Context:
    """The import in progress.  Keys are ONNX value names unless said otherwise."""

    opset: int
    users: dict[str, tuple[Call, ...]]
    outputs: frozenset[str]
    known: dict[str, Array]  # constants, in their ONNX type
    names: set[str]  # every name in use, so that new ones do not clash
    values: dict[str, str] = field(default_factory=dict)  # run-time value -> Graph tensor
    quantized: dict[str, Quantization] = field(default_factory=dict)  # quantised integers
    rows: dict[str, RowIndices] = field(default_factory=dict)  # values that are indices of a gather
    integral: dict[str, bool] = field(default_factory=dict)  # integer values; True: only 0 and 1
    integers: set[str] = field(default_factory=set)  # values of an integer or bool type
    conditions: dict[str, Any] = field(default_factory=dict)  # comparisons of reals (conditions.py)
    scales: dict[str, Array] = field(default_factory=dict)  # of dequantised constants
    constant_quant: dict[str, QParams] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)  # why a constant cannot be a weight
    wide: dict[str, str] = field(default_factory=dict)  # why not one of a single int8 part
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)  # by Graph tensor
    shapes: dict[str, Shape] = field(default_factory=dict)  # by Graph tensor
    quant: dict[str, QParams] = field(default_factory=dict)  # by Graph tensor
    examples: dict[str, Array] = field(default_factory=dict)  # of values that the host computes
    guessed: dict[str, str] = field(default_factory=dict)  # behind a refused node: value -> type
    counts: dict[str, int] = field(default_factory=dict)  # of fresh names, by their beginning

    def fresh(self, hint: str) -> str:
        """Return a new tensor name that begins with ``hint``."""
        return fresh_name(self.names, hint, self.counts)

    def tensor(self, name: str) -> str:
        """Return the Graph tensor of an ONNX value; a constant becomes a float32 constant."""
        if name in self.values:
            return self.values[name]
        if name in self.rows:
            raise Refused(
                f"computes with the indices {self.rows[name].input!r}; indices of table rows "
                "are only supported as indices of a Gather from a constant table"
            )
        if name in self.conditions:
            raise Refused(
                "computes with a comparison of real values; Where and Mul with functions of the "
                "compared tensor are supported"
            )
        if name not in self.constants:
            array = as_float(self.known[name])
            self.constants[name] = np.maximum(array, _LOWEST) if self.may_mask(name) else array
            self.shapes[name] = array.shape
        return name

    def may_mask(self, name: str) -> bool:
        """Return whether a constant is only added or selected, so that -inf in it is a mask."""
        readers = self.users.get(name, ())
        return bool(readers) and all(call.op in _MASKED for call in readers)

    def may_be_infinite(self, name: str) -> bool:
        """Return whether infinity in a constant has a meaning: a mask, or no bound."""
        readers = self.users.get(name, ())
        return bool(readers) and all(call.op in _MASKED | _EXTREMES for call in readers)

    def shape(self, name: str) -> Shape:
        """Return the shape of a run-time value or constant."""
        if name in self.rows:
            return self.rows[name].shape
        if name in self.examples:
            return self.examples[name].shape
        return self.known[name].shape if name in self.known else self.shapes[self.values[name]]

    def weight(self, name: str, parts: int = 1) -> str:
        """Return ``tensor(name)`` of a matrix or kernel; Refused if no int8 ``parts`` hold a
        constant."""
        reason = self.unfit.get(name) or (self.wide.get(name) if parts == 1 else None)
        if reason:
            raise Refused(reason)
        return self.tensor(name)

    def constant(self, hint: str, array: Array, scale: Array | None = None) -> str:
        """Add a constant to the Graph, with the scale of its quantised values if it has one."""
        name = self.fresh(hint)
        self.constants[name] = as_float(array)
        self.shapes[name] = array.shape
        if scale is not None:
            self.scales[name] = scale
        return name

    def fixed(self, call: Call, index: int, what: str) -> Array | None:
        """Return the constant at an optional input; Refused if it is computed at run time."""
        name = call.input(index)
        if name and name not in self.known:
            raise Refused(f"{what} is computed at run time; a constant is supported")
        return self.known[name] if name else None

    def emit(self, node: Node) -> str:
        """Append a node and return its output's name; BadModel if its operands do not fit."""
        try:
            shape = infer_shape(node, self.shapes)
        except ShapeError as error:
            raise BadModel(f"node {node.source!r}: {error}; correct the model") from None
        if 0 in shape:
            # nothing is to be computed; what reads it sees a constant without elements
            self.known[node.output] = np.zeros(shape, np.float32)
            self.constants[node.output], self.shapes[node.output] = self.known[node.output], shape
            return node.output
        self.nodes.append(node)
        self.names.add(node.output)
        self.shapes[node.output] = shape
        self.values.setdefault(node.output, node.output)
        return node.output

    def alias(self, new: str, old: str) -> None:
        """Make ONNX value ``new`` a name of the tensor ``old``."""
        self.values[new] = self.values[old]
        if old in self.quantized:
            self.quantized[new] = self.quantized[old]
        if old in self.integral:
            self.integral[new] = self.integral[old]


Handler = Callable[[Context, Call], None]
Versions = Mapping[int, Handler]  # first opset of a meaning -> its handler


def as_float(array: Array) -> Array:
    """Return the array in float32, without a copy if it is float32; too large becomes infinite."""
    with np.errstate(over="ignore"):
        return np.asarray(array, np.float32)


def ints(values: Any) -> tuple[int, ...]:
    """Return a flat tuple of Python integers from an attribute or a constant."""
    return tuple(int(v) for v in np.asarray(values).reshape(-1))


def axis_of(call: Call, axis: int, rank: int) -> int:
    """Return ``axis`` counted from the front; BadModel outside -rank..rank-1."""
    if not -rank <= axis < rank:
        raise BadModel(
            f"node {call.name!r} ({call.op}): axis {axis} of a tensor with {rank} axes; allowed "
            f"are {-rank}..{rank - 1}; correct the model"
        )
    return axis % rank


def check_length(call: Call, length: int) -> None:
    """Raise BadModel if one axis of an output is longer than the limit."""
    if length > _MAX_LENGTH:
        raise BadModel(
            f"node {call.name!r} ({call.op}): an axis of {length} elements; at most {_MAX_LENGTH} "
            "are allowed; correct the model"
        )


def only_first_output(ctx: Context, call: Call, what: str) -> None:
    """Raise Refused if anything reads the node's second output."""
    name = call.outputs[1] if call.has_output(1) else ""
    if name and (name in ctx.outputs or ctx.users.get(name)):
        raise Refused(
            f"the {what} output is used; only the first output is supported: end the model in "
            f"front of what reads {name!r} with outputs= (--outputs)"
        )


def axes_of(ctx: Context, call: Call, rank: int, since: int) -> tuple[int, ...] | None:
    """Return the ``axes`` attribute, or input 1 from opset ``since``; None where left out."""
    given = ctx.fixed(call, 1, "axes") if call.opset >= since else call.attrs.get("axes")
    if given is None:
        return None
    return tuple(axis_of(call, axis, rank) for axis in ints(given))


def shape_from_axis(call: Call, rank: int, shape: Shape) -> Shape:
    """Return the shape with which a second operand broadcasts, in opsets before 7.

    Its axes begin at ``axis`` of the first operand; without that they are the last ones.
    """
    if "axis" not in call.attrs or not call.attrs.get("broadcast", 0):
        return shape
    behind = rank - axis_of(call, int(call.attrs["axis"]), rank) - len(shape)
    return (*shape, *[1] * behind)
