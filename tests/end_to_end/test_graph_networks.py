# SPDX-License-Identifier: Apache-2.0
"""Graph networks: bound constants, orientation, node order, sparse products, scatters, whole."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from conftest import ROOT
from graph_models import (
    FEATURES,
    MODELS,
    RandomGraph,
    dense_gat,
    dense_gcn,
    edge_gcn,
    features,
    gin,
    random_graph,
    sage,
)
from neuralmatrix.cli.main import app
from neuralmatrix.compiler import Options, front_end
from neuralmatrix.errors import BadInput, BadModel, UnsupportedModel
from neuralmatrix.frontend.onnx.bind_constants import bind_constants, read_constants
from neuralmatrix.ir.matgraph.blocks import nonzero_blocks
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, Move, Window
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.types import Array, apply_steps
from neuralmatrix.transforms.matgraph.reorder_nodes import cluster, cuthill_mckee, reorder_nodes
from neuralmatrix.verification import signal_to_noise
from slow import slow_after
from targets import target
from typer.testing import CliRunner

GRAPH = random_graph(45)
LANES = target().lanes


def lowered(proto: onnx.ModelProto, constants: dict[str, Array] | None = None) -> MatGraph:
    return front_end(proto, target(), Options(constants=constants))


def floats(mg: MatGraph, feeds: dict[str, Array]) -> dict[str, Array]:
    values = run_float(mg, feeds)
    return {p.name: apply_steps(values[p.tensor], p.steps) for p in mg.outputs}


def check_floats(
    proto: onnx.ModelProto, feeds: dict[str, Array], constants: dict[str, Array] | None = None
) -> MatGraph:
    """The MatGraph, equal to onnxruntime."""
    mg = lowered(proto, constants)
    expected = onnxruntime_outputs(proto, {**feeds, **(constants or {})})
    for name, value in floats(mg, feeds).items():
        # float32 sums of some tens of products in another order
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)
    return mg


def moves(mg: MatGraph) -> list[str]:
    return [op.output for op in mg.ops if isinstance(op, Move)]


# ---------------------------------------------------------------- constants for inputs


def test_bound_input_is_an_initialiser() -> None:
    proto = bind_constants(dense_gcn(GRAPH), {"a": GRAPH.normalised})
    assert [i.name for i in proto.graph.input] == ["x"]
    (value,) = (t for t in proto.graph.initializer if t.name == "a")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(value), GRAPH.normalised)


def test_bound_array_fixes_named_dimensions() -> None:
    nodes = [node("MatMul", ["a", "x"], ["y"])]
    proto = bind_constants(model(nodes, {"a": ("n", "n"), "x": ("n", 3)}, ["y"]), {"a": np.eye(5)})
    assert [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim] == [5, 3]


@pytest.mark.parametrize(
    ("constants", "text"),
    [
        ({"b": np.eye(45)}, r"'b', allowed are the model's inputs 'a' \(45, 45\), 'x' \(45, 20\)"),
        ({"a": np.eye(44)}, r"'a' has shape \(44, 44\), allowed is \(45, 45\)"),
        ({"a": np.eye(45).reshape(1, 45, 45)}, r"'a' has shape \(1, 45, 45\)"),
        ({"a": np.eye(45) * 1j}, "'a' is complex128, allowed is floating point"),
    ],
)
def test_constants_that_do_not_fit(constants: dict[str, Array], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        bind_constants(dense_gcn(GRAPH), constants)


def test_named_dimension_with_two_sizes() -> None:
    proto = model([node("MatMul", ["a", "x"], ["y"])], {"a": ("n", "n"), "x": ("n", 3)}, ["y"])
    with pytest.raises(BadInput, match=r"allowed is \(n, n\) where n is 5"):
        bind_constants(proto, {"a": np.zeros((5, 6), np.float32)})


@pytest.mark.parametrize(
    ("options", "text"),
    [(["a"], "NAME=FILE.npy"), (["=f"], "NAME=FILE.npy"), (["a=no.npy"], "found no file")],
)
def test_constant_options_that_cannot_be_read(options: list[str], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        read_constants(options)


def test_constant_option_twice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.eye(2))
    with pytest.raises(BadInput, match="'a' twice"):
        read_constants([f"a={tmp_path / 'a.npy'}"] * 2)


def test_constant_file_that_is_no_array(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="no readable .npy"):
        read_constants([f"a={tmp_path / 'a.npy'}"])
    np.savez(tmp_path / "b.npz", x=np.eye(2))
    with pytest.raises(BadInput, match="several arrays"):
        read_constants([f"a={tmp_path / 'b.npz'}"])


@pytest.mark.gxx
def test_command_line_binds_and_verifies(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(dense_gcn(GRAPH).SerializeToString())
    np.save(tmp_path / "a.npy", GRAPH.normalised)
    np.savez(tmp_path / "x.npz", x=features(GRAPH))
    net, program, x = (str(tmp_path / n) for n in ("net.onnx", "net.nmx", "x.npz"))
    bound = ["--constant", f"a={tmp_path / 'a.npy'}"]
    for words in (["compile", net, "-o", program, "--calibration", x, *bound],
                  ["verify", net, program, x, *bound]):  # fmt: skip
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("build", [edge_gcn, sage, gin])
def test_networks_without_moves(build: object) -> None:
    assert callable(build)
    assert not moves(check_floats(build(GRAPH), {"x": features(GRAPH)}))


def test_dense_gcn_has_the_adjacency_as_weights() -> None:
    mg = check_floats(dense_gcn(GRAPH), {"x": features(GRAPH)}, {"a": GRAPH.normalised})
    kinds = [(type(op).__name__, op.rhs is None) for op in mg.ops if isinstance(op, Gemm)]
    assert kinds == [("Gemm", False), ("Gemm", True)] * 2 and len(mg.ops) == 4


def test_gathers_and_scatters_become_the_same_products() -> None:
    mg = check_floats(edge_gcn(GRAPH), {"x": features(GRAPH)})
    weights = [op.weight for op in mg.ops if isinstance(op, Gemm) and op.weight is not None]
    for weight in weights:
        np.testing.assert_allclose(weight[0, 0], GRAPH.normalised.T, rtol=1e-6)
    assert len(weights) == 2


def test_dense_gat_reads_columns_and_scales_rows_in_passing() -> None:
    mg = check_floats(dense_gat(GRAPH), {"x": features(GRAPH)})
    assert not moves(mg)
    last = mg.ops[-1]
    assert isinstance(last, Gemm) and last.epilogue.hadamard and last.rhs


@pytest.mark.parametrize(("last", "count"), [("MatMul", 0), ("Add", 1)])
def test_transposition_of_a_softmax(last: str, count: int) -> None:
    """Row statistics fix the orientation of what they are taken of; products do not."""
    end = {"MatMul": node("MatMul", ["t", "v"], ["y"]), "Add": node("Add", ["p", "t"], ["y"])}
    nodes = [
        node("MatMul", ["x", "w"], ["h"]), node("Softmax", ["h"], ["p"], axis=-1),
        node("Transpose", ["p"], ["t"], perm=[1, 0]), end[last],
    ]  # fmt: skip
    constants = {"w": signed((7, 21), 1), "v": signed((21, 5), 2)}
    mg = check_floats(model(nodes, {"x": (21, 7)}, ["y"], constants), {"x": signed((21, 7))})
    assert len(moves(mg)) == count


@pytest.mark.parametrize("seed", range(24))
def test_random_chains_of_products_and_transpositions(seed: int) -> None:
    proto, feeds = random_chain(seed)
    check_floats(proto, feeds)


def random_chain(seed: int) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Products from both sides, transpositions, biases, activations and sums of matrices."""
    rng = np.random.default_rng(seed)
    rows, cols = (int(n) for n in rng.integers(3, 40, 2))
    feeds = {"x0": signed((rows, cols), seed)}
    constants: dict[str, Array] = {}
    nodes, shapes = [], {"x0": (rows, cols)}
    for i in range(8):
        x = f"x{rng.integers(max(0, i - 1), i + 1)}"
        h, w = shapes[x]
        out = f"x{i + 1}"
        kind = rng.choice(["right", "left", "turn", "bias", "relu", "sum"])
        size = int(rng.integers(3, 40))
        scale = 1 / np.sqrt(max(h, w))
        if kind == "right":
            constants[f"c{i}"], shapes[out] = signed((w, size), i) * scale, (h, size)
            nodes.append(node("MatMul", [x, f"c{i}"], [out]))
        elif kind == "left":
            constants[f"c{i}"], shapes[out] = signed((size, h), i) * scale, (size, w)
            nodes.append(node("MatMul", [f"c{i}", x], [out]))
        elif kind == "turn":
            shapes[out] = (w, h)
            nodes.append(node("Transpose", [x], [out], perm=[1, 0]))
        elif kind == "bias":
            constants[f"c{i}"], shapes[out] = signed((w,), i), (h, w)
            nodes.append(node("Add", [x, f"c{i}"], [out]))
        elif kind == "relu":
            shapes[out] = (h, w)
            nodes.append(node("Relu", [x], [out]))
        else:
            shapes[out] = (h, w)
            alike = [n for n, s in shapes.items() if s == (h, w) and n != out]
            nodes.append(node("Add", [x, str(rng.choice(alike))], [out]))
    constants = {n: c.astype(np.float32) for n, c in constants.items()}
    nodes.append(node("Identity", ["x8"], ["y"]))
    return model(nodes, {"x0": (rows, cols)}, ["y"], constants), feeds


