# SPDX-License-Identifier: Apache-2.0
"""Checks of an ONNX model: names, order, operator sets, attributes, values, input shapes.

In: a ModelProto.  Out: its ``Call`` records in execution order, or one BadModel.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from operator import index
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import BadInput, BadModel
from ...ir.graph.verify import count_not_finite
from ...ir.types import Array, Shape
from .context import Call, as_float
from .load import plain_call, require_onnx

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

OPSETS = range(6, 29)
_RECURRENT = ("LSTM", "GRU", "RNN")


def opset_of(proto: ModelProto) -> int:
    """Return the version of the ai.onnx operator set."""
    versions = {o.domain: o.version for o in proto.opset_import}
    opset = versions.get("", versions.get("ai.onnx"))
    if opset is None or opset not in OPSETS:
        raise BadModel(
            f"the model uses ai.onnx opset {opset}; allowed are {OPSETS[0]} to {OPSETS[-1]}; "
            "export it again with one of those, or convert it with onnx.version_converter"
        )
    return int(opset)


def calls_of(proto: ModelProto, opset: int, outputs: Sequence[str] = ()) -> tuple[Call, ...]:
    """Return the nodes that the outputs depend on, sorted and checked against their schemas.

    ``outputs``: other values of the model that end it.
    """
    _check_text(proto.graph)
    calls = [plain_call(node, i, opset) for i, node in enumerate(proto.graph.node)]
    _check_names(proto.graph, calls)
    _check_domains(proto, calls)
    ordered = _sorted(proto.graph, calls)
    _check_ends(proto.graph, calls, outputs)
    wanted = _needed(ordered, outputs or [o.name for o in proto.graph.output])
    for call in wanted:
        _check_schema(proto, call)
    return wanted


def _check_text(graph: GraphProto) -> None:
    """Raise BadModel if a name is not UTF-8: protobuf returns it as bytes."""
    values = [*graph.input, *graph.output]
    tensors = [*(v.name for v in values), *(t.name for t in graph.initializer)]
    dims = (d.dim_param for v in values for d in v.type.tensor_type.shape.dim)
    nodes = ([n.name, n.op_type, n.domain, *n.input, *n.output] for n in graph.node)
    attributes = (a.name for n in graph.node for a in n.attribute)
    for name in (*tensors, *dims, *(text for texts in nodes for text in texts), *attributes):
        if not isinstance(name, str):
            raise BadModel(f"the name {name!r} is not UTF-8 text; export or copy the file again")
    if "" in tensors:
        raise BadModel("an input, output or initialiser has no name; export the model again")


def _check_names(graph: GraphProto, calls: Sequence[Call]) -> None:
    outputs = [name for call in calls for name in call.outputs if name]
    for what, names in (
        ("inputs", [i.name for i in graph.input]),
        ("initialisers", [i.name for i in graph.initializer]),
        ("values", outputs + [i.name for i in graph.initializer]),
        ("values", outputs + [i.name for i in graph.input]),
    ):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise BadModel(
                f"the name {twice[0]!r} is given to {names.count(twice[0])} {what}; every tensor "
                "needs a name of its own; correct the model"
            )
    if not graph.output:
        raise BadModel("the model has no outputs; at least one is needed; export it again")


def _check_domains(proto: ModelProto, calls: Sequence[Call]) -> None:
    imported = {"" if o.domain == "ai.onnx" else o.domain for o in proto.opset_import}
    for call in calls:
        if call.domain not in imported:
            raise BadModel(
                f"node {call.name!r} ({call.op}) is of the domain {call.domain!r}, which the "
                f"model does not import; imported are {sorted(imported)}; export the model again"
            )


def _sorted(graph: GraphProto, calls: Sequence[Call]) -> list[Call]:
    """Return the calls in execution order: the model's own order where it is valid."""
    defined = {i.name for i in graph.input} | {i.name for i in graph.initializer}
    defined |= {s.values.name for s in graph.sparse_initializer} | {""}
    produced = {name for call in calls for name in call.outputs}
    for call in calls:
        missing = set(call.reads) - defined - produced
        if missing:
            raise BadModel(
                f"node {call.name!r} ({call.op}) reads {sorted(missing)[0]!r}, which is not an "
                "input, initialiser or node output of the model; export the model again"
            )
    undefined = {o.name for o in graph.output} - defined - produced
    if undefined:
        raise BadModel(
            f"no node computes the output {sorted(undefined)[0]!r}; export the model again"
        )
    order, waiting = [], list(calls)
    while waiting:
        ready: list[Call] = []
        rest: list[Call] = []
        for call in waiting:
            is_ready = defined.issuperset(call.reads)
            (ready if is_ready else rest).append(call)
            defined.update(call.outputs if is_ready else ())
        if not ready:
            _refuse_cycle(rest)
        order += ready
        waiting = rest
    # what a constant feeds may be looked at before its own turn comes
    return sorted(order, key=lambda call: call.op != "Constant")


