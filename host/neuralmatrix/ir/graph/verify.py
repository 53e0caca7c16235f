# SPDX-License-Identifier: Apache-2.0
"""The verifier of a Graph, and its text.

In: a Graph.  Out: the same Graph, or BadModel; a text form for people and for comparing stages.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import BadModel
from ..types import Array, Shape
from .nodes import Graph, Node
from .operators import ShapeError, infer_shape


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise BadModel(message)


def _verify_node(node: Node, graph: Graph, defined: set[str]) -> None:
    where = f"{type(node).__name__} {node.output!r} (source {node.source!r})"
    for name in filter(None, node.inputs):
        _check(name in defined, f"{where} reads {name!r} before anything defines it")
    _check(node.output not in defined, f"{where} defines a name that exists already")
    try:
        shape = infer_shape(node, graph.shapes)
    except ShapeError as error:
        raise BadModel(f"{where}: {error}") from None
    known = graph.shapes.get(node.output)
    _check(shape == known, f"{where} has shape {shape}, but the graph says {known}")
    _check(0 not in shape, f"{where} is empty: shape {shape}")


def verify_graph(graph: Graph) -> Graph:
    """Return the graph if every name, shape and constant in it is consistent; else BadModel."""
    for name, array in graph.constants.items():
        shape = graph.shapes.get(name)
        _check(array.shape == shape, f"constant {name!r} is {array.shape}, not {shape}")
        bad = count_not_finite(array)
        _check(
            not bad,
            f"constant {name!r}: {bad} of {array.size} values are NaN or infinite; allowed are "
            "finite numbers; correct the weights and export the model again",
        )
    defined = {*graph.inputs, *graph.constants}
    for node in graph.nodes:
        _verify_node(node, graph, defined)
        defined.add(node.output)
    for name in graph.outputs:
        _check(name in defined, f"nothing defines the output {name!r}")
    for name in {*graph.quant, *graph.weight_scales}:
        _check(name in defined, f"a quantisation is given for {name!r}, which does not exist")
    return graph


def count_not_finite(array: Array) -> int:
    """Return how many values are NaN or infinite, without a copy the size of the array."""
    if array.dtype.kind != "f":
        return 0
    flat, step = array.ravel(order="K"), 1 << 22  # a view, also of a transposed array
    parts = (flat[i : i + step] for i in range(0, flat.size, step))
    return sum(int(np.count_nonzero(~np.isfinite(part))) for part in parts)


# ---------------------------------------------------------------- text


def _attributes(node: Node) -> str:
    values = {k: v for k, v in vars(node).items() if k not in ("inputs", "output", "source")}
    return " ".join(f"{k}={_short(v)}" for k, v in values.items())


def _short(value: Any) -> str:
    text = f"{value.name}{value.params}" if hasattr(value, "params") else str(value)
    return text if len(text) <= 80 else f"{text[:70]}...({len(text)} characters)"


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def to_text(graph: Graph) -> str:
    """Return one line per input, constant and node, for people and for comparing stages."""
    lines = [f"opset {graph.opset}"]
    lines += [f"input {name}: {_size(graph.shapes[name])}" for name in graph.inputs]
    lines += [f"constant {name}: {_size(graph.shapes[name])}" for name in graph.constants]
    for node in graph.nodes:
        q = graph.quant.get(node.output)
        note = (
            f" [scale {q.scale:.6g} zero {q.zero_point}{' int16' if q.int16 else ''}]" if q else ""
        )
        lines.append(
            f"{node.output}: {_size(graph.shapes[node.output])}{note} = {type(node).__name__}"
            f"({', '.join(node.inputs)}) {_attributes(node)}".rstrip()
        )
    return "\n".join([*lines, f"outputs {', '.join(graph.outputs)}", ""])
