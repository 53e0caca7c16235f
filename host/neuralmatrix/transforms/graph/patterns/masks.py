# SPDX-License-Identifier: Apache-2.0
"""Additive masks: 0 keeps a score, -inf or a huge negative value drops it.

In: the uses of a Graph and a tensor that is added to attention scores.  Out: ``Terms``: a mask of 0
and 1 and a finite bias, with the nodes that compute them.

A mask that is computed from an input holds 0 and 1, as attention masks do: (1 - m) * -10000.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ....ir.graph.nodes import Binary, Node, Reshape, Select, Slice, Softmax, Take, Transpose
from ....ir.graph.uses import GraphUses
from ....ir.types import Array
from ..rewrite import Change
from .match import affine, before_expand, made, scalar, unary

# A score that a mask lowers by this much is dropped: exp(-100) of the largest is negligible.
FAR = -100.0


@dataclass
class Terms:
    """The parts of a mask and of a bias found so far, and the nodes to add for them."""

    uses: GraphUses
    hint: str
    source: str
    masks: list[str] = field(default_factory=list)  # factors, each 0 or 1
    biases: list[str] = field(default_factory=list)
    fixed: Array | None = None  # constant factor
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)

    def fresh(self, label: str) -> str:
        """Return a name that neither the graph nor these terms have."""
        taken = {node.output for node in self.nodes} | self.constants.keys()
        name, count = self.uses.fresh(f"{self.hint}.{label}"), 1
        while name in taken:
            count += 1
            name = self.uses.fresh(f"{self.hint}.{label}.{count}")
        return name

    def constant(self, label: str, array: Array) -> str:
        name = self.fresh(label)
        self.constants[name] = np.asarray(array, np.float32)
        return name

    def binary(self, kind: str, x: str, y: str) -> str:
        name = self.fresh(kind)
        self.nodes.append(Binary((x, y), name, self.source, kind=kind))  # type: ignore[arg-type]
        return name

    def inverted(self, name: str) -> str:
        """Return 1 - name; if ``name`` is 1 - x already, x."""
        inner, slope, offset = affine(self.uses, name)
        if (slope, offset) == (-1.0, 1.0):
            return inner
        minus, one = self.constant("minus", np.asarray(-1.0)), self.constant("one", np.asarray(1.0))
        return self.binary("add", self.binary("mul", name, minus), one)

    def keep(self, name: str, positive: bool = True) -> None:
        """Add a mask, or with ``positive`` False its inverse."""
        name = before_expand(self.uses, name)
        name = unary(self.uses, name, "truth") or name
        array = self.uses.constant(name)
        if array is not None:
            kept = (array != 0) == positive
            self.fixed = kept if self.fixed is None else self.fixed & kept
            return
        if not positive:
            name = before_expand(self.uses, self.inverted(name))
        if name not in self.masks:
            self.masks.append(name)

    def mask(self) -> str:
        """Return the product of all masks, "" if everything is kept."""
        parts = list(self.masks)
        if self.fixed is not None and not self.fixed.all():
            parts.append(self.constant("mask", self.fixed))
        while len(parts) > 1:
            parts = [self.binary("mul", *parts[:2]), *parts[2:]]
        return parts[0] if parts else ""

    def bias(self) -> str:
        """Return the sum of all biases, "" if there is none."""
        parts = list(self.biases)
        while len(parts) > 1:
            parts = [self.binary("add", *parts[:2]), *parts[2:]]
        return parts[0] if parts else ""


def add_term(terms: Terms, name: str, factor: float) -> None:
    """Enter an addend of the scores, times ``factor``."""
    array = terms.uses.constant(before_expand(terms.uses, name))
    if array is not None:
        _add_constant(terms, array, factor)
        return
    kept = _masks(terms.uses, name)
    if kept is not None:
        for mask, positive, path in kept:
            terms.keep(_along(terms, mask, path), positive)
        return
    parts = _split(terms.uses, name) if factor > 0 else None
    if parts is not None:
        masks, rest = parts
        for mask, positive in masks:
            terms.keep(mask, positive)
        for part in rest:
            add_term(terms, part, factor)
        return
    if factor != 1:
        name = terms.binary("mul", name, terms.constant("factor", np.asarray(factor)))
    terms.biases.append(name)


def _split(uses: GraphUses, name: str) -> tuple[list[tuple[str, bool]], tuple[str, ...]] | None:
    """Return masks and addends that an addend with masks inside consists of; None without masks."""
    node = made(uses, before_expand(uses, name))
    if isinstance(node, Select):
        condition, first, second = node.inputs
        if is_far(uses, second):
            return [(condition, True)], (first,)
        return ([(condition, False)], (second,)) if is_far(uses, first) else None
    if isinstance(node, Binary) and node.kind == "add":
        held = any(_holds_mask(uses, operand) for operand in node.inputs)
        return ([], node.inputs) if held else None
    return None


def _holds_mask(uses: GraphUses, name: str) -> bool:
    array = uses.constant(before_expand(uses, name))
    if array is not None:
        return bool((array <= FAR).any())
    return _masks(uses, name) is not None or _split(uses, name) is not None


def _add_constant(terms: Terms, array: Array, factor: float) -> None:
    far = array * factor <= FAR
    if far.any():
        terms.fixed = ~far if terms.fixed is None else terms.fixed & ~far
    rest = np.where(far, 0, array * factor)
    if rest.any():
        terms.biases.append(terms.constant("bias", rest))


def select_far_terms(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite softmax(x + constant) with far values in the constant to the softmax of a choice
    between x and "never", so that none of them decides a scale."""
    if not isinstance(node, Softmax):
        return None
    total = uses.private_maker(node.inputs[0])
    if not isinstance(total, Binary) or total.kind != "add":
        return None
    x, name = total.inputs
    array = uses.constant(before_expand(uses, name))
    if array is None or not (array <= FAR).any() or uses.shape(x) != uses.shape(total.output):
        return None
    terms = Terms(uses, node.output, node.source)
    _add_constant(terms, array, 1.0)
    if terms.biases:
        x = terms.binary("add", x, terms.bias())
    never = terms.constant("never", np.asarray(np.finfo(np.float32).min))
    chosen = terms.fresh("chosen")
    selected = Select((terms.mask(), x, never), chosen, node.source)
    softmax = replace(node, inputs=(chosen,))
    return Change((*terms.nodes, selected, softmax), terms.constants)


