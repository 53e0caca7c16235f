# SPDX-License-Identifier: Apache-2.0
"""What lowering makes of typical blocks: which operations, which epilogues, which names and scales.

In: small Graphs.  Out: their MatGraphs' operations; values are checked too.
"""

from __future__ import annotations

import numpy as np
import pytest
from lowering_graphs import check, feeds_of, graph, random
from neuralmatrix.errors import BadInput, BadModel, UnsupportedModel
from neuralmatrix.ir.graph import operators
from neuralmatrix.ir.graph.nodes import (
    ArgMax,
    Binary,
    Concat,
    Conv,
    ConvTranspose,
    Graph,
    MatMul,
    Node,
    Pad,
    Pool,
    Reduce,
    Reshape,
    Slice,
    Softmax,
    Transpose,
    Unary,
)
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move, Window
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float, run_points
from neuralmatrix.ir.matgraph.verify import matgraph_text, verify_matgraph
from neuralmatrix.ir.points import Point
from neuralmatrix.ir.types import Array, Function, QParams
from targets import lower

RELU = Function("relu")
WEIGHTS: dict[str, Array] = {
    "w": random(1, 4, 4, 3, 3) / 4,
    "v": random(2, 4, 4, 3, 3) / 4,
    "d": random(3, 4, 1, 3, 3) / 2,
    "b": random(4, 4),
    "f": random(5, 4 * 6 * 6, 10) / 8,
    "g": random(6, 10),
}
IMAGE = {"x": (1, 4, 6, 6)}


def conv(x: str, w: str, y: str, **more: object) -> Conv:
    attributes = {"strides": (1, 1), "pads": (1, 1, 1, 1), "dilations": (1, 1), **more}
    return Conv((x, w, "b"), y, f"{y}.node", **attributes)  # type: ignore[arg-type]


def relu(x: str, y: str) -> Unary:
    return Unary((x,), y, f"{y}.node", function=RELU)


def make(*nodes: Node, quant: dict[str, QParams] | None = None, **more: object) -> Graph:
    used = {n for node in nodes for n in node.inputs}
    constants = {n: a for n, a in WEIGHTS.items() if n in used}
    return graph(nodes, IMAGE, constants, quant=quant, **more)  # type: ignore[arg-type]


def kinds(mg: MatGraph) -> list[str]:
    return [type(op).__name__ for op in mg.ops]


