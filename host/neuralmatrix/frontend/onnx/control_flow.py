# SPDX-License-Identifier: Apache-2.0
"""ONNX If, Loop and Scan with a constant trip count, unrolled.  Of an If whose condition is
computed at run time both branches are computed, and one result is chosen.

In: one ``Call`` with subgraphs, and how to handle one node.  Out: the subgraphs' nodes in the
``Context``, once per iteration and under names of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadModel
from ...ir.graph.nodes import Concat, Reshape, Slice
from .context import Call, Context, Refused, axis_of, ints
from .load import captured_names, plain_call, tensor_array
from .ops.conditions import select

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

MAX_ITERATIONS = 1024
BRANCHES = ("then_branch", "else_branch")

Run = Callable[[Context, Call], None]
Control = Callable[[Context, Call, Run], None]


def _renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Return a copy of a node under new names, its subgraphs included."""
    copy = type(node)()
    copy.CopyFrom(node)
    copy.name = ""
    copy.input[:] = [names.get(name, name) for name in node.input]
    copy.output[:] = [names.get(name, name) for name in node.output]
    for attribute in copy.attribute:
        for graph in (attribute.g, *attribute.graphs):
            read = captured_names(graph)
            inner = {old: new for old, new in names.items() if old in read}
            _rename_reads(graph, inner)
    return copy