Path = tuple[Node, ...]  # layout nodes between a mask and the scores, the last first
Masks = list[tuple[str, bool, Path]]


def _along(terms: Terms, mask: str, path: Path) -> str:
    """Apply the layout nodes of a mask's additive form to the mask."""
    for node in reversed(path):
        name = terms.fresh("mask")
        terms.nodes.append(replace(node, inputs=(mask, *node.inputs[1:]), output=name))
        mask = name
    return mask


def is_far(uses: GraphUses, name: str) -> bool:
    """Return whether a constant is an additive mask that drops everything."""
    array = uses.constant(before_expand(uses, name))
    return array is not None and bool((array <= FAR).all())


def _is_nothing(uses: GraphUses, name: str) -> bool:
    array = uses.constant(before_expand(uses, name))
    return array is not None and not array.any()


def _masks(uses: GraphUses, name: str) -> Masks | None:
    """Return the masks whose additive form a computed tensor is; None for any other tensor."""
    name = before_expand(uses, name)
    node = made(uses, name)
    if isinstance(node, Select):
        return _of_select(uses, node)
    if isinstance(node, Reshape | Transpose | Slice | Take):
        inner = _masks(uses, node.inputs[0])
        return inner and [(mask, sign, (node, *path)) for mask, sign, path in inner]
    if isinstance(node, Binary) and node.kind == "add" and scalar(uses, node.inputs[1]) is None:
        parts = [_masks(uses, n) for n in node.inputs]
        return None if None in parts else [m for part in parts for m in part or ()]
    return _of_affine(uses, name)


def _of_affine(uses: GraphUses, name: str) -> Masks | None:
    """Return the mask of a * m + b that is 0 where m is 1 (or 0), and far below elsewhere."""
    inner, slope, offset = affine(uses, name)
    if inner == name or uses.constant(inner) is not None:
        return None
    size = max(abs(slope), abs(offset))
    if offset <= FAR and abs(slope + offset) <= 1e-6 * size:
        return [(inner, True, ())]
    return [(inner, False, ())] if slope <= FAR and abs(offset) <= 1e-6 * size else None


def _of_select(uses: GraphUses, node: Select) -> Masks | None:
    """Return the masks of a Select that drops in one branch and keeps or masks in the other."""
    condition, first, second = node.inputs
    for far, rest, positive in ((first, second, False), (second, first, True)):
        if not is_far(uses, far):
            continue
        if _is_nothing(uses, rest) or (rest == condition and not positive):
            return [(condition, positive, ())]
        inner = _masks(uses, rest)
        if inner is not None:
            return [(condition, positive, ()), *inner]
    return None
