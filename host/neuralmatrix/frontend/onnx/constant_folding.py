# SPDX-License-Identifier: Apache-2.0
"""Constants of an ONNX graph: nodes that depend on no run-time value are evaluated.

In: one ``Call`` whose inputs are all constant (or only its input's shape matters).
Out: entries of ``Context.known``.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from ...errors import BadModel
from ...ir.types import Array, Shape
from .context import Call, Context, Refused, Versions
from .load import require_onnx
from .old_operators import evaluated

MAX_ELEMENTS = 1 << 26  # a constant larger than this and than its inputs together is a mistake
_RANDOM = frozenset("RandomNormal RandomUniform RandomNormalLike RandomUniformLike".split())
_RESHAPES = frozenset("Reshape Squeeze Unsqueeze Flatten Identity".split())
_EVALUATION_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


def output_shapes(ctx: Context, call: Call) -> dict[str, Shape]:
    """Return output shapes by ONNX's shape inference; outputs of unknown shape are left out."""
    return {name: shape for name, (shape, _) in output_types(ctx, call).items()}


def output_types(ctx: Context, call: Call) -> dict[str, tuple[Shape, str]]:
    """Return shapes and types of outputs by ONNX's inference, as far as it knows shapes."""
    onnx = require_onnx()
    helper, types, data = onnx.helper, {}, {}
    for name in filter(None, call.inputs):
        known = ctx.known.get(name)
        dtype = _dtype(ctx, name)
        types[name] = helper.make_tensor_type_proto(
            helper.np_dtype_to_tensor_dtype(dtype), ctx.shape(name)
        )
        if known is not None and known.size <= 64:
            data[name] = onnx.numpy_helper.from_array(np.asarray(known), name)
    try:
        schema = onnx.defs.get_schema(call.op, call.opset, call.domain)
        imports = [helper.make_opsetid("", ctx.opset)]
        inferred = onnx.shape_inference.infer_node_outputs(
            schema, call.proto, types, data, opset_imports=imports
        )
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        onnx.defs.SchemaError,
        RuntimeError,
    ):
        return {}
    shapes = {name: _concrete(proto) for name, proto in inferred.items()}
    kinds = {
        n: proto.tensor_type.elem_type for n, proto in inferred.items() if shapes[n] is not None
    }
    names = {n: helper.tensor_dtype_to_np_dtype(kind).name for n, kind in kinds.items() if kind}
    return {n: (shape, names.get(n, "float32")) for n, shape in shapes.items() if shape is not None}


def _dtype(ctx: Context, name: str) -> np.dtype[Any]:
    """Return the type of a value as the model has it, as far as it matters: float32 for floats."""
    for table in (ctx.known, ctx.examples):
        if name in table:
            return table[name].dtype
    if name in ctx.quantized:
        return np.dtype(ctx.quantized[name].dtype)
    return np.dtype(ctx.guessed.get(name, "float32"))


def _concrete(proto: Any) -> Shape | None:
    if not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    dims = proto.tensor_type.shape.dim
    return tuple(d.dim_value for d in dims) if all(d.HasField("dim_value") for d in dims) else None


def _check_size(ctx: Context, call: Call) -> None:
    limit = max(MAX_ELEMENTS, 2 * sum(ctx.known[n].size for n in call.inputs if n))
    for name, shape in output_shapes(ctx, call).items():
        if prod(shape) > limit:
            raise BadModel(
                f"node {call.name!r} ({call.op}) would make the constant {name!r} of shape "
                f"{shape}; at most {limit} elements are allowed; correct the model"
            )


def _constant_attribute(call: Call) -> Array:
    """Return the value of a Constant node; Refused if it is a string or sparse."""
    (kind, value), *_ = call.attrs.items()
    if kind.startswith("value_float"):
        return np.asarray(value, np.float32)
    if kind.startswith("value_int"):
        return np.asarray(value, np.int64)
    if kind != "value":
        raise Refused(f"a constant given as {kind}; dense numeric tensors are supported")
    return np.asarray(value)


def fold(ctx: Context, call: Call) -> None:
    """Evaluate a node whose inputs are constants into ``ctx.known``."""
    if call.op == "Constant":
        ctx.known[call.output] = _constant_attribute(call)
        return
    if call.op in _RANDOM:
        raise Refused("random values differ from run to run; constants are supported")
    _check_size(ctx, call)
    feeds = {name: ctx.known[name] for name in call.inputs if name}
    for name, value in zip(call.outputs, evaluate_node(call, feeds), strict=True):
        if name:
            ctx.known[name] = value
    _carry_scale(ctx, call)


def evaluate_node(call: Call, feeds: Mapping[str, Array]) -> list[Array]:
    """Return all outputs of one node, in the version that the model names."""
    try:
        with np.errstate(all="ignore"):
            results = evaluated(call, feeds)
    except _EVALUATION_ERRORS as error:
        raise Refused(f"its inputs are constants, but it cannot be evaluated ({error})") from None
    if not all(isinstance(value, np.ndarray | np.generic) for value in results):
        raise Refused("its results are sequences or maps; tensors are supported")
    return [np.asarray(value) for value in results]


def _carry_scale(ctx: Context, call: Call) -> None:
    """Carry the scales of dequantised weights through a change of layout."""
    source = call.input(0)
    scale = ctx.scales.get(source)
    if call.op == "Transpose" and scale is not None:
        perm = call.attrs.get("perm")
        ctx.scales[call.output] = np.transpose(scale, perm) if scale.ndim else scale
    elif call.op in _RESHAPES and scale is not None and scale.size == 1:
        ctx.scales[call.output] = scale.reshape(())
    if call.op in (*_RESHAPES, "Transpose"):
        for table in (ctx.unfit, ctx.wide, ctx.constant_quant):
            _copy_entry(table, source, call.output)


def _copy_entry(table: dict[str, Any], old: str, new: str) -> None:
    if old in table:
        table[new] = table[old]


def _shape(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    part = slice(call.attrs.get("start", 0), call.attrs.get("end"))
    ctx.known[call.output] = np.asarray(shape[part], np.int64)


def _size(ctx: Context, call: Call) -> None:
    ctx.known[call.output] = np.asarray(prod(ctx.shape(call.input(0))), np.int64)


HANDLERS: Mapping[str, Versions] = {"Shape": {1: _shape}, "Size": {1: _size}}
