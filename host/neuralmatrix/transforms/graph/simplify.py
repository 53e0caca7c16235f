# SPDX-License-Identifier: Apache-2.0
"""Simplification: a Graph is rewritten to fewer nodes that compute the same.

In: a Graph.  Out: an equivalent Graph; ``PASSES`` are the rewrites, repeated in order until
nothing changes.  Rewrites are exact in real arithmetic and leave prescribed quantisation alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod

import numpy as np

from ...ir.graph.nodes import (
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    Expand,
    Graph,
    Node,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from ...ir.graph.operators import evaluate
from ...ir.graph.uses import GraphUses
from ...ir.graph.verify import verify_graph
from ...ir.types import Array, Function
from . import patterns
from .fold_affine import fold_into_weights, merge_affine, to_mul_and_add
from .merge_layouts import merge_reshapes, merge_slices, merge_transposes
from .move_functions import split_functions
from .move_transposes import pull_transposes, push_transposes, share_transposes
from .rewrite import Change, Pass, apply_rule, clean

_MAX_FOLDED = 1 << 24  # elements of a constant that folding may make


@dataclass
class _Tally:
    """How often one rewrite ran, how often it changed the graph, and how long it took."""

    runs: int = 0
    changes: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        took = f"{1e3 * self.seconds:.1f} ms"
        return f"changed the graph in {self.changes} of {self.runs} rounds, {took}"


def simplify(
    graph: Graph, target: object = None, note: Callable[[str], None] | None = None
) -> Graph:
    """Return the graph after all ``PASSES``, repeated until none changes it; verified after each.

    ``note`` receives one line per rewrite.
    """
    tallies = {name: _Tally() for name, _ in (*PASSES, *patterns.LAST)}
    before = None
    while before is not graph:
        before = graph
        for passes in (PASSES, patterns.LAST):
            graph = _repeated(passes, graph, tallies)
    if note is not None:
        for name, tally in tallies.items():
            note(f"{name}: {tally}")
    return graph


def _repeated(
    passes: tuple[tuple[str, Pass], ...], graph: Graph, tallies: Mapping[str, _Tally]
) -> Graph:
    """Return the graph after all ``passes``, repeated until none changes it."""
    before = None
    while before is not graph:
        before = graph
        for name, step in passes:
            graph = _rewritten(step, graph, tallies[name])
    return graph


def _rewritten(step: Pass, graph: Graph, tally: _Tally) -> Graph:
    start = time.perf_counter()
    after = step(graph)
    tally.seconds += time.perf_counter() - start
    tally.runs += 1
    if after is graph:
        return graph
    tally.changes += 1
    return verify_graph(after)


def drop_dead_nodes(graph: Graph) -> Graph:
    cleaned = clean(graph)
    same = len(cleaned.nodes) == len(graph.nodes)
    return graph if same and len(cleaned.shapes) == len(graph.shapes) else cleaned


def fold_constants(uses: GraphUses, node: Node) -> Change | None:
    """Evaluate a node whose inputs are constants."""
    graph = uses.graph
    if node.output in graph.outputs or not all(n in graph.constants for n in node.inputs):
        return None
    if prod(uses.shape(node.output)) > _MAX_FOLDED:
        return None
    arrays = [graph.constants[name] for name in node.inputs]
    return Change(constants={node.output: np.asarray(evaluate(node, *arrays), np.float32)})


def _is_all(array: Array | None, value: float) -> bool:
    return array is not None and bool((array == value).all())


def _does_nothing(uses: GraphUses, node: Node) -> bool:
    """Return whether the output is the first input, given that their shapes agree."""
    match node:
        case Unary(function=Function(name="identity")) | Reshape() | Expand():
            return True
        case Transpose(perm=perm):
            return perm == tuple(range(len(perm)))
        case Slice() | Pad():
            return True
        case Concat(inputs=inputs):
            return len(inputs) == 1
        case Take(indices=indices):
            return indices == tuple(range(len(indices)))
        case AxisMatMul(inputs=(_, matrix)):
            values = uses.constant(matrix)
            return values is not None and np.array_equal(values, np.eye(*values.shape))
        case Reduce(axes=axes):
            return all(uses.shape(node.inputs[0])[axis] == 1 for axis in axes)
        case Binary(inputs=(_, other), kind="add" | "sub"):
            return _is_all(uses.constant(other), 0.0)
        case Binary(inputs=(_, other), kind="mul" | "div"):
            return _is_all(uses.constant(other), 1.0)
    return False


def drop_identities(uses: GraphUses, node: Node) -> Change | None:
    """Remove a node whose output equals its input."""
    source = node.inputs[0]
    if uses.shape(node.output) != uses.shape(source) or source in uses.graph.constants:
        return None
    return Change(same=source) if _does_nothing(uses, node) else None


def drop_selections(uses: GraphUses, node: Node) -> Change | None:
    """Replace a Select with a uniform constant condition by one of its branches."""
    if not isinstance(node, Select):
        return None
    condition = uses.constant(node.inputs[0])
    if condition is None or not (condition.all() or not condition.any()):
        return None
    source = node.inputs[1] if condition.all() else node.inputs[2]
    same = uses.shape(source) == uses.shape(node.output)
    return Change(same=source) if same and source not in uses.graph.constants else None


_NOT_NEGATIVE = frozenset("relu sigmoid hard_sigmoid abs exp square sqrt softplus".split())


def _not_negative(uses: GraphUses, name: str) -> bool:
    """Return whether every element of a tensor is known to be 0 or more."""
    node = uses.maker(name)
    match node:
        case Unary(function=function):
            clipped = function.name == "clip" and function.params[0] >= 0
            return clipped or function.name in _NOT_NEGATIVE
        case Softmax(log=log_):
            return not log_
        case Pad(inputs=(source,), value=value):
            return value >= 0 and _not_negative(uses, source)
        case Concat(inputs=sources):
            return all(_not_negative(uses, source) for source in sources)
        case Pool() | Reduce() | Reshape() | Transpose() | Slice() | Take() | Expand():
            return _not_negative(uses, node.inputs[0])
    return False


def drop_relus(uses: GraphUses, node: Node) -> Change | None:
    """Remove a ReLU of a tensor that is never negative."""
    is_relu = isinstance(node, Unary) and node.function.name == "relu"
    return Change(same=node.inputs[0]) if is_relu and _not_negative(uses, node.inputs[0]) else None


# ---------------------------------------------------------------- activations


def _unary(node: Node | None, name: str) -> Unary | None:
    return node if isinstance(node, Unary) and node.function.name == name else None


def _gate(uses: GraphUses, name: str, x: str) -> Function | None:
    """Return the activation that x times the private tensor ``name`` is."""
    node = uses.private_maker(name)
    if (gate := _unary(node, "sigmoid")) and gate.inputs[0] == x:
        return Function("silu")
    if (gate := _unary(node, "hard_sigmoid")) and gate.inputs[0] == x:
        return Function("hard_swish") if np.allclose(gate.function.params, (1 / 6, 0.5)) else None
    if gate := _unary(node, "tanh"):
        inner = _unary(uses.private_maker(gate.inputs[0]), "softplus")
        return Function("mish") if inner and inner.inputs[0] == x else None
    return None


def fuse_gates(uses: GraphUses, node: Node) -> Change | None:
    """Fuse x*sigmoid(x), x*hard_sigmoid(x) and x*tanh(softplus(x)) into one function each."""
    if not isinstance(node, Binary) or node.kind != "mul":
        return None
    for x, gate in (node.inputs, node.inputs[::-1]):
        function = _gate(uses, gate, x)
        if function is not None:
            return Change((Unary((x,), node.output, node.source, function=function),))
    return None


def fuse_hard_sigmoid(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite clip(x + b, 0, m) * c to hard_sigmoid(c, b*c) where m*c is 1."""
    if not isinstance(node, Binary) or node.kind != "mul":
        return None
    factor = uses.constant(node.inputs[1])
    clip = _unary(uses.private_maker(node.inputs[0]), "clip")
    if factor is None or factor.size != 1 or clip is None:
        return None
    low, high = clip.function.params
    added = uses.private_maker(clip.inputs[0])
    if not isinstance(added, Binary) or added.kind != "add":
        return None
    term, c = uses.constant(added.inputs[1]), float(factor.reshape(()))
    # 1/6 and 6 are float32 in the source model
    if term is None or term.size != 1 or low != 0 or abs(high * c - 1) > 1e-6:
        return None
    function = Function("hard_sigmoid", (1 / high, float(term.reshape(())) / high))
    out = uses.shape(node.output)
    if uses.shape(added.inputs[0]) != out:
        return None
    return Change((Unary((added.inputs[0],), node.output, node.source, function=function),))


