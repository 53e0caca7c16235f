# SPDX-License-Identifier: Apache-2.0
"""A program that spends much on moving data says so, and names the layers.

In: small networks with and without costly Moves.  Out: notes.
"""

from __future__ import annotations

import re

import neuralmatrix as nm
import numpy as np
from build_onnx import model, node
from neuralmatrix.program.move_notes import SHARE, move_notes


def compiled(*nodes: object) -> nm.Program:
    weight = np.random.default_rng(0).normal(size=(16, 16, 1, 1)).astype(np.float32)
    net = model(nodes, {"x": (1, 16, 12, 12)}, ["y"], {"w": weight})  # type: ignore[arg-type]
    x = np.random.default_rng(1).normal(size=(1, 16, 12, 12)).astype(np.float32)
    return nm.compile(net, calibration=[{"x": x}], accuracy=False)


def test_a_network_without_moves_has_no_note() -> None:
    program = compiled(node("Conv", ["x", "w"], ["c"]), node("Relu", ["c"], ["y"]))
    assert move_notes(program) == () and not any("moves" in note for note in program.notes)


def test_moves_over_a_tenth_of_the_cycles_are_noted() -> None:
    nodes = [node("Conv", ["x", "w"], ["c"]),
             node("Transpose", ["c"], ["turned"], perm=[0, 2, 1, 3]),
             node("Conv", ["turned", "v"], ["y"])]  # fmt: skip
    weights = {n: np.random.default_rng(0).normal(size=(16, c, 1, 1)).astype(np.float32)
               for n, c in (("w", 16), ("v", 12))}  # fmt: skip
    net = model(nodes, {"x": (1, 16, 12, 12)}, ["y"], weights)
    x = np.random.default_rng(1).normal(size=(1, 16, 12, 12)).astype(np.float32)
    program = nm.compile(net, calibration=[{"x": x}], accuracy=False)
    (note,) = (note for note in program.notes if "of data cost" in note)
    layers = program.estimate().layers
    (move,) = (row for row in layers if row.kind == "Move")
    share = move.cycles / program.estimate().cycles
    assert share > SHARE and f"cost {100 * share:.0f} % of" in note
    assert move.name == "turned" and re.search(r"\(turned of Transpose:turned \d+ %\)", note)
