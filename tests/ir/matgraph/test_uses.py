# SPDX-License-Identifier: Apache-2.0
"""The def-use index against a scan of the whole graph for every answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from neuralmatrix.ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    RowMax,
    RowStat,
    Window,
)
from neuralmatrix.ir.matgraph.uses import Uses
from random_matgraphs import ONE, SHAPE, random_matgraphs


def operands(op: MatOp) -> list[str]:
    """Return the names that an operation reads, listed for each kind."""
    if isinstance(op, Move):
        return list(op.parts)
    if isinstance(op, RowMax):
        return [op.input]
    assert isinstance(op, Gemm | Window)
    second = op.rhs if isinstance(op, Gemm) else op.minus
    names = (op.input, second, op.epilogue.residual, op.epilogue.hadamard)
    return [name for name in names if name is not None]


def results(op: MatOp) -> list[str]:
    rows = op.epilogue.rows if isinstance(op, Gemm | Window) else ()
    return [op.output, *(row.tensor for row in rows)]


@given(random_matgraphs())
def test_the_index_says_what_a_scan_finds(mg: MatGraph) -> None:
    uses = Uses.of(mg)
    ports = [port.tensor for port in mg.outputs]
    for name in (*mg.tensors, "a name that the graph does not have"):
        reading = [op for op in mg.ops if name in operands(op)]
        making = [op for op in mg.ops if name in results(op)]
        count = sum(operands(op).count(name) for op in mg.ops) + ports.count(name)
        private = count == 1 and len(reading) == 1 and name not in ports and name not in mg.quant
        found = uses.readers(name)
        assert len(found) == len(reading)
        assert all(a is b for a, b in zip(found, reading, strict=True))
        assert uses.maker(name) is (making[0] if making else None)
        assert uses.count(name) == count
        assert uses.prescribed(name) == (name in mg.quant)
        assert uses.fixed(name) == (name in ports or name in mg.quant)
        assert uses.private(name) == private
        assert uses.only_reader(name) is (reading[0] if private else None)


@given(random_matgraphs())
def test_operations_list_what_they_read_and_write(mg: MatGraph) -> None:
    for op in mg.ops:
        assert list(op.inputs) == operands(op)
        assert list(op.outputs) == results(op)


def test_a_tensor_that_one_operation_reads_twice_is_not_private() -> None:
    square = Window("y", "x", ONE, ONE, epilogue=Epilogue(hadamard="x"))
    uses = Uses([square])
    assert uses.readers("x") == (square,)
    assert uses.count("x") == 2
    assert not uses.private("x")


def test_a_row_statistic_is_made_by_the_operation_of_its_rows() -> None:
    made = Window("y", "x", ONE, ONE, epilogue=Epilogue(rows=(RowStat("max", "m"),)))
    read = RowMax("z", "m")
    uses = Uses([made, read], shown=["z"])
    assert uses.maker("m") is made
    assert uses.only_reader("m") is read
    assert not uses.private("z")


def test_renaming_reaches_every_name_of_an_operation() -> None:
    names = {name: name.upper() for name in "xyrhcm"}
    epilogue = Epilogue("r", 2.0, hadamard="h", rows=(RowStat("max", "m"),))
    gemm = Gemm("y", "x", None, ONE, rhs="c", epilogue=epilogue, gain=3.0, source="layer")
    window = Window("y", "x", ONE, ONE, minus="c", epilogue=epilogue, reduce="add")
    for op in (gemm, window):
        new = op.renamed(names)
        assert type(new) is type(op)
        assert (new.inputs, new.outputs) == (("X", "C", "R", "H"), ("Y", "M"))
        assert new.epilogue.residual_gain == 2.0
    assert (gemm.renamed(names).gain, gemm.renamed(names).source) == (3.0, "layer")
    move = Move("y", ("x", "other", "x"), np.zeros(SHAPE, np.int64), 0.5).renamed(names)
    assert (move.parts, move.output, move.fill) == (("X", "other", "X"), "Y", 0.5)
    assert RowMax("y", "x").renamed(names) == RowMax("Y", "X")
