# SPDX-License-Identifier: Apache-2.0
"""Frames of a signal as convolutions over blocks of samples.

In: a Graph with logarithms of magnitudes.  Out: a strided convolution of one channel that makes
such a tensor reads blocks of ``stride`` samples as channels, with stride 1: one sample of 16 lanes
would be used otherwise.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ....ir.graph.nodes import Conv, Graph, Reshape, Transpose
from ....ir.graph.uses import GraphUses
from ..rewrite import Change, apply_rule
from .match import transforms

LEAST_BLOCK = 8  # samples; shorter blocks leave most lanes idle too


def block_frames(graph: Graph) -> Graph:
    """Rewrite the strided convolutions in front of logarithms of magnitudes in a float model."""
    wanted = transforms(GraphUses(graph))
    return apply_rule(partial(_blocked, wanted), graph) if wanted else graph


def _blocked(wanted: frozenset[str], uses: GraphUses, node: object) -> Change | None:
    if not isinstance(node, Conv) or node.output not in wanted:
        return None
    weight = uses.constant(node.inputs[1])
    shape = uses.shape(node.inputs[0])
    if weight is None or len(shape) != 3 or shape[1] != 1 or node.dilations not in ((), (1,)):
        return None
    step = node.strides[0] if node.strides else 1
    before = node.pads[0] if node.pads else 0
    if step < LEAST_BLOCK or shape[2] % step or before % step:
        return None
    taps = -(-weight.shape[2] // step)
    blocks, frames = shape[2] // step, uses.shape(node.output)[2]
    after = frames + taps - 1 - blocks - before // step
    if after < 0:
        return None
    kernel = np.zeros((len(weight), taps * step), np.float32)
    kernel[:, : weight.shape[2]] = weight[:, 0]
    names = [uses.fresh(f"{node.output}.{part}") for part in ("blocks", "channels", "kernel")]
    pads = (before // step, after)
    inputs = (names[1], names[2], *node.inputs[2:])
    return Change(
        (
            Reshape(node.inputs[:1], names[0], node.source, shape=(shape[0], blocks, step)),
            Transpose((names[0],), names[1], node.source, perm=(0, 2, 1)),
            Conv(inputs, node.output, node.source, (1,), pads, (1,)),
        ),
        {names[2]: kernel.reshape(-1, taps, step).transpose(0, 2, 1)},
    )
