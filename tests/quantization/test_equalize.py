# SPDX-License-Identifier: Apache-2.0
"""Cross-layer equalisation: golden texts, exactness, and graphs that it must not change.

In: small networks with uneven channels.  Out: factors in weights; less error in integers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, feed
from golden_passes import check_texts, equalized, exact, same_values
from graph_text import graph_text
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Tensor, Window
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.recipe import as_numbers
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.equalize import equalize, migrate
from neuralmatrix.quantization.fake_quant import sample
from precision_nets import integer_error, ranges, runs, weak_spot
from targets import target


def scaled_rows(step: float, epilogue: Epilogue | None = None) -> MatGraph:
    """Return a window whose channels grow by ``step``, read by a product that compensates."""
    b = Maker()
    b.tensor("x", (1, 1, 24, 8))
    gamma = step ** np.arange(-4.0, 4.0)
    b.window("n", "x", weight=gamma.reshape(1, 1, 8), epilogue=epilogue or Epilogue())
    b.gemm("y", "n", 4)
    weight = b.ops[-1].weight  # type: ignore[union-attr]
    weight[:] = exact(1, 1, 1, 8, 4) / gamma.reshape(8, 1)  # type: ignore[index]
    return b.graph()


CASES = {
    "uneven_channels": scaled_rows(4.0),
    "kept_even_channels": scaled_rows(1.0),
    "kept_with_a_residual": scaled_rows(4.0, Epilogue("x")),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    mg = CASES[case]
    found = equalized(mg, [{"x": exact(seed, 1, 1, 24, 8)} for seed in (2, 3)])
    check_texts(request, f"equalize/{case}", graph_text(mg), graph_text(found))
    same_values(mg, found)


def uneven_norm() -> MatGraph:
    """Return a window like a normalisation's, with uneven channels, read by two Gemms."""
    b = Maker()
    b.tensor("x", (2, 1, 30, 32))
    gamma = np.geomspace(0.02, 20.0, 32).reshape(1, 1, 32)
    b.window("n", "x", weight=gamma)
    for name in ("a", "b"):
        b.gemm(name, "n", 16)
        b.ops[-1].weight[:] /= gamma.reshape(32, 1) ** 0.8  # type: ignore[union-attr]
    b.window("y", "a", epilogue=Epilogue("b"))
    return b.graph()


def test_migration_is_exact_and_reduces_the_error() -> None:
    mg = uneven_norm()
    factors = migrate(mg, sample(mg, runs(mg)))
    assert set(factors) == {"n"}
    recipe = replace(mg.recipe, factors=as_numbers(factors))
    better = equalize(replace(mg, recipe=recipe), target())
    x = feed(mg, 7)
    # float32 products of factors
    np.testing.assert_allclose(
        run_float(better, {"x": x})["y"], run_float(mg, {"x": x})["y"], rtol=1e-3, atol=1e-4
    )
    before = integer_error(mg, mg, ranges(mg))
    assert integer_error(better, mg, ranges(better)) < 0.7 * before


def test_migration_leaves_even_channels_alone() -> None:
    mg = weak_spot()
    even = replace(mg, ops=tuple(
        replace(op, weight=np.ones((1, 1, 24))) if op.output == "b" else op for op in mg.ops
    ))  # fmt: skip
    assert "b" not in migrate(even, sample(even, runs(even)))


@pytest.mark.parametrize("epilogue", [Epilogue("x"), Epilogue(activation=Function("tanh"))])
def test_what_is_not_proportional_to_its_weights_is_not_scaled(epilogue: Epilogue) -> None:
    mg = uneven_norm()
    mg = replace(mg, ops=(replace(mg.ops[0], epilogue=epilogue), *mg.ops[1:]))
    assert migrate(mg, sample(mg, runs(mg))) == {}


def test_what_others_read_is_not_scaled() -> None:
    mg = uneven_norm()
    reader = Window("z", "n", np.ones((1, 1, 1)), np.zeros(32))
    mg = replace(
        mg, ops=(*mg.ops, reader), tensors={**mg.tensors, "z": Tensor("z", (2, 1, 30, 32))}
    )
    assert migrate(mg, sample(mg, runs(mg))) == {}
