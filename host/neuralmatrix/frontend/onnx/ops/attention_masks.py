# SPDX-License-Identifier: Apache-2.0
"""The masks and addends of one attention: joined, without rows and keys that do not matter.

In: masks of 0 and 1, constants or computed.  Out: at most one mask that every row keeps a position
of, the factor of rows without one, and the keys that some query sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ....ir.graph.nodes import Reduce, Take
from ..node_maker import NodeMaker


@dataclass(frozen=True)
class Heads:
    """(batch, heads, length, size) tensors of one attention."""

    q: str
    k: str
    v: str


@dataclass(frozen=True)
class Bias:
    """What decides the scores: ``masks`` of 0 and 1, all of which must hold, and addends."""

    masks: list[str]
    addends: list[str]


def _joined(make: NodeMaker, bias: Bias) -> Bias:
    """Return one mask instead of several; constants are joined first."""
    constants = make.ctx.constants
    fixed = [constants[name] for name in bias.masks if name in constants]
    masks = [name for name in bias.masks if name not in constants]
    if fixed:
        kept = [array != 0 for array in np.broadcast_arrays(*fixed)]
        masks.append(make.constant("mask", np.asarray(np.logical_and.reduce(kept))))
    while len(masks) > 1:
        masks = [make.binary("mul", *masks[:2]), *masks[2:]]
    return Bias(masks, bias.addends)


def without_empty_rows(make: NodeMaker, bias: Bias) -> tuple[Bias, str]:
    """Return one mask that keeps a position in every row, and the factor that is 0 in the rows in
    which none is kept ("" where all rows have one, or the mask is no constant)."""
    bias = _joined(make, bias)
    array = make.ctx.constants.get(bias.masks[0]) if bias.masks else None
    if array is None:
        return bias, ""
    used = np.asarray(array.any(-1, keepdims=True))
    if used.all():
        return bias, ""
    first = int(array.any(tuple(range(array.ndim - 1))).argmax())
    at_first = np.arange(array.shape[-1]) == first
    filled = make.constant("filled", np.asarray((array != 0) | (~used & at_first)))
    return Bias([filled], bias.addends), make.constant("used", used)


def without_unseen_keys(make: NodeMaker, heads: Heads, bias: Bias) -> tuple[Heads, Bias]:
    """Leave out the keys that no query sees: what lies there never matters."""
    array = make.ctx.constants.get(bias.masks[0]) if bias.masks else None
    if array is None or not array.any():
        return heads, bias
    seen = np.flatnonzero(array.any(tuple(range(array.ndim - 1))))
    if len(seen) == array.shape[-1]:
        return heads, bias

    def taken(x: str, axis: int) -> str:
        if make.shape(x)[axis] == 1:
            return x  # broadcasts
        node = Take((x,), make.name("seen"), make.call.name, axis, tuple(map(int, seen)))
        return make.ctx.emit(node)

    mask = make.constant("mask", array[..., seen])
    addends = [taken(x, len(make.shape(x)) - 1) for x in bias.addends]
    return Heads(heads.q, taken(heads.k, 2), taken(heads.v, 2)), Bias([mask], addends)


def zero_in_empty_rows(make: NodeMaker, x: str, mask: str) -> str:
    """Return x times 0 in the rows in which a computed mask keeps no position."""
    axis = len(make.shape(mask)) - 1
    node = Reduce((mask,), make.name("used"), make.call.name, kind="max", axes=(axis,))
    return make.binary("mul", x, make.ctx.emit(node))
