# SPDX-License-Identifier: Apache-2.0
"""Runs lists of operations of the host.

In: ``HostEdges``, arrays by name.  Out: arrays by name; BadInput where an operation cannot run on
these values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import BadInput
from ..types import Array
from .limits import MOST_TOGETHER
from .operators import evaluate
from .types import HostEdges, HostOp, host_array

FAULTS = (
    ArithmeticError, AttributeError, IndexError, KeyError, MemoryError, TypeError, ValueError,
)  # fmt: skip


def run_ops(ops: Sequence[HostOp], values: Mapping[str, Array]) -> dict[str, Array]:
    """Return ``values`` and what the operations compute from them."""
    found, elements = dict(values), 0
    for op in ops:
        try:
            made = evaluate(op, found)
        except FAULTS as error:
            raise BadInput(
                f"{op.op} {op.outputs[0]!r}, which the host computes, cannot run on these inputs "
                f"({error}); give inputs as the model takes them"
            ) from None
        elements += sum(array.size for array in made.values())
        if elements > MOST_TOGETHER:
            raise BadInput(
                f"the operations of the host compute more than {MOST_TOGETHER} values by "
                f"{op.outputs[0]!r}; take a program from a trusted source"
            )
        found.update(made)
    return found


def constants_of(edges: HostEdges) -> dict[str, Array]:
    """Return the constant operands by name."""
    return {one.name: one.values for one in edges.constants if one.values is not None}


def before(edges: HostEdges, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Return the values in front of the array: the user's, and what the host makes of them."""
    return run_ops(edges.before, {**constants_of(edges), **feeds})


def after(
    edges: HostEdges, values: Mapping[str, Array], outputs: Mapping[str, Array]
) -> dict[str, Array]:
    """Return the user's outputs, given those of the array and the values in front of it."""
    shown = {name: host_array(array) for name, array in outputs.items()}
    found = run_ops(edges.after, {**values, **shown})
    return {out.name: np.asarray(found[out.name], dtype=out.dtype or None) for out in edges.outputs}
