# SPDX-License-Identifier: Apache-2.0
"""Node reordering: an order with which more blocks of a constant sparse matrix are all zero.

In: a MatGraph.  Out: an equal one in which the axes of large sparse weights are permuted:
weights, biases and constants here, network inputs and outputs by a "take" step of their ports.

Axes that operations relate share an order.  Similar rows of a matrix become neighbours by a greedy
choice, one block of lanes at a time, of the rows that add the fewest new columns.  Reverse
Cuthill-McKee is tried too; after it the greedy choice is the better one on citation graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import Gemm, Linear, MatGraph, MatOp, Move, Port, RowMax, Window
from ...ir.matgraph.predicates import is_pointwise, is_transposition
from ...ir.types import Array, ViewStep

LEAST_NODES = 64  # a shorter axis is not worth the search
LARGEST = 8192  # nodes up to which the quadratic search is fast
DENSEST = 0.1  # share of nonzero weights above which hardly any block is zero
GAIN = 0.9  # a new order has to leave at most this share of the blocks
SEEDS = ("low", "high")  # a block starts with the node of lowest or highest degree

Axis = tuple[str, int]  # tensor, axis 2 (positions) or 3 (channels)
Orders = dict[Axis, Array]  # class -> which old index comes at each place


@dataclass
class _Classes:
    """Axes that must share one order; ``fixed`` classes keep theirs."""

    parent: dict[Axis, Axis] = field(default_factory=dict)
    fixed: set[Axis] = field(default_factory=set)

    def root(self, axis: Axis) -> Axis:
        while axis in self.parent:
            axis = self.parent[axis]
        return axis

    def tie(self, a: Axis, b: Axis) -> None:
        a, b = self.root(a), self.root(b)
        if a != b:
            self.parent[a] = b

    def is_fixed(self, root: Axis) -> bool:
        return any(self.root(axis) == root for axis in self.fixed)


@dataclass(frozen=True)
class _Pattern:
    """The nonzero places of a sparse weight, as pairs of an output and an input channel."""

    pairs: tuple[Array, Array]
    shape: tuple[int, int]
    ends: tuple[Axis, Axis]  # the classes of output and input channels


def reorder_nodes(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with its node axes in a better order; itself if there is none."""
    sparse = [op for op in mg.ops if isinstance(op, Gemm) and _is_sparse(op)]
    if not sparse:
        return mg
    classes = _classes(mg)
    orders: Orders = {}
    for patterns in _linked(sparse, classes):
        orders |= _best(patterns, classes, target.lanes)
    return _permuted(mg, classes, orders) if orders else mg


def _is_sparse(op: Gemm) -> bool:
    w = op.weight
    if w is None or w.shape[:2] != (1, 1) or op.groups > 1 or min(w.shape[2:]) < LEAST_NODES:
        return False
    return max(w.shape[2:]) <= LARGEST and bool(np.count_nonzero(w) <= DENSEST * w.size)


# ---------------------------------------------------------------- axes that share an order


def _classes(mg: MatGraph) -> _Classes:
    found = _Classes()
    for op in mg.ops:
        names = (*op.inputs, *op.outputs)
        if any(mg.tensors[name].shape[:2] != (1, 1) for name in names):
            found.fixed |= {(name, axis) for name in names for axis in (2, 3)}
        TIES[type(op)](op, mg, found)
    ports = [p.tensor for p in (*mg.inputs, *mg.outputs)]
    loose = [name for name in ports if mg.tensors[name].shape[:2] != (1, 1)]
    found.fixed |= {(name, axis) for name in loose for axis in (2, 3)}
    return found


def _tie_gemm(op: Gemm, mg: MatGraph, found: _Classes) -> None:
    found.tie((op.input, 2), (op.output, 2))
    if not is_pointwise(op) or op.groups > 1:
        found.fixed |= {(name, axis) for name in (op.input, op.output) for axis in (2, 3)}
    if op.rhs is not None:
        inner, outer = (3, 2) if op.rhs_transposed else (2, 3)
        found.tie((op.rhs, inner), (op.input, 3))
        found.tie((op.rhs, outer), (op.output, 3))
    _tie_epilogue(op, mg, found)


def _tie_window(op: Window, mg: MatGraph, found: _Classes) -> None:
    found.tie((op.input, 2), (op.output, 2))
    if mg.tensors[op.input].shape[3] == mg.tensors[op.output].shape[3]:
        found.tie((op.input, 3), (op.output, 3))
    if not is_pointwise(op):
        found.fixed |= {(op.input, 2), (op.output, 2)}
    if op.minus is not None:
        found.tie((op.minus, 2), (op.output, 2))
    _tie_epilogue(op, mg, found)


