# SPDX-License-Identifier: Apache-2.0
"""The part of an ONNX model between some of its values.

In: a ModelProto, values that become inputs, values that become outputs.  Out: a ModelProto.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ...ir.types import Array
from .load import captured_names, require_onnx

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def cut(proto: ModelProto, inputs: Mapping[str, Array], outputs: Sequence[str]) -> ModelProto:
    """Return the model that computes ``outputs``; of values named in ``inputs`` it takes arrays of
    that shape and type instead of computing them.  It is ``proto`` itself where nothing changes."""
    onnx = require_onnx()
    ends = [value.name for value in proto.graph.output]
    if ends == list(outputs) and set(inputs) <= {value.name for value in proto.graph.input}:
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    graph = made.graph
    own = {value.name for value in graph.input}
    for name, example in inputs.items():
        if name not in own:
            kind = onnx.helper.np_dtype_to_tensor_dtype(example.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(name, kind, example.shape))
    declared = {value.name: value for value in proto.graph.output}
    kept = _needed(graph.node, set(outputs), set(inputs))
    read = {name for node in kept for name in _reads(node)} | set(outputs)
    del graph.node[:], graph.output[:]
    graph.node.extend(kept)
    graph.output.extend(declared.get(n) or onnx.ValueInfoProto(name=n) for n in outputs)
    for value in [v for v in graph.input if v.name not in read]:
        graph.input.remove(value)
    return made


def _needed(nodes: Sequence[NodeProto], wanted: set[str], given: set[str]) -> list[NodeProto]:
    """Return the nodes that ``wanted`` depends on, in their own order."""
    makers = {name: node for node in nodes for name in node.output if name}
    found: dict[int, NodeProto] = {}
    todo = [name for name in wanted if name not in given]
    while todo:
        node = makers.get(todo.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            todo += [name for name in _reads(node) if name not in given]
    copies = []
    for node in nodes:
        if id(node) in found:
            copy = type(node)()
            copy.CopyFrom(node)
            copies.append(copy)
    return copies


def _reads(node: NodeProto) -> set[str]:
    graphs = [graph for a in node.attribute for graph in (a.g, *a.graphs) if graph.node]
    inner = {name for graph in graphs for name in captured_names(graph)}
    return {name for name in node.input if name} | inner
