# SPDX-License-Identifier: Apache-2.0
"""Golden texts of every rewrite that ``simplify`` runs, by its name.

In: for each rewrite a small Graph that it changes.  Out: texts of the Graph before and after that
change; the same values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from golden_passes import REWRITES, check_rewrite, exact
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import (
    Concat,
    Conv,
    Graph,
    MatMul,
    Node,
    Pad,
    Reshape,
    Select,
    Slice,
    Softmax,
    Transpose,
)
from neuralmatrix.ir.types import Array
from onnx_attention import QKV, TRIANGLE, attend
from onnx_forms import Form, layer_norm
from rewritten_graphs import binary, graph_of, unary

ROWS: dict[str, Sequence[int]] = {"x": (2, 3, 8)}
IMAGE = (1, 4, 3, 3)
FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
ALL: tuple[int | None, ...] = (0, None, 1)


def of(*nodes: Node, shape: tuple[int, ...] = (3, 8), **constants: Array | float) -> Graph:
    return graph_of(nodes, {n: np.asarray(c) for n, c in constants.items()}, shape=shape)


def form(write: Callable[[Form], object], inputs: dict[str, Sequence[int]] | None = None) -> Graph:
    """Return the imported form of what an exporter writes."""
    f = Form()
    write(f)
    return import_onnx(f.model(inputs or ROWS))


def conv(x: str, y: str) -> Conv:
    return Conv((x, "w"), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1))


def channels(x: str, y: str, start: int, stop: int | None) -> Slice:
    return Slice((x,), y, slices=((0, None, 1), (start, stop, 1)))


def folded_norm(f: Form) -> str:
    """Return x * s + (beta - mean * s)."""
    mean = f.mean("x")
    centered = f.op("Sub", "x", mean)
    variance = f.mean(f.op("Mul", centered, centered))
    scale = f.op("Reciprocal", f.op("Sqrt", f.op("Add", variance, 1e-3)))
    shift = f.op("Sub", exact(1, 8), f.op("Mul", mean, scale))
    return f.op("Add", f.op("Mul", "x", scale), shift)


def gelu(f: Form) -> str:
    gate = f.op("Add", f.op("Erf", f.op("Div", "x", math.sqrt(2))), 1.0)
    return f.op("Mul", f.op("Mul", "x", gate), 0.5)


def rotation(f: Form) -> str:
    low = f.op("Slice", "x", np.array([0]), np.array([4]), np.array([2]))
    high = f.op("Slice", "x", np.array([4]), np.array([8]), np.array([2]))
    return f.op("Concat", f.op("Neg", high), low, axis=-1)


def sum_in_another_shape(f: Form) -> str:
    expanded = f.op("Reshape", "x", np.array([2, 3, 2, 4]))
    return f.op("Reshape", f.op("Add", expanded, exact(1, 2, 4)), np.array([2, 3, 8]))


def masked(f: Form) -> str:
    return attend(f, lambda scores: f.op("Add", scores, np.where(TRIANGLE, 0.0, -1e4)))


def log_filtered(f: Form) -> str:
    """Return the logarithm of a power through filters."""
    part = f.op("MatMul", "x", exact(1, 8, 4))
    filtered = f.op("MatMul", f.op("Mul", part, part), np.abs(exact(2, 4, 2)))
    return f.op("Log", f.op("Max", filtered, 0.125))


def magnitude(f: Form) -> str:
    """Return the magnitudes of complex values whose parts one product makes."""
    both = f.op("MatMul", "x", exact(1, 8, 6))
    ends = ((0, 3), (3, 6))
    parts = [f.op("Slice", both, *(np.array([n]) for n in (*end, 2))) for end in ends]
    return f.op("Sqrt", f.op("Add", *(f.op("Mul", part, part) for part in parts)))


def frames(f: Form) -> str:
    """Return the logarithms of 12 samples in every 8, two of them before the signal."""
    part = f.op("Conv", "x", exact(1, 4, 1, 12), exact(2, 4) / 3, strides=[8], pads=[8, 4])
    return f.op("Log", f.op("Add", f.op("Mul", part, part), 0.125))


HARD_SIGMOID = (
    binary("add", "x", "three", "a"), unary("a", "c", "clip", 0.0, 6.0),
)  # fmt: skip
CASES: dict[str, Graph] = {
    "drop_dead_nodes": of(unary("x", "y", "tanh"), unary("x", "dead", "abs")),
    "fold_constants": of(unary("c", "e", "neg"), MatMul(("x", "e"), "y"), c=exact(1, 8, 2)),
    "drop_identities": of(unary("x", "a", "neg"), Reshape(("a",), "b", shape=(3, 8)),
                          unary("b", "y", "abs")),
    "drop_selections": of(unary("x", "a", "neg"), unary("x", "b", "abs"),
                          Select(("c", "a", "b"), "y"), c=np.zeros((3, 8))),
    "drop_relus": of(unary("x", "a", "sigmoid"), unary("a", "r", "relu"), unary("r", "y", "neg")),
    "merge_transposes": of(Transpose(("x",), "t", perm=(1, 0)), Transpose(("t",), "u", perm=(1, 0)),
                           binary("mul", "u", "x", "y")),
    "merge_reshapes": of(Reshape(("x",), "r", shape=(24,)), Reshape(("r",), "y", shape=(4, 6))),
    "merge_slices": of(channels("x", "s", 1, 7), channels("s", "y", 2, None)),
    "fold_pads": of(Pad(("x",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 2))), conv("p", "y"),
                    shape=IMAGE, w=exact(1, 2, 4, 3, 3)),
    "to_mul_and_add": of(binary("sub", "c", "x", "s"), binary("div", "s", "d", "y"),
                         c=exact(1, 8), d=np.float32(4)),
    "fuse_folded_norm": form(folded_norm),
    "fuse_norm": form(lambda f: layer_norm(f, "x", "pow", "div")),
    "fold_norm_affine": form(
        lambda f: f.op("Add", f.op("Mul", layer_norm(f, "x", "mul", "pow"), exact(1, 8)),
                       exact(2, 8))),
    "fuse_activation": form(gelu),
    "fuse_sigmoid_quotient": form(
        lambda f: f.op("Div", "x", f.op("Add", f.op("Exp", f.op("Neg", "x")), 1.0))),
    "fuse_rotation": form(rotation),
    "unwrap_sum": form(sum_in_another_shape),
    "fold_factor_forward": of(unary("x", "t", "tanh"), binary("mul", "t", "c", "m"),
                              MatMul(("m", "w"), "y"), c=np.float32(0.5), w=exact(1, 8, 2)),
    "fuse_attention": form(masked, QKV),
    "gate_before_factor": of(*HARD_SIGMOID, binary("mul", "x", "c", "p"),
                             binary("mul", "p", "sixth", "y"), three=3.0, sixth=1 / 6),
    "fuse_hard_sigmoid": of(*HARD_SIGMOID, binary("mul", "c", "sixth", "y"),
                            three=3.0, sixth=1 / 6),
    "fuse_gates": of(unary("x", "g", "sigmoid"), binary("mul", "x", "g", "y")),
    "merge_affine": of(binary("mul", "x", "a", "m"), binary("add", "m", "b", "s"),
                       binary("mul", "s", "c", "y"), a=exact(1, 8), b=exact(2, 8), c=exact(3, 8)),
    "fold_into_weights": of(conv("x", "c"), binary("mul", "c", "g", "m"),
                            binary("add", "m", "b", "y"), shape=IMAGE, w=exact(1, 2, 4, 1, 1),
                            g=exact(2, 2, 1, 1), b=exact(3, 2, 1, 1)),
    "split_functions": of(MatMul(("x", "w"), "a"), MatMul(("x", "v"), "b"),
                          Concat(("a", "b"), "c", axis=1), unary("c", "y", "relu"),
                          w=exact(1, 8, 2), v=exact(2, 8, 4)),
    "share_transposes": of(Transpose(("x",), "t", perm=(1, 0)), Transpose(("x",), "u", perm=(1, 0)),
                           binary("mul", "t", "u", "y")),
    "push_transposes": of(conv("x", "c"), Transpose(("c",), "t", perm=LAST),
                          binary("add", "t", "b", "y"), shape=IMAGE, w=exact(1, 2, 4, 1, 1),
                          b=exact(2, 2)),
    "pull_transposes": of(binary("mul", "x", "c", "m"), Transpose(("m",), "t", perm=FIRST),
                          conv("t", "y"), shape=(1, 3, 3, 4), w=exact(1, 2, 4, 1, 1),
                          c=exact(2, 4)),
    "shift_exponentials": form(lambda f: f.op(
        "Log", f.op("ReduceSum", f.op("Exp", "x"), np.array([1]), keepdims=0))),
    "select_far_terms": of(binary("add", "x", "c", "a"), Softmax(("a",), "y"),
                           c=np.where(exact(1, 3, 8) > 0.5, np.finfo(np.float32).min, 0.25)),
    "to_logarithms": form(log_filtered),
    "narrow_transforms": form(magnitude),
    "block_frames": form(frames, {"x": (1, 1, 48)}),
    "split_weights": form(lambda f: f.op(
        "Log", f.op("Add", f.op("Pow", f.op("MatMul", "x", exact(1, 8, 4)), 2.0), 0.125))),
}  # fmt: skip


def test_every_rewrite_has_a_case() -> None:
    assert list(CASES) == list(REWRITES)


@pytest.mark.parametrize("name", CASES)
def test_golden(request: pytest.FixtureRequest, name: str) -> None:
    check_rewrite(request, name, CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_concern_a_rewrite_is_the_same_object(name: str) -> None:
    """A rewrite that changes nothing returns the same object."""
    plain = of(MatMul(("x", "w"), "h"), unary("h", "y", "tanh"), w=exact(1, 8, 2))
    assert REWRITES[name](plain) is plain
