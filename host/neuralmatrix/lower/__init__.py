# SPDX-License-Identifier: Apache-2.0
"""Framework operators become matrix operators.

In: a Graph.  Out: a verified MatGraph of Gemm, Window, RowMax and Move; or UnsupportedModel with
every node that has no such form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .. import ir
from ..errors import UnsupportedModel, UnsupportedNode
from .attention import lower_attention, lower_softmax
from .builder import Builder, Direct, Refused, Value
from .centre import centre_streams
from .composite import lower_pool, lower_reduce
from .defer import defer_offsets
from .fuse import fuse
from .heads import pad_heads
from .layout import (
    lower_concat,
    lower_expand,
    lower_pad,
    lower_reshape,
    lower_slice,
    lower_take,
    lower_transpose,
)
from .linear import lower_conv, lower_conv_transpose
from .normalize import lower_normalize
from .order import reorder
from .pointwise import lower_binary, lower_prelu, lower_select, lower_unary
from .ports import declare_input, fold_inputs, lower_embedding, output_port
from .products import lower_axis_matmul, lower_matmul
from .rows import fuse_rows
from .rowwise import settle_rows
from .slices import split_slices
from .transposed import orient
from .verify import matgraph_text, verify_matgraph
from .view import default_groups, view_of

__all__ = ["RULES", "lower", "matgraph_text", "verify_matgraph"]

RULES: Mapping[type[ir.Node], Callable[[Builder, Any], Value]] = {
    ir.Conv: lower_conv,
    ir.ConvTranspose: lower_conv_transpose,
    ir.MatMul: lower_matmul,
    ir.AxisMatMul: lower_axis_matmul,
    ir.Unary: lower_unary,
    ir.Binary: lower_binary,
    ir.PRelu: lower_prelu,
    ir.Select: lower_select,
    ir.Pool: lower_pool,
    ir.Reduce: lower_reduce,
    ir.Softmax: lower_softmax,
    ir.Normalize: lower_normalize,
    ir.Attention: lower_attention,
    ir.Embedding: lower_embedding,
    ir.Reshape: lower_reshape,
    ir.Transpose: lower_transpose,
    ir.Slice: lower_slice,
    ir.Pad: lower_pad,
    ir.Concat: lower_concat,
    ir.Expand: lower_expand,
    ir.Take: lower_take,
}


def lower(graph: ir.Graph) -> ir.MatGraph:
    """The MatGraph of ``graph``, element-wise operators fused into their producers."""
    b = Builder(graph)
    looked_up = {node.inputs[0] for node in graph.nodes if isinstance(node, ir.Embedding)}
    plain = [name for name in graph.inputs if name not in looked_up or _is_read(graph, name)]
    b.ports += [declare_input(b, name) for name in plain]
    refused = [found for node in graph.nodes if (found := _lower_node(b, node))]
    if refused:
        raise UnsupportedModel(tuple(refused))
    outputs = tuple(output_port(b, name) for name in graph.outputs)
    ops = tuple(b.ops)
    ports = tuple(sorted(b.ports, key=lambda port: graph.inputs.index(port.name)))
    mg = fuse(ir.MatGraph(ports, outputs, ops, b.tensors, b.constants, b.quant))
    mg = _sliced(mg)
    mg = pad_heads(centre_streams(defer_offsets(fuse_rows(mg))))
    mg = fold_inputs(mg, b.relabels)
    return verify_matgraph(reorder(orient(settle_rows(mg))))


def _sliced(mg: ir.MatGraph) -> ir.MatGraph:
    """Products cut into their slices, which can be fused with what was behind the slice."""
    cut = split_slices(mg)
    return mg if cut is mg else fuse(cut)


def _is_read(graph: ir.Graph, name: str) -> bool:
    """Does anything but a look-up read an input?"""
    readers = [node for node in graph.nodes if name in node.inputs]
    return name in graph.outputs or not all(isinstance(n, ir.Embedding) for n in readers)


def _lower_node(b: Builder, node: ir.Node) -> UnsupportedNode | None:
    """Lower one node; on refusal stand in an empty tensor, so that the rest is looked at too."""
    try:
        if isinstance(node, ir.ArgMax):
            _check_argmax(b, node)
        else:
            b.finish(node, _rule(node)(b, node))
        return None
    except Refused as reason:
        shape = b.graph.shapes[node.output]
        view = view_of(shape, default_groups(len(shape)))
        b.values[node.output] = Direct(b.declare(node.output, view.canonical), view)
        kind = type(node).__name__
        return UnsupportedNode(node.source or node.output, kind, b.graph.opset, str(reason))


def _rule(node: ir.Node) -> Callable[[Builder, Any], Value]:
    if type(node) not in RULES:
        raise Refused(f"there is no lowering for {type(node).__name__}")
    return RULES[type(node)]


def _check_argmax(b: Builder, node: ir.ArgMax) -> None:
    if b.uses[node.output] or node.output not in b.graph.outputs:
        raise Refused("ArgMax runs only at a network output, where the host computes it")
