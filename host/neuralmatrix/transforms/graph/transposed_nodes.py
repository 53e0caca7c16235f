# SPDX-License-Identifier: Apache-2.0
"""Nodes that compute the same of operands whose axes are in another order.

In: the uses of a Graph, a node and a permutation of the axes of its result.  Out: the node of the
permuted operands, and the constants and transposes that it needs; None where there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from ...ir.graph.nodes import (
    AxisMatMul,
    Binary,
    Concat,
    Expand,
    Node,
    Pad,
    PRelu,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from ...ir.graph.uses import GraphUses
from ...ir.types import Array

Perm = tuple[int, ...]


def inverse(perm: Sequence[int]) -> Perm:
    """Return the permutation that undoes ``perm``."""
    return tuple(int(i) for i in np.argsort(perm))


def _places(node: Any, perm: Perm) -> dict[str, Any]:
    """Change the axis of an operator along one axis."""
    return {"axis": perm[node.axis % len(perm)]}


def _reduced(node: Reduce, perm: Perm) -> dict[str, Any]:
    return {"axes": tuple(sorted(perm[axis] for axis in node.axes))}


def _per_axis(name: str) -> Callable[[Any, Perm], dict[str, Any]]:
    """Return the change of an attribute with one entry per axis."""

    def change(node: Any, perm: Perm) -> dict[str, Any]:
        values = getattr(node, name)
        return {name: tuple(values[axis] for axis in inverse(perm))}

    return change


def _nothing(node: Node, perm: Perm) -> dict[str, Any]:
    return {}


# What changes in a node whose every axis i becomes axis perm[i].
CHANGES: Mapping[type[Node], Callable[[Any, Perm], dict[str, Any]]] = {
    Unary: _nothing,
    Binary: _nothing,
    PRelu: _nothing,
    Select: _nothing,
    Concat: _places,
    Take: _places,
    Softmax: _places,
    AxisMatMul: _places,
    Reduce: _reduced,
    Slice: _per_axis("slices"),
    Pad: _per_axis("pads"),
    Expand: _per_axis("shape"),
}
_ONE_OPERAND = (AxisMatMul,)  # further operands are parameters, which keep their axes


@dataclass
class Moved:
    """The nodes and constants of one node in another order of axes."""

    uses: GraphUses
    before: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def fresh(self, name: str) -> str:
        """Return a new tensor name for ``name`` in another order of axes."""
        hint = f"{name.removesuffix('.moved')}.moved"
        name, count = self.uses.fresh(hint), 1
        while name in self.taken:
            count += 1
            name = self.uses.fresh(f"{hint}.{count}")
        self.taken.add(name)
        return name

    def operand(self, name: str, order: Perm, source: str) -> str | None:
        """Return the tensor ``name``, with leading axes of size 1, transposed by ``order``."""
        shape = self.uses.shape(name)
        if prod(shape) == 1 and len(shape) <= len(order):
            return name
        full = (1,) * (len(order) - len(shape)) + shape
        if name in self.uses.graph.constants:
            return self._constant(name, full, order)
        if shape != full:
            wider = Reshape((name,), self.fresh(f"{name}.axes"), source, shape=full)
            self.before.append(wider)
            name = wider.output
        turned = Transpose((name,), self.fresh(name), source, perm=order)
        self.before.append(turned)
        return turned.output

    def _constant(self, name: str, full: Sequence[int], order: Perm) -> str | None:
        value = self.uses.constant(name)
        if value is None or name in self.uses.graph.weight_scales:
            return None
        moved = self.fresh(name)
        self.constants[moved] = np.ascontiguousarray(value.reshape(full).transpose(order))
        return moved


def rank_of_result(uses: GraphUses, node: Node) -> int | None:
    """Return the number of axes of a node that has a form in any order of axes, else None."""
    if type(node) not in CHANGES or (isinstance(node, Reduce) and not node.keepdims):
        return None
    return len(uses.shape(node.output))


def data_operands(uses: GraphUses, node: Node) -> tuple[str, ...]:
    """Return the computed operands whose axes are those of the result."""
    names = node.inputs[:1] if isinstance(node, _ONE_OPERAND) else node.inputs
    return tuple(name for name in names if name not in uses.graph.constants)


def reordered(
    moved: Moved, node: Node, perm: Perm, known: Mapping[str, str], output: str
) -> Node | None:
    """Return ``node`` with axis i at perm[i], computing ``output``.

    ``known``: operands that exist in that order; the others are transposed.
    """
    order, last = inverse(perm), 1 if isinstance(node, _ONE_OPERAND) else len(node.inputs)
    inputs: list[str] = []
    for name in node.inputs[:last]:
        found = known.get(name) or moved.operand(name, order, node.source)
        if found is None:
            return None
        inputs.append(found)
    changes = CHANGES[type(node)](node, perm)
    return replace(node, inputs=(*inputs, *node.inputs[last:]), output=output, **changes)


__all__ = ["CHANGES", "Moved", "Perm", "data_operands", "inverse", "rank_of_result", "reordered"]
