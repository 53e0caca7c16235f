# SPDX-License-Identifier: Apache-2.0
"""ONNX BatchNormalization, also with statistics that the model itself computes.

In: one ``Call``.  Out: a factor and an addend per channel in the ``Context``; with computed
statistics the arithmetic of a normalisation, which ``patterns`` recognises.

Older exporters of layer normalisation write it as the BatchNormalization of a reshaped tensor whose
mean and variance are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ....ir.graph.nodes import Binary, Node, Reduce, Reshape, Unary
from ....ir.types import Array, Function, Shape
from ..context import Call, Context, Refused, Versions, as_float
from ..node_maker import NodeMaker


def _batch_norm(ctx: Context, call: Call) -> None:
    if call.attrs.get("training_mode", 0):
        raise Refused("training_mode is 1; inference (training_mode 0) is supported")
    if any(call.has_output(i) for i in range(1, len(call.outputs))):
        raise Refused("running statistics are outputs; only the first output is supported")
    if not call.attrs.get("spatial", 1):
        raise Refused("spatial is 0 (statistics per position); spatial 1 is supported")
    if all(name in ctx.known for name in call.inputs[1:]):
        _by_constants(ctx, call)
    else:
        _by_statistics(NodeMaker(ctx, call))


def _by_constants(ctx: Context, call: Call) -> None:
    scale, bias, mean, var = (np.asarray(ctx.known[name], np.float64) for name in call.inputs[1:])
    gain = scale / np.sqrt(var + float(call.attrs.get("epsilon", 1e-5)))
    rank = len(ctx.shape(call.input(0)))

    def per_channel(tag: str, values: Array) -> str:
        shaped = values.reshape(-1, *[1] * (rank - 2))
        return ctx.constant(f"{call.output}.{tag}", as_float(shaped))

    scaled = ctx.fresh(f"{call.output}.scaled")
    operands = (ctx.tensor(call.input(0)), per_channel("gain", gain))
    ctx.emit(Binary(operands, scaled, call.name, kind="mul"))
    shift = per_channel("shift", bias - mean * gain)
    ctx.emit(Binary((scaled, shift), call.output, call.name, kind="add"))


def _by_statistics(make: NodeMaker) -> None:
    """Append (x - mean) / sqrt(variance + epsilon) * scale + bias."""
    ctx, call = make.ctx, make.call
    x = ctx.tensor(call.input(0))
    rank = len(make.shape(x))
    wanted = (1, make.shape(x)[1], *[1] * (rank - 2))
    scale, bias, mean, variance = (_along_channels(make, name, wanted) for name in call.inputs[1:])
    epsilon = make.constant("epsilon", np.asarray(float(call.attrs.get("epsilon", 1e-5))))
    total = make.binary("add", variance, epsilon)
    root = ctx.emit(Unary((total,), make.name("root"), call.name, function=Function("sqrt")))
    normal = make.binary("div", make.binary("sub", x, mean), root)
    make.binary("add", make.binary("mul", normal, scale), bias, call.output)


def _along_channels(make: NodeMaker, name: str, wanted: Shape) -> str:
    """Return a value per channel so that it broadcasts: reductions keep their axes instead of
    reshaping what they leave."""
    if name in make.ctx.known:
        return make.constant("channels", np.asarray(make.ctx.known[name]).reshape(wanted))
    tensor = make.ctx.tensor(name)
    kept = _kept(make, tensor, {node.output: node for node in make.ctx.nodes})
    return kept if kept and make.shape(kept) == wanted else make.reshape(tensor, wanted)


def _kept(make: NodeMaker, tensor: str, makers: Mapping[str, Node]) -> str:
    """Return a reduction, and arithmetic behind it, with its axes kept; "" for anything else."""
    node = makers.get(tensor)
    if isinstance(node, Reshape):
        return _kept(make, node.inputs[0], makers)
    if isinstance(node, Reduce):
        return make.ctx.emit(replace(node, output=make.name("kept"), keepdims=True))
    if not isinstance(node, Unary | Binary):
        return ""
    values = [n for n in node.inputs if n not in make.ctx.constants]
    factors = [n for n in node.inputs if n in make.ctx.constants]
    kept = _kept(make, values[0], makers) if len(values) == 1 else ""
    if not kept or any(make.ctx.constants[n].size != 1 for n in factors):
        return ""
    inputs = tuple(kept if n == values[0] else n for n in node.inputs)
    return make.ctx.emit(replace(node, inputs=inputs, output=make.name("kept")))


HANDLERS: Mapping[str, Versions] = {"BatchNormalization": {1: _batch_norm}}
