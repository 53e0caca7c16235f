# SPDX-License-Identifier: Apache-2.0
"""ONNX models, float or QDQ, opsets 6 to 28.

In: a path, bytes or a ModelProto, and shapes for dynamic inputs.  Out: a ``Graph``.
All unsupported nodes of the model are reported in one error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ...errors import (
    BadModel,
    DoesNotFit,
    NeuralMatrixError,
    UnsupportedModel,
    UnsupportedNode,
)
from ...ir.graph.nodes import Conv, ConvTranspose, Graph, MatMul
from ...ir.graph.verify import verify_graph
from ...ir.host.types import ELEMENT_TYPES
from ...ir.types import Array
from .checks import calls_of, check_finite, check_steps, input_shapes, opset_of, schema_of
from .constant_folding import fold
from .context import Call, Context, Handler, Quantization, Refused, RowIndices
from .control_flow import CONTROL, Run
from .guesses import follows_guess, guess_outputs
from .load import read, tensor_array
from .operator_table import handler_of
from .ops.gather import REARRANGES, index_inputs, pass_indices
from .ops.logic import check_integral, pass_integral
from .ops.qonnx import DOMAINS as QONNX
from .ops.qoperators import COMPUTES
from .ops.quantization import KEEPS_QUANTIZED, NARROWS, narrow
from .outputs import add_outputs, refused_outputs

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_FLOAT_INPUTS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
_INTEGER_INPUTS = {2: "uint8", 3: "int8"}
INTEGRAL_INPUTS = {
    4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 12: "uint32", 13: "uint64",
}  # fmt: skip
# Errors in a handler where an attribute or a constant has another size or value than ONNX allows.
_MALFORMED = (ArithmeticError, LookupError, MemoryError, TypeError, ValueError)
_FOLDS_ITSELF = frozenset({"QuantizeLinear", "DequantizeLinear"})
# After a refused node these may be constants once that node is removed.
_SPARSE = "a sparse initialiser; dense ones are supported: store its values with the zeros"
_UNCERTAIN = frozenset(("ConstantOfShape", "Range", "Floor", "Ceil", "Mod", *CONTROL))


def import_onnx(
    model: str | Path | bytes | ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Graph:
    """Return the Graph of an ONNX model.

    ``shapes`` fixes dynamic dimensions per input; a first dimension left open becomes 1.
    BadModel: malformed.  UnsupportedModel: every node that cannot run on the array.

    >>> import_onnx("net.onnx", {"image": (1, 3, 224, 224)})  # doctest: +SKIP
    """
    source = source_of(model, shapes)
    ctx, refused = walk(source)
    refused += refused_outputs(ctx, source.outputs)
    if refused:
        raise UnsupportedModel(tuple(refused))
    add_outputs(ctx, source.outputs)
    return graph_of(ctx, [i.name for i in source.inputs], source.outputs)


@dataclass(frozen=True)
class Source:
    """A checked model: the nodes that ``outputs`` depend on, initialisers, run-time inputs and
    their shapes."""

    proto: ModelProto
    opset: int
    calls: tuple[Call, ...]
    known: Mapping[str, Array]
    inputs: tuple[ValueInfoProto, ...]
    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]


def source_of(
    model: str | Path | bytes | ModelProto, shapes: Mapping[str, tuple[int, ...]] | None = None,
    outputs: Sequence[str] = (),
) -> Source:  # fmt: skip
    """Read and check a model.  ``outputs``: values that end it instead of its own outputs."""
    proto, folder = read(model)
    opset = opset_of(proto)
    ends = tuple(outputs) or tuple(o.name for o in proto.graph.output)
    calls = calls_of(proto, opset, ends)
    known = {t.name: tensor_array(t, folder) for t in proto.graph.initializer}
    inputs = tuple(i for i in proto.graph.input if i.name not in known)
    fixed = input_shapes(inputs, shapes or {})
    check_steps(inputs, shapes or {}, calls)
    return Source(proto, opset, calls, known, inputs, fixed, ends)


class Side(Protocol):
    """What the host takes over."""

    def start(self, ctx: Context) -> None:
        """Take inputs, before any node is handled."""

    def run(self, ctx: Context, call: Call) -> None:
        """Handle one node instead of ``run_node``."""


def walk(source: Source, side: Side | None = None) -> tuple[Context, list[UnsupportedNode]]:
    """Handle every node, and return those that are refused."""
    ctx = _context(source)
    check_finite({n: a for n, a in source.known.items() if not ctx.may_be_infinite(n)})
    ctx.known.update(source.known)
    lost = _add_inputs(ctx, source.inputs, source.shapes, source.calls)
    lost.update({s.values.name: _SPARSE for s in source.proto.graph.sparse_initializer})
    refused = [
        UnsupportedNode(name, "Input", source.opset, reason)
        for name, reason in lost.items()
        if ctx.users[name]
    ]
    if side is not None:
        side.start(ctx)
    refused += _walk(ctx, source.calls, set(lost), side.run if side else run_node)
    return ctx, refused


def _context(source: Source) -> Context:
    proto = source.proto
    names = {name for call in source.calls for name in (*call.reads, *call.outputs)}
    names |= {i.name for i in proto.graph.input} | set(source.outputs)
    users: dict[str, list[Call]] = {name: [] for name in names}
    users |= {s.values.name: [] for s in proto.graph.sparse_initializer}
    for call in source.calls:
        for name in set(call.reads):
            users[name].append(call)
    return Context(
        source.opset,
        {name: tuple(readers) for name, readers in users.items()},
        frozenset(source.outputs),
        {},
        names,
    )


def _add_inputs(
    ctx: Context,
    inputs: Sequence[ValueInfoProto],
    shapes: Mapping[str, tuple[int, ...]],
    calls: Sequence[Call],
) -> dict[str, str]:
    """Enter the run-time inputs and return those of an unsupported type with the reason."""
    lost = {}
    kinds = {value.name: value.type.tensor_type.elem_type for value in inputs}
    selecting = index_inputs(calls, [n for n, kind in kinds.items() if kind in INTEGRAL_INPUTS])
    for name, kind in kinds.items():
        ctx.shapes[name] = shapes[name]
        if 0 in shapes[name] and kind in ELEMENT_TYPES:  # a cache that holds nothing yet
            ctx.known[name] = np.zeros(shapes[name], ELEMENT_TYPES[kind])
            continue
        if name in selecting:
            index = np.arange(prod(shapes[name]), dtype=np.int64).reshape(shapes[name])
            ctx.rows[name] = RowIndices(name, index)
            continue
        ctx.values[name] = name
        if kind in _INTEGER_INPUTS:
            ctx.quantized[name] = Quantization(1.0, 0, _INTEGER_INPUTS[kind])
            ctx.quant[name] = ctx.quantized[name].params
        elif kind in INTEGRAL_INPUTS:
            ctx.integral[name] = INTEGRAL_INPUTS[kind] == "bool"
            ctx.integers.add(name)
        elif kind not in _FLOAT_INPUTS:
            allowed = [
                *_FLOAT_INPUTS.values(),
                *_INTEGER_INPUTS.values(),
                *INTEGRAL_INPUTS.values(),
            ]
            lost[name] = f"element type {kind}; inputs of {', '.join(allowed)} are supported"
    return lost


def _walk(ctx: Context, calls: Sequence[Call], lost: set[str], run: Run) -> list[UnsupportedNode]:
    """Handle every node and return the refused ones; the nodes after them are checked as far as
    their shapes are known."""
    refused: list[UnsupportedNode] = []
    for call in calls:
        try:
            if lost.intersection(call.reads):
                lost.update(filter(None, call.outputs))
                if call.op not in _UNCERTAIN:
                    handler_of(call, schema_of(call) is not None)
            elif follows_guess(ctx, call):
                guess_outputs(ctx, call, lost)
            else:
                run(ctx, call)
        except Refused as reason:
            refused.append(UnsupportedNode(call.name, call.op, call.opset, str(reason)))
            guess_outputs(ctx, call, lost)
        except (BadModel, *_MALFORMED) as error:
            # the shape after a refused node is a guess: an error in it proves nothing
            if not refused:
                raise _bad_model(call, error) from None
            lost.update(filter(None, call.outputs))
    return refused


def run_node(ctx: Context, call: Call, run: Run | None = None) -> None:
    """Handle one node whose inputs are all known; ``run`` handles those of its subgraphs."""
    if call.op in CONTROL and not call.domain:
        CONTROL[call.op](ctx, call, run or run_node)
    elif all(name in ctx.known for name in call.inputs if name):
        _fold(ctx, call)
    else:
        _step(ctx, call, handler_of(call, schema_of(call) is not None))


def _bad_model(call: Call, error: Exception) -> NeuralMatrixError:
    if isinstance(error, BadModel):
        return error
    if isinstance(error, MemoryError):
        return DoesNotFit(
            f"node {call.name!r} ({call.op}): this machine has too little free memory for its "
            "result; close programs, or use smaller shapes (--shape)"
        )
    return BadModel(
        f"node {call.name!r} ({call.op}): its inputs and attributes do not fit each other "
        f"({error}); correct the model"
    )


def _fold(ctx: Context, call: Call) -> None:
    """Fold a node whose inputs are constants; dequantised weights keep their scales."""
    if call.op in _FOLDS_ITSELF or call.domain in QONNX:
        handler_of(call, True)(ctx, call)
    else:
        fold(ctx, call)


def _step(ctx: Context, call: Call, handler: Handler) -> None:
    if call.input(0) in ctx.rows and call.op in REARRANGES:
        pass_indices(ctx, call)
        return
    check_integral(call, ctx)
    quantizations = {ctx.quantized.get(name) for name in call.inputs if name in ctx.values}
    if call.op in NARROWS and not quantizations <= {None}:
        narrow(ctx, call)
        return
    _check_quantized(ctx, call, quantizations)
    handler(ctx, call)
    if not quantizations <= {None} and call.op not in (
        "DequantizeLinear",
        "Cast",
        "Shape",
        "Size",
        *COMPUTES,
    ):
        _pass_quantized(ctx, call, quantizations)
    pass_integral(ctx, call)


def _check_quantized(ctx: Context, call: Call, quantizations: set[Quantization | None]) -> None:
    """Raise Refused unless quantised integers, all of one scale, meet a data-movement operator."""
    if quantizations <= {None} or call.op in ("Shape", "Size", *COMPUTES):
        return
    if call.op not in KEEPS_QUANTIZED:
        raise Refused("computes with quantised integers; put DequantizeLinear before it")
    mixed = call.op == "Concat" and not all(name in ctx.values for name in call.inputs)
    if len(quantizations) > 1 or mixed:
        raise Refused("joins integers of different scales; join dequantised tensors instead")


def _pass_quantized(ctx: Context, call: Call, quantizations: set[Quantization | None]) -> None:
    (one,) = quantizations
    for name in filter(None, call.outputs):
        if one is not None:
            ctx.quantized[name] = one
            ctx.quant[ctx.values[name]] = one.params


def graph_of(ctx: Context, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    used = {name for node in ctx.nodes for name in node.inputs}
    made = {*inputs, *(node.output for node in ctx.nodes)}
    constants = {name: array for name, array in ctx.constants.items() if name in used}
    check_finite({name: array for name, array in constants.items() if name not in ctx.known})
    weights = {
        name
        for node in ctx.nodes
        if isinstance(node, Conv | ConvTranspose | MatMul)
        for name in node.inputs
        if name in constants
    }
    quant = {name: q for name, q in ctx.quant.items() if name in made}
    quant |= {n: q for n, q in ctx.constant_quant.items() if n in constants and n not in weights}
    shapes = {name: ctx.shapes[name] for name in (*made, *constants)}
    scales = {name: scale for name, scale in ctx.scales.items() if name in constants}
    return verify_graph(
        Graph(
            tuple(inputs),
            tuple(outputs),
            tuple(ctx.nodes),
            constants,
            shapes,
            quant,
            scales,
            ctx.opset,
            frozenset(ctx.integers.intersection(inputs)),
        )
    )
