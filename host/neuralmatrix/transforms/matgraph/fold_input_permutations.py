# SPDX-License-Identifier: Apache-2.0
"""Moves that only permute a network input become steps of its Port, which the host runs.

In: a MatGraph.  Out: a MatGraph without such Moves.
"""

from __future__ import annotations

from dataclasses import replace

from ...hardware.target import Target
from ...ir.axis_view import Relabel, View, to_canonical, view_of_steps
from ...ir.matgraph.ops import MatGraph, Move, Port, Tensor
from ...ir.matgraph.rewrite import renamed
from ...ir.matgraph.uses import Uses
from ...ir.types import Shape


def fold_input_permutations(mg: MatGraph, target: Target) -> MatGraph:
    """Fold permutations of network inputs into their ports."""
    uses = Uses.of(mg)
    tensors, ports, folded = dict(mg.tensors), [], dict[str, str]()
    for port in mg.inputs:
        move = next(iter(uses.readers(port.tensor)), None)
        relabel = move.relabel if isinstance(move, Move) else None
        if move is None or relabel is None or uses.count(port.tensor) > 1:
            ports.append(port)
            continue
        view = permuted_input(port, tensors[port.tensor].shape, relabel)
        folded[move.output] = port.tensor
        tensors[port.tensor] = Tensor(port.tensor, view.canonical)
        ports.append(replace(port, steps=to_canonical(view)))
    return replace(
        mg,
        inputs=tuple(ports),
        outputs=tuple(replace(p, tensor=folded.get(p.tensor, p.tensor)) for p in mg.outputs),
        ops=renamed((op for op in mg.ops if op.output not in folded), folded),
        tensors={name: t for name, t in tensors.items() if name not in folded},
        quant={name: q for name, q in mg.quant.items() if name not in folded},
    )


def permuted_input(port: Port, tensor: Shape, relabel: Relabel) -> View:
    """Return the view of a network input after its Move: source shape, atoms of the Move."""
    shape = port.shape if port.table is None else (*port.shape, port.table.shape[1])
    root = view_of_steps(shape, port.steps, tensor)
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
