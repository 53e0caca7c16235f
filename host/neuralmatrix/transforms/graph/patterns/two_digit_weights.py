# SPDX-License-Identifier: Apache-2.0
"""Weights of two digits for the transform in front of a spectrum.

In: a Graph with logarithms of magnitudes.  Out: the linear operation that makes such a tensor is
the sum of two: one with the weights that int8 holds exactly, one with what they leave.

The rounding of int8 weights is 45 dB below the loudest part of a frame, and a quiet part is as far
below; with a second digit it is 90 dB below.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from ....ir.graph.nodes import AxisMatMul, Binary, Conv, Graph, MatMul, Node
from ....ir.graph.uses import GraphUses
from ....ir.types import Array
from ..rewrite import Change, apply_rule
from .match import transforms

LEVELS = 127  # of an int8 weight, on either side of 0


def split_weights(graph: Graph) -> Graph:
    """Split the weights in front of every logarithm of magnitudes of a float model."""
    wanted = transforms(GraphUses(graph))
    return apply_rule(partial(_split, wanted), graph) if wanted else graph


def _weight(uses: GraphUses, node: Node) -> tuple[int, tuple[int, ...]] | None:
    """Return the operand that is the weight, and the axes over which an output channel sums."""
    constant = [uses.constant(name) for name in node.inputs]
    if isinstance(node, Conv) and constant[1] is not None:
        return 1, tuple(range(1, constant[1].ndim))
    if isinstance(node, AxisMatMul) and constant[1] is not None:
        return 1, (1,)
    if isinstance(node, MatMul):
        for place, axis in ((1, 0), (0, 1)):
            weight = constant[place]
            if weight is not None and weight.ndim == 2:
                return place, (axis,)
    return None


def _split(wanted: frozenset[str], uses: GraphUses, node: Node) -> Change | None:
    found = _weight(uses, node) if node.output in wanted else None
    if found is None:
        return None
    place, axes = found
    weight = np.asarray(uses.graph.constants[node.inputs[place]], np.float32)
    high = _high_digit(weight, axes)
    low = (weight.astype(np.float64) - high).astype(np.float32)
    if not low.any():
        return None
    names = [uses.fresh(f"{node.inputs[place]}.{part}") for part in ("high", "low")]
    outs = [uses.fresh(f"{node.output}.{part}") for part in ("high", "low")]
    first = replace(node, inputs=_with(node.inputs, place, names[0]), output=outs[0])
    rest = _with(node.inputs[:2], place, names[1])
    second = replace(node, inputs=rest, output=outs[1])
    # the product of the low digits comes first and becomes the addend: its steps are finer
    both = Binary((outs[0], outs[1]), node.output, node.source, kind="add")
    return Change((second, first, both), dict(zip(names, (high, low), strict=True)))


def _with(inputs: tuple[str, ...], place: int, name: str) -> tuple[str, ...]:
    return (*inputs[:place], name, *inputs[place + 1 :])


def _high_digit(weight: Array, axes: tuple[int, ...]) -> Array:
    """Return the weights that int8 holds with one scale per output channel."""
    step = np.abs(weight).max(axes, keepdims=True).astype(np.float64) / LEVELS
    step = np.where(step > 0, step, 1.0)
    return np.asarray(np.rint(weight / step) * step, np.float32)
