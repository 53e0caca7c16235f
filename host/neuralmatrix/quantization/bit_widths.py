# SPDX-License-Identifier: Apache-2.0
"""The int16 tensors at a precision.

In: a TiedGraph, the precision of activations, tensors promoted by mixed precision.  Out: roots
of scale groups.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..ir.matgraph.facts import Facts, as_prescribed
from ..ir.matgraph.ops import MatGraph


def int16_groups(
    mg: MatGraph, facts: Facts, precision: str, promoted: Iterable[str] = ()
) -> frozenset[str]:
    """Return the roots of the int16 groups: at any precision, by ``precision`` or ``promoted``.

    Copies of promoted tensors are promoted with them: widened weights make other copies than those
    that the choice knew.
    """
    names = set(promoted)
    copies = {tensor.name for tensor in mg.tensors.values() if tensor.copy_of in names}
    chosen = mg.tensors if precision == "int16" else names | copies
    return facts.int16 | as_prescribed(mg, facts.scale_groups, chosen)
