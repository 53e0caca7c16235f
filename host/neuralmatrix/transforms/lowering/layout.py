# SPDX-License-Identifier: Apache-2.0
"""Lowering of layout operators to index arrays, of which only some need a Move.

In: Reshape, Transpose, Slice, Pad, Concat, Expand, Take nodes.  Out: relabelled or gathered values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

import numpy as np

from ...ir.graph.nodes import Concat, Expand, Pad, Reshape, Slice, Take, Transpose
from ...ir.types import Array
from .builder import Builder, Gathered, Value, broadcast_value, gathered, reshaped, transposed


def lower_reshape(b: Builder, node: Reshape) -> Value:
    return reshaped(b, b.value(node.inputs[0]), b.graph.shapes[node.output], node.output)


def lower_transpose(b: Builder, node: Transpose) -> Value:
    return transposed(b.value(node.inputs[0]), node.perm, node.output)


def lower_expand(b: Builder, node: Expand) -> Value:
    shape = b.graph.shapes[node.output]
    return broadcast_value(b, b.value(node.inputs[0]), shape, node.output)


def _picked(b: Builder, value: Value, name: str, pick: Callable[[Array], Array]) -> Value:
    """Apply a numpy layout function to the indices; one that changes nothing needs no Move."""
    whole = gathered(b, value, name)
    index = pick(whole.index)
    if index.shape == whole.shape and np.array_equal(index, whole.index):
        return value
    # a view would keep the whole array: those of a loop's steps would be as many as the steps
    return replace(whole, index=index if index.base is None else index.copy())


def lower_slice(b: Builder, node: Slice) -> Value:
    parts = tuple(slice(*part) for part in node.slices)
    return _picked(b, b.value(node.inputs[0]), node.output, lambda index: index[parts])


def lower_take(b: Builder, node: Take) -> Value:
    def pick(index: Array) -> Array:
        return np.take(index, node.indices, node.axis)

    return _picked(b, b.value(node.inputs[0]), node.output, pick)


def lower_pad(b: Builder, node: Pad) -> Value:
    value = with_fill(b, b.value(node.inputs[0]), node.value)

    def pick(index: Array) -> Array:
        return np.pad(index, node.pads, constant_values=-1)

    padded = _picked(b, value, node.output, pick)
    return replace(padded, fill=node.value) if isinstance(padded, Gathered) else padded


def with_fill(b: Builder, value: Value, fill: float) -> Value:
    """Return ``value`` with ``fill`` as its fill: one Move has one fill value."""
    if isinstance(value, Gathered) and value.fill != fill and bool((value.index < 0).any()):
        return b.direct(value)
    return value


def lower_concat(b: Builder, node: Concat) -> Value:
    fill = _common_fill(b, node)
    parts = [_part(b, name, node.output, fill) for name in node.inputs]
    sources = tuple(dict.fromkeys(s for part in parts for s in part.sources))
    starts = _starts(b, sources)
    index = np.concatenate([_shifted(b, part, starts) for part in parts], node.axis)
    groups = next((part.groups for part in parts if part.groups), None)
    return Gathered(node.output, sources, index, fill, groups)


def _constant_fill(b: Builder, name: str) -> float | None:
    """Return the value of a constant whose elements are all equal."""
    array = b.graph.constants.get(name)
    if array is None or not np.all(array == array.flat[0]):
        return None
    return float(array.flat[0])


def _common_fill(b: Builder, node: Concat) -> float:
    """Return the fill of the first operand that has one, else 0."""
    for name in node.inputs:
        fill = _constant_fill(b, name)
        if fill is not None:
            return fill
        value = b.values.get(name)
        if isinstance(value, Gathered) and bool((value.index < 0).any()):
            return value.fill
    return 0.0


def _part(b: Builder, name: str, output: str, fill: float) -> Gathered:
    """Return one operand of a concatenation; a constant equal to ``fill`` needs no tensor."""
    if _constant_fill(b, name) == fill:
        return Gathered(output, (), np.full(b.graph.shapes[name], -1, np.int64), fill)
    return gathered(b, with_fill(b, b.value(name), fill), output)


def _starts(b: Builder, sources: tuple[str, ...]) -> dict[str, int]:
    """Return the start of each source when all are flattened and concatenated."""
    sizes = [prod(b.tensors[s].shape) for s in sources]
    return dict(zip(sources, np.cumsum([0, *sizes]).tolist(), strict=False))


def _shifted(b: Builder, part: Gathered, starts: dict[str, int]) -> Array:
    """Return the part's index into the sources of the whole concatenation."""
    index = part.index
    result = np.full(index.shape, -1, np.int64)
    for source, own in _starts(b, part.sources).items():
        size = prod(b.tensors[source].shape)
        inside = (index >= own) & (index < own + size)
        result[inside] = index[inside] - own + starts[source]
    return result