def _tie_epilogue(op: Linear, mg: MatGraph, found: _Classes) -> None:
    shape = mg.tensors[op.output].shape
    for name in filter(None, (op.epilogue.residual, op.epilogue.hadamard)):
        for axis in (2, 3):
            if mg.tensors[name].shape[axis] == shape[axis] > 1:
                found.tie((name, axis), (op.output, axis))
    for row in op.epilogue.rows:
        found.tie((row.tensor, 2), (op.output, 2))


def _tie_rowmax(op: RowMax, _: MatGraph, found: _Classes) -> None:
    found.tie((op.input, 2), (op.output, 2))


def _tie_move(op: Move, mg: MatGraph, found: _Classes) -> None:
    if is_transposition(op, mg.tensors):
        found.tie((op.inputs[0], 2), (op.output, 3))
        found.tie((op.inputs[0], 3), (op.output, 2))
        return
    found.fixed |= {(name, axis) for name in (op.output, *op.inputs) for axis in (2, 3)}


TIES: Mapping[type[MatOp], Callable[..., None]] = {
    Gemm: _tie_gemm,
    Window: _tie_window,
    RowMax: _tie_rowmax,
    Move: _tie_move,
}


def _linked(sparse: list[Gemm], classes: _Classes) -> list[list[_Pattern]]:
    """Return the patterns in groups that share classes."""
    groups: list[list[_Pattern]] = []
    for op in sparse:
        assert op.weight is not None
        out, source = classes.root((op.output, 3)), classes.root((op.input, 3))
        matrix = op.weight[0, 0].T
        rows, cols = np.nonzero(matrix)
        mine = [_Pattern((rows, cols), (len(matrix), matrix.shape[1]), (out, source))]
        touching = [g for g in groups if any({out, source} & set(p.ends) for p in g)]
        groups = [g for g in groups if not any(g is other for other in touching)]
        groups.append([p for g in touching for p in g] + mine)
    return groups


# ---------------------------------------------------------------- the search


def _best(patterns: list[_Pattern], classes: _Classes, lanes: int) -> Orders:
    """Return orders of the classes that are not fixed; empty if nothing is gained."""
    roots = dict(end for p in patterns for end in zip(p.ends, p.shape, strict=True))
    free = [root for root in roots if not classes.is_fixed(root)]
    identity = {root: np.arange(size) for root, size in roots.items()}
    trials = [identity]
    for start in _starts(patterns, roots, lanes):
        trials.append({**identity, **{root: start for root in free if len(start) == roots[root]}})
    best = min(trials, key=lambda orders: _blocks(patterns, orders, lanes))
    best = _refined(patterns, best, free, lanes)
    if _blocks(patterns, best, lanes) > GAIN * _blocks(patterns, identity, lanes):
        return {}
    return {root: best[root] for root in free if np.any(np.diff(best[root]) != 1)}


def _starts(patterns: list[_Pattern], roots: Mapping[Axis, int], lanes: int) -> Iterator[Array]:
    """Yield orders by the union of all square patterns of one size."""
    for size in sorted(set(roots.values())):
        squares = [p.pairs for p in patterns if p.shape == (size, size)]
        if squares:
            union = np.zeros((size, size), bool)
            for rows, cols in squares:
                union[rows, cols] = union[cols, rows] = True
            yield cuthill_mckee(union)
            yield from (cluster(union, lanes, seed) for seed in SEEDS)


def _refined(patterns: list[_Pattern], orders: Orders, free: list[Axis], lanes: int) -> Orders:
    """Cluster each class in turn by the blocks of its neighbours, as long as that helps."""
    count = _blocks(patterns, orders, lanes)
    for root in free:
        for seed in SEEDS:
            features = _features(patterns, orders, root, lanes)
            trial = {**orders, root: cluster(features, lanes, seed)}
            if (fewer := _blocks(patterns, trial, lanes)) < count:
                count, orders = fewer, trial
    return orders


