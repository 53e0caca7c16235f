# SPDX-License-Identifier: Apache-2.0
"""Network inputs and outputs: relabelling there is host work of no cost.

In: the Graph's inputs and outputs and the values that lowering found.  Out: Ports; a Move that only
permutes a network input is folded into its Port.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from ..ir import (
    ArgMax,
    Embedding,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    Shape,
    Tensor,
    op_inputs,
)
from .builder import Builder, Direct, Refused, Relabel, Value
from .view import View, default_groups, from_canonical, to_canonical, view_of


def declare_input(b: Builder, name: str) -> Port:
    """Register a network input in its usual form."""
    shape = b.graph.shapes[name]
    view = view_of(shape, default_groups(len(shape)))
    tensor = b.declare(name, view.canonical)
    b.values[name] = Direct(tensor, view)
    dtype = "int64" if name in b.graph.whole else "float32"
    return Port(name, shape, tensor, to_canonical(view), dtype=dtype)


def lower_embedding(b: Builder, node: Embedding) -> Value:
    """The host looks rows of the table up: an input port of its own."""
    ids, table = node.inputs
    if ids not in b.graph.inputs or table not in b.graph.constants:
        raise Refused(
            f"it looks up {ids!r} in {table!r}; allowed is a network input in a constant table"
        )
    shape = b.graph.shapes[node.output]
    view = view_of(shape, default_groups(len(shape)))
    tensor = b.declare(node.output, view.canonical)
    rows = np.asarray(b.graph.constants[table], np.float32)
    port = Port(ids, shape[:-1], tensor, to_canonical(view), dtype="int64", table=rows)
    b.ports.append(port)
    return Direct(tensor, view)


def output_port(b: Builder, name: str) -> Port:
    """The port of a network output; an ArgMax in front of it runs on the host."""
    node = b.producers.get(name)
    if isinstance(node, ArgMax):
        axis = node.axis % len(b.graph.shapes[node.inputs[0]])
        argmax = (axis, node.keepdims, node.select_last)
        port = _plain_port(b, node.inputs[0], name, b.graph.shapes[name])
        return replace(port, argmax=argmax, dtype=node.dtype)
    return _plain_port(b, name, name, b.graph.shapes[name])


def _plain_port(b: Builder, value_name: str, name: str, shape: Shape) -> Port:
    value = b.direct(b.value(value_name))
    tensor = value.tensor
    if tensor in b.graph.inputs or tensor in b.constants:
        tensor = b.identity(tensor, name, "")
    return Port(name, shape, tensor, from_canonical(value.view))


def fold_inputs(mg: MatGraph, relabels: dict[str, Relabel]) -> MatGraph:
    """Input ports whose tensor is only permuted deliver the permuted tensor at once."""
    uses = Counter(t for op in mg.ops for t in op_inputs(op))
    uses.update(port.tensor for port in mg.outputs)
    ops, tensors, ports = list(mg.ops), dict(mg.tensors), []
    quant = dict(mg.quant)
    for port in mg.inputs:
        move = next((op for op in ops if port.tensor in op_inputs(op)), None)
        if move is None or move.output not in relabels or uses[port.tensor] > 1:
            ports.append(port)
            continue
        view = permuted_input(port, relabels[move.output])
        tensors.pop(move.output)
        quant.pop(move.output, None)
        tensors[port.tensor] = Tensor(port.tensor, view.canonical)
        ops = [renamed(op, move.output, port.tensor) for op in ops if op is not move]
        ports.append(replace(port, steps=to_canonical(view)))
    outputs = tuple(_port_renamed(p, mg, relabels, tensors) for p in mg.outputs)
    return MatGraph(tuple(ports), outputs, tuple(ops), tensors, mg.constants, quant)


def _port_renamed(
    port: Port, mg: MatGraph, relabels: dict[str, Relabel], tensors: dict[str, Tensor]
) -> Port:
    if port.tensor in tensors:
        return port
    return replace(port, tensor=relabels[port.tensor].source)


def permuted_input(port: Port, relabel: Relabel) -> View:
    """The view of a network input after its Move: source shape, atoms as the Move sees them."""
    shape = port.shape if port.table is None else (*port.shape, port.table.shape[1])
    root = view_of(shape, default_groups(len(shape)))
    pieces: dict[int, list[int]] = {}
    fine = iter(relabel.view.order)
    for atom in root.order:
        held, parts = 1, []
        while held < root.atoms[atom]:
            parts.append(next(fine))
            held *= relabel.view.atoms[parts[-1]]
        pieces[atom] = parts
    order = [piece for atom in sorted(pieces) for piece in pieces[atom]]
    place = {piece: i for i, piece in enumerate(order)}
    dims = tuple(tuple(place[a] for a in dim) for dim in relabel.dims)
    return View(shape, tuple(relabel.view.atoms[a] for a in order), dims)


def renamed(op: MatOp, old: str, new: str) -> MatOp:
    """``op`` reading ``new`` wherever it read ``old``."""
    if isinstance(op, Move):
        return replace(op, inputs=tuple(new if t == old else t for t in op.inputs))
    x = new if op.input == old else op.input
    if isinstance(op, RowMax):
        return replace(op, input=x)
    e = op.epilogue
    epilogue = replace(
        e,
        residual=new if e.residual == old else e.residual,
        hadamard=new if e.hadamard == old else e.hadamard,
    )
    if isinstance(op, Gemm):
        return replace(op, input=x, epilogue=epilogue, rhs=new if op.rhs == old else op.rhs)
    return replace(op, input=x, epilogue=epilogue, minus=new if op.minus == old else op.minus)
