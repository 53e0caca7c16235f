# SPDX-License-Identifier: Apache-2.0
"""Statistics over too many channels are added up in slices, which are addresses alone.

In: small graphs and small limits.  Out: the same real values; operations; programs without copies.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from blocks import Maker, layer_norm
from golden_passes import BOARD, PASSES, feeds_for, same_values
from neuralmatrix.hardware.isa import Opcode
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move, Window
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.types import Function, QParams
from neuralmatrix.quantization.integer_row_statistics import LARGEST_VALUE
from neuralmatrix.transforms.matgraph.split_wide import MOST_CHANNELS, split_wide
from schedule_rig import instructions, once, program_of

SHAPE = (1, 2, 3, 150)


def softmax(read: bool = True) -> MatGraph:
    b = Maker()
    b.tensor("x", SHAPE)
    (row,) = b.rows(SHAPE, ("sum", "total"))
    b.window("e", "x", epilogue=Epilogue(activation=Function("exp"), rows=(row,)))
    b.window("inverse", "total", epilogue=Epilogue(activation=Function("reciprocal")))
    b.window("y", "e" if read else "x", epilogue=Epilogue(hadamard="inverse"))
    return b.graph()


def operands() -> MatGraph:
    """Constants and tensors of all channels, one of them a row's, beside a sum."""
    b = Maker()
    b.tensor("x", SHAPE)
    b.constant("c", b.rng.standard_normal((1, 1, 1, SHAPE[3])))
    b.window("g", "x", weight=b.rng.standard_normal((1, 1, SHAPE[3])))
    (mean,) = b.rows(SHAPE, ("mean", "mean"))
    b.window("d", "g", epilogue=Epilogue("c", 0.5, Function("tanh"), "x", (mean,)))
    (total,) = b.rows(SHAPE, ("sum", "total"))
    weight = np.full((1, 1, SHAPE[3]), 0.7)
    bias = b.rng.standard_normal(SHAPE[3])
    b.window("m", "d", weight=weight, minus="mean", bias=bias, epilogue=Epilogue(rows=(total,)))
    b.window("y", "m", epilogue=Epilogue(hadamard="total"))
    return b.graph()


def keys(transposed: bool) -> MatGraph:
    """Powers of scores over 150 keys."""
    b = Maker()
    b.tensor("x", (2, 1, 150, 20))
    rows = 150 if transposed else 20
    (row,) = b.rows((2, 1, rows, 150), ("sum", "total"))
    e = Epilogue(activation=Function("sigmoid"), rows=(row,))
    if transposed:
        b.product("e", "x", "x", 150, rhs_transposed=True, gain=0.1, epilogue=e)
    else:
        b.tensor("x", (2, 1, 20, 20))
        b.gemm("k", "x", 150)
        b.product("e", "x", "k", 150, gain=0.1, epilogue=e)
    b.window("y", "e", epilogue=Epilogue(hadamard="total"))
    return b.graph()


CASES: dict[str, Callable[[], MatGraph]] = {
    "softmax": softmax,
    "of which no more is read": partial(softmax, False),
    "moments of a product": partial(layer_norm, SHAPE),
    "moments of a window": partial(layer_norm, (2, 1, 3, 150), direct=False),
    "operands": operands,
    "keys": partial(keys, True),
    "columns": partial(keys, False),
}


def split(mg: MatGraph, most: int = 64) -> MatGraph:
    return verify_matgraph(split_wide(mg, BOARD.target, most))


@pytest.mark.parametrize("most", [149, 64, 48])
@pytest.mark.parametrize("case", CASES)
def test_real_values_stay_the_same(case: str, most: int) -> None:
    mg = CASES[case]()
    found = split(mg, most)
    same_values(mg, found)
    sums = [op for op in found.ops if op.epilogue.rows]
    assert len(sums) > 1
    assert all(found.tensors[op.output].shape[3] <= most for op in sums)


@pytest.mark.parametrize("case", ["softmax", "operands", "moments of a product"])
def test_slices_are_addresses(case: str) -> None:
    """The only layers are those of the slices and the sums; every result is stored once."""
    mg = CASES[case]()
    program = program_of(split(mg))
    assert "Move" not in {layer.kind for layer in program.layers}
    assert once(program, "y")
    joined = {op.output for op in split(mg).ops if isinstance(op, Move)}
    assert joined and joined.isdisjoint(layer.name for layer in program.layers)


def test_within_the_limit_nothing_changes() -> None:
    for case in CASES.values():
        mg = case()
        assert split_wide(mg, BOARD.target, 150) is mg
        assert PASSES["split_wide"](mg, BOARD.target) is mg


def test_the_limit_is_that_of_32_bits() -> None:
    assert MOST_CHANNELS * LARGEST_VALUE < 2**31 <= (MOST_CHANNELS + 1) * LARGEST_VALUE


def test_maxima_have_no_limit() -> None:
    b = Maker()
    b.tensor("x", SHAPE)
    (row,) = b.rows(SHAPE, ("max", "top"))
    b.gemm("g", "x", 150, epilogue=Epilogue(rows=(row,)))
    b.window("y", "g", epilogue=Epilogue("top", -1.0))
    mg = b.graph()
    assert split_wide(mg, BOARD.target, 64) is mg


def test_prescribed_scales_and_weights_follow_their_channels() -> None:
    mg = softmax()
    given = MatGraph(mg.inputs, mg.outputs, mg.ops, mg.tensors, mg.constants, {"e": QParams(0.1)})
    found = split(given)
    assert [found.quant[name] for name in ("e:0", "e:64", "e:128")] == [QParams(0.1)] * 3
    scales = np.arange(1, 151) / 100
    b = Maker()
    b.tensor("x", SHAPE)
    (row,) = b.rows(SHAPE, ("sum", "total"))
    b.gemm("g", "x", 150, weight_scale=scales, epilogue=Epilogue(rows=(row,)))
    b.window("y", "g", epilogue=Epilogue(hadamard="total"))
    gemms = [op for op in split(b.graph()).ops if isinstance(op, Gemm)]
    parts = [op.weight_scale for op in gemms if op.weight_scale is not None]
    np.testing.assert_array_equal(np.concatenate(parts), scales)


def test_slices_of_one_tensor_are_shared() -> None:
    """The window and its operand read the same slices of x."""
    found = split(operands())
    moves = [op for op in found.ops if isinstance(op, Move) and op.parts == ("x",)]
    assert len(moves) == 3
    assert all(isinstance(op, Window | Move) for op in found.ops)


def test_statistics_that_a_program_adds_up_are_stored_apart() -> None:
    program = program_of(split(softmax()))
    names = {point.tensor.name for point in program.watchpoints}
    assert {"total:0", "total:64", "total:128", "total"} <= names
    assert instructions(program, Opcode.STORE)
    assert feeds_for(softmax()).keys() == {"x"}
