# SPDX-License-Identifier: Apache-2.0
"""Ports of network inputs and outputs; the host reshapes and transposes there.

In: the Graph's inputs and outputs and the values that lowering found.  Out: Ports.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.axis_view import Groups, default_groups, from_canonical, to_canonical, view_of
from ...ir.graph.nodes import (
    ArgMax,
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Embedding,
    Normalize,
    Pad,
    Pool,
    PRelu,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from ...ir.matgraph.ops import Port
from ...ir.types import Shape
from .builder import Builder, Direct, Refused, Value
from .convolution import spatial_groups


def declare_input(b: Builder, name: str) -> Port:
    """Register a network input in the form that its readers need."""
    shape = b.graph.shapes[name]
    view = view_of(shape, _input_groups(b, name))
    tensor = b.declare(name, view.canonical)
    b.values[name] = Direct(tensor, view)
    dtype = "int64" if name in b.graph.integers else "float32"
    return Port(name, shape, tensor, to_canonical(view), dtype=dtype)


# Operators whose results have the axes of their whole operands.
_KEEP_AXES = (
    AxisMatMul, Binary, Concat, Normalize, Pad, PRelu, Select, Slice, Softmax, Take, Unary,
)  # fmt: skip


def _input_groups(b: Builder, name: str) -> Groups:
    """Return the form of an input that its first convolution or pool reads, else the default."""
    rank = len(b.graph.shapes[name])
    ahead = [(name, tuple(range(rank)))] if rank in (3, 4) else []
    seen = {name}
    for tensor, axes in ahead:  # grows
        for node in b.readers.get(tensor, ()):
            if isinstance(node, Conv | ConvTranspose | Pool):
                return tuple(tuple(axes[a] for a in group) for group in spatial_groups(rank))
            turned = tuple(axes[a] for a in node.perm) if isinstance(node, Transpose) else axes
            alike = isinstance(node, (Transpose, *_KEEP_AXES)) and node.output not in seen
            if alike and len(b.graph.shapes[node.output]) == rank:
                seen.add(node.output)
                ahead.append((node.output, turned))
    return default_groups(rank)


def lower_embedding(b: Builder, node: Embedding) -> Value:
    """Declare an input port whose table the host gathers rows from."""
    ids, table = node.inputs
    if ids not in b.graph.inputs or table not in b.graph.constants:
        raise Refused(
            f"it gathers {ids!r} from {table!r}; allowed is a network input and a constant table"
        )
    shape = b.graph.shapes[node.output]
    view = view_of(shape, default_groups(len(shape)))
    tensor = b.declare(node.output, view.canonical)
    rows = np.asarray(b.graph.constants[table], np.float32)
    port = Port(ids, shape[:-1], tensor, to_canonical(view), dtype="int64", table=rows)
    b.ports.append(port)
    return Direct(tensor, view)


def output_port(b: Builder, name: str) -> Port:
    """Return the port of a network output; an ArgMax in front of it runs on the host."""
    node = b.producers.get(name)
    if isinstance(node, ArgMax):
        axis = node.axis % len(b.graph.shapes[node.inputs[0]])
        argmax = (axis, node.keepdims, node.select_last)
        port = _plain_port(b, node.inputs[0], name, b.graph.shapes[name])
        return replace(port, argmax=argmax, dtype=node.dtype)
    return _plain_port(b, name, name, b.graph.shapes[name])


def _plain_port(b: Builder, value_name: str, name: str, shape: Shape) -> Port:
    value = b.direct(b.value(value_name))
    tensor = value.tensor
    if tensor in b.graph.inputs or tensor in b.constants:
        tensor = b.identity(tensor, name, "")
    return Port(name, shape, tensor, from_canonical(value.view))
