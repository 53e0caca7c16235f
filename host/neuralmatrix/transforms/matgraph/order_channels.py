# SPDX-License-Identifier: Apache-2.0
"""The order of channels, chosen so that selections of channels move whole runs, or nothing.

In: a MatGraph.  Out: an equal one.  What multiplies all channels of a tensor by weights does not
care about their order: its weights take it.  So a shuffle between two convolutions disappears into
the weights of the second, a tensor's channels lie in the order in which later layers take them, and
what is gathered from several tensors lies in the order of its sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.facts import Groups
from ...ir.matgraph.ops import Gemm, MatGraph, MatOp, Move, RowMax, Window
from ...ir.matgraph.selections import Selection, index_of, selection_of
from ...ir.types import Array

Orders = dict[str, Array]  # root of a class -> the old channel at every new place


@dataclass
class _Classes:
    """Classes of tensors with one order of channels, and the selections between them."""

    mg: MatGraph
    groups: Groups = field(default_factory=lambda: Groups({}))
    fixed: set[str] = field(default_factory=set)  # tensors; roots once all are known
    selections: dict[str, Selection] = field(default_factory=dict)  # output -> selection

    def tie(self, a: str, b: str | None) -> None:
        """Note that two tensors have one order, unless one has a single channel."""
        if b is None or self.channels(a) != self.channels(b) or self.channels(a) == 1:
            return
        first, second = self.groups.root(a), self.groups.root(b)
        if first != second:
            self.groups.parent[first] = second

    def channels(self, name: str) -> int:
        return self.mg.tensors[name].shape[3]

    def is_free(self, name: str) -> bool:
        return self.groups.root(name) not in self.fixed


def order_channels(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with channels in the order in which selections take them."""
    classes = _Classes(mg)
    for op in mg.ops:
        _add(classes, op)
    if not classes.selections:
        return mg
    classes.fixed |= {port.tensor for port in (*mg.inputs, *mg.outputs)}
    classes.fixed = {classes.groups.root(name) for name in classes.fixed}
    orders = _orders_of_sources(classes)
    orders = {**orders, **_orders_of_results(classes, orders)}
    return _applied(classes, orders) if orders else mg


def _add(classes: _Classes, op: MatOp) -> None:
    """Note which tensors of an operation share an order, and which have to keep theirs."""
    mg = classes.mg
    if isinstance(op, Move):
        found = selection_of(op, mg.tensors)
        if found is None:
            classes.fixed |= {op.output, *op.parts}
        else:
            classes.selections[op.output] = found
        return
    if isinstance(op, Gemm) and (op.rhs is not None or op.groups > 1):
        classes.fixed |= {name for name in (op.output, op.input, op.rhs) if name is not None}
    if isinstance(op, Window):
        classes.tie(op.output, op.input)
    if not isinstance(op, RowMax):
        classes.tie(op.output, op.epilogue.residual)
        classes.tie(op.output, op.epilogue.hadamard)


# ------------------------------------------------------------------ orders


def _orders_of_sources(classes: _Classes) -> Orders:
    """Return the orders of tensors whose channels are taken by some selections, by the first."""
    takers: dict[str, list[tuple[str, int]]] = {}  # root -> (output of a selection, part)
    made = {classes.groups.root(name) for name in classes.selections}
    for op in classes.mg.ops:
        if op.output in classes.selections:
            for i, name in enumerate(op.inputs):
                takers.setdefault(classes.groups.root(name), []).append((op.output, i))
    orders: Orders = {}
    for root, taken in takers.items():
        if root in classes.fixed or root in made:
            continue
        whole = _whole(classes, root, taken)
        if whole is None:
            orders[root] = _by_takers(classes, root, taken)
        elif not classes.is_free(taken[0][0]):
            orders[root] = whole
    return {root: order for root, order in orders.items() if not _is_plain(order)}