def test_residual_block_is_two_gemms() -> None:
    g = make(
        conv("x", "w", "c1"), relu("c1", "r1"), conv("r1", "v", "c2"),
        Binary(("c2", "x"), "sum", kind="add"), relu("sum", "y"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Gemm"]
    assert [op.output for op in mg.ops] == ["r1", "y"]
    assert mg.ops[1].epilogue == Epilogue(residual="x", activation=RELU)
    assert mg.ops[1].source == "c2.node"


@pytest.mark.parametrize("kind, gain", [("add", 1.0), ("sub", -1.0)])
def test_residual_joins_the_later_operand(kind: str, gain: float) -> None:
    """Both operands are single-use convolutions; the one that runs last takes the other in."""
    g = make(
        conv("x", "w", "first"), conv("x", "v", "second"),
        Binary(("first", "second"), "y", kind=kind),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Gemm"]
    assert mg.ops[1].epilogue == Epilogue(residual="first", residual_gain=1.0)
    assert isinstance(mg.ops[1], Gemm) and mg.ops[1].weight is not None
    wanted = gain * WEIGHTS["v"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(mg.ops[1].weight, wanted)


def test_plain_cnn_has_no_moves() -> None:
    g = make(
        conv("x", "w", "c1"), relu("c1", "r1"),
        conv("r1", "d", "c2", groups=4), relu("c2", "r2"),
        Reshape(("r2",), "flat", shape=(1, 144)), MatMul(("flat", "f"), "m"),
        Binary(("m", "g"), "y", kind="add"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window", "Gemm"]
    last = mg.ops[2]
    assert isinstance(last, Gemm) and last.weight is not None
    assert last.weight.shape == (6, 6, 4, 10)


def test_flatten_of_few_channels_becomes_a_row() -> None:
    """A one-channel image is relabelled by the host instead of running a kernel of single lanes."""
    nodes = [Reshape(("x",), "flat", shape=(1, 64)), MatMul(("flat", "w"), "y")]
    mg = check(graph(nodes, {"x": (1, 1, 8, 8)}, {"w": random(1, 64, 5)}))
    assert kinds(mg) == ["Gemm"]
    assert mg.tensors["x"].shape == (1, 1, 1, 64)


def test_gate_is_a_hadamard_operand() -> None:
    """Squeeze and excite: the scaled map stays one operation, its gate two."""
    g = make(
        conv("x", "w", "c1"), Pool(("c1",), "p", kind="average", kernel=(6, 6), strides=(1, 1),
                                   pads=(0, 0, 0, 0), dilations=(1, 1)),
        conv("p", "v", "c2"), Unary(("c2",), "s", function=Function("sigmoid")),
        Binary(("c1", "s"), "y", kind="mul"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window", "Gemm", "Window"]
    assert mg.ops[3].epilogue == Epilogue(hadamard="s")


def test_swish_merges_into_one_window() -> None:
    g = make(
        conv("x", "w", "c"), Unary(("c",), "s", function=Function("sigmoid")),
        Binary(("c", "s"), "y", kind="mul"),
    )  # fmt: skip
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window"]
    assert mg.ops[1].epilogue == Epilogue(activation=Function("sigmoid"), hadamard="c")


def test_constants_fold_into_weights() -> None:
    nodes = [
        conv("x", "w", "c"), Binary(("c", "k"), "m", kind="mul"),
        Binary(("k", "m"), "s", kind="sub"), relu("s", "y"),
    ]  # fmt: skip
    g = graph(nodes, IMAGE, {"w": WEIGHTS["w"], "b": WEIGHTS["b"], "k": random(8, 4, 1, 1)})
    assert kinds(check(g)) == ["Gemm"]


def test_softmax_is_six_steps_in_four() -> None:
    mg = check(graph([Softmax(("x",), "y", axis=1)], {"x": (3, 7)}))
    assert kinds(mg) == ["RowMax", "Window", "Window", "Window"]
    assert mg.tensors["y:max"].replicated and mg.tensors["y:inverse"].replicated


def test_softmax_over_positions_needs_no_move() -> None:
    mg = check(graph([Softmax(("x",), "y", axis=2)], {"x": (1, 4, 6, 5)}))
    assert kinds(mg) == ["Window"] * 4


def test_activation_runs_before_depth_to_space() -> None:
    node = ConvTranspose(("x", "w"), "c", "up", (2, 2), (0,) * 4, (1, 1), 1, (0, 0))
    g = graph([node, relu("c", "r"), relu("r", "y")], IMAGE, {"w": random(1, 4, 3, 2, 2)})
    mg = check(g)
    assert kinds(mg) == ["Gemm", "Window", "Move"]
    assert isinstance(mg.ops[0], Gemm) and mg.ops[0].epilogue.activation == RELU


@pytest.mark.parametrize("value", [0.0, 2.0])
def test_hoisted_activation_applies_to_the_fill(value: float) -> None:
    pad = Pad(("c",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 1)), value=value)
    act = Unary(("p",), "y", function=Function("sigmoid"))
    mg = check(make(conv("x", "w", "c"), pad, act))
    assert kinds(mg) == ["Gemm", "Move"]


def test_zero_pad_joins_the_convolution() -> None:
    pad = Pad(("x",), "p", pads=((0, 0), (0, 0), (1, 0), (0, 2)))
    mg = check(make(pad, conv("p", "w", "y", pads=(0, 1, 1, 0))))
    assert kinds(mg) == ["Gemm"]
    assert isinstance(mg.ops[0], Gemm) and mg.ops[0].pads == (1, 1, 1, 2)


def test_layout_chain_is_one_move() -> None:
    nodes = [
        conv("x", "w", "c"),
        Reshape(("c",), "a", shape=(1, 2, 2, 6, 6)), Transpose(("a",), "t", perm=(0, 2, 1, 3, 4)),
        Reshape(("t",), "s", shape=(1, 4, 6, 6)),
        Slice(("s",), "l", slices=((0, None, 1), (1, 3, 1), (0, None, 2), (0, None, 1))),
        Concat(("l", "l"), "j", axis=1), conv("j", "v", "y"),
    ]  # fmt: skip
    mg = check(make(*nodes))
    assert kinds(mg) == ["Gemm", "Move", "Gemm"]
    assert isinstance(mg.ops[1], Move) and mg.ops[1].inputs == ("c",) and mg.ops[1].output == "j"


def test_input_in_another_layout_is_relabelled_by_the_host() -> None:
    nodes = [Transpose(("x",), "t", perm=(0, 3, 1, 2)), conv("t", "w", "y")]
    mg = check(graph(nodes, {"x": (1, 5, 6, 4)}, {"w": WEIGHTS["w"], "b": WEIGHTS["b"]}))
    assert kinds(mg) == ["Gemm"]
    assert mg.inputs[0].steps == () and mg.tensors["x"].shape == (1, 5, 6, 4)


def test_flat_input_is_relabelled_by_the_host() -> None:
    nodes = [Reshape(("x",), "t", shape=(2, 4, 3, 5)), conv("t", "w", "y")]
    mg = check(graph(nodes, {"x": (2, 60)}, {"w": WEIGHTS["w"], "b": WEIGHTS["b"]}))
    assert kinds(mg) == ["Gemm"]
    assert [step.kind for step in mg.inputs[0].steps] == ["reshape", "transpose"]


def test_key_product_reads_its_operand_transposed() -> None:
    nodes = [Transpose(("z",), "t", perm=(0, 2, 1)), MatMul(("x", "t"), "y")]
    mg = check(graph(nodes, {"x": (2, 3, 8), "z": (2, 5, 8)}))
    assert kinds(mg) == ["Gemm"]
    assert isinstance(mg.ops[0], Gemm) and mg.ops[0].rhs_transposed


def test_attention() -> None:
    nodes = [
        MatMul(("x", "q"), "q1"), MatMul(("x", "k"), "k1"), MatMul(("x", "v"), "v1"),
        *(Reshape((f"{n}1",), f"{n}2", shape=(1, 5, 2, 4)) for n in "qkv"),
        Transpose(("q2",), "q3", perm=(0, 2, 1, 3)), Transpose(("k2",), "k3", perm=(0, 2, 3, 1)),
        Transpose(("v2",), "v3", perm=(0, 2, 1, 3)), MatMul(("q3", "k3"), "s"),
        Binary(("s", "scale"), "s2", kind="div"), Softmax(("s2",), "p", axis=3),
        MatMul(("p", "v3"), "o"), Transpose(("o",), "o2", perm=(0, 2, 1, 3)),
        Reshape(("o2",), "o3", shape=(1, 5, 8)), MatMul(("o3", "q"), "m"),
        Binary(("m", "x"), "y", kind="add"),
    ]  # fmt: skip
    constants = {n: random(i, 8, 8) for i, n in enumerate("qkv")} | {"scale": np.float32(2)}
    mg = check(graph(nodes, {"x": (1, 5, 8)}, constants))
    assert mg.ops[-1].epilogue.residual == "x"


def test_argmax_is_the_hosts() -> None:
    mg = check(make(conv("x", "w", "c"), ArgMax(("c",), "y", axis=1)))
    assert kinds(mg) == ["Gemm"]
    assert mg.outputs[0].argmax == (1, True, False) and mg.outputs[0].dtype == "int64"


def test_dead_nodes_leave_nothing() -> None:
    mg = check(make(conv("x", "w", "y"), relu("y", "dead"), outputs=["y"]))
    assert list(mg.tensors) == ["x", "y"]


# ---------------------------------------------------------------- prescribed quantisation

Q1, Q2, Q3 = QParams(0.1), QParams(0.2, 3), QParams(0.05)


def test_annotated_intermediate_is_not_fused_over() -> None:
    nodes = conv("x", "w", "c"), relu("c", "y")
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "y": Q3}))
    assert kinds(mg) == ["Gemm", "Window"]
    assert mg.quant == {"x": Q1, "c": Q2, "y": Q3}


def test_annotation_behind_the_activation_fuses() -> None:
    nodes = conv("x", "w", "c"), relu("c", "y")
    mg = check(make(*nodes, quant={"x": Q1, "y": Q2}))
    assert kinds(mg) == ["Gemm"]
    assert mg.quant == {"x": Q1, "y": Q2}


def test_annotated_operand_keeps_the_add_separate() -> None:
    nodes = conv("x", "w", "c"), Binary(("c", "x"), "s", kind="add"), relu("s", "y")
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "y": Q3}))
    assert kinds(mg) == ["Gemm", "Window"]
    assert mg.ops[1].epilogue == Epilogue(residual="x", activation=RELU)


@pytest.mark.parametrize("given, extra", [(Q2, 0), (Q1, 1)])
def test_annotated_view(given: QParams, extra: int) -> None:
    """A reshaped tensor with its source's scale is free, with another one it is converted."""
    nodes = conv("x", "w", "c"), Reshape(("c",), "flat", shape=(1, 144)), MatMul(("flat", "f"), "y")
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "flat": given}))
    assert kinds(mg) == ["Gemm"] + ["Window"] * extra + ["Gemm"]
    assert ("flat" in mg.quant) == bool(extra)


