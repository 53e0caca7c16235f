# SPDX-License-Identifier: Apache-2.0
"""Constants added per channel move into the biases of the readers.

In: small graphs.  Out: golden texts before and after the pass; the same values.
"""

from __future__ import annotations

import pytest
from golden_passes import check_pass, exact
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Concat,
    Conv,
    MatMul,
    Normalize,
    Reshape,
    Slice,
    Transpose,
)
from neuralmatrix.ir.matgraph.ops import MatGraph, Window
from norm_graphs import make, norm

ROWS = {"x": (1, 3, 8)}
SMALL = {"w": exact(1, 8, 4), "gamma": exact(2, 8), "beta": exact(3, 8)}
NORM = Normalize(("x", "gamma", "beta"), "n", "n.node", (2,), 1e-5)
CASES = {
    "into_a_product": graph([NORM, MatMul(("n", "w"), "y")], ROWS, SMALL),
    "through_a_move": graph(
        [NORM, Slice(("n",), "s", slices=((0, None, 1), (1, None, 1), (0, None, 1))),
         MatMul(("s", "w"), "y")],
        ROWS, SMALL,
    ),
    "into_a_residual": graph(
        [NORM, MatMul(("x", "v"), "h"), Binary(("h", "n"), "y")], 
        ROWS, {**SMALL, "v": exact(4, 8, 8)},
    ),
    "read_as_it_is_too": graph(
        [NORM, MatMul(("n", "w"), "h"), Concat(("h", "n"), "y", axis=2)], ROWS, SMALL
    ),
    "kept_output": graph([NORM], ROWS, {n: SMALL[n] for n in ("gamma", "beta")}),
    "kept_without_bias": graph(
        [Normalize(("x", "gamma"), "n", "", (2,)), MatMul(("n", "w"), "y")],
        ROWS, {n: SMALL[n] for n in ("gamma", "w")},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "defer_bias", case, CASES[case])


def offsets(mg: MatGraph) -> list[str]:
    """Return the windows that only add a bias."""
    windows = [op for op in mg.ops if isinstance(op, Window) and op.weight.size == 1]
    return [op.output for op in windows if op.bias.any() and not op.epilogue.activation]


def test_bias_goes_through_slices_sums_and_windows() -> None:
    mg = check(make(
        norm("x", "n", "gamma", "beta"),
        Slice(("n",), "s", slices=((0, 1, 1), (1, 4, 1), (0, None, 1))),
        Binary(("s", "c"), "d", kind="mul"), MatMul(("s", "w"), "h"),
        Binary(("h", "d"), "y", kind="sub"),
    ))  # fmt: skip
    assert offsets(mg) == []


def test_bias_is_added_where_it_must_be() -> None:
    """An output, a factor and a right operand read the sum itself, which is made once."""
    nodes = [norm("x", "n", "gamma", "beta"), Binary(("x", "n"), "p", kind="mul"),
             Transpose(("n",), "t", perm=(0, 2, 1)), MatMul(("p", "t"), "y")]  # fmt: skip
    assert offsets(check(make(*nodes))) == ["n"]
    assert offsets(check(make(nodes[0]))) == ["n"]
    assert len(offsets(check(make(nodes[0], MatMul(("n", "w"), "y"), outputs=("n", "y"))))) == 1


def test_bias_stays_in_front_of_a_move_that_mixes_channels() -> None:
    mg = check(make(norm("x", "n", "gamma", "beta"), Reshape(("n",), "r", shape=(1, 12, 10)),
                    MatMul(("r", "small"), "y")))  # fmt: skip
    assert offsets(mg) == ["n"]


def test_bias_reaches_grouped_and_padded_convolutions_rightly() -> None:
    image = {"x": (1, 6, 5, 5)}
    constants = {"g": random(1, 6, 1, 1), "b": random(2, 6, 1, 1), "k": random(3, 4, 3, 3, 3)}
    for pads, wanted in (((0, 0, 0, 0), 0), ((1, 1, 1, 1), 1)):
        nodes = [
            Normalize(("x", "g", "b"), "n", "", (1,)),
            Conv(("n", "k"), "y", "", (1, 1), pads, (1, 1), 2),
        ]
        assert len(offsets(check(graph(nodes, image, constants)))) == wanted
