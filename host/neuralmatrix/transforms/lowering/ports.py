# SPDX-License-Identifier: Apache-2.0
"""Ports of network inputs and outputs; the host reshapes and transposes there.

In: the Graph's inputs and outputs and the values that lowering found.  Out: Ports.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...ir.axis_view import default_groups, from_canonical, to_canonical, view_of
from ...ir.graph.nodes import ArgMax, Embedding
from ...ir.matgraph.ops import Port
from ...ir.types import Shape
from .builder import Builder, Direct, Refused, Value


def declare_input(b: Builder, name: str) -> Port:
    """Register a network input in its default form."""
    shape = b.graph.shapes[name]
    view = view_of(shape, default_groups(len(shape)))
    tensor = b.declare(name, view.canonical)
    b.values[name] = Direct(tensor, view)
    dtype = "int64" if name in b.graph.integers else "float32"
    return Port(name, shape, tensor, to_canonical(view), dtype=dtype)


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
