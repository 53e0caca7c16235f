# SPDX-License-Identifier: Apache-2.0
"""The text and the dictionary of a measured accuracy.

In: figures.  Out: lines for people, JSON.
"""

from __future__ import annotations

import json
import sys
from math import inf
from pathlib import Path
from typing import Any

import pytest
from neuralmatrix.ir import accuracy
from neuralmatrix.ir.accuracy import (
    Accuracy,
    Kind,
    LayerLoss,
    OutputAccuracy,
    PartAccuracy,
    Saturation,
    decibels,
)

BOXES = PartAccuracy("axis 1: 0..3", 0.001)
SCORES = PartAccuracy("axis 1: 4..23", 0.1)


def output(kind: Kind = "values", **fields: Any) -> OutputAccuracy:
    return OutputAccuracy(**{"name": "y", "kind": kind, "relative_error": 0.01, "psnr_db": 45.0,
                             **fields})  # fmt: skip


def measured(**fields: Any) -> Accuracy:
    return Accuracy(**{"samples": 8, "calibrated_on": 24, "outputs": (output(),), **fields})


@pytest.mark.parametrize(
    ("error", "ratio"), [(1.0, 0.0), (0.1, 20.0), (0.01, 40.0), (10.0, -20.0), (0.0, 160.0)]
)
def test_decibels(error: float, ratio: float) -> None:
    assert decibels(error) == pytest.approx(ratio)
    assert PartAccuracy("", error).snr_db == output(relative_error=error).snr_db == decibels(error)


def test_decibels_of_an_error_beyond_all_numbers() -> None:
    assert decibels(inf) == -inf


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (output(), "output y (values): relative error 1 % (40.0 dB)"),
        (
            output("class scores", top1=0.9875, rows=1600),
            "output y (class scores): relative error 1 % (40.0 dB), top-1 equal in 98.75 % of "
            "1,600",
        ),
        (
            output("probabilities", top1=1.0, rows=12),
            "output y (probabilities): relative error 1 % (40.0 dB), same side of 0.5 in 100 % of "
            "12",
        ),
        (
            output("vectors", parts=(BOXES, SCORES)),
            "output y (vectors): relative error 1 % (40.0 dB); by part: axis 1: 0..3 0.1 %; "
            "axis 1: 4..23 10 %",
        ),
    ],
)
def test_the_line_of_an_output(found: OutputAccuracy, text: str) -> None:
    assert found.to_text() == text


def test_the_worst_is_that_of_the_parts() -> None:
    assert output().worst == 0.01
    assert output(parts=(BOXES, SCORES)).worst == 0.1


def test_lines_name_what_loses_most() -> None:
    layers = tuple(LayerLoss(f"t{i}", "Conv:c" if i == 0 else "", 0.02, 33.0) for i in range(9))
    beyond = (Saturation("a", 0.03), Saturation("b", accuracy.FEWEST_SATURATED / 2))
    found = measured(layers=layers, saturated=beyond, warnings=("output y is inaccurate",))
    assert found.to_lines() == [
        "accuracy: emulated, on 8 inputs held back from calibration on 24",
        "  output y (values): relative error 1 % (40.0 dB)",
        "layers that lose most, each by itself: Conv:c 2 %, t1 2 %, t2 2 %, t3 2 %, t4 2 %",
        "values beyond the calibrated range: a 3 %",
        "warning: output y is inaccurate",
    ]


def test_what_is_not_there_has_no_line() -> None:
    assert len(measured().to_lines()) == 2


def test_what_was_not_measured_says_why() -> None:
    found = Accuracy(0, 5, missing="5 calibration inputs were given")
    assert not found.measured and measured().measured
    assert found.to_lines() == ["accuracy: not measured: 5 calibration inputs were given"]
    assert found.to_dict()["basis"] == "not measured: 5 calibration inputs were given"


def test_the_dictionary_holds_everything() -> None:
    layer, beyond = LayerLoss("t", "Conv:c", 0.02, 33.0), Saturation("a", 0.03)
    scores = output("class scores", top1=0.5, changed=0.4, rows=10, parts=(SCORES,))
    found = measured(outputs=(scores,), layers=(layer,), saturated=(beyond,), method="mse")
    made = found.to_dict()
    assert json.loads(json.dumps(made)) == made
    assert made == {
        "basis": accuracy.BASIS,
        "samples": 8,
        "calibrated_on": 24,
        "method": "mse",
        "judge": "",
        "outputs": [
            {
                "name": "y",
                "kind": "class scores",
                "relative_error": 0.01,
                "psnr_db": 45.0,
                "top1": 0.5,
                "changed": 0.4,
                "rows": 10,
                "absolute_error": 0.0,
                "snr_db": pytest.approx(40.0),
                "parts": [
                    {"where": "axis 1: 4..23", "relative_error": 0.1, "snr_db": pytest.approx(20.0)}
                ],
            }
        ],
        "layers": [{"name": "t", "source": "Conv:c", "relative_error": 0.02, "snr_db": 33.0}],
        "saturated": [{"tensor": "a", "share": 0.03}],
        "metric": None,
        "causes": [],
        "warnings": [],
    }


def test_a_program_reads_it_with_the_standard_library_alone() -> None:
    text = Path(accuracy.__file__).read_text(encoding="utf-8")
    names = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert names <= {"__future__", *sys.stdlib_module_names}