def _features(patterns: list[_Pattern], orders: Orders, root: Axis, lanes: int) -> Array:
    """Return per index of the class the blocks of other classes in which it has nonzero weights."""
    parts = []
    for p in patterns:
        for mine, other in ((0, 1), (1, 0)):
            if p.ends[mine] == root:
                met = np.zeros((p.shape[mine], -(-p.shape[other] // lanes)), bool)
                blocks = _block_of(orders[p.ends[other]], lanes)
                met[p.pairs[mine], blocks[p.pairs[other]]] = True
                parts.append(met)
    return np.concatenate(parts, axis=1)


def _block_of(order: Array, lanes: int) -> Array:
    """Return per old index the block to which it moves."""
    return np.asarray(np.argsort(order) // lanes)


def _blocks(patterns: list[_Pattern], orders: Orders, lanes: int) -> int:
    """Return the number of blocks that are not all zero."""
    total = 0
    for p in patterns:
        ends = zip(p.ends, p.pairs, strict=True)
        rows, cols = (_block_of(orders[e], lanes)[at] for e, at in ends)
        total += len(np.unique(rows * p.shape[1] + cols))
    return total


def cuthill_mckee(adjacent: Array) -> Array:
    """Return the reverse Cuthill-McKee order of a symmetric pattern."""
    degree = adjacent.sum(1)
    neighbors = [np.flatnonzero(row) for row in adjacent]
    seen = np.zeros(len(adjacent), bool)
    order: list[int] = []
    for start in np.argsort(degree, kind="stable"):
        queue = [] if seen[start] else [int(start)]
        seen[start] = True
        for node in queue:
            new = neighbors[node][~seen[neighbors[node]]]
            seen[new] = True
            queue += [int(n) for n in new[np.argsort(degree[new], kind="stable")]]
        order += queue
    return np.array(order[::-1])


def cluster(features: Array, lanes: int, seed: str = "low") -> Array:
    """Return an order of rows in blocks of ``lanes`` that have few nonzero columns together."""
    columns = np.ascontiguousarray(features.T, np.float32)
    degree, left = columns.sum(0), np.ones(len(features), bool)
    order: list[int] = []
    weight = 1.0 if seed == "low" else 3.0
    covered = np.zeros(features.shape[1], bool)
    shared = np.zeros(len(features), np.float32)
    while left.any():
        rest = np.flatnonzero(left)
        if len(order) % lanes == 0:
            at = degree[rest].argmin() if seed == "low" else degree[rest].argmax()
            covered[:], shared[:] = False, 0
        else:
            at = (degree[rest] - (1 + weight) * shared[rest]).argmin()
        row = int(rest[at])
        fresh = features[row] & ~covered
        covered |= fresh
        shared += columns[fresh].sum(0)
        left[row] = False
        order.append(row)
    return np.array(order)


# ---------------------------------------------------------------- the permuted graph


def _permuted(mg: MatGraph, classes: _Classes, orders: Orders) -> MatGraph:
    def order(name: str, axis: int) -> Array | None:
        found = orders.get(classes.root((name, axis)))
        return found if found is not None and mg.tensors[name].shape[axis] > 1 else None

    constants = {}
    for name, value in mg.constants.items():
        for axis in (2, 3):
            at = order(name, axis)
            value = value if at is None else np.take(value, at, axis)
        constants[name] = value
    return replace(
        mg,
        inputs=tuple(_port(p, order(p.tensor, 2), order(p.tensor, 3), True) for p in mg.inputs),
        outputs=tuple(_port(p, order(p.tensor, 2), order(p.tensor, 3), False) for p in mg.outputs),
        ops=tuple(_permuted_op(op, order) for op in mg.ops),
        constants=constants,
    )


def _port(port: Port, rows: Array | None, channels: Array | None, is_input: bool) -> Port:
    steps = []
    for axis, order in ((2, rows), (3, channels)):
        if order is not None:
            places = order if is_input else np.argsort(order)
            steps.append(ViewStep("take", (axis, *(int(i) for i in places))))
    return replace(port, steps=(*port.steps, *steps) if is_input else (*steps, *port.steps))


def _permuted_op(op: MatOp, order: Callable[[str, int], Array | None]) -> MatOp:
    if not isinstance(op, Linear):
        return op
    out, source = order(op.output, 3), order(op.input, 3)
    if out is not None:
        scale = op.weight_scale
        if scale is not None and np.size(scale) > 1:
            scale = np.asarray(scale)[out]
        op = replace(op, bias=op.bias[out], weight_scale=scale)
    if op.weight is not None and out is not None and op.weight.shape[-1] > 1:
        op = replace(op, weight=np.take(op.weight, out, -1))
    if isinstance(op, Gemm) and op.weight is not None and source is not None:
        op = replace(op, weight=np.take(op.weight, source, 2))
    return op


__all__ = ["cluster", "cuthill_mckee", "reorder_nodes"]