def _whole(classes: _Classes, root: str, taken: Sequence[tuple[str, int]]) -> Array | None:
    """Return the order in which the only selection of a tensor takes all of it, if one does."""
    if len(taken) > 1:
        return None
    s = classes.selections[taken[0][0]]
    order = s.channel[s.part == taken[0][1]]
    is_whole = np.array_equal(np.sort(order), np.arange(classes.channels(root)))
    return np.asarray(order) if is_whole else None


def _by_takers(classes: _Classes, root: str, taken: Sequence[tuple[str, int]]) -> Array:
    """Return the channels of the first taker, then those of the second, and so on."""
    keys = []
    for output, part in taken:
        s = classes.selections[output]
        left = np.ones(classes.channels(root), bool)
        left[s.channel[s.part == part]] = False
        keys.append(left)
    return np.asarray(np.lexsort(keys[::-1]))


def _orders_of_results(classes: _Classes, sources: Orders) -> Orders:
    """Return the orders of what selections make: that of their sources; the first of a class
    decides."""
    orders: Orders = {}
    for op in classes.mg.ops:
        root = classes.groups.root(op.output)
        if op.output not in classes.selections or root in classes.fixed or root in sources:
            continue
        s = classes.selections[op.output]
        places = _placed(classes, op, s, {**sources, **orders})
        orders.setdefault(root, np.lexsort((places, s.part)))
    return {root: order for root, order in orders.items() if not _is_plain(order)}


def _placed(classes: _Classes, op: MatOp, s: Selection, orders: Orders) -> Array:
    """Return the new place of every selected channel in its source."""
    places = s.channel.copy()
    for i, name in enumerate(op.inputs):
        order = orders.get(classes.groups.root(name))
        if order is not None:
            mine = s.part == i
            places[mine] = np.argsort(order)[s.channel[mine]]
    return np.asarray(places)


def _is_plain(order: Array) -> bool:
    return bool(np.array_equal(order, np.arange(len(order))))


# ------------------------------------------------------------------ the new graph


def _applied(classes: _Classes, orders: Orders) -> MatGraph:
    """Return the graph with its channels in the new orders."""
    mg = classes.mg
    by_name = {
        name: order for name in mg.tensors
        if (order := orders.get(classes.groups.root(name))) is not None
    }  # fmt: skip
    ops = [_ordered(classes, op, by_name, orders) for op in mg.ops]
    constants = {
        name: np.ascontiguousarray(array[..., by_name[name]]) if name in by_name else array
        for name, array in mg.constants.items()
    }
    return replace(mg, ops=tuple(ops), constants=constants)


def _ordered(classes: _Classes, op: MatOp, by_name: Mapping[str, Array], orders: Orders) -> MatOp:
    """Return an operation of tensors with other orders."""
    out = by_name.get(op.output)
    if isinstance(op, Move):
        return _moved(classes, op, out, orders) if op.output in classes.selections else op
    if isinstance(op, Gemm) and op.weight is not None:
        weight = op.weight if op.input not in by_name else op.weight[:, :, by_name[op.input]]
        return _with_outputs(replace(op, weight=weight), out)
    return _with_outputs(op, out) if isinstance(op, Window) else op


def _with_outputs(op: Gemm | Window, order: Array | None) -> MatOp:
    """Return an operation whose output channels have another order."""
    assert op.weight is not None
    if order is None:
        return op if op.weight.flags.c_contiguous else _contiguous(op)
    alike = isinstance(op, Window) and op.weight.shape[2] == 1
    scale = op.weight_scale
    changed = replace(
        op,
        weight=op.weight if alike else op.weight[..., order],
        bias=op.bias[order],
        weight_scale=scale if scale is None or len(scale) == 1 else scale[order],
    )
    return _contiguous(changed)


def _contiguous(op: Gemm | Window) -> MatOp:
    assert op.weight is not None
    return replace(op, weight=np.ascontiguousarray(op.weight))


def _moved(classes: _Classes, op: Move, order: Array | None, orders: Orders) -> Move:
    s = classes.selections[op.output]
    s = Selection(s.part, _placed(classes, op, s, orders))
    if order is not None:
        s = Selection(s.part[order], s.channel[order])
    return replace(op, index=index_of(s, op, classes.mg.tensors), relabel=None)