# ---------------------------------------------------------------- order of the nodes


def shuffled_band(nodes: int, seed: int = 3) -> Array:
    """A band matrix, its nodes in random order."""
    rng = np.random.default_rng(seed)
    at = np.arange(nodes)
    band = (np.abs(at[:, None] - at) <= 3) * rng.normal(size=(nodes, nodes))
    order = rng.permutation(nodes)
    return np.asarray(band[np.ix_(order, order)], np.float32)


def two_products(matrix: Array, width: int = 5) -> onnx.ModelProto:
    nodes = [node("MatMul", ["a", "x"], ["h"]), node("Relu", ["h"], ["r"]),
             node("MatMul", ["a", "r"], ["y"])]  # fmt: skip
    return model(nodes, {"x": (len(matrix), width)}, ["y"], {"a": matrix})


@pytest.mark.parametrize("nodes", [1, 16, 77])
def test_orders_are_permutations(nodes: int) -> None:
    pattern = shuffled_band(nodes) != 0
    for order in (cuthill_mckee(pattern), cluster(pattern, LANES), cluster(pattern, LANES, "high")):
        assert sorted(order) == list(range(nodes))


def test_order_of_unconnected_nodes() -> None:
    assert sorted(cuthill_mckee(np.zeros((20, 20), bool))) == list(range(20))
    assert sorted(cluster(np.zeros((20, 3), bool), LANES)) == list(range(20))


