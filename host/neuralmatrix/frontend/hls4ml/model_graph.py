# SPDX-License-Identifier: Apache-2.0
"""A ModelGraph of hls4ml becomes an ONNX model that prescribes its integers.

In: the ModelGraph, after the flows of its backend: what the user's source model was no longer
matters.  Out: ``Converted``: a ModelProto, and what differs from hls4ml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...errors import BadModel, UnsupportedModel, UnsupportedNode
from ..onnx.context import Refused
from ..onnx.load import require_onnx
from ..onnx.ops.fixed_point import DOMAIN
from . import activations, copies, merges, pooling, recurrent, weighted
from .builder import OPSET, Builder, Value
from .layer import Handler, Layer, Tensor

if TYPE_CHECKING:
    from onnx import ModelProto

# by the name of hls4ml's class, or of the nearest class that it is made from
HANDLERS: Mapping[str, Handler] = {
    **weighted.HANDLERS,
    **pooling.HANDLERS,
    **activations.HANDLERS,
    **merges.HANDLERS,
    **copies.HANDLERS,
    **recurrent.HANDLERS,
}


@dataclass(frozen=True)
class Converted:
    """``notes``: one line for each way in which results may differ from hls4ml's.  ``layers``: the
    value of the model that is a layer's output; layers of which the array keeps none are left
    out."""

    proto: ModelProto
    notes: tuple[str, ...]
    layers: Mapping[str, str]


def is_model_graph(model: object) -> bool:
    """Return whether ``model`` is hls4ml's ModelGraph, without importing hls4ml."""
    return any(
        kind.__name__ == "ModelGraph" and kind.__module__.split(".")[0] == "hls4ml"
        for kind in type(model).__mro__
    )


def convert(model: Any, strict: bool = False) -> Converted:
    """Return the ONNX model of a ModelGraph.

    ``strict``: BadModel where a rounding or overflow mode, or an accumulator, may give other
    results than hls4ml's.  UnsupportedModel: all layers that the array cannot compute.
    """
    b, tensors, refused = Builder(), dict[str, Tensor](), list[UnsupportedNode]()
    for node in model.get_layers():
        layer = Layer(node)
        try:
            if not all(name in tensors or _is_input(layer) for name in node.inputs):
                continue  # behind a refused layer
            tensors.update(_outputs(b, layer, tensors))
        except Refused as reason:
            refused.append(UnsupportedNode(layer.name, str(node.class_name), OPSET, str(reason)))
    if refused:
        raise UnsupportedModel(tuple(refused))
    outputs = [_output(b, str(name), tensors) for name in model.outputs]
    if strict and b.notes:
        raise BadModel(
            "strict is given, and hls4ml's results may differ from the array's: "
            + "; ".join(b.notes)
        )
    proto = _proto(b, model, outputs)
    return Converted(proto, tuple(f"hls4ml: {line}" for line in b.notes), _layers(model, tensors))


def _layers(model: Any, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the value of every layer that is not an input and has one of its own."""
    found = {}
    for node in model.get_layers():
        value = tensors[str(node.outputs[0])]
        if isinstance(value, Value) and not _is_input(Layer(node)):
            found[str(node.name)] = value.name
    return found


def handler_of(node: Any) -> Handler:
    """Return the handler of a layer's class, or of the nearest class that it is made from."""
    for kind in type(node).__mro__:
        if kind.__name__ in HANDLERS:
            return HANDLERS[kind.__name__]
    name = type(node).__name__
    raise Refused(_INSTEAD.get(name, f"no such layer; supported are {', '.join(HANDLERS)}"))


_BINARY = (
    "binary and ternary layers in hls4ml's own form; export the network as QONNX (BipolarQuant, "
    "Quant) and give that file to nm.compile"
)
_EINSUM = (
    "an einsum; write products with weights as Dense, or export the source model as ONNX and give "
    "that file to nm.compile"
)
# What to do instead of a layer that is not supported, by hls4ml's class.
_INSTEAD: Mapping[str, str] = {
    "BatchNormalizationQuantizedTanh": _BINARY,
    "BipolarQuant": _BINARY,
    "Einsum": _EINSUM,
    "EinsumDense": _EINSUM,
    "Embedding": "rows of a table chosen by an input; begin the model behind it and look the rows "
    "up on the host, or export the source model as ONNX and give that file to nm.compile",
    "DACombinational": "distributed arithmetic; choose the strategy latency or resource",
    "GarNet": "no form on the array; end the model in front of it",
    "GarNetStack": "no form on the array; end the model in front of it",
    "TimeDistributed": "a model within each step; write it as Dense, or as a convolution of size 1",
    "SymbolicExpression": "an expression; use an activation of hls4ml's",
    "UnaryLUT": "a table of HGQ's; use an activation of Keras's",
}


def _is_input(layer: Layer) -> bool:
    return any(kind.__name__ == "Input" for kind in type(layer.node).__mro__)


def _outputs(b: Builder, layer: Layer, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Handle one layer and return its outputs by name."""
    if _is_input(layer):
        return {str(layer.node.outputs[0]): _input(b, layer)}
    read = [tensors[str(name)] for name in layer.node.inputs]
    for i, x in enumerate(read):
        if not isinstance(x, Value) and _has_more_readers(layer, i):
            name = str(layer.node.inputs[i])
            read[i] = tensors[name] = b.finished(x, name)
    made = handler_of(layer.node)(b, layer, read)
    return {str(name): made for name in layer.node.outputs}


def _has_more_readers(layer: Layer, index: int) -> bool:
    name = layer.node.inputs[index]
    readers = [n for n in layer.node.model.get_layers() if name in n.inputs]
    return len(readers) > 1 or name in layer.node.model.outputs


def _input(b: Builder, layer: Layer) -> Value:
    fixed = layer.fixed
    ends = fixed.lowest * fixed.step, fixed.highest * fixed.step
    b.names.add(layer.name)
    steps = b.steps(fixed, *ends, None, layer.name)
    name = b.cast(layer.name, f"{layer.name}.fixed", steps, -1.0)
    ends = steps.fixed.lowest * steps.fixed.step, steps.fixed.highest * steps.fixed.step
    return Value(name, layer.shape, steps.fixed, *ends)


def _output(b: Builder, name: str, tensors: dict[str, Tensor]) -> tuple[str, Value]:
    """Give an output its own name, which no other output has."""
    value = tensors[name] = b.finished(tensors[name], name)
    return b.emit("Identity", [value.name], f"{name}.out"), value


def _proto(b: Builder, model: Any, outputs: list[tuple[str, Value]]) -> ModelProto:
    onnx = require_onnx()
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    inputs = [
        helper.make_tensor_value_info(str(name), real, [1, *map(int, variable.shape)])
        for name, variable in zip(model.inputs, model.get_input_variables(), strict=True)
    ]
    ends = [helper.make_tensor_value_info(n, real, [1, *v.shape]) for n, v in outputs]
    arrays = [onnx.numpy_helper.from_array(array, name) for name, array in b.constants.items()]
    graph = helper.make_graph(b.nodes, "hls4ml", inputs, ends, arrays)
    sets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=sets, ir_version=8)