def test_annotation_of_a_view_reaches_its_source() -> None:
    nodes = conv("x", "w", "c"), Reshape(("c",), "flat", shape=(1, 144)), MatMul(("flat", "f"), "y")
    mg = check(make(*nodes, quant={"x": Q1, "flat": Q2}))
    assert kinds(mg) == ["Gemm", "Gemm"] and mg.quant == {"x": Q1, "c": Q2}


def test_concatenated_scales_are_converted_before_the_move() -> None:
    nodes = conv("x", "w", "c"), conv("x", "v", "d2"), Concat(("c", "d2"), "y", axis=1)
    mg = check(make(*nodes, quant={"x": Q1, "c": Q2, "d2": Q3, "y": Q3}))
    assert kinds(mg) == ["Gemm", "Gemm", "Window", "Move"]
    move = mg.ops[3]
    assert isinstance(move, Move) and {mg.quant[n] for n in (*move.inputs, "y")} == {Q3}


@pytest.mark.parametrize("shape", [(), (4,), (4, 1, 1, 1)])
def test_weight_scales_per_output_channel(shape: tuple[int, ...]) -> None:
    scale = np.abs(random(3, *shape)) + 0.1 if shape else np.float32(0.5)
    for name, nodes in {"w": [conv("x", "w", "y")], "d": [conv("x", "d", "y", groups=4)]}.items():
        mg = check(make(*nodes, weight_scales={name: scale}))
        found = mg.ops[0]
        assert isinstance(found, (Gemm, Window)) and found.weight_scale is not None
        np.testing.assert_array_equal(found.weight_scale, np.broadcast_to(scale.reshape(-1), (4,)))


