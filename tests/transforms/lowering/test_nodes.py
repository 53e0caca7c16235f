# SPDX-License-Identifier: Apache-2.0
"""Every node kind, in many shapes: the lowered graph computes the same as the node.

In: one-node and few-node Graphs.  Out: agreement of ``run_float(lower(g))`` with ``ops.run_graph``.
"""

from __future__ import annotations

import numpy as np
import pytest
from lowering_graphs import check, feeds_of, graph, random
from neuralmatrix.ir.graph import operators
from neuralmatrix.ir.graph.nodes import (
    ArgMax,
    Attention,
    AxisMatMul,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Embedding,
    Expand,
    Graph,
    MatMul,
    Node,
    Normalize,
    Pad,
    Pool,
    PRelu,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
    Unary,
)
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.types import Function, Shape
from neuralmatrix.transforms.lowering.rules import RULES
from targets import lower

CASES: dict[str, Graph] = {}


def add(name: str, node: Node, *shapes: Shape, **constants: object) -> None:
    """Add a one-node case; operands x, y.. are inputs of ``shapes``, the others constants."""
    names = [n for n in dict.fromkeys(node.inputs) if n not in constants]
    CASES[name] = graph([node], dict(zip(names, shapes, strict=True)), constants)


def conv(name: str, x: Shape, w: Shape, bias: bool = True, **attributes: object) -> None:
    rank = len(x) - 2
    full = {"strides": (1,) * rank, "pads": (0,) * 2 * rank, "dilations": (1,) * rank, **attributes}
    names = ("x", "w", "b") if bias else ("x", "w")
    constants = {"w": random(1, *w), "b": random(2, w[0])}
    add(name, Conv(names, "y", "n", **full), x, **{n: constants[n] for n in names[1:]})


conv("conv", (1, 3, 9, 11), (5, 3, 3, 3), pads=(1, 1, 1, 1))
conv("conv-no-bias-1x1", (2, 4, 5, 6), (7, 4, 1, 1), bias=False)
conv("conv-stride-pads", (1, 3, 9, 11), (4, 3, 3, 2), strides=(2, 3), pads=(0, 2, 1, 1))
conv("conv-dilation", (1, 2, 12, 11), (3, 2, 3, 3), dilations=(2, 3), pads=(2, 3, 2, 3))
conv("conv-groups", (1, 6, 7, 7), (9, 2, 3, 3), groups=3, pads=(1, 1, 1, 1))
conv("conv-depthwise", (2, 5, 8, 7), (5, 1, 3, 3), groups=5, strides=(2, 2), pads=(1, 1, 1, 1))
conv("conv-depthwise-multiplier", (1, 3, 6, 6), (6, 1, 3, 3), groups=3)
conv("conv-one-channel", (1, 1, 6, 6), (1, 1, 3, 3))
conv("conv-1d", (1, 3, 17), (4, 3, 5), strides=(2,), pads=(2, 1), dilations=(2,))
conv("conv-1d-depthwise", (1, 3, 9), (3, 1, 3), groups=3, bias=False)
conv("conv-whole-map", (3, 2, 4, 5), (6, 2, 4, 5))


def deconv(name: str, x: Shape, w: Shape, **attributes: object) -> None:
    rank = len(x) - 2
    full = {
        "strides": (2,) * rank,
        "pads": (0,) * 2 * rank,
        "dilations": (1,) * rank,
        "output_padding": (0,) * rank,
        **attributes,
    }
    groups = int(full.get("groups", 1))  # type: ignore[call-overload]
    constants = {"w": random(1, *w), "b": random(2, w[1] * groups)}
    add(name, ConvTranspose(("x", "w", "b"), "y", "n", **full), x, **constants)


