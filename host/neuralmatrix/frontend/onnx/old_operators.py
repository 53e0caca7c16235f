# SPDX-License-Identifier: Apache-2.0
"""Operators on constants in the version that the model names.

In: a ``Call`` and the arrays of its inputs.  Out: ``evaluated``: its results.

ONNX's reference evaluator knows few old versions: it computes others by the newest one, with other
results or none.  Here a node of an old version becomes the same computation in a newer one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ...ir.host.selection import gather_elements
from ...ir.types import Array
from .context import Call, ints, shape_from_axis
from .load import require_onnx

Attributes = Mapping[str, Any]
_SECOND_FROM_AXIS = "Add And Div Equal Greater Less Mul Or Pow Sub Xor".split()
_FIRST_INPUTS = 13  # the version in which the forms below are evaluated: axes and bounds are inputs


@dataclass(frozen=True)
class Form:
    """One node: an operator of a version, its inputs ("" in place of None) and attributes."""

    op: str
    version: int
    inputs: tuple[Array | None, ...]
    attrs: Attributes
    outputs: int = 1


def evaluated(call: Call, feeds: Mapping[str, Array]) -> list[Array]:
    """Return all outputs of a node whose inputs are constants."""
    rules = {} if call.domain else {n: r for n, r in _OLD.get(call.op, {}).items()}
    ends = [end for end in rules if call.opset < end]
    if ends:
        inputs = [feeds[name] if name else None for name in call.inputs]
        return rules[min(ends)](call, inputs)
    return _run(call.proto, call.domain, call.opset, feeds)


def _run(proto: Any, domain: str, opset: int, feeds: Mapping[str, Array]) -> list[Array]:
    from onnx.reference import ReferenceEvaluator

    try:
        evaluator = ReferenceEvaluator(proto, opsets={domain: opset})
    except (NotImplementedError, RuntimeError):  # a function whose body depends on the inputs
        body = None if domain else _body(proto, opset, feeds)
        if body is None:
            raise
        evaluator = ReferenceEvaluator(body)
    return list(evaluator.run(None, dict(feeds)))


def _body(proto: Any, opset: int, feeds: Mapping[str, Array]) -> Any:
    """Return a model of the operators by which the standard defines another, for these inputs;
    None if it does not."""
    onnx = require_onnx()
    schema = onnx.defs.get_schema(proto.op_type, opset, "")
    if not schema.has_context_dependent_function:
        return None
    versions = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    types = [_type_of(feeds.get(name)) for name in proto.input]
    body = schema.get_context_dependent_function_with_opset_version(
        max(versions), proto.SerializeToString(), [t.SerializeToString() for t in types]
    )
    function = onnx.FunctionProto.FromString(body)
    names = {old: new for old, new in zip(function.input, proto.input, strict=False) if new}
    names |= dict(zip(function.output, proto.output, strict=False))
    return _as_model(function, names, feeds, list(proto.output))


def _type_of(array: Array | None) -> Any:
    helper = require_onnx().helper
    if array is None:
        return require_onnx().TypeProto()
    return helper.make_tensor_type_proto(helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def _as_model(
    function: Any, names: Mapping[str, str], feeds: Mapping[str, Array], outputs: Sequence[str]
) -> Any:
    """Return a model of a function's nodes, with the names of the node's own values."""
    helper = require_onnx().helper
    nodes = []
    for node in function.node:
        copy = type(node)()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        copy.output[:] = [names.get(name, name) for name in node.output]
        nodes.append(copy)
    given = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    shown = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "body", given, shown)
    return helper.make_model(graph, opset_imports=function.opset_import)


def _value(form: Form) -> list[Array]:
    """Return the outputs of a form."""
    helper = require_onnx().helper
    names = [f"input{i}" if array is not None else "" for i, array in enumerate(form.inputs)]
    outputs = [f"output{i}" for i in range(form.outputs)]
    proto = helper.make_node(form.op, names, outputs, **form.attrs)
    feeds = {n: np.asarray(a) for n, a in zip(names, form.inputs, strict=True) if n}
    return _run(proto, "", form.version, feeds)


# ---------------------------------------------------------------- rules

Inputs = Sequence[Any]
Rule = Callable[[Call, Inputs], list[Array]]


def _form(call: Call, *inputs: Any, without: Sequence[str] = (), **more: Any) -> Form:
    """Return the newer form of a node with other inputs; ``without``: attributes that they
    replace."""
    attrs = {name: value for name, value in call.attrs.items() if name not in without}
    return Form(call.op, _FIRST_INPUTS, inputs, {**attrs, **more}, len(call.outputs))


def _attributes_as_inputs(**kinds: Any) -> Rule:
    """Return the rule for attributes that became inputs of these types, in this order."""

    def rule(call: Call, inputs: Inputs) -> list[Array]:
        given = [
            np.asarray(call.attrs[name], inputs[0].dtype if kind is None else kind)
            if name in call.attrs
            else None
            for name, kind in kinds.items()
        ]
        while given and given[-1] is None:
            given.pop()
        return _value(_form(call, inputs[0], *given, without=tuple(kinds)))

    return rule


def _flattened(call: Call, inputs: Inputs) -> list[Array]:
    """Evaluate over all axes from ``axis`` on, as one."""
    (x,) = inputs
    axis = int(call.attrs.get("axis", 1)) % x.ndim if x.ndim else 0
    rows = x.reshape(prod(x.shape[:axis]), -1)
    return [y.reshape(x.shape) for y in _value(_form(call, rows, axis=-1))]


def _dropout(call: Call, inputs: Inputs) -> list[Array]:
    """Return the input; the mask is not filled at inference."""
    x = inputs[0]
    mask = np.zeros(x.shape, x.dtype if call.opset < 10 else bool)
    return [x, mask][: len(call.outputs)]


def _upsample(call: Call, inputs: Inputs) -> list[Array]:
    scales = call.attrs["scales"] if len(inputs) < 2 else inputs[1]
    return [_resized(inputs[0], np.asarray(scales, np.float32), call)]


def _resize(call: Call, inputs: Inputs) -> list[Array]:
    x, scales = inputs
    nearest = call.attrs.get("mode", "nearest") == "nearest"
    if not nearest:
        return [_resized(x, scales, call)]
    # nearest takes the element before an enlarged position, but the one after a reduced one
    larger = _resized(x, np.maximum(scales, np.float32(1)), call)
    return [_resized(larger, np.minimum(scales, np.float32(1)), call, "ceil")]


def _resized(x: Array, scales: Array, call: Call, nearest: str = "floor") -> Array:
    mode = call.attrs.get("mode", "nearest")
    attrs = {"mode": "linear" if mode in ("linear", "bilinear") else mode}
    attrs |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": nearest}
    return _value(Form("Resize", _FIRST_INPUTS, (x, None, scales), attrs))[0]


def _scatter(call: Call, inputs: Inputs) -> list[Array]:
    return _value(replace(_form(call, *inputs), op="ScatterElements"))


def _taken(call: Call, inputs: Inputs) -> list[Array]:
    """Take one element for every index; the evaluator fails from 32 rows on."""
    data, indices = (np.asarray(array) for array in inputs)
    return [gather_elements(call.attrs, data, indices)]


def _local_response(call: Call, inputs: Inputs) -> list[Array]:
    """Divide by the power of the mean square over ``size`` channels; the evaluator's own window
    is one channel short."""
    (x,), size = inputs, int(call.attrs["size"])
    alpha, beta, bias = (
        float(call.attrs.get(name, default))
        for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))
    )
    total = np.zeros_like(x)
    for c in range(x.shape[1]):
        first, last = max(0, c - (size - 1) // 2), c + size // 2 + 1
        total[:, c] = np.square(x[:, first:last]).sum(1)
    return [np.asarray(x / (bias + alpha / size * total) ** beta, x.dtype)]


def _top(call: Call, inputs: Inputs) -> list[Array]:
    k = np.asarray(ints(call.attrs["k"]), np.int64)
    return _value(_form(call, inputs[0], k, without=("k",)))


def _from_axis(call: Call, inputs: Inputs) -> list[Array]:
    """Evaluate an operator of two operands, the second of which begins at an axis of the first."""
    first, second = (np.asarray(array) for array in inputs)
    shape = shape_from_axis(call, first.ndim, second.shape)
    without = ("axis", "broadcast", "consumed_inputs")
    return _value(_form(call, first, second.reshape(shape), without=without))


_AXES = _attributes_as_inputs(axes=np.int64)
_ALWAYS = 1 << 30

# operator -> the first version from which a rule no longer holds -> the rule
_OLD: Mapping[str, Mapping[int, Rule]] = {
    "Unsqueeze": {13: _AXES},
    "Squeeze": {13: _AXES},
    "Softmax": {13: _flattened},
    "LogSoftmax": {13: _flattened},
    "Hardmax": {13: _flattened},
    "Clip": {11: _attributes_as_inputs(min=None, max=None)},
    "Pad": {11: _attributes_as_inputs(pads=np.int64, value=None)},
    "Dropout": {12: _dropout},
    "Upsample": {10: _upsample},
    "Resize": {11: _resize},
    "TopK": {10: _top},
    "Scatter": {11: _scatter},
    "GatherElements": {_ALWAYS: _taken},
    "LRN": {_ALWAYS: _local_response},
    **{op: {7: _from_axis} for op in _SECOND_FROM_AXIS},
}