def test_reordering_leaves_fewer_blocks_and_the_same_results() -> None:
    matrix = shuffled_band(203)
    before = nonzero_blocks(matrix.T[None, None], LANES)
    mg = check_floats(two_products(matrix), {"x": signed((203, 5))})
    counts = [nonzero_blocks(op.weight, LANES) for op in mg.ops
              if isinstance(op, Gemm) and op.weight is not None]  # fmt: skip
    assert len(counts) == 2 and max(counts) <= before / 3
    assert any(step.kind == "take" for port in (*mg.inputs, *mg.outputs) for step in port.steps)


def test_reordering_a_rectangular_matrix() -> None:
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 12, 190), rng.integers(0, 12, 133)
    matrix = (groups[0][:, None] == groups[1]) * rng.normal(size=(190, 133))
    nodes = [node("MatMul", ["a", "x"], ["y"])]
    proto = model(nodes, {"x": (133, 6)}, ["y"], {"a": matrix.astype(np.float32)})
    mg = check_floats(proto, {"x": signed((133, 6))})
    (op,) = mg.ops
    assert isinstance(op, Gemm) and op.weight is not None
    assert nonzero_blocks(op.weight, LANES) < nonzero_blocks(matrix.T[None, None], LANES) / 2


def test_axes_of_reshaped_tensors_keep_their_order() -> None:
    """A Move that is no transposition fixes the node axis of its input."""
    matrix = shuffled_band(128)
    nodes = [node("MatMul", ["a", "x"], ["h"]), node("Reshape", ["h", "shape"], ["s"]),
             node("Softmax", ["s"], ["y"], axis=-1)]  # fmt: skip
    constants = {"a": matrix, "shape": np.array([32, 20])}
    check_floats(model(nodes, {"x": (128, 5)}, ["y"], constants), {"x": signed((128, 5))})


