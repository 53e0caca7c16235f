# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a MatGraph that several passes need.

In: a MatGraph and the changes.  Out: the MatGraph with those changes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace

from .ops import MatGraph, MatOp, Tensor


def renamed(ops: Iterable[MatOp], names: Mapping[str, str]) -> tuple[MatOp, ...]:
    """Return ``ops`` with ``names[t]`` for every tensor ``t``, read or written, that ``names`` has.

    Operations that have none of those tensors stay the same objects.
    """
    return tuple(
        op if names.keys().isdisjoint((*op.inputs, *op.outputs)) else op.renamed(names)
        for op in ops
    )


def with_ops(
    mg: MatGraph, changed: Mapping[str, Sequence[MatOp]], tensors: Mapping[str, Tensor]
) -> MatGraph:
    """Return ``mg`` with ``changed[op.output]`` in place of every operation that has an entry.

    ``tensors``: all tensors of the result.  The same object if nothing changed.
    """
    if not changed:
        return mg
    ops = tuple(new for op in mg.ops for new in changed.get(op.output, (op,)))
    return replace(mg, ops=ops, tensors=tensors)


def pruned(mg: MatGraph) -> MatGraph:
    """Remove operations, tensors and constants that no output depends on; inputs stay."""
    needed = {port.tensor for port in mg.outputs}
    kept: list[MatOp] = []
    for op in reversed(mg.ops):
        if not needed.isdisjoint(op.outputs):
            kept.append(op)
            needed.update(op.inputs, op.outputs)
    needed.update(port.tensor for port in mg.inputs)
    return replace(
        mg,
        ops=tuple(reversed(kept)),
        tensors={n: t for n, t in mg.tensors.items() if n in needed},
        constants={n: c for n, c in mg.constants.items() if n in needed},
        quant={n: q for n, q in mg.quant.items() if n in needed},
    )


def fresh_name(name: str, taken: Container[str]) -> str:
    """Return ``name``, or ``name`` with the first number that makes it new."""
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}:{number}"
    return found


__all__ = ["fresh_name", "pruned", "renamed", "with_ops"]