def _check_ends(graph: GraphProto, calls: Sequence[Call], outputs: Sequence[str]) -> None:
    """Raise BadInput if a value that shall end the model is none of its own."""
    made = [name for call in calls for name in call.outputs if name]
    allowed = {*made, *(value.name for value in (*graph.input, *graph.output))}
    for name in outputs:
        if name not in allowed:
            near = get_close_matches(str(name), [*allowed], n=3, cutoff=0.5) or made[-3:]
            raise BadInput(
                f"outputs: found {name!r}, allowed are values of the model, as "
                f"{', '.join(map(repr, near))}; a value is named after the output of a node"
            )
    twice = [name for name, count in Counter(outputs).items() if count > 1]
    if twice:
        raise BadInput(f"outputs: found {twice[0]!r} twice, allowed is once")


def _refuse_cycle(calls: Sequence[Call]) -> None:
    """Raise BadModel with the cycle: follow the producers from any node until one repeats."""
    producer = {name: call for call in calls for name in call.outputs}
    path = [calls[0]]
    while path[-1] not in path[:-1]:
        path.append(next(producer[name] for name in path[-1].reads if name in producer))
    cycle = path[path.index(path[-1]) :]
    raise BadModel(
        f"the graph has a cycle: {' <- '.join(repr(call.name) for call in cycle)}; a model must be "
        "acyclic; unroll the loop when exporting it"
    )


def _needed(calls: Sequence[Call], outputs: Iterable[str]) -> tuple[Call, ...]:
    wanted, kept = set(outputs), []
    for call in reversed(calls):
        if wanted.intersection(filter(None, call.outputs)):
            kept.append(call)
            wanted.update(call.reads)
    return tuple(kept[::-1])


def schema_of(call: Call) -> Any:
    """Return the operator's schema, None if its operator set has none of that name."""
    onnx = require_onnx()
    try:
        return onnx.defs.get_schema(call.op, call.opset, call.domain)
    except onnx.defs.SchemaError:
        return None


def _check_schema(proto: ModelProto, call: Call) -> None:
    onnx = require_onnx()
    schema = schema_of(call)
    # a branch or body reads names of the graph around it, which the checker does not know
    nested = any(isinstance(value, onnx.GraphProto) for value in call.attrs.values())
    if call.domain or schema is None or nested:
        return
    context = onnx.checker.C.CheckerContext()
    context.ir_version = max(proto.ir_version, 3)
    context.opset_imports = {"": call.opset}
    try:
        onnx.checker.check_node(call.proto, context)
    except (onnx.checker.ValidationError, ValueError) as error:
        text = str(error).split("\n")[0]
        raise BadModel(f"node {call.name!r} ({call.op}): {text}; correct the model") from None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    for formal, name in zip(schema.inputs, call.inputs, strict=False):
        if formal.option == single and not name:
            raise BadModel(
                f"node {call.name!r} ({call.op}): the input {formal.name!r} is empty; it is "
                "needed; correct the model"
            )


def check_finite(constants: Mapping[str, Array]) -> None:
    """Raise BadModel at the first tensor with NaN, or with infinity in addition to other values."""
    for name, array in constants.items():
        bad = count_not_finite(array if array.dtype.kind == "f" else _floats(array))
        if bad and (array.size > 1 or np.isnan(array).any()):
            raise BadModel(
                f"tensor {name!r}: {bad} of {array.size} values are NaN or infinite; weights must "
                "be finite; train or export the model again"
            )


