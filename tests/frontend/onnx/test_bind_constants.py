# SPDX-License-Identifier: Apache-2.0
"""Inputs bound to arrays: initialisers, dimensions, refusals, and the command line.

In: graph networks whose adjacency is an input.  Out: models without that input.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from build_onnx import model, node
from graph_models import (
    dense_gcn,
    features,
)
from graph_networks import GRAPH
from neuralmatrix.cli.main import app
from neuralmatrix.errors import BadInput
from neuralmatrix.frontend.onnx.bind_constants import bind_constants, read_constants
from neuralmatrix.ir.types import Array
from typer.testing import CliRunner


def test_bound_input_is_an_initialiser() -> None:
    proto = bind_constants(dense_gcn(GRAPH), {"a": GRAPH.normalized})
    assert [i.name for i in proto.graph.input] == ["x"]
    (value,) = (t for t in proto.graph.initializer if t.name == "a")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(value), GRAPH.normalized)


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
    np.save(tmp_path / "a.npy", GRAPH.normalized)
    np.savez(tmp_path / "x.npz", x=features(GRAPH))
    net, program, x = (str(tmp_path / n) for n in ("net.onnx", "net.nmx", "x.npz"))
    bound = ["--constant", f"a={tmp_path / 'a.npy'}"]
    for words in (["compile", net, "-o", program, "--calibration", x, *bound],
                  ["verify", net, program, x, *bound]):  # fmt: skip
        result = CliRunner().invoke(app, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
