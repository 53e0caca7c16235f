# SPDX-License-Identifier: Apache-2.0
"""The lowering of a Graph to a MatGraph, by one rule per kind of node.

In: a Graph.  Out: a MatGraph of Gemm, Window, RowMax and Move; or UnsupportedModel with every node
that cannot be lowered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ...errors import UnsupportedModel, UnsupportedNode
from ...hardware.target import Target
from ...ir.axis_view import default_groups, view_of
from ...ir.graph.nodes import (
    ArgMax,
    Attention,
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Embedding,
    Expand,
    Graph,
    MatMul,
    Node,
    Normalize,
    Pad,
    Pool,
    PRelu,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from ...ir.matgraph.ops import MatGraph
from .attention import lower_attention, lower_softmax
from .builder import Builder, Direct, Refused, Value
from .convolution import lower_conv, lower_conv_transpose
from .layout import (
    lower_concat,
    lower_expand,
    lower_pad,
    lower_reshape,
    lower_slice,
    lower_take,
    lower_transpose,
)
from .matmul import lower_axis_matmul, lower_matmul
from .names import separated
from .normalization import lower_normalize
from .pointwise import lower_binary, lower_prelu, lower_select, lower_unary
from .pooling import lower_pool, lower_reduce
from .ports import declare_input, lower_embedding, output_port

RULES: Mapping[type[Node], Callable[[Builder, Any], Value]] = {
    Conv: lower_conv,
    ConvTranspose: lower_conv_transpose,
    MatMul: lower_matmul,
    AxisMatMul: lower_axis_matmul,
    Unary: lower_unary,
    Binary: lower_binary,
    PRelu: lower_prelu,
    Select: lower_select,
    Pool: lower_pool,
    Reduce: lower_reduce,
    Softmax: lower_softmax,
    Normalize: lower_normalize,
    Attention: lower_attention,
    Embedding: lower_embedding,
    Reshape: lower_reshape,
    Transpose: lower_transpose,
    Slice: lower_slice,
    Pad: lower_pad,
    Concat: lower_concat,
    Expand: lower_expand,
    Take: lower_take,
}


def lower_graph(graph: Graph, target: Target) -> MatGraph:
    """Return the MatGraph with one or more operations per node, before any fusion."""
    graph, given = separated(graph)
    b = Builder(graph)
    looked_up = {node.inputs[0] for node in graph.nodes if isinstance(node, Embedding)}
    plain = [name for name in graph.inputs if name not in looked_up or _is_read(graph, name)]
    b.ports += [declare_input(b, name) for name in plain]
    refused = [found for node in graph.nodes if (found := _lower_node(b, node))]
    if refused:
        raise UnsupportedModel(tuple(refused))
    outputs = [output_port(b, name) for name in graph.outputs]
    inputs = sorted(b.ports, key=lambda port: graph.inputs.index(port.name))
    shown, fed = (
        tuple(replace(port, name=given.get(port.name, port.name)) for port in ports)
        for ports in (outputs, inputs)
    )
    return MatGraph(fed, shown, tuple(b.ops), b.tensors, b.constants, b.quant)


def _is_read(graph: Graph, name: str) -> bool:
    """Return whether anything but a gather reads an input."""
    readers = [node for node in graph.nodes if name in node.inputs]
    return name in graph.outputs or not all(isinstance(n, Embedding) for n in readers)


def _lower_node(b: Builder, node: Node) -> UnsupportedNode | None:
    """Lower one node; a refused one gets an empty tensor, so that the others are checked too."""
    try:
        if isinstance(node, ArgMax):
            _check_argmax(b, node)
        else:
            b.finish(node, _rule(node)(b, node))
        return None
    except Refused as reason:
        shape = b.graph.shapes[node.output]
        view = view_of(shape, default_groups(len(shape)))
        b.values[node.output] = Direct(b.declare(node.output, view.canonical), view)
        kind = node.kind.title() if isinstance(node, Binary) else type(node).__name__
        return UnsupportedNode(node.source or node.output, kind, b.graph.opset, str(reason))


def _rule(node: Node) -> Callable[[Builder, Any], Value]:
    if type(node) not in RULES:
        raise Refused(f"there is no lowering for {type(node).__name__}")
    return RULES[type(node)]


def _check_argmax(b: Builder, node: ArgMax) -> None:
    if b.uses[node.output] or node.output not in b.graph.outputs:
        raise Refused("ArgMax runs only at a network output, where the host computes it")
