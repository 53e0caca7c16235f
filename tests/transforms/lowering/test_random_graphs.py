# SPDX-License-Identifier: Apache-2.0
"""Random chains of layout and arithmetic operators keep their values.

In: seeds.  Out: agreement of lowered graphs with the node-wise reference, of views with numpy.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lowering_graphs import check, graph, random
from neuralmatrix.ir import axis_view as view
from neuralmatrix.ir.graph.nodes import (
    AxisMatMul,
    Binary,
    Concat,
    Expand,
    MatMul,
    Node,
    Pad,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.graph.operators import infer_shape
from neuralmatrix.ir.types import Function, Shape, apply_steps

Rng = np.random.Generator
Made = tuple[Node, dict[str, object]]


def _factors(rng: Rng, total: int) -> tuple[int, ...]:
    """Return a random shape of ``total`` elements."""
    shape = []
    while total > 1 and len(shape) < 3:
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        shape.append(int(rng.choice(divisors)))
        total //= shape[-1]
    return (*shape, total)


def _slices(rng: Rng, shape: Shape) -> tuple[tuple[int, int | None, int], ...]:
    return tuple((int(rng.integers(0, n)), None, int(rng.integers(1, 3))) for n in shape)


def _pads(rng: Rng, shape: Shape) -> tuple[tuple[int, int], ...]:
    pairs = rng.integers(0, 2, (len(shape), 2))
    return tuple((int(a), int(b)) for a, b in pairs)


def _reshape(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Reshape((x,), y, shape=_factors(rng, int(np.prod(s)))), {}


def _transpose(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Transpose((x,), y, perm=tuple(int(i) for i in rng.permutation(len(s)))), {}


def _slice(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Slice((x,), y, slices=_slices(rng, s)), {}


def _pad(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Pad((x,), y, pads=_pads(rng, s), value=float(rng.integers(-1, 2))), {}


def _concat(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Concat((x, x), y, axis=int(rng.integers(len(s)))), {}


def _expand(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Expand((x,), y, shape=tuple(2 if n == 1 else n for n in s)), {}


def _take(rng: Rng, x: str, y: str, s: Shape) -> Made:
    axis = int(rng.integers(len(s)))
    return Take((x,), y, axis=axis, indices=tuple(map(int, rng.integers(0, s[axis], 3)))), {}


def _tanh(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Unary((x,), y, function=Function("tanh")), {}


def _scale(rng: Rng, x: str, y: str, s: Shape) -> Made:
    shape = tuple(n if rng.random() < 0.5 else 1 for n in s)
    c = rng.normal(size=shape)
    return Binary((x, f"{y}.c"), y, kind=str(rng.choice(["add", "mul"]))), {f"{y}.c": c}  # type: ignore[arg-type]


def _self(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Binary((x, x), y, kind=str(rng.choice(["add", "max", "mul"]))), {}  # type: ignore[arg-type]


def _matmul(rng: Rng, x: str, y: str, s: Shape) -> Made:
    w = rng.normal(size=(s[-1], 3)) / np.sqrt(s[-1])
    return MatMul((x, f"{y}.w"), y), {f"{y}.w": w}


def _axis_matmul(rng: Rng, x: str, y: str, s: Shape) -> Made:
    axis = int(rng.integers(len(s)))
    matrix = rng.normal(size=(2, s[axis])) / np.sqrt(s[axis])
    return AxisMatMul((x, f"{y}.m"), y, axis=axis), {f"{y}.m": matrix}


def _reduce(rng: Rng, x: str, y: str, s: Shape) -> Made:
    axes = tuple(i for i in range(len(s)) if rng.random() < 0.4) or (0,)
    kind = str(rng.choice(["mean", "max", "min"]))
    return Reduce((x,), y, kind=kind, axes=axes, keepdims=True), {}  # type: ignore[arg-type]


def _softmax(rng: Rng, x: str, y: str, s: Shape) -> Made:
    return Softmax((x,), y, axis=int(rng.integers(len(s)))), {}


STEPS: tuple[Callable[[Rng, str, str, Shape], Made], ...] = (
    _reshape, _reshape, _transpose, _transpose, _slice, _pad, _concat, _expand, _take, _tanh,
    _scale, _self, _matmul, _axis_matmul, _reduce, _softmax,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(150))
def test_random_chain(seed: int) -> None:
    """Return five random operators, and a sum of the last two results where they broadcast."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, Shape] = {"x": _factors(rng, int(rng.choice([12, 24, 36, 60])))}
    nodes: list[Node] = []
    constants: dict[str, object] = {}
    name = "x"
    for i in range(6):
        step = STEPS[rng.integers(len(STEPS))]
        node, more = step(rng, name, f"t{i}", shapes[name])
        shapes |= {n: np.shape(c) for n, c in more.items()}
        shapes[node.output] = infer_shape(node, shapes)
        if np.prod(shapes[node.output]) > 4000:
            continue
        nodes.append(node)
        constants |= more
        name = node.output
    nodes += _joined([n.output for n in nodes], shapes)
    check(graph(nodes, {"x": shapes["x"]}, constants))


def _joined(names: list[str], shapes: dict[str, Shape]) -> list[Node]:
    for other in names[:-1]:
        try:
            shape = np.broadcast_shapes(shapes[other], shapes[names[-1]])
        except ValueError:
            continue
        if np.prod(shape) <= 4000:
            return [Binary((other, names[-1]), "joined", kind="add")]
    return []


SIZES = st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(SIZES, st.randoms(use_true_random=False))
def test_views_follow_numpy(sizes: list[int], picker: object) -> None:
    """A view after random reshapes and transposes equals numpy's result."""
    rng = np.random.default_rng(picker.randrange(2**32))  # type: ignore[attr-defined]
    shape = tuple(sizes)
    x = random(1, *shape)
    v = view.view_of(shape, view.default_groups(len(shape)))
    stored = apply_steps(x, view.to_canonical(v))
    assert stored.shape == v.canonical
    for _ in range(4):
        perm = tuple(int(i) for i in rng.permutation(x.ndim))
        v, x = view.transpose(v, perm), x.transpose(perm)
        shape = _factors(rng, x.size)
        finer = view.reshape(v, shape)
        if finer is not None:
            v, x = finer, x.reshape(shape)
        np.testing.assert_array_equal(apply_steps(stored, view.from_canonical(v)), x)
        np.testing.assert_array_equal(apply_steps(x, view.to_canonical(v)), stored)


def test_reshape_across_clashing_sizes_is_no_view() -> None:
    assert view.reshape(view.view_of((4, 6), view.rows_groups(2)), (3, 8)) is None
    assert view.reshape(view.view_of((4, 6), view.rows_groups(2)), (2, 2, 3, 2)) is not None
