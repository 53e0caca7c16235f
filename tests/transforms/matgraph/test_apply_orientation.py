# SPDX-License-Identifier: Apache-2.0
"""Every orientation of the matrices gives the same results."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from blocks import Maker
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move, Port
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.types import Function
from neuralmatrix.transforms.matgraph.apply_orientation import (
    apply_orientation,
    without_transpositions,
)

ROWS, HIDDEN, DEPTH = 5, 6, 7


def network() -> MatGraph:
    """Return z = relu(x W + b)^T x + c, and a product that reads z as declared."""
    b = Maker()
    b.tensor("x", (1, 1, ROWS, DEPTH))
    relu = Epilogue(activation=Function("relu"))
    b.gemm("h", "x", HIDDEN, bias=np.linspace(-1, 1, HIDDEN), epilogue=relu)
    index = np.arange(ROWS * HIDDEN).reshape(ROWS, HIDDEN).T[None, None]
    b.ops.append(Move("t", ("h",), np.ascontiguousarray(index)))
    b.tensor("t", (1, 1, HIDDEN, ROWS))
    b.product("z", "t", "x", DEPTH, bias=np.linspace(0, 1, DEPTH))
    b.gemm("y", "z", 3)
    inputs = (Port("x", (1, 1, ROWS, DEPTH), "x", ()),)
    outputs = tuple(Port(name, b.tensors[name].shape, name, ()) for name in ("y", "t"))
    return MatGraph(inputs, outputs, tuple(b.ops), b.tensors, b.constants)


@pytest.mark.parametrize("flips", list(product((False, True), repeat=4)))
def test_results_stay(flips: tuple[bool, ...]) -> None:
    mg = network()
    net = without_transpositions(mg)
    assert [op.output for op in net.ops] == ["h", "z", "y"]
    assert net.root("t") == ("h", True)
    bits = dict(zip(("x", "h", "z", "y"), flips, strict=True))
    made = verify_matgraph(apply_orientation(net, bits))
    for name, flipped in bits.items():
        shape = mg.tensors[name].shape
        wanted = (*shape[:2], shape[3], shape[2]) if flipped else shape
        assert made.tensors[name].shape == wanted
    feeds = {"x": np.random.default_rng(1).standard_normal((1, 1, ROWS, DEPTH))}
    wanted, found = (port_outputs(g, run_float(g, feeds)) for g in (mg, made))
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-5, atol=1e-5)