def gate_before_factor(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite (x * clip(..)) * c to x * (clip(..) * c), which ``fuse_hard_sigmoid`` matches."""
    if not isinstance(node, Binary) or node.kind != "mul":
        return None
    product, factor = uses.private_maker(node.inputs[0]), uses.constant(node.inputs[1])
    if not isinstance(product, Binary) or product.kind != "mul":
        return None
    if factor is None or factor.size != 1:
        return None
    for x, gate in (product.inputs, product.inputs[::-1]):
        if _unary(uses.private_maker(gate), "clip"):
            name = uses.fresh(f"{node.output}.gate")
            scaled = Binary((gate, node.inputs[1]), name, node.source, kind="mul")
            return Change((scaled, replace(node, inputs=(x, name))))
    return None


# ---------------------------------------------------------------- layout


_LOWEST = float(np.finfo(np.float32).min)


def _padding_fits(node: Conv | Pool, pad: Pad) -> bool:
    """Return whether the node's own padding reads the value that ``pad`` writes."""
    if isinstance(node, Conv):
        return pad.value == 0
    if node.kind == "max":
        return pad.value <= _LOWEST
    return pad.value == 0 and (node.count_include_pad or not any(node.pads))


def fold_pads(uses: GraphUses, node: Node) -> Change | None:
    """Fold spatial padding into the convolution or pool that reads it."""
    if not isinstance(node, Conv | Pool):
        return None
    pad = uses.maker(node.inputs[0])
    if not isinstance(pad, Pad) or uses.count(pad.output) != 1 or not _padding_fits(node, pad):
        return None
    if uses.transparent_maker(pad.output) is None or any(map(any, pad.pads[:2])):
        return None
    added = (*(b for b, _ in pad.pads[2:]), *(a for _, a in pad.pads[2:]))
    pads = tuple(p + more for p, more in zip(node.pads, added, strict=True))
    merged = replace(node, inputs=(*pad.inputs, *node.inputs[1:]), pads=pads)
    if isinstance(merged, Pool) and merged.kind == "average":
        merged = replace(merged, count_include_pad=True)
    return Change((merged,))


PASSES: tuple[tuple[str, Pass], ...] = (
    ("drop_dead_nodes", drop_dead_nodes),
    ("fold_constants", partial(apply_rule, fold_constants)),
    ("drop_identities", partial(apply_rule, drop_identities)),
    ("drop_selections", partial(apply_rule, drop_selections)),
    ("drop_relus", partial(apply_rule, drop_relus)),
    ("merge_transposes", partial(apply_rule, merge_transposes)),
    ("merge_reshapes", partial(apply_rule, merge_reshapes)),
    ("merge_slices", partial(apply_rule, merge_slices)),
    ("fold_pads", partial(apply_rule, fold_pads)),
    ("to_mul_and_add", partial(apply_rule, to_mul_and_add)),
    *patterns.PASSES,
    ("gate_before_factor", partial(apply_rule, gate_before_factor)),
    ("fuse_hard_sigmoid", partial(apply_rule, fuse_hard_sigmoid)),
    ("fuse_gates", partial(apply_rule, fuse_gates)),
    ("merge_affine", partial(apply_rule, merge_affine)),
    ("fold_into_weights", partial(apply_rule, fold_into_weights)),
    ("split_functions", partial(apply_rule, split_functions)),
    ("share_transposes", partial(apply_rule, share_transposes)),
    ("push_transposes", partial(apply_rule, push_transposes)),
    ("pull_transposes", partial(apply_rule, pull_transposes)),
)