def test_dense_weights_are_left_alone() -> None:
    mg = lowered(two_products(signed((80, 80), 4)))
    assert reorder_nodes(mg, target()) is mg


def test_program_with_a_bad_order_is_refused(tmp_path: Path) -> None:
    program = nm.compile(two_products(shuffled_band(150)), calibration=[{"x": signed((150, 5))}])
    port = program.outputs[0]
    step = next(s for s in port.steps if s.kind == "take")
    twice = replace(step, arg=(step.arg[0], *step.arg[2:], step.arg[2]))
    steps = tuple(twice if s is step else s for s in port.steps)
    bad = replace(program, outputs=(replace(port, steps=steps),))
    bad.save(tmp_path / "bad.nmx")
    with pytest.raises(nm.BadProgram, match="steps"):
        nm.load(tmp_path / "bad.nmx")


# ---------------------------------------------------------------- scatters


def scatter(
    kind: str, data: Array, index: Array, updates: tuple[int, int], **attrs: object
) -> onnx.ModelProto:
    nodes = [
        node("Mul", ["x", "two"], ["m"]),
        node("ScatterElements", ["d", "i", "m"], ["s"], reduction=kind, **attrs),
        node("Mul", ["s", "two"], ["y"]),
    ]
    constants = {"two": np.float32(2), "d": data, "i": index}
    return model(nodes, {"x": updates}, ["y"], constants, opset=18)


ROWS = np.array([4, 0, 4, 2, -1, 0, 4, 3, 1])


@pytest.mark.parametrize("kind", ["add", "max", "min"])
@pytest.mark.parametrize("axis", [0, 1])
def test_scatters_with_constant_indices(kind: str, axis: int) -> None:
    data = np.full((6, 3), 0.4, np.float32)
    data[0], index = -0.3, np.repeat(ROWS[:, None], 3, 1)
    if axis:
        data, index = data.T.copy(), index.T.copy()
    proto = scatter(kind, data, index, index.shape, axis=axis)
    check_floats(proto, {"x": signed(index.shape)})


def test_extremes_from_infinite_data() -> None:
    """The start of a maximum is no operand: its size would cost all precision."""
    data = np.full((5, 2), -1e38, np.float32)
    proto = scatter("max", data, np.repeat(ROWS[:, None], 2, 1), (9, 2), axis=0)
    mg = check_floats(proto, {"x": signed((9, 2))})
    assert all(np.abs(c).max() < 10 for c in mg.constants.values())


def test_added_rows_of_scatter_nd() -> None:
    nodes = [node("ScatterND", ["d", "i", "x"], ["y"], reduction="add")]
    constants = {"d": signed((6, 4), 3), "i": ROWS[:, None]}
    proto = model(nodes, {"x": (9, 4)}, ["y"], constants, opset=18)
    check_floats(proto, {"x": signed((9, 4))})


