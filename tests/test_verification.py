# SPDX-License-Identifier: Apache-2.0
"""verify() compiles for what a program was compiled for, whatever board that was, and compares like
with like.

In: a graph network, whose passes read lanes and port widths; small networks with rescaled or masked
tensors.  Out: the same instructions again; figures per layer and output.
"""

from __future__ import annotations

import json
from dataclasses import replace

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from graph_models import dense_gcn, features, random_graph
from neuralmatrix.compiler import Options, back_end, front_end
from neuralmatrix.hardware.board import Board, load_board
from neuralmatrix.hardware.target import Target
from neuralmatrix.ir.types import Array
from neuralmatrix.program.program import Program
from neuralmatrix.scheduling import schedule
from neuralmatrix.verification import output_check

GRAPH = random_graph(100)
MODEL, FEED, CONSTANTS = dense_gcn(GRAPH), {"x": features(GRAPH)}, {"a": GRAPH.normalized}


def own_board() -> Board:
    """PYNQ-Z2's array beside a port of half the width, in no board file."""
    board = load_board("pynq-z2")
    load = replace(board.ports.load, bytes_per_cycle=4)
    return replace(board, name="own", ports=replace(board.ports, load=load))


BOARDS = {"pynq-z2": load_board("pynq-z2"), "kv260": load_board("kv260"), "own": own_board()}


def compiled(board: Board) -> Program:
    return nm.compile(MODEL, board, [FEED], constants=CONSTANTS)


def test_lanes_and_port_widths_lead_to_other_programs() -> None:
    programs = {name: compiled(board) for name, board in BOARDS.items()}
    assert len(programs["kv260"].instructions) != len(programs["pynq-z2"].instructions)
    assert programs["own"].estimate().cycles > programs["pynq-z2"].estimate().cycles


@pytest.mark.parametrize("board", BOARDS)
def test_a_program_holds_all_that_makes_its_graph_again(board: str) -> None:
    program = compiled(BOARDS[board])
    target = Target(program.array, program.timing)
    options = Options(constants=CONSTANTS, saved=program)
    again = schedule(back_end(front_end(MODEL, target, options), target, options), target)
    np.testing.assert_array_equal(again.instructions, program.instructions)
    np.testing.assert_array_equal(again.const, program.const)


@pytest.mark.gxx
@pytest.mark.parametrize("board", BOARDS)
def test_verify_finds_every_layer_equal(board: str) -> None:
    check = nm.verify(MODEL, compiled(BOARDS[board]), FEED, CONSTANTS)
    assert check.ok, check.to_text()


@pytest.mark.gxx
def test_other_weights_are_told_also_where_no_file_knows_the_board() -> None:
    other = {"a": np.asarray(2 * GRAPH.normalized, np.float32)}
    with pytest.raises(nm.BadInput, match="not compiled from this model"):
        nm.verify(MODEL, compiled(own_board()), FEED, other)


# ------------------------------------------------------------------ figures


def two_products() -> tuple[onnx.ModelProto, dict[str, Array]]:
    """Channels of different size between two products, the second of which undoes them."""
    rng = np.random.default_rng(0)
    size = 10.0 ** rng.uniform(-1.5, 1, 32)
    w, v = rng.normal(size=(16, 32)) * 0.3 * size, rng.normal(size=(32, 8)) / size[:, None]
    nodes = [
        node("Gemm", ["x", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v"], ["y"]),
    ]
    constants = {"w": np.asarray(w, np.float32), "v": np.asarray(v, np.float32)}
    made = model(nodes, {"x": [1, 16]}, ["y"], constants)
    return made, {"x": rng.normal(size=(16, 16)).astype(np.float32)}


@pytest.mark.gxx
def test_rescaled_tensors_are_compared_in_the_models_scale() -> None:
    net, feed = two_products()
    program = nm.compile(net, calibration=[feed], refine=True)
    assert program.recipe.factors
    check = nm.verify(net, program, feed)
    (output,) = check.outputs
    assert check.ok and output.snr_db > 30  # int8 of equal channels
    # nothing is lost in the tensor between, which the factors make even
    assert min(layer.snr_db for layer in check.layers) > output.snr_db - 10


@pytest.mark.gxx
def test_the_last_line_and_json_give_the_outputs_loss() -> None:
    net, feed = two_products()
    program = nm.compile(net, calibration=[feed], refine=False)
    check = nm.verify(net, program, feed)
    (output,) = check.outputs
    wanted = onnxruntime_outputs(net, {"x": feed["x"][:1]})["y"]
    rows = [onnxruntime_outputs(net, {"x": x[None]})["y"][0] for x in feed["x"]]
    found = nm.Session(program).run(feed)["y"]
    assert wanted.shape == (1, 8)
    error = np.linalg.norm(found - rows) / np.linalg.norm(rows)
    # onnxruntime sums in another order than numpy
    assert output.relative_error == pytest.approx(error, rel=1e-3)
    assert output.snr_db == pytest.approx(-20 * np.log10(error), abs=0.01)
    equal = np.argmax(found, 1) == np.argmax(rows, 1)
    assert output.top1 == equal.mean() and output.images == 16
    last = check.to_text().splitlines()[-1]
    assert last.startswith("all tensors bit-equal; 16 inputs against the float model: 'y' relative")
    assert f"{output.relative_error:.3g}" in last and "top-1" in last
    (shown,) = json.loads(json.dumps(check.to_dict(), allow_nan=False))["outputs"]
    assert shown["relative_error"] == output.relative_error and shown["images"] == 16


def test_an_arg_max_agrees_or_not() -> None:
    net, feed = two_products()
    (port,) = nm.compile(net, calibration=[feed]).outputs
    labels = [np.array([n]) for n in (1, 2, 3, 4)]
    right, found = ([{"y": n} for n in x] for x in (labels, [*labels[:3], labels[0]]))
    of_labels = replace(port, argmax=(1, False, False))
    assert output_check(of_labels, right, found).top1 == 0.75
    assert output_check(port, right, right).top1 is None  # no rows of classes
    assert output_check(port, right, right).relative_error == 0


@pytest.mark.gxx
def test_masked_scores_do_not_count() -> None:
    """The scores of a tensor with a mask of -10000 keep their own SNR."""
    rng = np.random.default_rng(0)
    mask = np.zeros((1, 1, 1, 12), np.float32)
    mask[..., 8:] = -10000
    nodes = [
        node("MatMul", ["q", "k"], ["s"]),
        node("Add", ["s", "mask"], ["m"]),
        node("Softmax", ["m"], ["p"], axis=-1),
        node("MatMul", ["p", "v"], ["y"]),
    ]
    shapes = {"q": [1, 2, 12, 16], "k": [1, 2, 16, 12], "v": [1, 2, 12, 16]}
    net = model(nodes, shapes, ["y"], {"mask": mask})
    feed = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    check = nm.verify(net, nm.compile(net, calibration=[feed]), feed)
    seen = [layer.snr_db for layer in check.layers if not np.isnan(layer.snr_db)]
    assert check.ok and min(seen) > 15  # of int8 layers; the mask's own 10000 would hide or ruin it
