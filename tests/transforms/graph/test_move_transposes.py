# SPDX-License-Identifier: Apache-2.0
"""Transposes of images move to where they cost nothing.

In: small Graphs whose operators stand between transposes, and networks as TensorFlow exports them.
Out: no transpose between the input and the outputs, equal values; equal cycles of the twins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from build_onnx import onnxruntime_outputs
from channels_last import FORMS, NETWORKS
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import (
    AxisMatMul,
    Concat,
    Conv,
    Expand,
    Graph,
    MatMul,
    Node,
    Pad,
    PRelu,
    Reduce,
    Reshape,
    Select,
    Slice,
    Softmax,
    Take,
    Transpose,
)
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.ops import Move
from neuralmatrix.ir.types import QParams
from neuralmatrix.transforms.graph.simplify import simplify
from rewritten_graphs import binary, graph_of, kinds, random, simplified, unary
from targets import lower

FIRST, LAST = (0, 3, 1, 2), (0, 2, 3, 1)
SHAPE = (2, 4, 6, 5)  # channels-first
ALL: tuple[int, int | None, int] = (0, None, 1)


def conv(x: str, y: str, weight: str = "w") -> Conv:
    return Conv((x, weight), y, f"{y}.node", (1, 1), (0,) * 4, (1, 1))


def between(*nodes: Node, out: int = 4, **constants: np.ndarray) -> Graph:
    """Return conv, transpose, ``nodes`` from "t" to "u", transpose, conv of ``out`` channels."""
    held = {"w": random(4, 4, 1, 1), "v": random(3, out, 1, 1), **constants}
    ends = (conv("x", "c"), Transpose(("c",), "t", perm=LAST))
    back = (Transpose(("u",), "b", perm=FIRST), conv("b", "y", "v"))
    return graph_of([*ends, *nodes, *back], held, shape=SHAPE)


MIDDLES: dict[str, Graph] = {
    "unary": between(unary("t", "u", "tanh")),
    "a constant per channel": between(binary("max", "t", "k", "u"), k=random(4)),
    "a constant per position": between(binary("max", "t", "k", "u"), k=random(1, 6, 5, 1)),
    "a constant on the left": between(binary("min", "k", "t", "u"), k=random(1, 1, 4)),
    "slopes": between(PRelu(("t", "k"), "u"), k=random(4)),
    "padding": between(Pad(("t",), "u", pads=((0, 0), (1, 2), (0, 1), (0, 0)))),
    "slices": between(Slice(("t",), "u", slices=(ALL, (1, 5, 2), ALL, (1, 3, 1))), out=2),
    "take": between(Take(("t",), "u", axis=3, indices=(3, 0)), out=2),
    "softmax": between(Softmax(("t",), "u", axis=-1)),
    "concat": between(unary("t", "p", "tanh"), Concat(("t", "p"), "u", axis=3), out=8),
    "a constant part": between(Concat(("t", "k"), "u", axis=3), out=6, k=random(2, 6, 5, 2)),
    "resize": between(AxisMatMul(("t", "m"), "u", axis=1), m=random(3, 6)),
    "mean": between(Reduce(("t",), "r", kind="mean", axes=(1, 2)), binary("mul", "t", "r", "u")),
    "mean without its axes": between(
        Reduce(("t",), "r", kind="mean", axes=(1,), keepdims=False),
        Reshape(("r",), "q", shape=(2, 1, 5, 4)), binary("sub", "t", "q", "u")),
    "expanded": between(Reduce(("t",), "r", kind="max", axes=(2,)),
                        Expand(("r",), "u", shape=(2, 6, 5, 4))),
    "selection": between(Select(("k", "t", "z"), "u"), k=random(4) > 0, z=random(4)),
    "one operand on the way": between(unary("t", "p", "tanh"), binary("add", "p", "t", "u")),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDDLES)
def test_what_stands_between_convolutions(name: str) -> None:
    assert "Transpose" not in kinds(simplified(MIDDLES[name]))


def _residual(quant: dict[str, QParams] | None = None) -> Graph:
    nodes = [conv("x", "c"), Transpose(("c",), "t", perm=LAST), unary("t", "r", "relu"),
             Transpose(("r",), "b", perm=FIRST), conv("b", "d"), Transpose(("d",), "e", perm=LAST),
             binary("add", "e", "r", "s"), Transpose(("s",), "y", perm=FIRST)]  # fmt: skip
    return graph_of(nodes, {"w": random(4, 4, 1, 1)}, shape=SHAPE, quant=quant)


def test_a_residual_sum() -> None:
    assert "Transpose" not in kinds(simplified(_residual()))


def test_prescribed_scales_stay_with_their_values() -> None:
    scales = {name: QParams(0.1 + i / 10) for i, name in enumerate("crdsy")}
    scales |= {"t": scales["c"], "b": scales["r"], "e": scales["d"], "y": scales["s"]}
    graph = _residual(scales)
    found = simplify(graph)
    feeds = {"x": random(*SHAPE, seed=9)}
    right = run_graph(graph, feeds, quantized=True)["y"]
    np.testing.assert_array_equal(run_graph(found, feeds, quantized=True)["y"], right)
    assert "Transpose" not in kinds(found)


def test_a_gate_of_lower_rank() -> None:
    graph = between(
        Reduce(("x",), "r", kind="mean", axes=(2, 3)),
        Transpose(("r",), "q", perm=(0, 2, 3, 1)),
        Slice(("q",), "g", slices=((0, 1, 1), ALL, ALL, ALL)),
        binary("mul", "t", "g", "u"),
    )
    mg = lower(simplified(graph))
    assert not [op for op in mg.ops if isinstance(op, Move) and op.index.size > 8]


SCALED: dict[str, Sequence[Node]] = {
    "scale": [binary("mul", "x", "k", "u")],
    "mean and scale": [binary("sub", "x", "k", "s"), binary("mul", "s", "k", "u")],
    "relu": [unary("x", "u", "relu")],
    "padding": [binary("mul", "x", "k", "s"),
                Pad(("s",), "u", pads=((0, 0), (1, 1), (1, 1), (0, 0)))],
}  # fmt: skip


@pytest.mark.parametrize("name", SCALED)
def test_a_transpose_behind_a_scale_is_the_inputs(name: str) -> None:
    nodes = [*SCALED[name], Transpose(("u",), "t", perm=FIRST), conv("t", "y")]
    used = {n for node in nodes for n in node.inputs}
    constants = {"w": random(3, 4, 1, 1), **({"k": random(4)} if "k" in used else {})}
    graph = simplified(graph_of(nodes, constants, shape=(1, 6, 5, 4)))
    assert isinstance(graph.nodes[0], Transpose) and graph.nodes[0].inputs == ("x",)
    mg = lower(graph)
    assert not [op for op in mg.ops if isinstance(op, Move)]


def test_two_readers_of_a_scaled_input_share_its_transpose() -> None:
    nodes = [binary("mul", "x", "k", "u"), Transpose(("u",), "t", perm=FIRST),
             Transpose(("u",), "q", perm=FIRST), conv("t", "c"), conv("q", "d", "v"),
             binary("add", "c", "d", "y")]  # fmt: skip
    constants = {"w": random(3, 4, 1, 1), "v": random(3, 4, 1, 1), "k": random(4)}
    graph = simplified(graph_of(nodes, constants, shape=(1, 6, 5, 4)))
    assert kinds(graph).count("Transpose") == 1
    assert not [op for op in lower(graph).ops if isinstance(op, Move)]


def test_an_input_with_both_orders_keeps_its_own() -> None:
    nodes = [Transpose(("x",), "t", perm=FIRST), conv("t", "c"),
             Transpose(("c",), "d", perm=LAST), binary("add", "d", "x", "y")]  # fmt: skip
    graph = graph_of(nodes, {"w": random(4, 4, 1, 1)}, shape=(1, 6, 5, 4))
    assert lower(simplified(graph)).inputs[0].shape == (1, 6, 5, 4)


def test_patches_of_a_vision_transformer_are_transposed_once() -> None:
    """A residual sum with rows of products needs rows: nothing moves behind the transpose."""
    nodes = [
        conv("x", "c"),
        Reshape(("c",), "f", shape=(2, 4, 30)),
        Transpose(("f",), "t", perm=(0, 2, 1)),
        binary("add", "t", "k", "p"),
        MatMul(("p", "m"), "q"),
        binary("add", "p", "q", "r"),
        MatMul(("r", "m"), "y"),
    ]
    held = {"w": random(4, 4, 1, 1), "k": random(30, 4), "m": random(4, 4)}
    found = simplified(graph_of(nodes, held, shape=SHAPE))
    (turned,) = [n for n in found.nodes if isinstance(n, Transpose)]
    assert turned.inputs == ("f",)


def test_heads_of_attention_stay() -> None:
    nodes = [conv("x", "c"), Transpose(("c",), "t", perm=(0, 2, 1, 3)), unary("t", "y", "tanh")]
    graph = graph_of(nodes, {"w": random(4, 4, 1, 1)}, shape=SHAPE)
    assert kinds(simplify(graph)) == ["Conv", "Transpose", "Unary"]


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_of_tensorflow(network: str) -> None:
    """The same operations as the network that is channels-first, and onnxruntime's values."""
    counted: set[tuple[str, ...]] = set()
    for form in ("channels_first", *FORMS):
        model = NETWORKS[network](form)
        graph = simplify(import_onnx(model))
        x = random(*graph.shapes["image"], seed=3) / 4
        found = run_graph(graph, {"image": x})
        for name, right in onnxruntime_outputs(model, {"image": x}).items():
            np.testing.assert_allclose(found[name], right, rtol=1e-3, atol=1e-4)
        counted.add(tuple(sorted(type(op).__name__ for op in lower(graph).ops)))
    assert len(counted) == 1
