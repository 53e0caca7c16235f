# SPDX-License-Identifier: Apache-2.0
"""Names of the model that do not collide with names of the compiler.

In: a Graph.  Out: the same Graph with other names where needed, and the original names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ...ir.graph.nodes import Graph


def separated(graph: Graph) -> tuple[Graph, Mapping[str, str]]:
    """Return ``graph`` in which no tensor has the name of another one followed by a colon, as the
    names that lowering and later passes make; and the model's name by new name.

    If there is a tensor ``t``, a tensor ``t:mean`` becomes ``t.mean``.
    """
    names = set(graph.shapes) | set(graph.constants) | set(graph.inputs)
    new: dict[str, str] = {}
    for name in sorted(names):
        if _extends_another(name, names):
            new[name] = _free_name(name.replace(":", "."), names | set(new.values()))
    return (_renamed(graph, new) if new else graph), {n: old for old, n in new.items()}


def _extends_another(name: str, names: set[str]) -> bool:
    return any(name[:i] in names for i, letter in enumerate(name) if letter == ":")


def _free_name(name: str, names: set[str]) -> str:
    """Return ``name``, with a number if it is taken or another name extends it."""
    found, number = name, 1
    while found in names or any(other.startswith(f"{found}:") for other in names):
        number += 1
        found = f"{name}.{number}"
    return found


def _renamed(graph: Graph, new: Mapping[str, str]) -> Graph:
    def name(old: str) -> str:
        return new.get(old, old)

    return replace(
        graph,
        inputs=tuple(map(name, graph.inputs)),
        outputs=tuple(map(name, graph.outputs)),
        nodes=tuple(
            replace(node, inputs=tuple(map(name, node.inputs)), output=name(node.output))
            for node in graph.nodes
        ),
        constants={name(n): array for n, array in graph.constants.items()},
        shapes={name(n): shape for n, shape in graph.shapes.items()},
        quant={name(n): q for n, q in graph.quant.items()},
        weight_scales={name(n): scale for n, scale in graph.weight_scales.items()},
        integers=frozenset(map(name, graph.integers)),
    )
