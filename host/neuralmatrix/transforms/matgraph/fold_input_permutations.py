# SPDX-License-Identifier: Apache-2.0
"""A Move that only permutes a network input is folded into its Port: the host does it at no cost.

In: a MatGraph.  Out: a MatGraph without such Moves.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ...hardware.target import Target
from ...ir.axis_view import Relabel, View, default_groups, to_canonical, view_of
from ...ir.matgraph.ops import MatGraph, Move, Port, Tensor


def fold_input_permutations(mg: MatGraph, target: Target) -> MatGraph:
    """Input ports whose tensor is only permuted deliver the permuted tensor at once."""
    uses = Counter(t for op in mg.ops for t in op.inputs)
    uses.update(port.tensor for port in mg.outputs)
    ops, tensors, ports = list(mg.ops), dict(mg.tensors), []
    quant, folded = dict(mg.quant), dict[str, str]()
    for port in mg.inputs:
        move = next((op for op in ops if port.tensor in op.inputs), None)
        relabel = move.relabel if isinstance(move, Move) else None
        if move is None or relabel is None or uses[port.tensor] > 1:
            ports.append(port)
            continue
        view = permuted_input(port, relabel)
        tensors.pop(move.output)
        folded[move.output] = port.tensor
        quant.pop(move.output, None)
        tensors[port.tensor] = Tensor(port.tensor, view.canonical)
        ops = [op.renamed({move.output: port.tensor}) for op in ops if op is not move]
        ports.append(replace(port, steps=to_canonical(view)))
    outputs = tuple(replace(p, tensor=folded.get(p.tensor, p.tensor)) for p in mg.outputs)
    return MatGraph(tuple(ports), outputs, tuple(ops), tensors, mg.constants, quant)


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