def test_folded_factor_scales_the_weight_scale() -> None:
    nodes = [conv("x", "w", "c"), Binary(("c", "k"), "y", kind="mul")]
    constants = {"w": WEIGHTS["w"], "b": WEIGHTS["b"], "k": np.float32(-2)}
    mg = check(graph(nodes, IMAGE, constants, weight_scales={"w": np.float32(0.5)}))
    assert isinstance(mg.ops[0], Gemm)
    np.testing.assert_array_equal(mg.ops[0].weight_scale, np.ones(4))


# ---------------------------------------------------------------- refusals


def test_all_refusals_at_once() -> None:
    nodes = [
        ArgMax(("x",), "i", "pick", axis=1), Unary(("i",), "a", function=RELU),
        Binary(("k", "k"), "kk", "twice", kind="add"), Binary(("a", "kk"), "y", kind="mul"),
    ]  # fmt: skip
    with pytest.raises(UnsupportedModel) as caught:
        lower(graph(nodes, IMAGE, {"k": 1.0}))
    assert [(n.name, n.op) for n in caught.value.nodes] == [("pick", "ArgMax"), ("twice", "Binary")]
    assert "only at a network output" in str(caught.value)


def test_three_spatial_axes_are_refused() -> None:
    node = Conv(("x", "w"), "y", "deep", (1,) * 3, (0,) * 6, (1,) * 3)
    with pytest.raises(UnsupportedModel, match="deep: Conv .*3 spatial axes"):
        lower(graph([node], {"x": (1, 2, 4, 4, 4)}, {"w": random(1, 2, 2, 2, 2, 2)}))


@pytest.mark.parametrize("which", ["weight", "bias"])
def test_computed_parameters_are_refused(which: str) -> None:
    names = {"weight": ("x", "z", "b"), "bias": ("x", "w", "z")}[which]
    shape = {"weight": (4, 4, 3, 3), "bias": (4,)}[which]
    constants = {n: WEIGHTS[n] for n in names[1:] if n != "z"}
    node = Conv(names, "y", "n", (1, 1), (0,) * 4, (1, 1))
    with pytest.raises(UnsupportedModel, match=f"its {which} 'z' is computed at run time"):
        lower(graph([node], {**IMAGE, "z": shape}, constants))


# ---------------------------------------------------------------- evaluation and checks


def batch_graph() -> Graph:
    return make(
        conv("x", "w", "c"), Concat(("c", "x"), "j", axis=1),
        Reduce(("j",), "m", kind="mean", axes=(2, 3)), Binary(("j", "m"), "s", kind="sub"),
        Transpose(("s",), "t", perm=(0, 2, 3, 1)), Softmax(("t",), "y", axis=3),
    )  # fmt: skip


