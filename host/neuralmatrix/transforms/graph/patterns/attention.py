# SPDX-License-Identifier: Apache-2.0
"""Fusion of softmax(scale * q k^T + mask) v into one Attention node.

In: the uses of a Graph and the last product.  Out: Attention, its mask and its bias.
"""

from __future__ import annotations

from dataclasses import dataclass

from ....errors import NeuralMatrixError
from ....ir.graph.nodes import Attention, Binary, MatMul, Select, Softmax, Transpose
from ....ir.graph.operators import ShapeError, infer_shape
from ....ir.graph.uses import GraphUses
from ....ir.types import Shape
from ..rewrite import Change
from .masks import Terms, add_term, is_far
from .match import made, scaled


@dataclass(frozen=True)
class Scores:
    """scale * product, with its masks and biases."""

    product: MatMul
    scale: float
    terms: Terms


def fuse_attention(uses: GraphUses, node: object) -> Change | None:
    """Fuse the MatMul of a softmax over the last axis of masked scores."""
    if not isinstance(node, MatMul):
        return None
    weights, values = node.inputs
    softmax = uses.private_maker(weights)
    rank = len(uses.shape(weights))
    if not isinstance(softmax, Softmax) or softmax.log or softmax.axis % rank != rank - 1:
        return None
    scores = _scores(uses, softmax.inputs[0], Terms(uses, node.output, node.source))
    if scores is None or len(uses.shape(values)) < 2:
        return None
    return _attention(uses, node, scores, values)


def _scores(uses: GraphUses, name: str, terms: Terms) -> Scores | None:
    """Trace the softmax back to the product of queries and keys."""
    factor = 1.0
    while True:
        name, step = scaled(uses, name)
        factor *= step
        maker = made(uses, name)
        if isinstance(maker, MatMul):
            return Scores(maker, factor, terms)
        below = _without_term(uses, maker, factor, terms)
        if below is None or uses.shape(below) != uses.shape(name):
            return None
        name = below


def _without_term(uses: GraphUses, maker: object, factor: float, terms: Terms) -> str | None:
    """Return the scores without one mask or bias, which is entered into ``terms``."""
    if isinstance(maker, Select):
        return _unselected(uses, maker, terms)
    if isinstance(maker, Binary) and maker.kind in ("add", "sub"):
        first, second = maker.inputs
        if _leads_to_product(uses, first):
            add_term(terms, second, factor if maker.kind == "add" else -factor)
            return first
        if maker.kind == "add" and _leads_to_product(uses, second):
            add_term(terms, first, factor)
            return second
    return None


def _unselected(uses: GraphUses, node: Select, terms: Terms) -> str | None:
    condition, first, second = node.inputs
    for far, rest, positive in ((first, second, False), (second, first, True)):
        if is_far(uses, far):
            terms.keep(condition, positive)
            return rest
    return None


def _leads_to_product(uses: GraphUses, name: str) -> bool:
    """Return whether ``name`` is a product with factors, masks and biases applied."""
    name, _ = scaled(uses, name)
    maker = made(uses, name)
    if isinstance(maker, Binary) and maker.kind in ("add", "sub"):
        return any(_leads_to_product(uses, n) for n in maker.inputs)
    if isinstance(maker, Select):
        return any(_leads_to_product(uses, n) for n in maker.inputs[1:])
    return isinstance(maker, MatMul)


def _attention(uses: GraphUses, node: MatMul, scores: Scores, values: str) -> Change | None:
    left, right = scores.product.inputs
    (q, by_q), (kt, by_k) = scaled(uses, left), scaled(uses, right)
    constants = uses.graph.constants
    if {q, kt, values} & constants.keys() or min(len(uses.shape(n)) for n in (q, kt)) < 2:
        return None
    terms = scores.terms
    k = terms.fresh("keys")
    rank = len(uses.shape(kt))
    swapped = Transpose((kt,), k, scores.product.source, (*range(rank - 2), rank - 1, rank - 2))
    mask, bias = terms.mask(), terms.bias()
    names = (q, k, values, mask, bias) if bias else (q, k, values, mask) if mask else (q, k, values)
    fused = Attention(names, node.output, node.source, scores.scale * by_q * by_k)
    change = Change((*terms.nodes, swapped, fused), terms.constants)
    return change if _fits(uses, change) == uses.shape(node.output) else None


def _fits(uses: GraphUses, change: Change) -> Shape | None:
    """Return the shape of the changed output; None if the operands do not fit an Attention."""
    shapes = {**uses.graph.shapes, **{n: a.shape for n, a in change.constants.items()}}
    try:
        for node in change.nodes:
            shapes[node.output] = infer_shape(node, shapes)
    except (ShapeError, NeuralMatrixError):
        return None
    return shapes[change.nodes[-1].output]
