# SPDX-License-Identifier: Apache-2.0
"""Names in an exported model: nodes are named after submodules, weights after parameters.

In: a ``ModelProto`` of either of torch's exporters.  Out: the same, its names changed in place.
"""

from __future__ import annotations

import ast
import hashlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto


def strip_scope(proto: ModelProto, prefix: str) -> None:
    """Remove the submodule ``prefix`` from all names."""
    given = {tensor.name for tensor in proto.graph.initializer}
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.removeprefix(f"{prefix}.")
    values = {name: name.removeprefix(f"{prefix}.") for name in given}
    for node in proto.graph.node:
        node.name = node.name.removeprefix(f"/{prefix}")
        values |= {name: name.removeprefix(f"/{prefix}") for name in node.output}
    _rename_values(proto, values)


def name_nodes(proto: ModelProto) -> None:
    """Name the nodes of torch.export /submodule/path/Op, and values after them, as tracing does."""
    seen: dict[str, int] = {}
    values: dict[str, str] = {}
    for node in proto.graph.node:
        scope = _scope(node)
        if scope is None:
            continue
        path = "/".join(["", *filter(None, scope), node.op_type])
        count = seen.get(path, 0)
        seen[path] = count + 1
        node.name = f"{path}_{count}" if count else path
        values |= {name: f"{node.name}_output_{i}" for i, name in enumerate(node.output) if name}
    if not any(attribute.HasField("g") for n in proto.graph.node for attribute in n.attribute):
        _rename_values(proto, values)


def _rename_values(proto: ModelProto, names: dict[str, str]) -> None:
    for value in proto.graph.output:
        names.pop(value.name, None)
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in proto.graph.value_info:
        value.name = names.get(value.name, value.name)


def _scope(node: Any) -> tuple[str, ...] | None:
    """Return the submodules that made a node, outermost first, each by its own part of the path."""
    props = {p.key: p.value for p in getattr(node, "metadata_props", ())}
    written = props.get("pkg.torch.onnx.name_scopes")
    if written is None:
        return None
    paths = [str(path) for path in ast.literal_eval(written)][:-1]  # the last is the operator's
    parts = [
        path[len(outer) + 1 :] if outer and path.startswith(f"{outer}.") else path
        for outer, path in zip(["", *paths], paths, strict=False)
    ]
    return tuple(parts)


def name_parameters(onnx: ModuleType, proto: ModelProto, module: Any) -> None:
    """Restore the names of parameters that an exporter transposed and renamed."""
    kept = {tensor.name for tensor in proto.graph.initializer}
    lost = {
        _digest(value.detach().cpu().float().numpy().T): name
        for name, value in module.named_parameters()
        if name not in kept and value.dim() == 2
    }
    renamed = {}
    for tensor in proto.graph.initializer if lost else ():
        name = lost.pop(_digest(onnx.numpy_helper.to_array(tensor)), None)
        if name is not None:
            renamed[tensor.name] = name
            tensor.name = name
    if renamed:
        _rename_values(proto, renamed)


def _digest(array: Any) -> bytes:
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.blake2b(head + np.ascontiguousarray(array).tobytes()).digest()