def test_more_images_than_the_models_batch() -> None:
    mg = lower(batch_graph())
    x = random(9, 5, 4, 6, 6)
    together = port_outputs(mg, run_float(mg, {"x": x}))["y"]
    alone = [port_outputs(mg, run_float(mg, {"x": x[i : i + 1]}))["y"] for i in range(5)]
    # BLAS may sum in another order for another number of rows
    np.testing.assert_allclose(together, np.concatenate(alone), rtol=1e-5, atol=1e-6)


def test_prescribed_scales_round_and_saturate() -> None:
    """A QDQ model without its ReLU: zero point -128 cuts negative values off."""
    q = QParams(0.01, -128)
    g = make(conv("x", "w", "c"), conv("c", "v", "y"), quant={"x": Q1, "c": q})
    feeds = feeds_of(g)
    values = run_float(lower(g), feeds)
    assert values["c"].min() == 0 and values["c"].max() == np.float32(255) * np.float32(0.01)
    wanted = operators.run_graph(g, feeds, quantized=True, keep_all=True)
    # a float32 sum on the edge between two codes may round to either
    difference = np.abs(values["c"].transpose(0, 3, 1, 2) - wanted["c"]) / 0.01
    assert difference.max() < 1.01 and (difference > 0.01).mean() < 0.02


def test_only_outputs_are_kept_on_demand() -> None:
    g = batch_graph()
    mg, feeds = lower(g), feeds_of(g)
    everything = run_float(mg, feeds)
    few = run_float(mg, feeds, keep=False)
    assert set(everything) == set(mg.tensors) and set(few) == {"y"}
    np.testing.assert_array_equal(few["y"], everything["y"])


def test_values_around_the_epilogue() -> None:
    g = make(conv("x", "w", "c"), relu("c", "r"), Binary(("r", "x"), "y", kind="mul"))
    mg = lower(g)
    values = run_points(mg, feeds_of(g))
    x, y, pre, act = Point("x"), Point("y"), Point("y", "pre_activation"), Point("y", "pre_product")
    assert set(values) == {x, y, pre, act}
    np.testing.assert_array_equal(values[act], np.maximum(values[pre], 0))
    np.testing.assert_array_equal(values[y], values[act] * values[x])


@pytest.mark.parametrize(
    "feeds, message",
    [
        ({}, "the inputs are \\['x'\\]"),
        ({"x": np.zeros((1, 4, 6, 5))}, "feed 'x' has shape \\(1, 4, 6, 5\\); allowed is"),
        ({"x": np.zeros((0, 4, 6, 6))}, "or a multiple of it"),
    ],
)
def test_bad_feeds(feeds: dict[str, Array], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run_float(lower(batch_graph()), feeds)


def _broken(mg: MatGraph, **changes: object) -> MatGraph:
    from dataclasses import replace

    return replace(mg, ops=(replace(mg.ops[0], **changes), *mg.ops[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input": "nowhere"}, "reads 'nowhere' before anything defines it"),
        ({"output": "x"}, "defines a name that exists already"),
        ({"bias": np.zeros(3, np.float32)}, "bias is \\(3,\\), not \\(4,\\)"),
        ({"bias": np.full(4, np.nan)}, "bias: 4 of 4 values are NaN or infinite"),
        ({"strides": (2, 2)}, "is \\(1, 3, 3, 4\\), not \\(1, 6, 6, 4\\)|not \\(1, 3, 3, 4\\)"),
        ({"epilogue": Epilogue(residual="y")}, "reads 'y' before"),
    ],
)
def test_verify_names_the_rule(changes: dict[str, object], message: str) -> None:
    mg = lower(make(conv("x", "w", "c"), conv("c", "v", "y")))
    with pytest.raises(BadModel, match=message):
        verify_matgraph(_broken(mg, **changes))


def test_text() -> None:
    g = make(
        conv("x", "w", "c"), Binary(("c", "x"), "s", kind="sub"), relu("s", "y"),
        quant={"y": Q2},
    )  # fmt: skip
    assert matgraph_text(lower(g)) == (
        "input x: 1x4x6x6 -> x 1x6x6x4 by transpose(0,2,3,1)\n"
        "y: 1x6x6x4 [scale 0.2 zero 3] = Gemm(x) k3x3 p1,1,1,1 -1*x relu  # c.node\n"
        "output y: 1x4x6x6 <- y by transpose(0,3,1,2)\n"
    )
