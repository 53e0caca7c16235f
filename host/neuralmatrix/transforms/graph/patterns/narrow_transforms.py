# SPDX-License-Identifier: Apache-2.0
"""Slices of a transform, such as its real and its imaginary part, become transforms of their own.

In: a Graph with logarithms of magnitudes.  Out: slices in front of or behind such a logarithm are
taken of the weights instead, so that no data move.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np

from ....ir.graph.nodes import (
    AxisMatMul,
    Concat,
    Conv,
    Graph,
    MatMul,
    Node,
    Reshape,
    Slice,
    Take,
    Transpose,
    Unary,
)
from ....ir.graph.uses import GraphUses
from ....ir.types import Array, Shape
from ..rewrite import Change, apply_rule
from .match import LAYOUT, made


@dataclass(frozen=True)
class Cut:
    """The elements start, start + step, .. before stop along one axis."""

    axis: int
    start: int
    stop: int
    step: int = 1

    @property
    def size(self) -> int:
        return len(range(self.start, self.stop, self.step))

    def of(self, array: Array, axis: int) -> Array:
        """Return these elements of an array along ``axis``."""
        return np.take(array, range(self.start, self.stop, self.step), axis)


def narrow_transforms(graph: Graph) -> Graph:
    """Take slices around logarithms of magnitudes of the weights that make them."""
    if graph.quant:
        return graph
    uses = GraphUses(graph)
    wanted: set[str] = set()
    found = [node.output for node in graph.nodes if _is_log(node)]
    while found:
        node = uses.maker(name := found.pop())
        wanted.add(name)
        if isinstance(node, Concat) or (node is not None and (_is_log(node) or _places(node))):
            found += node.inputs if isinstance(node, Concat) else node.inputs[:1]
    return apply_rule(partial(_narrowed, wanted), graph) if wanted else graph


def _is_log(node: Node) -> bool:
    return isinstance(node, Unary) and node.function.name == "log_abs"


def _places(node: Node) -> bool:
    return isinstance(node, LAYOUT)


def _cut(uses: GraphUses, node: Node) -> Cut | None:
    """Return what a Slice or Take of one axis leaves."""
    shape = uses.shape(node.inputs[0])
    if isinstance(node, Slice):
        ends = [slice(*part).indices(n) for part, n in zip(node.slices, shape, strict=True)]
        cuts = [Cut(i, *end) for i, end in enumerate(ends) if len(range(*end)) < shape[i]]
        return cuts[0] if len(cuts) == 1 and cuts[0].step > 0 else None
    if isinstance(node, Take) and len(node.indices) == 1:
        return Cut(node.axis % len(shape), node.indices[0], node.indices[0] + 1)
    return None


def _narrowed(wanted: set[str], uses: GraphUses, node: Node) -> Change | None:
    cut = _cut(uses, node) if isinstance(node, Slice | Take) else None
    if cut is None:
        return None
    nodes = _Narrow(uses, node.output)
    seen = node.output in wanted or _behind_log(uses, node.inputs[0])
    if not seen or nodes.taken(node.inputs[0], cut, node.output) is None:
        return None
    return Change(tuple(nodes.nodes), nodes.constants)


def _behind_log(uses: GraphUses, name: str) -> bool:
    node = made(uses, name)
    while node is not None and _places(node):
        node = made(uses, node.inputs[0])
    return node is not None and (_is_log(node) or isinstance(node, Concat))


class _Narrow:
    """Makes a tensor with fewer elements along one axis, back to the weights that make it."""

    def __init__(self, uses: GraphUses, out: str) -> None:
        self.uses, self.out = uses, out
        self.nodes: list[Node] = []
        self.constants: dict[str, Array] = {}
        self._taken = 0

    def taken(self, name: str, cut: Cut, out: str = "") -> str | None:
        """Return the tensor of these elements of ``name``; None if its maker cannot make them."""
        node = made(self.uses, name)
        rule = _RULES.get(type(node)) if node is not None else None
        made_node = rule(self, node, cut) if rule is not None else None
        if made_node is None:
            return None
        name = out or self._fresh("part")
        self.nodes.append(replace(made_node, output=name))
        return name

    def constant(self, value: Array) -> str:
        name = self._fresh("weights")
        self.constants[name] = np.asarray(value, np.float32)
        return name

    def _fresh(self, part: str) -> str:
        self._taken += 1
        return self.uses.fresh(f"{self.out}.{part}.{self._taken}")


def _conv(n: _Narrow, node: Conv, cut: Cut) -> Node | None:
    values = [n.uses.constant(name) for name in node.inputs[1:]]
    if cut.axis != 1 or node.groups != 1 or any(v is None for v in values):
        return None
    parts = tuple(n.constant(cut.of(v, 0)) for v in values if v is not None)
    return replace(node, inputs=(node.inputs[0], *parts))


def _matmul(n: _Narrow, node: MatMul, cut: Cut) -> Node | None:
    weight = n.uses.constant(node.inputs[1])
    last = len(n.uses.shape(node.output)) - 1
    if cut.axis != last or weight is None or weight.ndim != 2:
        return None
    return replace(node, inputs=(node.inputs[0], n.constant(cut.of(weight, 1))))


def _axis_matmul(n: _Narrow, node: AxisMatMul, cut: Cut) -> Node | None:
    weight = n.uses.constant(node.inputs[1])
    if weight is None or cut.axis != node.axis % len(n.uses.shape(node.output)):
        return None
    return replace(node, inputs=(node.inputs[0], n.constant(cut.of(weight, 0))))


def _elementwise(n: _Narrow, node: Unary, cut: Cut) -> Node | None:
    x = n.taken(node.inputs[0], cut) if node.function.name == "log_abs" else None
    return x and replace(node, inputs=(x,))  # type: ignore[return-value]


def _transpose(n: _Narrow, node: Transpose, cut: Cut) -> Node | None:
    x = n.taken(node.inputs[0], replace(cut, axis=node.perm[cut.axis]))
    return x and replace(node, inputs=(x,))  # type: ignore[return-value]


def _reshape(n: _Narrow, node: Reshape, cut: Cut) -> Node | None:
    before = _cut_before(n.uses.shape(node.inputs[0]), node.shape, cut)
    x = n.taken(node.inputs[0], before) if before is not None else None
    shape = (*node.shape[: cut.axis], cut.size, *node.shape[cut.axis + 1 :])
    return x and replace(node, inputs=(x,), shape=shape)  # type: ignore[return-value]


def _cut_before(source: Shape, shape: Shape, cut: Cut) -> Cut | None:
    """Return the cut in front of a reshape of the axis, or of one that splits another into it."""
    outside, inside = prod(shape[: cut.axis]), prod(shape[cut.axis + 1 :])
    size = shape[cut.axis]
    for axis, whole in enumerate(source):
        before, after = prod(source[:axis]), prod(source[axis + 1 :])
        if whole == size and (before, after) == (outside, inside):
            return replace(cut, axis=axis)
        if whole > size and before == outside and inside % after == 0 and cut.step == 1:
            block = inside // after  # the outer part of a split axis
            if block * size == whole:
                return Cut(axis, cut.start * block, cut.stop * block)
        if whole > size and after == inside and outside % before == 0 and cut.size == 1:
            if (outside // before) * size == whole:  # the inner part
                return Cut(axis, cut.start, whole, size)
    return None


def _concat(n: _Narrow, node: Concat, cut: Cut) -> Node | None:
    """Return the part that holds all of the cut, as it is."""
    if cut.axis != node.axis % len(n.uses.shape(node.output)):
        return None
    start = 0
    for part in node.inputs:
        shape = n.uses.shape(part)
        if (cut.start, cut.stop, cut.step) == (start, start + shape[cut.axis], 1):
            return Reshape((part,), "", node.source, shape=shape)
        start += shape[cut.axis]
    return None


_RULES: Mapping[type[Node], Callable[[_Narrow, Any, Cut], Node | None]] = {
    Conv: _conv,
    MatMul: _matmul,
    AxisMatMul: _axis_matmul,
    Unary: _elementwise,
    Transpose: _transpose,
    Reshape: _reshape,
    Concat: _concat,
}
