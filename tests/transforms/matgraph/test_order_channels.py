# SPDX-License-Identifier: Apache-2.0
"""Channels lie in the order in which selections take them; weights hold what is left of a shuffle.

In: small graphs that rearrange channels.  Out: golden texts before and after the pass; the same
values; no Move of single channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import neuralmatrix as nm
import numpy as np
import pytest
from golden_passes import check_pass, exact
from lowering_graphs import check, graph, random
from neuralmatrix.ir.graph.nodes import (
    Binary,
    Concat,
    Conv,
    Graph,
    Node,
    PRelu,
    Reshape,
    Slice,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, Move, Window
from neuralmatrix.ir.matgraph.selections import selection_of
from neuralmatrix.ir.types import Array, Function
from shuffles import FORMS, rearranged, shufflenet_v1, shufflenet_v2

CONSTANTS: dict[str, Array] = {
    "w": exact(1, 4, 4, 1, 1), "v": exact(2, 4, 4, 1, 1), "d": exact(3, 4, 1, 1, 1),
    "g": exact(4, 4, 2, 1, 1), "b": exact(5, 4), "s": np.abs(exact(6, 4, 1, 1)) / 2,
    "p": exact(7, 1, 4, 2, 2), "h": exact(8, 4, 2, 1, 1), "o": exact(9, 4, 6, 1, 1),
}  # fmt: skip
ALL: tuple[int, int | None, int] = (0, None, 1)


def conv(x: str, y: str, weight: str = "w", groups: int = 1) -> Conv:
    return Conv((x, weight, "b"), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1), groups)


def swapped(x: str, y: str) -> Take:
    return Take((x,), y, axis=1, indices=(2, 0, 3, 1))


def taken(x: str, y: str, start: int, stop: int, step: int = 1) -> Slice:
    return Slice((x,), y, slices=(ALL, (start, stop, step), ALL, ALL))


def of(*nodes: Node, outputs: Sequence[str] = ()) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    constants = {n: a for n, a in CONSTANTS.items() if n in used}
    return graph(nodes, {"x": (1, 4, 2, 2)}, constants, outputs)


RELU = Function("relu")
CASES: dict[str, Graph] = {
    "next_weights": of(conv("x", "c"), swapped("c", "t"), conv("t", "y", "v")),
    "through_a_depthwise_layer": of(
        conv("x", "c"), swapped("c", "t"), conv("t", "e", "d", 4), conv("e", "y", "v")),
    "through_a_sum": of(
        conv("x", "c"), swapped("c", "t"), conv("x", "e", "v"), Binary(("e", "t"), "z"),
        Unary(("z",), "r", function=RELU), conv("r", "y", "v")),
    "through_constants": of(
        conv("x", "c"), swapped("c", "t"), Binary(("t", "p"), "z", kind="mul"),
        conv("z", "y", "v")),
    "previous_weights": of(conv("x", "c"), swapped("c", "t"), conv("t", "y", "g", 2)),
    "to_an_output": of(conv("x", "c"), swapped("c", "y")),
    "in_runs": of(
        conv("x", "c"), taken("c", "e", 0, 4, 2), taken("c", "f", 1, 4, 2), conv("e", "i", "h"),
        Concat(("i", "f"), "j", axis=1), conv("j", "y", "o")),
    "kept_between_groups": of(conv("x", "c", "g", 2), swapped("c", "t"), conv("t", "y", "g", 2)),
    "kept_of_an_input": of(swapped("x", "t"), Unary(("t",), "y", function=RELU)),
    "kept_plain": of(conv("x", "c"), conv("c", "y", "v")),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    check_pass(request, "order_channels", case, CASES[case])


def moves(mg: MatGraph) -> list[Move]:
    """Return the Moves that do more than copy."""
    found = [op for op in mg.ops if isinstance(op, Move)]
    return [op for op in found if not np.array_equal(op.index.flat, np.arange(op.index.size))]


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("kept")])
def test_no_single_channel_moves(case: str) -> None:
    mg = check(CASES[case])
    runs = moves(mg)
    assert len(runs) <= 2 * (case == "in_runs")
    for op in runs:
        found = selection_of(op, mg.tensors)
        assert found is not None and (np.diff(found.part) >= 0).all()


def test_slopes_and_weight_scales_follow_their_channels() -> None:
    nodes = [conv("x", "c"), swapped("c", "t"), PRelu(("t", "s"), "r"), conv("r", "y", "v")]
    scales = {"w": np.arange(1, 5) / 64, "v": np.arange(2, 6) / 64}
    constants = {n: CONSTANTS[n] for n in ("w", "v", "b", "s")}
    mg = check(graph(nodes, {"x": (1, 4, 2, 2)}, constants, weight_scales=scales))
    assert not moves(mg)
    first, last = (op for op in mg.ops if isinstance(op, Gemm))
    np.testing.assert_array_equal(first.weight_scale, scales["w"])
    np.testing.assert_array_equal(last.weight_scale, scales["v"])


def test_a_shuffle_as_a_reshape() -> None:
    nodes = [conv("x", "c"), Reshape(("c",), "r", shape=(1, 2, 2, 2, 2)),
             Transpose(("r",), "q", perm=(0, 2, 1, 3, 4)), Reshape(("q",), "t", shape=(1, 4, 2, 2)),
             conv("t", "y", "v")]  # fmt: skip
    mg = check(
        graph(nodes, {"x": (1, 4, 2, 2)}, {n: random(3, *CONSTANTS[n].shape) for n in "wvb"})
    )
    assert not moves(mg) and not [op for op in mg.ops if isinstance(op, Window)]


@pytest.mark.parametrize("board", ["pynq-z2", "kv260"])
def test_a_rearrangement_between_convolutions_is_free(board: str) -> None:
    cycles = set()
    for form in FORMS:
        model = rearranged(form)
        x = np.random.default_rng(1).normal(size=(1, 40, 9, 9)).astype(np.float32)
        program = nm.compile(model, board, calibration=[{"x": x}], accuracy=False)
        cycles.add(program.estimate().cycles)
    assert len(cycles) == 1


@pytest.mark.gxx
@pytest.mark.parametrize("make", [shufflenet_v2, shufflenet_v1])
def test_shufflenets(make: object) -> None:
    """At most a quarter of the cycles are Moves; the outputs are within 10 % of onnxruntime's."""
    from build_onnx import onnxruntime_outputs

    model = make(32)  # type: ignore[operator]
    x = {"x": np.random.default_rng(1).normal(size=(1, 3, 32, 32)).astype(np.float32)}
    program = nm.compile(model, calibration=[x], accuracy=False)
    layers = program.estimate().layers
    moved = sum(layer.cycles for layer in layers if layer.kind == "Move")
    assert moved <= 0.25 * program.estimate().cycles
    assert nm.verify(model, program, x).ok
    (right,), (found,) = (r.values() for r in (onnxruntime_outputs(model, x),
                                               nm.Session(program).run(x)))  # fmt: skip
    assert np.linalg.norm(found - right) <= 0.1 * np.linalg.norm(right)
