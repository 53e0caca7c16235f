# SPDX-License-Identifier: Apache-2.0
"""Which tensors are int16 at a precision.

In: a TiedGraph, the precision of activations, tensors raised by mixed precision.  Out: roots of
groups of tensors that share a scale.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.matgraph.facts import Facts, as_prescribed
from ..ir.matgraph.ops import MatGraph


def int16_groups(
    mg: MatGraph, facts: Facts, precision: str, promoted: Iterable[str] = ()
) -> frozenset[str]:
    """Roots of the groups that are int16: at any precision, by ``precision`` or ``promoted``."""
    chosen = mg.tensors if precision == "int16" else promoted
    return facts.int16 | as_prescribed(mg, facts.scale_groups, chosen)
