# SPDX-License-Identifier: Apache-2.0
"""Imports a model whose edges the host computes, where the array alone cannot run it.

In: an ONNX model.  Out: the Graph for the array, and what the host computes around it; or one
UnsupportedModel with every node that neither can, those that a later stage refuses included.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import BadModel, UnsupportedModel, UnsupportedNode
from ...ir.graph.nodes import ArgMax, Graph, Unary
from ...ir.host.types import (
    ANY,
    ELEMENT_TYPES,
    HostConstant,
    HostEdges,
    HostOp,
    HostValue,
    host_array,
)
from ...ir.types import Array, Function, Shape
from .context import Call, Context
from .host_side import HostSide
from .import_onnx import Source, graph_of, source_of, walk
from .outputs import add_outputs, refused_outputs
from .refusals import Later, nothing_later, whole_list

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto


def import_model(
    model: str | Path | bytes | ModelProto, shapes: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] = (), later: Later = nothing_later,
) -> tuple[Graph, HostEdges | None]:  # fmt: skip
    """Return the Graph of an ONNX model, and the operations of the host that it needs, if any.

    ``outputs``: values that end the model instead of its own outputs.  The host computes what the
    array refuses: integers that depend on inputs of integers alone, and what lies behind the last
    operation of the array.  ``later``: what the stages behind the import refuse of a graph.

    >>> graph, edges = import_model("detector.onnx")  # doctest: +SKIP
    """
    source = source_of(model, shapes, outputs)
    ctx, refused = walk(source)
    refused += refused_outputs(ctx, source.outputs)
    if not refused and not any(0 in shape for shape in source.shapes.values()):
        add_outputs(ctx, source.outputs)
        return graph_of(ctx, [i.name for i in source.inputs], source.outputs), None
    try:
        made = _shared(source, {node.name: node.reason for node in refused}, later)
    except BadModel:  # found in the model without the refused nodes: what was refused counts
        made = None
    if made is None:
        raise UnsupportedModel(whole_list(source, ctx, refused, later))
    return made


def _shared(
    source: Source, reasons: Mapping[str, str], later: Later
) -> tuple[Graph, HostEdges] | None:
    """Return both parts; None where nothing would be left for the array."""
    barred: dict[str, str] = {}
    while True:
        side = HostSide(source, reasons, barred)
        ctx, refused = walk(source, side)
        if not side.blocked:
            break
        barred |= {name: _blocked_by(name, call) for name, call in side.blocked.items()}
    made = None if refused else _finished(source, side, ctx, refused)
    if refused:
        raise UnsupportedModel(whole_list(source, ctx, refused, later))
    return made


def _blocked_by(result: str, call: Call) -> str:
    return (
        "the host does it behind the last operation of the array alone, and "
        f"{call.name!r} ({call.op}) reads its result: in the middle of a network nothing runs on "
        f"the host; end the model there with outputs=[{result!r}] (--outputs)"
    )


def _finished(
    source: Source, side: HostSide, ctx: Context, refused: list[UnsupportedNode]
) -> tuple[Graph, HostEdges] | None:
    """Return both parts; what is refused about the outputs joins ``refused``.  None where nothing
    is left for the array."""
    side.take_outputs(ctx)
    own = {*ctx.known, *ctx.examples, *side.behind}
    given = {value.name for value in source.inputs}
    shown = [*side.shown, *(n for n in source.outputs if n not in own and n not in side.shown)]
    if not shown:
        return _for_host_alone(source, side, ctx)
    if set(shown) <= given:
        return None
    refused += refused_outputs(ctx, shown)
    if refused:
        return None
    add_outputs(ctx, shown)
    _drop_unused(ctx, shown)
    read = {name for node in ctx.nodes for name in node.inputs} | set(shown)
    inputs = [v.name for v in source.inputs if v.name in read]
    inputs += [name for name in side.delivered if name in read and name not in inputs]
    graph = graph_of(ctx, inputs, shown)
    return graph, _edges(source, side, ctx, graph)


def _for_host_alone(source: Source, side: HostSide, ctx: Context) -> tuple[Graph, HostEdges]:
    """Return both parts of a model of which nothing is left for the array: constants, comparisons
    of inputs.  A program is one of the array, so that this one copies a number that nobody reads.
    """
    idle = ctx.fresh("idle")
    ctx.values[idle], ctx.shapes[idle] = idle, (1, 1)
    side.constants[idle] = np.ones((1, 1), np.float32)
    end = ctx.fresh(f"{idle}.copy")
    ctx.nodes[:] = [Unary((idle,), end, end, function=Function("identity"))]
    ctx.shapes[end] = (1, 1)
    graph = graph_of(ctx, [idle], [end])
    return graph, _edges(source, side, ctx, graph)


def _drop_unused(ctx: Context, outputs: Sequence[str]) -> None:
    """Remove nodes that no output depends on: the host computes instead what they would."""
    needed, kept = set(outputs), []
    for node in reversed(ctx.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            kept.append(node)
    ctx.nodes[:] = kept[::-1]


# ---------------------------------------------------------------- the host's part


def _edges(source: Source, side: HostSide, ctx: Context, graph: Graph) -> HostEdges:
    wanted = set(source.outputs) - set(graph.outputs)
    after = _needed(side.after, wanted)
    before = _needed(side.before, wanted | set(graph.inputs))
    read = {name for op in (*before, *after) for name in op.inputs}
    read.update(graph.inputs)
    constants = {n: a for n, a in side.constants.items() if n in read}
    constants |= {n: host_array(ctx.known[n]) for n in source.outputs if n in ctx.known}
    declared = {value.name: value for value in source.proto.graph.output}
    return HostEdges(
        tuple(HostValue(v.name, source.shapes[v.name], _dtype(v)) for v in source.inputs),
        tuple(_output(n, declared.get(n), side, ctx, graph) for n in source.outputs),
        before,
        after,
        tuple(HostConstant(name, array) for name, array in constants.items()),
    )


def _needed(ops: Sequence[HostOp], wanted: set[str]) -> tuple[HostOp, ...]:
    """Return the operations that ``wanted`` depends on; it receives what they read."""
    kept = []
    for op in reversed(ops):
        if wanted.intersection(filter(None, op.outputs)):
            wanted.update(filter(None, op.inputs))
            kept.append(op)
    return tuple(kept[::-1])


def _dtype(value: ValueInfoProto | None) -> str:
    kind = value.type.tensor_type.elem_type if value is not None else 0
    return ELEMENT_TYPES.get(kind, "")


def _output(
    name: str, declared: ValueInfoProto | None, side: HostSide, ctx: Context, graph: Graph
) -> HostValue:
    """Return an output as a user sees it."""
    example: Array | None = None
    for table in (ctx.known, ctx.examples, side.examples):
        example = table.get(name) if example is None else example
    if example is not None:
        return HostValue(name, example.shape, _dtype(declared) or _type_of(example))
    if name in side.behind:
        return HostValue(name, _sizes(declared), _dtype(declared))
    maker = next((node for node in graph.nodes if node.output == name), None)
    dtype = maker.dtype if isinstance(maker, ArgMax) else "float32"
    return HostValue(name, graph.shapes[name], dtype)


def _type_of(example: Array) -> str:
    return str(host_array(np.asarray(example)).dtype)


def _sizes(declared: ValueInfoProto | None) -> Shape | None:
    """Return the shape that a model states, ANY where it leaves a size open."""
    if declared is None or not declared.type.tensor_type.HasField("shape"):
        return None
    dims = declared.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.dim_value > 0 else ANY for d in dims)
