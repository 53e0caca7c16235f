# SPDX-License-Identifier: Apache-2.0
"""Wrong inputs of transformers, recurrent and graph networks.

In: indices, masks, calibration, constants and open dimensions that do not fit.  Out: for each one
message of this package's own errors; degenerate but legal data compiles and stays bit-exact.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node, signed
from neuralmatrix.program.host_io import check_feeds
from onnx import TensorProto

LENGTH, WIDTH = 6, 20
IDS = np.array([[0, 1, 5, 6, 3, 2]])


def text_net() -> Any:
    nodes = [
        node("Gather", ["table", "ids"], ["e"], axis=0),
        node("Add", ["e", "x"], ["s"]),
        node("LayerNormalization", ["s", "gamma"], ["y"], axis=-1),
    ]
    constants = {"table": signed((11, WIDTH)), "gamma": signed((WIDTH,), 1)}
    shapes = {"ids": (1, LENGTH), "x": (1, LENGTH, WIDTH)}
    return model(nodes, shapes, ["y"], constants, types={"ids": TensorProto.INT64})


def masked_net() -> Any:
    """Compile one head of attention whose mask of 0 and 1 is an input."""
    nodes = [
        node("MatMul", ["x", "wq"], ["q"]),
        node("Transpose", ["x"], ["k"], perm=[0, 2, 1]),
        node("MatMul", ["q", "k"], ["scores"]),
        node("Sub", ["one", "mask"], ["left_out"]),
        node("Mul", ["left_out", "far"], ["addend"]),
        node("Add", ["scores", "addend"], ["masked"]),
        node("Softmax", ["masked"], ["p"], axis=-1),
        node("MatMul", ["p", "x"], ["y"]),
    ]
    constants = {"wq": signed((WIDTH, WIDTH)) / 9, "one": np.float32(1), "far": np.float32(-1e4)}
    return model(nodes, {"x": (1, LENGTH, WIDTH), "mask": (1, 1, LENGTH)}, ["y"], constants)


def recurrent_net(steps: int | str) -> Any:
    constants = {"w": signed((1, 7, 5)), "r": signed((1, 7, 7), 1)}
    nodes = [node("RNN", ["x", "w", "r"], ["y"], hidden_size=7)]
    return model(nodes, {"x": (steps, 1, 5)}, ["y"], constants)


def graph_net() -> Any:
    return model([node("MatMul", ["a", "x"], ["y"])], {"x": (9, 5), "a": (9, 9)}, ["y"])


X = signed((1, LENGTH, WIDTH))
GRAPH = {"x": signed((9, 5))}


def text(ids: Any = IDS, **options: Any) -> Any:
    return nm.compile(text_net(), calibration=[{"ids": ids, "x": X}], **options)


def masked(mask: Any) -> Any:
    full = np.broadcast_to(np.asarray(mask, np.float32), (1, 1, LENGTH))
    return nm.compile(masked_net(), calibration=[{"x": X, "mask": full}])


def bound(constants: Any) -> Any:
    return nm.compile(graph_net(), calibration=[GRAPH], constants=constants)


REFUSED: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "rows beyond the table": (lambda: text(IDS + 9), nm.BadInput, "9..15; allowed are -11..10"),
    "fractions of rows": (lambda: text(IDS + 0.5), nm.BadInput, "holds fractions; allowed are int"),
    "loss in words": (lambda: text(max_loss="0.1"), nm.BadInput, "max_loss '0.1'; allowed is 0 to"),
    "loss NaN": (lambda: text(max_loss=float("nan")), nm.BadInput, "max_loss nan; allowed is 0"),
    "no images": (lambda: text(max_images=0), nm.BadInput, "max_images 0; allowed are integers"),
    "images None": (lambda: text(max_images=None), nm.BadInput, "max_images None; allowed are"),
    "nothing kept": (lambda: masked(0), nm.BadInput, r"attention masks \(0 and 1, some of each"),
    "half kept": (lambda: masked(0.5), nm.BadInput, r"attention masks \(0 and 1, some of each"),
    "open steps": (
        lambda: nm.compile(recurrent_net("T"), calibration=[{"x": signed((4, 1, 5))}]),
        nm.BadModel,
        r"dimension 0 \(T\) is dynamic and holds the steps of 'RNN:y'.*--shape x=",
    ),
    "constants no mapping": (lambda: bound("a"), nm.BadInput, "found a str, allowed is {input na"),
    "constant ragged": (lambda: bound({"a": [[1], [1, 2]]}), nm.BadInput, "'a' is not an array"),
    "constant NaN": (lambda: bound({"a": np.full((9, 9), np.nan)}), nm.BadModel, "NaN or infinite"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    call, kind, message = REFUSED[what]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(kind, match=message):
            call()


@pytest.mark.parametrize("ids", (IDS + 9, IDS - 99, IDS + 0.5, IDS * 1e30))
def test_rows_that_are_none(ids: Any) -> None:
    ports = text().inputs
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nm.BadInput, match=r"'ids': found .*, allowed are integers -11\.\.10"):
            check_feeds(ports, {"ids": ids, "x": X})


def test_open_steps_may_be_given() -> None:
    feeds = {"x": signed((4, 1, 5))}
    program = nm.compile(recurrent_net("T"), calibration=[feeds], shapes={"x": (4, 1, 5)})
    assert program.outputs[0].shape == (4, 1, 1, 7)


def test_an_adjacency_without_edges_compiles() -> None:
    assert len(bound({"a": np.zeros((9, 9))}).instructions) > 1


@pytest.mark.gxx
@pytest.mark.parametrize("size", (0.0, 1e-30, 1e-3))
def test_inputs_far_beyond_the_calibrated_stay_bit_exact(size: float) -> None:
    program = nm.compile(
        masked_net(), calibration=[{"x": X * size, "mask": np.ones((1, 1, LENGTH))}]
    )
    assert nm.verify(masked_net(), program, {"x": X, "mask": np.eye(1, LENGTH)[None]}).ok


@pytest.mark.gxx
def test_a_foreign_recipe_is_another_model() -> None:
    program = text(precision="mixed")
    recipe = replace(program.recipe, factors=(("y", (0.0,) * WIDTH),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(nm.BadInput, match="was not compiled from this model"):
            nm.verify(text_net(), replace(program, recipe=recipe), {"ids": IDS, "x": X})