deconv("deconv-2x2", (1, 3, 4, 5), (3, 2, 2, 2))
deconv("deconv-3x3-crop", (1, 3, 4, 5), (3, 2, 3, 3), pads=(1, 1, 1, 1), output_padding=(1, 1))
deconv("deconv-4x4-crop", (2, 2, 4, 4), (2, 3, 4, 4), pads=(1, 1, 1, 1))
deconv("deconv-stride-1", (1, 2, 5, 5), (2, 3, 3, 3), strides=(1, 1), pads=(1, 0, 1, 2))
deconv("deconv-stride-over-kernel", (1, 2, 3, 4), (2, 3, 2, 2), strides=(3, 4))
deconv("deconv-groups", (1, 4, 3, 5), (4, 3, 3, 2), groups=2, pads=(0, 1, 1, 0))
deconv("deconv-dilation", (1, 2, 4, 5), (2, 2, 3, 3), dilations=(2, 3), strides=(2, 2))
deconv("deconv-deep-crop", (1, 2, 6, 6), (2, 2, 3, 3), strides=(1, 2), pads=(3, 4, 2, 3))
deconv("deconv-1d", (1, 3, 7), (3, 2, 4), pads=(1, 1))

add("matmul", MatMul(("x", "w"), "y"), (5, 7), w=random(1, 7, 3))
add("matmul-batched-rows", MatMul(("x", "w"), "y"), (2, 5, 7), w=random(1, 7, 3))
add("matmul-rank-4", MatMul(("x", "w"), "y"), (2, 3, 5, 7), w=random(1, 7, 3))
add("matmul-rank-5", MatMul(("x", "w"), "y"), (2, 2, 3, 5, 7), w=random(1, 7, 4))
add("matmul-vector", MatMul(("x", "w"), "y"), (7,), w=random(1, 7, 3))
add("matmul-by-vector", MatMul(("x", "w"), "y"), (4, 7), w=random(1, 7))
add("matmul-constant-left", MatMul(("w", "x"), "y"), (7, 5), w=random(1, 3, 7))
add("matmul-constant-left-batched", MatMul(("w", "x"), "y"), (2, 7, 5), w=random(1, 3, 7))
add("matmul-constant-batches", MatMul(("x", "w"), "y"), (3, 5, 7), w=random(1, 3, 7, 2))
add("matmul-constant-new-batches", MatMul(("x", "w"), "y"), (5, 7), w=random(1, 3, 7, 2))
add("matmul-constant-left-batches", MatMul(("w", "x"), "y"), (3, 7, 5), w=random(1, 3, 2, 7))
add("matmul-outer", MatMul(("x", "w"), "y"), (4, 1), w=random(1, 1, 6))
add("matmul-dynamic", MatMul(("x", "z"), "y"), (5, 7), (7, 4))
add("matmul-dynamic-batches", MatMul(("x", "z"), "y"), (2, 3, 5, 7), (2, 3, 7, 4))
add("matmul-dynamic-one-right", MatMul(("x", "z"), "y"), (3, 5, 7), (1, 7, 4))
add("matmul-dynamic-one-left", MatMul(("x", "z"), "y"), (1, 5, 7), (3, 7, 4))
add("matmul-dynamic-mixed", MatMul(("x", "z"), "y"), (2, 1, 5, 7), (3, 7, 4))
for axis in range(4):
    size = (2, 3, 5, 4)[axis]
    node = AxisMatMul(("x", "m"), "y", axis=axis)
    add(f"axis-matmul-{axis}", node, (2, 3, 5, 4), m=random(1, 6, size))

FUNCTIONS = ("relu", "abs", "neg", "identity", "sigmoid", "tanh", "exp", "hard_swish", "square")
for function in FUNCTIONS:
    add(f"unary-{function}", Unary(("x",), "y", function=Function(function)), (2, 3, 4, 5))
add("unary-clip", Unary(("x",), "y", function=Function("clip", (-0.5, 1.0))), (3, 5))
add("unary-scalar", Unary(("x",), "y", function=Function("relu")), ())

