# SPDX-License-Identifier: Apache-2.0
"""The tensors of a spectrum that are int16 at any precision.

In: MatGraphs with arithmetic of logarithms.  Out: logarithms, and all that they are made of.
"""

from __future__ import annotations

from blocks import Maker
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.matgraph.predicates import is_square
from neuralmatrix.ir.matgraph.spectra import logarithms, wide_tensors
from neuralmatrix.ir.matgraph.uses import Uses
from neuralmatrix.ir.types import Function


def act(name: str, **more: object) -> Epilogue:
    return Epilogue(activation=Function(name), **more)  # type: ignore[arg-type]


def network() -> MatGraph:
    """Return conv(log|x a b|), after a ReLU and with a square of its own."""
    b = Maker()
    b.tensor("x", (1, 1, 6, 8))
    b.gemm("r", "x", 8, epilogue=act("relu"))
    b.gemm("t", "r", 8)
    b.gemm("a", "t", 8, epilogue=act("abs"))
    b.window("l", "a", epilogue=act("log_floor"))
    b.window("s", "l", epilogue=act("log_sum"))
    b.window("m", "s", epilogue=Epilogue("l"))
    b.window("q", "x", epilogue=Epilogue(hadamard="x"))
    b.gemm("y", "m", 8, epilogue=Epilogue("q"))
    return b.graph()


def test_logarithms_are_those_of_the_functions_and_their_sums() -> None:
    assert logarithms(network()) == {"l", "s", "m"}


def test_what_they_are_made_of_is_wide_back_to_a_function() -> None:
    mg = network()
    assert wide_tensors(mg, Uses.of(mg)) == {"l", "s", "m", "a", "t", "r"}


def test_a_square_is_a_product_with_itself() -> None:
    assert [op.output for op in network().ops if is_square(op)] == ["q"]
