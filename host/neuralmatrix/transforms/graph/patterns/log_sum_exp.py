# SPDX-License-Identifier: Apache-2.0
"""The logarithm of a sum of exponentials, as exporters write it out.

In: the uses of a Graph and a logarithm.  Out: max + log(sum(exp(x - max))), which no range of
exponentials limits.
"""

from __future__ import annotations

from ....ir.graph.nodes import Binary, Node, Reduce, Reshape, Unary
from ....ir.graph.uses import GraphUses
from ....ir.types import Function
from ..rewrite import Change
from .match import made, unary


def shift_exponentials(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite log(sum(exp(x))) over some axes."""
    if not isinstance(node, Unary) or node.function.name != "log" or uses.graph.quant:
        return None
    total = made(uses, node.inputs[0])
    if not isinstance(total, Reduce) or total.kind != "sum":
        return None
    x = unary(uses, total.inputs[0], "exp")
    if x is None or _is_shifted(uses, x, total.axes):
        return None
    names = {
        label: uses.fresh(f"{node.output}.{label}")
        for label in ("max", "shifted", "exp", "sum", "log", "kept")
    }
    whole = uses.shape(x)
    kept = tuple(1 if i in total.axes else n for i, n in enumerate(whole))
    same = kept == uses.shape(node.output)
    out = node.output if same else names["kept"]
    nodes: list[Node] = [
        Reduce((x,), names["max"], node.source, "max", total.axes, True),
        Binary((x, names["max"]), names["shifted"], node.source, "sub"),
        Unary((names["shifted"],), names["exp"], node.source, Function("exp")),
        Reduce((names["exp"],), names["sum"], node.source, "sum", total.axes, True),
        Unary((names["sum"],), names["log"], node.source, node.function),
        Binary((names["log"], names["max"]), out, node.source, "add"),
    ]
    if not same:
        nodes.append(Reshape((out,), node.output, node.source, uses.shape(node.output)))
    return Change(tuple(nodes))


def _is_shifted(uses: GraphUses, x: str, axes: tuple[int, ...]) -> bool:
    """Return whether the maximum along the axes is subtracted already."""
    node = made(uses, x)
    if not isinstance(node, Binary) or node.kind not in ("sub", "add"):
        return False
    return any(_is_maximum(uses, name, axes) for name in node.inputs)


def _is_maximum(uses: GraphUses, name: str, axes: tuple[int, ...]) -> bool:
    node = made(uses, name)
    while isinstance(node, Unary | Binary | Reshape):  # negated, or times -1
        node = made(uses, node.inputs[0])
    return isinstance(node, Reduce) and node.kind == "max" and node.axes == axes
