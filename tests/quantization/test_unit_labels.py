# SPDX-License-Identifier: Apache-2.0
"""Labels of the parts of tensors: what may differ, and what is tied.

In: small graphs.  Out: how many labels a tensor has, and which tensors share them.
(``test_apply_units`` checks on random graphs that every choice of divisors can be absorbed.)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from blocks import Maker, attention, layer_norm
from neuralmatrix.ir.matgraph.facts import facts_of
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move
from neuralmatrix.ir.types import Array, Function, QParams
from neuralmatrix.quantization.split_scales import scale_groups
from neuralmatrix.quantization.unit_labels import FIXED, labels_of

MANY = 64  # samples
TANH = Function("tanh")


def labels(mg: MatGraph, runs: int = MANY, whole: tuple[str, ...] = ()) -> dict[str, Array]:
    return labels_of(mg, facts_of(mg, scale_groups(mg)), runs, whole)


def one_op(**fields: Any) -> dict[str, Array]:
    """Return the labels around a product of x (1,1,3,4), with "r" and "u" of the same shape."""
    b = Maker()
    b.tensor("x", (1, 1, 3, 4))
    b.gemm("r", "x", 4)
    b.gemm("u", "x", 4)
    b.gemm("y", "x", 4, epilogue=Epilogue(**fields))
    return labels(b.graph())


@pytest.mark.parametrize(
    ("fields", "kinds", "tied"),
    [
        ({}, 4, ""),
        ({"activation": Function("relu")}, 4, ""),
        ({"activation": TANH}, 1, ""),
        ({"activation": Function("clip", (0.0, 6.0))}, 1, ""),
        ({"residual": "r"}, 4, "r"),
        ({"residual": "r", "activation": Function("clip", (0.0, 6.0))}, 1, "r"),
        ({"residual": "r", "hadamard": "u"}, 4, "u"),
        ({"hadamard": "u"}, 4, ""),
        ({"hadamard": "u", "activation": TANH}, 4, "u"),
    ],
)
def test_what_a_product_ties(fields: dict[str, Any], kinds: int, tied: str) -> None:
    found = one_op(**fields)
    assert found["y"].size == kinds and found["x"].size == 4
    for other in "ru":
        assert np.array_equal(found["y"], found[other]) == (other == tied)


def joined(axis: int, **fields: Any) -> MatGraph:
    """Return two products, joined along an axis, in front of a window."""
    b = Maker()
    b.tensor("x", (1, 1, 3, 4))
    b.gemm("a", "x", 4)
    b.gemm("b", "x", 4, epilogue=Epilogue(activation=TANH))
    index = np.concatenate([np.arange(24).reshape(2, 3, 4)[i] for i in (0, 1)], axis - 2)
    shape = (1, 1, *index.shape)
    b.ops.append(Move("j", ("a", "b"), index.reshape(shape)))
    b.tensor("j", shape)
    b.window("y", "j", **fields)
    return b.graph()


def test_moves_carry_labels() -> None:
    found = labels(joined(3))
    assert found["j"].shape == (1, 1, 1, 8)
    np.testing.assert_array_equal(found["j"][0, 0, 0, :4], found["a"].ravel())
    assert set(found["j"][0, 0, 0, 4:]) == set(found["b"].ravel())


@pytest.mark.parametrize(
    ("fields", "shape"),
    [
        ({}, (1, 1, 6, 4)),
        ({"bias": np.ones(4)}, (1, 1, 6, 4)),
        ({"epilogue": Epilogue(activation=TANH)}, (1, 1, 1, 1)),
        ({"weight": np.ones((1, 3, 1)), "pads": (0, 1, 0, 1)}, (1, 1, 1, 4)),
    ],
)
def test_elementwise_operations_pass_units_of_positions_on(
    fields: dict[str, Any], shape: tuple[int, ...]
) -> None:
    found = labels(joined(2, **fields))
    assert found["y"].shape == shape


def test_parts_of_an_input_that_moves_read() -> None:
    b = Maker()
    b.tensor("x", (2, 1, 1, 4))
    for i, name in enumerate("hy"):
        b.ops.append(Move(name, ("x",), np.arange(4 * i, 4 * i + 4).reshape(1, 1, 1, 4)))
        b.tensor(name, (1, 1, 1, 4))
    assert labels(b.graph())["x"].shape == (2, 1, 1, 4)
    assert labels(b.graph(), runs=1)["x"].shape == (2, 1, 1, 1)  # too few values per channel


def test_steps_that_share_weights_share_units() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 3, 4))
    before = "x"
    for name in ("a", "b", "y"):
        b.gemm(name, before, 4)
        b.ops[-1].weight[:] = b.ops[0].weight  # type: ignore[union-attr,index]
        before = name
    found = labels(b.graph())
    for name in ("a", "b", "y"):
        np.testing.assert_array_equal(found[name], found["x"])


def test_a_constant_left_operand_absorbs_units_of_rows() -> None:
    b = Maker()
    b.tensor("x", (1, 1, 5, 4))
    b.constant("k", np.ones((1, 1, 3, 5)))
    b.product("y", "k", "x", 4)
    assert labels(b.graph())["x"].shape == (1, 1, 5, 1)


def test_what_must_stay() -> None:
    mg = attention(mask="add")
    found = labels(mg)
    for name in ("s", "max", "e", "sum"):
        assert found[name].ravel().tolist() == [FIXED]
    norm = layer_norm()
    stats = [row.tensor for op in norm.ops for row in op.epilogue.rows]
    assert stats and all(labels(norm)[name].ravel().tolist() == [FIXED] for name in stats)
    b = Maker()
    b.tensor("x", (1, 1, 3, 4))
    b.gemm("y", "x", 4)
    prescribed = labels(b.graph({"x": QParams(1.0)}))
    assert prescribed["x"].ravel().tolist() == [FIXED]
    assert labels(b.graph(), whole=("y",))["y"].ravel().tolist() == [FIXED]