def check_elements(output: str, shape: Shape) -> None:
    """Raise BadModel if an output has no elements."""
    if 0 in shape:
        raise BadModel(
            f"the output {output!r} has the shape {shape}; every dimension must be 1 or more; "
            "change the input shape (--shape) or the model"
        )


def _floats(array: Array) -> Array:
    """Return bfloat16 and other small floats as float32, integers unchanged."""
    return as_float(array) if array.dtype.kind == "V" else array


# ---------------------------------------------------------------- input shapes


def input_shapes(
    inputs: Sequence[ValueInfoProto], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Shape]:
    """Return the concrete shapes of the run-time inputs; ``shapes`` fixes dynamic dimensions."""
    names = [i.name for i in inputs]
    unknown = set(shapes) - set(names)
    if unknown:
        found = sorted(map(str, unknown))[0]
        raise BadInput(f"a shape is given for {found!r}; the inputs are {names}; use these names")
    dims = {i.name: _dims(i) for i in inputs}
    for name, shape in shapes.items():
        _check_given(name, dims[name], shape)
    symbols = _symbols(dims, shapes)
    return {
        name: tuple(shapes[name]) if name in shapes else _fixed(name, dims[name], symbols)
        for name in names
    }


def _symbols(
    dims: Mapping[str, tuple[int | str, ...] | None], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, int]:
    """Return the sizes of the named dimensions that the given shapes fix."""
    return {
        dim: size
        for name, shape in shapes.items()
        for dim, size in zip(dims[name] or (), shape, strict=False)
        if isinstance(dim, str) and dim
    }


def check_steps(
    inputs: Sequence[ValueInfoProto], shapes: Mapping[str, tuple[int, ...]], calls: Sequence[Call]
) -> None:
    """Raise BadModel if the steps of a recurrent layer are a first dimension left open."""
    dims = {i.name: _dims(i) for i in inputs}
    fixed = _symbols(dims, shapes)
    for call in calls:
        name = call.inputs[0] if call.inputs and call.op in _RECURRENT else ""
        steps = (dims.get(name) or (1,))[0]
        batch_first = call.attrs.get("layout", 0)
        if isinstance(steps, str) and not batch_first and name not in shapes and steps not in fixed:
            raise BadModel(
                f"input {name!r}: dimension 0 ({steps or 'unnamed'}) is dynamic and holds the "
                f"steps of {call.name!r} ({call.op}), which are unrolled; fix it with "
                f"--shape {name}=16x1x80"
            )


def _dims(value: ValueInfoProto) -> tuple[int | str, ...] | None:
    """Return the sizes; a string is a dynamic dimension, which older exporters write as a negative
    size; None means that the rank is unknown."""
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise BadModel(f"input {value.name!r} is not a tensor; tensors are supported")
    if not tensor.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value >= 0 else d.dim_param
        for d in tensor.shape.dim
    )


def _check_given(name: str, dims: tuple[int | str, ...] | None, shape: Sequence[int]) -> None:
    try:
        shape = [index(size) for size in shape]
    except TypeError:
        raise BadInput(
            f"shape {shape!r} of {name!r} is not a tuple of integers; pass one"
        ) from None
    fits = dims is None or (
        len(dims) == len(shape)
        and all(isinstance(d, str) or d == n for d, n in zip(dims, shape, strict=True))
    )
    if not fits or min(shape, default=1) < 0:
        found = "x".join(str(d) or "?" for d in dims or ())
        raise BadInput(
            f"--shape {name}={'x'.join(map(str, shape))} does not fit the model's {found}; keep "
            "its fixed dimensions and a size for each dynamic one"
        )


def _fixed(name: str, dims: tuple[int | str, ...] | None, symbols: Mapping[str, int]) -> Shape:
    if dims is None:
        raise BadModel(
            f"input {name!r} has no shape; every input needs one; give it with "
            f"--shape {name}=1x3x224x224"
        )
    shape = []
    for i, dim in enumerate(dims):
        size = dim if isinstance(dim, int) else symbols.get(dim, 1 if i == 0 else None)
        if size is None:
            raise BadModel(
                f"input {name!r}: dimension {i} ({dim or 'unnamed'}) is dynamic; only the first "
                f"may be left open (it becomes 1); fix it with --shape {name}=1x3x224x224"
            )
        shape.append(size)
    return tuple(shape)