def _rename_reads(graph: GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        node.CopyFrom(_renamed(node, names))
    for output in graph.output:
        output.name = names.get(output.name, output.name)


def _inline(
    ctx: Context, call: Call, graph: GraphProto, feeds: Mapping[str, str], run: Run
) -> list[str]:
    """Handle a subgraph's nodes and return the names that its outputs have in ``ctx``."""
    if graph.sparse_initializer:
        raise Refused("its subgraph has sparse initialisers; dense ones are supported")
    names = dict(feeds)
    for tensor in graph.initializer:
        names[tensor.name] = ctx.fresh(f"{call.name}/{tensor.name}")
        ctx.known[names[tensor.name]] = tensor_array(tensor, None)
    inner = []
    for i, node in enumerate(graph.node):
        names.update({name: ctx.fresh(f"{call.name}/{name}") for name in node.output if name})
        inner.append(plain_call(_renamed(node, names), i, call.opset))
    for one in inner:
        for name in (*one.inputs, *one.outputs):
            ctx.users[name] = (*ctx.users.get(name, ()), *([one] if name in one.inputs else []))
    for one in inner:
        run(ctx, one)
    return [names.get(output.name, output.name) for output in graph.output]


def _give(ctx: Context, new: str, old: str) -> None:
    """Make the value ``new`` a name of what ``old`` is."""
    tables: Sequence[dict[str, Any]] = (ctx.known, ctx.rows, ctx.scales, ctx.unfit, ctx.wide)
    for table in tables:
        if old in table:
            table[new] = table[old]
    if old in ctx.values:
        ctx.alias(new, old)
    if old in ctx.integers:
        ctx.integers.add(new)


def _condition(ctx: Context, name: str) -> bool:
    if name and name not in ctx.known:
        raise Refused(
            "its condition is computed at run time; a Loop or Scan that ends by data cannot be "
            "unrolled: trace the model when exporting"
        )
    return not name or bool(np.asarray(ctx.known[name]).reshape(()))


def _if(ctx: Context, call: Call, run: Run) -> None:
    if call.input(0) and call.input(0) not in ctx.known:
        _chosen(ctx, call, run)
        return
    branch = "then_branch" if _condition(ctx, call.input(0)) else "else_branch"
    results = _inline(ctx, call, call.attrs[branch], {}, run)
    for new, old in zip(call.outputs, results, strict=True):
        _give(ctx, new, old)


def _chosen(ctx: Context, call: Call, run: Run) -> None:
    """Compute both branches, and choose each result as Where does."""
    sides = [_inline(ctx, call, call.attrs[branch], {}, run) for branch in BRANCHES]
    for out, first, second in zip(call.outputs, *sides, strict=True):
        shapes = ctx.shape(first), ctx.shape(second)
        if shapes[0] != shapes[1]:
            raise Refused(
                "its condition is computed at run time, and its branches give the shapes "
                f"{shapes[0]} and {shapes[1]}; one shape is supported"
            )
        names = (call.input(0), first, second)
        if not select(ctx, call, names, out):
            run(ctx, Call(call.name, "Where", "", call.opset, names, (out,), {}, None))


def _stacked(ctx: Context, call: Call, parts: Sequence[str], axis: int, out: str) -> None:
    """Stack the parts along a new axis."""
    if not parts:
        raise Refused("no iteration runs, so that its scan output would be empty")
    if all(name in ctx.known for name in parts):
        ctx.known[out] = np.stack([ctx.known[name] for name in parts], axis)
        return
    rows = []
    for name in parts:
        shape = ctx.shape(name)
        at = axis_of(call, axis, len(shape) + 1)
        whole = (*shape[:at], 1, *shape[at:])
        row = ctx.fresh(f"{out}.row")
        rows.append(ctx.emit(Reshape((ctx.tensor(name),), row, call.name, shape=whole)))
    ctx.emit(Concat(tuple(rows), out, call.name, axis=at))


def _finish(ctx: Context, call: Call, states: Sequence[str], scans: Sequence[list[str]],
            axes: Sequence[int]) -> None:  # fmt: skip
    """Name the results of all iterations."""
    for new, old in zip(call.outputs, states, strict=False):
        if new:
            _give(ctx, new, old)
    outputs = call.outputs[len(states) :]
    for out, parts, axis in zip(outputs, scans, axes, strict=False):
        if out:
            _stacked(ctx, call, parts, axis, out)


def _loop(ctx: Context, call: Call, run: Run) -> None:
    body, going = call.attrs["body"], _condition(ctx, call.input(1))
    count = ctx.fixed(call, 0, "the trip count")
    limit = MAX_ITERATIONS if count is None else int(np.asarray(count).reshape(()))
    if limit > MAX_ITERATIONS:
        raise Refused(f"{limit} iterations; up to {MAX_ITERATIONS} are unrolled")
    states, formal = list(call.inputs[2:]), [value.name for value in body.input]
    scans: list[list[str]] = [[] for _ in body.output[1 + len(states) :]]
    true = ctx.fresh(f"{call.output}.true")
    ctx.known[true] = np.asarray(True)
    turn = 0
    while going and turn < limit:
        number = ctx.fresh(f"{call.output}.round")
        ctx.known[number] = np.asarray(turn, np.int64)
        feeds = dict(zip(formal, (number, true, *states), strict=True))
        again, *results = _inline(ctx, call, body, feeds, run)
        states = results[: len(states)]
        for parts, name in zip(scans, results[len(states) :], strict=True):
            parts.append(name)
        going, turn = _condition(ctx, again), turn + 1
    if going and count is None:
        raise Refused(f"no end after {MAX_ITERATIONS} iterations; up to that many are unrolled")
    _finish(ctx, call, states, scans, [0] * len(scans))


def _slice_of(ctx: Context, call: Call, name: str, axis: int, turn: int) -> str:
    """Return one step of a scan input, without the axis."""
    out = ctx.fresh(f"{call.output}.step")
    if name in ctx.known:
        ctx.known[out] = np.take(ctx.known[name], turn, axis)
        return out
    shape = ctx.shape(name)
    parts = tuple((turn, turn + 1, 1) if i == axis else (0, n, 1) for i, n in enumerate(shape))
    x = ctx.emit(Slice((ctx.tensor(name),), ctx.fresh(f"{out}.cut"), call.name, slices=parts))
    rest = (*shape[:axis], *shape[axis + 1 :])
    return ctx.emit(Reshape((x,), out, call.name, shape=rest))


def _flags(call: Call, key: str, count: int) -> tuple[int, ...]:
    return ints(call.attrs.get(key, (0,) * count))


def _scan_steps(ctx: Context, call: Call, scanned: Sequence[str]) -> list[list[str]]:
    """Return per iteration the slices that the body reads."""
    count = len(scanned)
    given = _flags(call, "scan_input_axes", count)
    axes = [axis_of(call, a, len(ctx.shape(n))) for a, n in zip(given, scanned, strict=True)]
    lengths = {ctx.shape(name)[axis] for name, axis in zip(scanned, axes, strict=True)}
    if len(lengths) != 1:
        found = sorted(lengths)
        raise BadModel(f"node {call.name!r} (Scan): inputs of lengths {found}; give one length")
    (length,) = lengths
    if length > MAX_ITERATIONS:
        raise Refused(f"{length} iterations; up to {MAX_ITERATIONS} are unrolled")
    ways = _flags(call, "scan_input_directions", count)
    return [
        [
            _slice_of(ctx, call, name, axis, length - 1 - turn if back else turn)
            for name, axis, back in zip(scanned, axes, ways, strict=True)
        ]
        for turn in range(length)
    ]


def _scan(ctx: Context, call: Call, run: Run) -> None:
    if call.opset < 9:
        raise Refused("Scan of opset 8; of opset 9 and later it is unrolled: export it again")
    body, count = call.attrs["body"], int(call.attrs["num_scan_inputs"])
    states = list(call.inputs[:-count])
    scans: list[list[str]] = [[] for _ in body.output[len(states) :]]
    formal = [value.name for value in body.input]
    for steps in _scan_steps(ctx, call, call.inputs[-count:]):
        feeds = dict(zip(formal, (*states, *steps), strict=True))
        results = _inline(ctx, call, body, feeds, run)
        states = results[: len(states)]
        for parts, name in zip(scans, results[len(states) :], strict=True):
            parts.append(name)
    ways = _flags(call, "scan_output_directions", len(scans))
    ordered = [parts[::-1] if back else parts for parts, back in zip(scans, ways, strict=True)]
    _finish(ctx, call, states, ordered, _flags(call, "scan_output_axes", len(scans)))


CONTROL: Mapping[str, Control] = {"If": _if, "Loop": _loop, "Scan": _scan}