def test_weighted_gathers_along_a_later_axis() -> None:
    """Gather, factors and sum along the channels are one constant matrix."""
    nodes = [
        node("Gather", ["x", "j"], ["g"], axis=1), node("Mul", ["g", "w"], ["m"]),
        node("ScatterElements", ["d", "i", "m"], ["y"], axis=1, reduction="add"),
    ]  # fmt: skip
    constants = {"j": np.array([3, 1, 1, -1]), "w": signed((4,), 2),
                 "i": np.tile([0, 2, 2, 1], (5, 1)), "d": np.zeros((5, 3), np.float32)}  # fmt: skip
    proto = model(nodes, {"x": (5, 6)}, ["y"], constants, opset=18)
    mg = check_floats(proto, {"x": signed((5, 6))})
    assert [type(op) for op in mg.ops] == [Gemm]


@pytest.mark.parametrize(
    ("kind", "index", "text"),
    [
        ("mul", np.zeros((3, 2), np.int64), "reduction 'mul'; none, add, max, min"),
        ("add", np.array([[0, 1], [1, 0], [2, 2]]), "reduces single elements"),
    ],
)
def test_scatters_that_are_refused(kind: str, index: Array, text: str) -> None:
    proto = scatter(kind, np.zeros((5, 2), np.float32), index, (3, 2), axis=0)
    with pytest.raises(UnsupportedModel, match=text):
        lowered(proto)


def test_index_out_of_range() -> None:
    proto = scatter("add", np.zeros((5, 2), np.float32), np.full((3, 2), 5), (3, 2), axis=0)
    with pytest.raises(BadModel, match=r"indices 5\.\.5 of an axis of 5"):
        lowered(proto)


def test_edges_at_run_time_are_refused_and_bound() -> None:
    nodes = [
        node("Gather", ["x", "j"], ["g"], axis=0),
        node("ScatterElements", ["d", "i", "g"], ["y"], axis=0, reduction="add"),
    ]
    whole = onnx.TensorProto.INT64
    proto = model([node("Identity", ["x0"], ["x"]), *nodes],
                  {"x0": (5, 2), "j": (9,), "i": (9, 2)}, ["y"],
                  {"d": np.zeros((5, 2), np.float32)}, opset=18,
                  types={"j": whole, "i": whole})  # fmt: skip
    with pytest.raises(UnsupportedModel, match="bind that input"):
        lowered(proto)
    bound = {"j": ROWS % 5, "i": np.repeat(ROWS[:, None] % 5, 2, 1)}
    check_floats(proto, {"x0": signed((5, 2))}, bound)


# ---------------------------------------------------------------- end to end

LEAST_SNR = {"int8": 25, "int16": 38}  # dB; int8 weights and edges bound both


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("name", slow_after(2, MODELS))
def test_networks_on_the_array(name: str, precision: str) -> None:
    proto, feeds = MODELS[name](GRAPH), {"x": features(GRAPH)}
    program = nm.compile(proto, calibration=[feeds], precision=precision)
    check = nm.verify(proto, program, feeds)
    assert check.ok, check.to_text()
    assert set(program.host_ops) == {"quantize", "dequantize"}
    y = nm.Session(program).run(feeds)["y"]
    expected = onnxruntime_outputs(proto, feeds)["y"]
    assert signal_to_noise(expected, y) > LEAST_SNR[precision]


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.data
def test_cora(data: Path) -> None:
    """Accuracy within 0.3 points of float, cycles within 1.25 times the bound."""
    sys.path.insert(0, str(ROOT / "bench"))
    import graphs as bench

    found = {row.what: row for row in bench.cora_rows()}
    assert found["GCN on Cora loss"].verdict == "pass", found
    assert found["GCN on Cora over its bound"].verdict == "pass", found
    assert found["program's constants"].value < 1


@pytest.mark.slow
def test_a_large_graph_keeps_its_width() -> None:
    """Only the constants depend on the number of edges, not on nodes squared."""
    graph: RandomGraph = random_graph(1000, degree=2.0)
    x = np.zeros((graph.nodes, FEATURES), np.float32)
    x[::3, ::2] = 1
    program = nm.compile(edge_gcn(graph), calibration=[{"x": x}])
    assert program.const.size < graph.nodes**2 / 3
    assert not any(isinstance(op, Window) for op in lowered(edge_gcn(graph)).ops)