KINDS = ("add", "sub", "mul", "div", "min", "max")
SHAPES: dict[str, tuple[Shape, Shape]] = {
    "same": ((2, 3, 4, 5), (2, 3, 4, 5)),
    "channel": ((2, 3, 4, 5), (1, 3, 1, 1)),
    "position": ((2, 3, 4, 5), (1, 1, 4, 5)),
    "row": ((2, 3, 4, 5), (5,)),
    "gate": ((2, 3, 4, 5), (2, 3, 1, 1)),
    "scalar": ((2, 3, 4), (1,)),
    "outer": ((3, 1), (1, 5)),
    "grown": ((4, 5), (2, 3, 4, 5)),
    "one-lane": ((2, 6), (2, 1)),
}
for kind in KINDS:
    for label, (a, b) in SHAPES.items():
        add(f"{kind}-{label}", Binary(("x", "z"), "y", kind=kind), a, b)
        far = np.abs(random(3, *b)) + 0.25  # a divisor near 0 would amplify rounding
        sign = np.where(random(4, *b) < 0, -1, 1)
        add(f"{kind}-{label}-constant", Binary(("x", "c"), "y", kind=kind), a, c=far * sign)
        add(f"{kind}-constant-{label}", Binary(("c", "x"), "y", kind=kind), a, c=far * sign)
add("max-zero", Binary(("x", "c"), "y", kind="max"), (2, 5), c=0.0)
add("prelu-scalar", PRelu(("x", "s"), "y"), (2, 3, 4, 5), s=np.array([0.2]))
add("prelu-channel", PRelu(("x", "s"), "y"), (2, 3, 4, 5), s=random(1, 3, 1, 1) / 4)
add("prelu-steep", PRelu(("x", "s"), "y"), (2, 3, 4, 5), s=1 + random(1, 3, 1, 1))
add("prelu-full", PRelu(("x", "s"), "y"), (2, 3, 4, 5), s=random(1, 3, 4, 5))


def pool(name: str, x: Shape, kernel: Shape, kind: str = "max", **attributes: object) -> None:
    n = len(kernel)
    full = {"strides": (1,) * n, "pads": (0,) * 2 * n, "dilations": (1,) * n, **attributes}
    add(name, Pool(("x",), "y", kind=kind, kernel=kernel, **full), x)  # type: ignore[arg-type]


for kind in ("max", "average"):
    pool(f"pool-{kind}", (2, 3, 8, 7), (2, 3), kind, strides=(2, 2))
    pool(f"pool-{kind}-pads", (1, 3, 8, 7), (3, 3), kind, strides=(2, 2), pads=(1, 1, 1, 0))
    pool(f"pool-{kind}-dilation", (1, 2, 9, 9), (2, 2), kind, dilations=(3, 2), pads=(1, 0, 1, 0))
    pool(f"pool-{kind}-map", (2, 5, 4, 6), (4, 6), kind)
    pool(f"pool-{kind}-1d", (1, 3, 11), (3,), kind, strides=(2,), pads=(1, 1))
pool("pool-counted", (1, 3, 8, 7), (3, 3), "average", pads=(1, 1, 1, 1), count_include_pad=True)

AXES: dict[str, tuple[Shape, tuple[int, ...]]] = {
    "map": ((2, 3, 4, 5), (2, 3)),
    "height": ((2, 3, 4, 5), (2,)),
    "channels": ((2, 3, 4, 5), (1,)),
    "images": ((2, 3, 4, 5), (0,)),
    "all": ((2, 3, 4, 5), (0, 1, 2, 3)),
    "channels-width": ((2, 3, 4, 5), (1, 3)),
    "rows": ((4, 6), (0,)),
    "last": ((2, 4, 6), (2,)),
    "nothing": ((4, 1, 6), (1,)),
}
for kind in ("mean", "sum", "max", "min"):
    for label, (shape, axes) in AXES.items():
        keep = label not in ("height", "last")
        node = Reduce(("x",), "y", kind=kind, axes=axes, keepdims=keep)  # type: ignore[arg-type]
        add(f"reduce-{kind}-{label}", node, shape)
