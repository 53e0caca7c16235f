# SPDX-License-Identifier: Apache-2.0
"""Losses of outputs that the host computes behind the array, and when they are called bad.

In: small networks that end with a comparison, a selection or positions.  Out: their measured
losses, and warnings that name the output.
"""

from __future__ import annotations

import warnings

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import model, node
from neuralmatrix.ir.accuracy import OutputAccuracy
from neuralmatrix.quantization.loss_warnings import warnings_behind
from onnx import TensorProto

RNG = np.random.default_rng(0)
CONSTANTS = {
    "w": RNG.normal(size=(16, 40)).astype(np.float32),
    "v": (RNG.normal(size=(40, 32)) / np.arange(1, 33) ** 0.5).astype(np.float32),
    "zero": np.float32(0), "k": np.array([10], np.int64),
}  # fmt: skip
FRONT = [node("MatMul", ["x", "w"], ["h"]), node("Exp", ["h"], ["e"]),
         node("MatMul", ["e", "v"], ["s"])]  # fmt: skip
ENDS = {
    "comparison": ([node("Greater", ["s", "zero"], ["y"])], TensorProto.BOOL),
    "positions": ([node("Greater", ["s", "zero"], ["g"]), node("NonZero", ["g"], ["y"])],
                  TensorProto.INT64),
    "largest": ([node("TopK", ["s", "k"], ["t", "y"], axis=-1)], TensorProto.INT64),
}  # fmt: skip


def _compiled(what: str, precision: str) -> tuple[nm.Program, str]:
    nodes, kind = ENDS[what]
    net = model([*FRONT, *nodes], {"x": (1, 16)}, ["y"], CONSTANTS)
    net.graph.output[0].type.tensor_type.elem_type = kind
    feeds = [{"x": RNG.normal(size=(1, 16)).astype(np.float32)} for _ in range(64)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        program = nm.compile(net, calibration=feeds, precision=precision, method="mse",
                             refine=False)  # fmt: skip
    return program, " ".join(str(one.message) for one in caught)


@pytest.mark.parametrize("what", ENDS)
def test_what_is_computed_of_an_inaccurate_output_is_measured(what: str) -> None:
    program, said = _compiled(what, "int8")
    assert program.accuracy is not None
    (found,) = (out for out in program.accuracy.outputs if out.name == "y")
    assert found.kind == "answers" and found.relative_error > 0.02 and found.rows > 0
    assert "is inaccurate" in said and not any("not measured" in note for note in program.notes)


def _output(name: str, kind: str, error: float, rows: int = 0) -> OutputAccuracy:
    return OutputAccuracy(name, kind, error, 0.0, rows=rows)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "error", "made", "lost", "precision", "bad"),
    [
        ("vectors", 0.05, "answers", 0.2, "int8", True),  # below its own bar, not theirs
        ("vectors", 0.01, "answers", 0.2, "int8", False),  # near ties
        ("vectors", 0.05, "answers", 0.01, "int8", False),
        ("class scores", 0.05, "answers", 0.2, "int8", False),  # counted where they are judged
        ("vectors", 0.05, "values", 0.06, "int8", False),
        ("vectors", 0.05, "values", 0.08, "int8", True),
        ("vectors", 0.01, "values", 0.02, "int16", True),
    ],
)
def test_when_an_output_of_the_host_is_bad(
    kind: str, error: float, made: str, lost: float, precision: str, bad: bool
) -> None:
    out = _output("y", made, lost, rows=1000)
    lines = warnings_behind({"y": [_output("s", kind, error)]}, [out], precision)
    assert bool(lines) == bad
    if bad:
        assert "output y, which the host computes of s" in lines[0]
        assert lines[1].startswith("cause: ")
