# SPDX-License-Identifier: Apache-2.0
"""Outputs of an ONNX model: tensors of their own names that hold the source's values.

In: the ``Context`` behind the last node, names of outputs.  Out: Graph nodes, or why there can be
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...errors import UnsupportedNode
from ...ir.graph.nodes import ArgMax, Node, Unary
from ...ir.types import Function
from .checks import check_elements
from .context import Call, Context
from .ops.quantization import integer_values


def refused_outputs(ctx: Context, outputs: Sequence[str]) -> list[UnsupportedNode]:
    """Return the outputs that the array cannot compute, and arg-maxima inside the network."""
    refused = []
    for name in outputs:
        if name in ctx.known or name in ctx.values:
            check_elements(name, ctx.shape(name))
        if name in ctx.known:
            reason = "does not depend on any input; outputs must be computed"
            refused.append(UnsupportedNode(name, "Output", ctx.opset, reason))
        elif name in ctx.rows or name in ctx.integers:
            reason = "an output of integers; Cast it to float in the model"
            refused.append(UnsupportedNode(name, "Output", ctx.opset, reason))
    inner = {name for node in ctx.nodes if not _is_copy(node, outputs) for name in node.inputs}
    for node in ctx.nodes:
        if isinstance(node, ArgMax) and node.output in inner:
            reason = "its result is used inside the network; ArgMax is supported at an output"
            refused.append(UnsupportedNode(node.source, "ArgMax", ctx.opset, reason))
    return refused


def add_outputs(ctx: Context, outputs: Sequence[str]) -> None:
    """Give every output a tensor of its own name that holds the source's values."""
    for name in outputs:
        end = Call(name, "Output", "", ctx.opset, (name,), (name,), {}, None)
        quantization = ctx.quantized.get(name)
        if quantization and (quantization.scale, quantization.zero_point) != (1.0, 0):
            _free_name(ctx, name)
            integer_values(ctx, end, name, name)
        elif ctx.values[name] != name:
            source = ctx.values[name]
            ctx.emit(Unary((source,), name, name, function=Function("identity")))
            if source in ctx.quant:
                ctx.quant[name] = ctx.quant[source]


def _is_copy(node: Node, outputs: Sequence[str]) -> bool:
    return isinstance(node, Unary) and node.function.name == "identity" and node.output in outputs


def _free_name(ctx: Context, name: str) -> None:
    """Rename the Graph tensor ``name`` where a layout operator on integers made the output."""
    if ctx.values[name] != name:
        return
    new = ctx.fresh(f"{name}.real")
    ctx.nodes[:] = [
        replace(
            node,
            inputs=tuple(new if i == name else i for i in node.inputs),
            output=new if node.output == name else node.output,
        )
        for node in ctx.nodes
    ]
    ctx.values.update({value: new for value, tensor in ctx.values.items() if tensor == name})
    ctx.shapes[new] = ctx.shapes.pop(name)
    ctx.quant[new] = ctx.quant.pop(name)