for axis, shape in (
    (1, (3, 7)),
    (-1, (2, 4, 7)),
    (1, (2, 3, 4, 5)),
    (2, (1, 3, 4, 5)),
    (0, (5, 4)),
):
    for log in (False, True):
        add(f"softmax-{axis}-{shape}-{log}", Softmax(("x",), "y", axis=axis, log=log), shape)

add("normalize", Normalize(("x",), "y", axes=(1,)), (3, 7))
add("attention", Attention(("q", "k", "v"), "y", scale=0.4), (3, 5, 8), (3, 7, 8), (3, 7, 4))
add("select", Select(("c", "x", "z"), "y"), (3, 7), (3, 1), c=random(1, 7) > 0)

for axes, shape in (((1, 0), (3, 4)), ((0, 2, 3, 1), (2, 3, 4, 5)), ((3, 1, 0, 2), (2, 3, 4, 5))):
    add(f"transpose-{axes}", Transpose(("x",), "y", perm=axes), shape)
for target in ((6, 20), (120,), (2, 12, 5), (4, 5, 6), (1, 2, 3, 2, 2, 5), (8, 15)):
    add(f"reshape-{target}", Reshape(("x",), "y", shape=target), (2, 3, 4, 5))
everything = (0, None, 1)
add(
    "slice",
    Slice(("x",), "y", slices=((0, 1, 1), (1, None, 1), everything, (0, 4, 2))),
    (2, 3, 4, 5),
)
add("slice-nothing", Slice(("x",), "y", slices=(everything,) * 2), (4, 5))
add("pad", Pad(("x",), "y", pads=((0, 0), (1, 0), (0, 2), (3, 1)), value=-1.5), (2, 3, 4, 5))
add("concat-channels", Concat(("x", "z"), "y", axis=1), (2, 3, 4, 5), (2, 1, 4, 5))
add("concat-last", Concat(("x", "z", "x"), "y", axis=2), (2, 3, 4), (2, 3, 2))
add("concat-zeros", Concat(("x", "c"), "y", axis=1), (1, 3, 4, 5), c=np.zeros((1, 2, 4, 5)))
add("concat-constant", Concat(("c", "x"), "y", axis=1), (2, 3), c=random(1, 2, 4))
add("expand", Expand(("x",), "y", shape=(2, 3, 4)), (3, 1))
add("take", Take(("x",), "y", axis=2, indices=(3, 0, 0, 1)), (2, 3, 4, 5))
for axis, keep, last in ((1, True, False), (1, False, True), (0, False, False)):
    node = ArgMax(("x",), "y", axis=axis, keepdims=keep, select_last=last)
    add(f"argmax-{axis}-{keep}-{last}", node, (4, 5))


def _is_quotient(g: Graph) -> bool:
    node = g.nodes[0]
    return isinstance(node, Binary) and node.kind == "div"


QUOTIENTS = [name for name, g in CASES.items() if _is_quotient(g)]  # no divisor may be 0


@pytest.mark.parametrize("name", [name for name in CASES if name not in QUOTIENTS])
def test_node(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("name", QUOTIENTS)
def test_quotient(name: str) -> None:
    g = CASES[name]
    mg = lower(g)
    feeds = {n: np.abs(x) + 0.5 for n, x in feeds_of(g).items()}
    found = port_outputs(mg, run_float(mg, feeds))["y"]
    # one float32 reciprocal and one product
    np.testing.assert_allclose(found, operators.run_graph(g, feeds)["y"], rtol=1e-5)


def test_every_node_kind_has_a_case() -> None:
    seen = {type(node) for g in CASES.values() for node in g.nodes}
    assert seen | {Embedding} == {*RULES, ArgMax}  # its input is indices: test_normalize
