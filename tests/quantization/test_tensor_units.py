# SPDX-License-Identifier: Apache-2.0
"""Units of tensors: compressed, saved, and followed through Moves.

In: arrays of divisors.  Out: ``Units`` by name.
"""

from __future__ import annotations

import numpy as np
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import MatGraph, Move
from neuralmatrix.ir.types import Units
from neuralmatrix.quantization.tensor_units import as_units, compressed, units_of, varies


def test_compressed_arrays_broadcast_to_the_same() -> None:
    rng = np.random.default_rng(0)
    for shape in [(1, 1, 1, 5), (2, 1, 4, 1), (1, 1, 1, 1), (2, 3, 4, 5)]:
        whole = np.broadcast_to(rng.random(shape), (2, 3, 4, 5))
        assert compressed(whole).shape == shape
        np.testing.assert_array_equal(np.broadcast_to(compressed(whole), whole.shape), whole)
        assert varies(compressed(whole)) == (shape[:3] != (1, 1, 1))
    assert compressed(np.array([[0.1 * 3, 0.3]])).size == 1  # quotients are rounded


def chain() -> MatGraph:
    b = Maker()
    b.tensor("x", (2, 1, 1, 3))
    b.ops.append(Move("a", ("x",), np.array([5, 4, 3, -1]).reshape(1, 1, 4, 1)))
    b.tensor("a", (1, 1, 4, 1))
    b.ops.append(Move("y", ("a", "a"), np.array([0, 3, 4, 0]).reshape(1, 1, 1, 4)))
    b.tensor("y", (1, 1, 1, 4))
    return b.graph()


def test_moves_pass_units_on() -> None:
    given = as_units(
        {"x": np.array([1.0, 2.0]).reshape(2, 1, 1, 1)},
        {"x": np.arange(3.0).reshape(1, 1, 1, 3)},
    )
    assert given == (("x", Units((2, 1, 1, 3), (1.0,) * 3 + (2.0,) * 3, (0.0, 1.0, 2.0) * 2)),)
    found = units_of(chain(), given)
    assert found["a"] == Units((1, 1, 4, 1), (2.0, 2.0, 2.0, 1.0), (2.0, 1.0, 0.0, 0.0))
    assert found["y"] == Units((1, 1, 1, 4), (2.0, 1.0, 2.0, 2.0), (2.0, 0.0, 2.0, 2.0))


def test_units_that_change_nothing_are_none() -> None:
    assert as_units({"x": np.ones((1, 1, 1, 3)), "y": np.ones((1, 1, 1, 1))}) == ()
    assert units_of(chain(), ()) == {}
