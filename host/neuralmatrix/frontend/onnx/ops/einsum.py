# SPDX-License-Identifier: Apache-2.0
"""ONNX Einsum as sums, transposes and one matrix product per further operand.

In: one ``Call``.  Out: Reduce, Transpose, Reshape, MatMul and Binary nodes in the ``Context``.

Every label of two operands is batch (in both and wanted), contracted (in both, not wanted),
or free (in one).  The product is batch x rows x contracted by batch x contracted x columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from string import ascii_letters

from ....errors import BadModel
from ....ir.graph.nodes import Binary, MatMul, Node, Reduce, Reshape, Transpose, Unary
from ..context import Call, Context, Refused, Versions


@dataclass(frozen=True)
class Term:
    """A Graph tensor and one label per axis."""

    tensor: str
    labels: str


class _Builder:
    """Appends nodes with fresh names for one Einsum."""

    def __init__(self, ctx: Context, call: Call) -> None:
        self.ctx, self.call = ctx, call

    def name(self) -> str:
        return self.ctx.fresh(f"{self.call.output}.term")

    def emit(self, node: Node) -> str:
        return self.ctx.emit(node)

    def size(self, term: Term, labels: Iterable[str]) -> tuple[int, ...]:
        shape = dict(zip(term.labels, self.ctx.shapes[term.tensor], strict=True))
        return tuple(shape[label] for label in labels)

    def summed(self, term: Term, keep: set[str]) -> Term:
        """Sum over the labels that neither the result nor another operand has."""
        axes = tuple(i for i, label in enumerate(term.labels) if label not in keep)
        if not axes:
            return term
        node = Reduce((term.tensor,), self.name(), self.call.name, kind="sum", axes=axes,
                      keepdims=False)  # fmt: skip
        return Term(self.emit(node), "".join(c for c in term.labels if c in keep))

    def ordered(self, term: Term, labels: str) -> Term:
        """Transpose the axes to the order ``labels``."""
        if term.labels == labels:
            return term
        perm = tuple(term.labels.index(label) for label in labels)
        node = Transpose((term.tensor,), self.name(), self.call.name, perm=perm)
        return Term(self.emit(node), labels)

    def shaped(self, tensor: str, shape: tuple[int, ...]) -> str:
        if self.ctx.shapes[tensor] == shape:
            return tensor
        return self.emit(Reshape((tensor,), self.name(), self.call.name, shape=shape))

    def product(self, a: Term, b: Term, wanted: str) -> Term:
        """Multiply two operands; labels that are not wanted are summed over."""
        batch = "".join(c for c in a.labels if c in b.labels and c in wanted)
        inner = "".join(c for c in a.labels if c in b.labels and c not in wanted)
        rows = "".join(c for c in a.labels if c not in b.labels)
        columns = "".join(c for c in b.labels if c not in a.labels)
        a, b = self.ordered(a, batch + rows + inner), self.ordered(b, batch + inner + columns)
        m, n = self.size(a, rows), self.size(b, columns)
        k = prod(self.size(a, inner))
        if k != prod(self.size(b, inner)):
            raise BadModel(
                f"node {self.call.name!r} (Einsum): the sizes of {inner!r} differ between the "
                "operands; correct the model"
            )
        left = self.shaped(a.tensor, (*self.size(a, batch), prod(m), k))
        right = self.shaped(b.tensor, (*self.size(b, batch), k, prod(n)))
        out = self._multiplied(left, right, bool(inner))
        whole = (*self.ctx.shapes[out][: len(batch)], *m, *n)
        return Term(self.shaped(out, whole), batch + rows + columns)

    def _multiplied(self, left: str, right: str, contracted: bool) -> str:
        if contracted:
            return self.emit(MatMul((left, right), self.name(), self.call.name))
        return self.emit(Binary((left, right), self.name(), self.call.name, kind="mul"))


def _parsed(call: Call, ranks: list[int]) -> tuple[list[str], str]:
    """Return the labels of every operand and of the result, the ellipsis expanded."""
    equation = str(call.attrs["equation"]).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise BadModel(
            f"node {call.name!r} (Einsum): {equation!r} has {len(terms)} operands, the node "
            f"{len(ranks)}; correct the model"
        )
    hidden = [rank - len(t.replace("...", "")) for t, rank in zip(terms, ranks, strict=True)]
    dots = "".join(c for c in ascii_letters if c not in equation)[: max(*hidden, 0)]
    if not arrow:
        counts = {c: left.count(c) for c in left if c.isalpha()}
        once = "".join(sorted(c for c, count in counts.items() if count == 1))
        right = ("..." if "..." in left else "") + once
    spelled = []
    for term, extra in zip(terms, hidden, strict=True):
        if extra < 0 or (extra > 0 and "..." not in term):
            raise BadModel(
                f"node {call.name!r} (Einsum): the labels {term!r} do not fit an operand of rank "
                f"{extra + len(term.replace('...', ''))}; correct the model"
            )
        spelled.append(term.replace("...", dots[len(dots) - extra :]))
    return spelled, right.replace("...", dots)


def _einsum(ctx: Context, call: Call) -> None:
    terms, wanted = _parsed(call, [len(ctx.shape(name)) for name in call.inputs])
    for labels in terms:
        if len(set(labels)) != len(labels):
            raise Refused(
                f"the equation {call.attrs['equation']!r} takes a diagonal; every label once per "
                "operand is supported"
            )
    b = _Builder(ctx, call)
    operands = [Term(ctx.weight(n), t) for n, t in zip(call.inputs, terms, strict=True)]
    total = operands[0]
    for i, other in enumerate(operands[1:], 1):
        later = {*wanted, *"".join(term.labels for term in operands[i + 1 :])}
        total = b.summed(total, {*later, *other.labels})
        other = b.summed(other, {*later, *total.labels})
        total = b.product(total, other, "".join(later))
    total = b.ordered(b.summed(total, set(wanted)), wanted)
    ctx.emit(Unary((total.tensor,), call.output, call.name))


HANDLERS: Mapping[str, Versions] = {"Einsum": {12: _einsum}}
