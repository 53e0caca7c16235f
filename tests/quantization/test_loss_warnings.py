# SPDX-License-Identifier: Apache-2.0
"""Warnings of a bad accuracy: one line per bad output, and the causes in their order.

In: constructed figures.  Out: the lines; none where all is good.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
from neuralmatrix.ir.accuracy import (
    Accuracy,
    Kind,
    LayerLoss,
    OutputAccuracy,
    PartAccuracy,
    Saturation,
)
from neuralmatrix.quantization import loss_warnings
from neuralmatrix.quantization.loss_warnings import (
    FEW,
    LEAST_CHANGING,
    MOST_ABSOLUTE,
    MOST_AT_INT16,
    MOST_CHANGED,
    MOST_PART,
    MOST_RELATIVE,
    MOST_VARYING,
    MUCH_SATURATED,
    Causes,
    bad_outputs,
    causes_of,
)
from neuralmatrix.quantization.settings import Precision

# Whose parts explain nothing of the whole: no weights, no activations.
NONE = Causes(weights=0.0, activations=0.0, total=0.2, calibrated_on=FEW, saturated=())


def output(kind: Kind = "values", error: float = 0.2, **fields: Any) -> OutputAccuracy:
    return OutputAccuracy(**{"name": "y", "kind": kind, "relative_error": error, "psnr_db": 30.0,
                             **fields})  # fmt: skip


def warned(*outputs: OutputAccuracy, precision: str = "int8", varying: float = 0.0,
           **causes: Any) -> list[str]:  # fmt: skip
    layers = (LayerLoss("t", "Softmax:s", 0.1, 20.0),)
    found = Accuracy(8, 24, outputs or (output(),), layers)
    bad = bad_outputs(found, precision, {"y": varying})
    return [*bad, *causes_of(found, replace(NONE, **causes), precision)] if bad else []


# ---------------------------------------------------------------- what is bad


@pytest.mark.parametrize("kind", MOST_RELATIVE)
def test_the_threshold_of_each_kind(kind: Kind) -> None:
    most = MOST_RELATIVE[kind]
    assert warned(output(kind, 0.99 * most)) == []
    first, *_ = warned(output(kind, 1.01 * most))
    assert first == f"output y is inaccurate: relative error {100 * (1.01 * most):.3g} %"


@pytest.mark.parametrize("kind", [*MOST_RELATIVE, "probabilities"])
def test_at_int16_every_kind_counts_as_values_do(kind: Kind) -> None:
    """Probabilities have a mean square of 0.5 here."""
    fine, bad = 0.99 * MOST_AT_INT16, 1.01 * MOST_AT_INT16
    assert warned(output(kind, fine, absolute_error=fine / 2), precision="int16") == []
    assert warned(output(kind, bad, absolute_error=bad / 2), precision="int16")


def test_probabilities_count_by_how_far_they_are_off() -> None:
    small = output("probabilities", 0.9, absolute_error=0.04)  # values of 0.044
    assert warned(small) == []
    first, *_ = warned(output("probabilities", 0.11, absolute_error=0.022))  # values of 0.2
    assert first == "output y is inaccurate: relative error 11 %"
    assert warned(output("probabilities", 0.04, absolute_error=0.99 * MOST_ABSOLUTE)) == []
    first, *_ = warned(output("probabilities", 0.01, absolute_error=0.3))
    assert first == "output y is inaccurate: its values from 0 to 1 are 0.3 off"


@pytest.mark.parametrize(
    ("kind", "what"),
    [("class scores", "the same largest element"), ("probabilities", "the same side of 0.5")],
)
def test_changed_answers(kind: Kind, what: str) -> None:
    fields = {"error": 0.05, "top1": 0.9, "rows": 3000}
    assert warned(output(kind, changed=0.99 * MOST_CHANGED, **fields)) == []
    first, *_ = warned(output(kind, changed=0.04, **fields))
    assert first == (
        f"output y is inaccurate: about 4 % of its answers change ({what} in 90 % of the 3,000 "
        "measured), relative error 5 %"
    )


def test_near_ties_that_change_are_not_bad() -> None:
    ties = output("class scores", 0.99 * LEAST_CHANGING, top1=0.8, changed=0.2, rows=10)
    assert warned(ties) == []
    assert warned(replace(ties, relative_error=1.01 * LEAST_CHANGING))


def test_a_part_that_the_whole_hides() -> None:
    parts = (PartAccuracy("axis 1: 0..3", 0.001), PartAccuracy("axis 1: 4", 0.99 * MOST_PART))
    assert warned(output(error=0.001, parts=parts)) == []
    worse = (parts[0], PartAccuracy("axis 1: 4", 0.5))
    first, *_ = warned(output(error=0.001, parts=worse))
    assert first == "output y is inaccurate in its part axis 1: 4: relative error 50 %"


@pytest.mark.parametrize("kind", MOST_VARYING)
def test_an_error_that_a_large_constant_part_hides(kind: Kind) -> None:
    hidden = output(kind, error=0.001)
    assert warned(hidden, varying=0.99 * MOST_VARYING[kind]) == []
    first, *_ = warned(hidden, varying=0.2)
    assert first == (
        "output y is inaccurate: relative error 0.1 %, but 20 % of how far its values vary"
    )


def test_how_far_scores_vary_is_no_matter() -> None:
    for kind in ("class scores", "probabilities", "states"):
        assert warned(output(kind, error=0.001), varying=0.5) == []


def test_every_bad_output_has_a_line_and_they_share_the_causes() -> None:
    bad = [replace(output(), name=name) for name in ("a", "c")]
    lines = warned(bad[0], replace(output(error=0.001), name="b"), bad[1], weights=0.2)
    assert [line.split(" is ")[0] for line in lines[:2]] == ["output a", "output c"]
    assert len(lines) == 3 and lines[2].startswith("cause: int8 weights; ")


def test_causes_of_a_good_accuracy_are_not_told() -> None:
    beyond = (Saturation("a", 0.5),)
    good = output(error=0.001)
    assert warned(good, weights=0.2, activations=0.2, calibrated_on=1, saturated=beyond) == []


# ---------------------------------------------------------------- why


def causes(**fields: Any) -> list[str]:
    """Return the beginnings of the causes' lines."""
    return [line.split(";")[0].removeprefix("cause: ") for line in warned(**fields)[1:]]


TABLES = "tables or integer steps inside layers, most in Softmax:s"


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"weights": 0.19}, ["int8 weights"]),
        ({"activations": 0.19}, ["int8 activations"]),
        ({"activations": 0.19, "precision": "int16"}, ["int16 activations"]),
        ({"weights": 0.15, "activations": 0.15}, ["int8 weights", "int8 activations"]),
        ({"weights": 0.12, "activations": 0.12}, []),  # a third each: neither is the main one
        ({}, [TABLES]),
        ({"weights": 0.05, "activations": 0.05}, [TABLES]),
        ({"calibrated_on": FEW - 1}, ["thin calibration on 15 inputs", TABLES]),
        ({"calibrated_on": FEW}, [TABLES]),
    ],
)
def test_the_causes(fields: dict[str, Any], wanted: list[str]) -> None:
    assert causes(**fields) == wanted


def test_saturated_tensors_are_a_cause() -> None:
    few, many = Saturation("b", 0.9 * MUCH_SATURATED), Saturation("a", 0.04)
    assert causes(saturated=(few,)) == [TABLES]
    assert causes(saturated=(many, few), weights=0.2) == [
        "range: 4 % of the values of a lie beyond its calibrated range",
        "int8 weights",
    ]


def test_a_loss_without_layers_names_none() -> None:
    lines = causes_of(Accuracy(8, 24, (output(),)), NONE, "int8")
    assert lines[-1].startswith("cause: tables or integer steps inside layers; ")


@pytest.mark.parametrize("precision", get_args(Precision))
def test_every_cause_says_what_to_try(precision: str) -> None:
    lines = warned(precision=precision, weights=0.2, activations=0.2, calibrated_on=3,
                   saturated=(Saturation("a", 0.1),))  # fmt: skip
    assert len(lines) == 5 and all("; " in line for line in lines[1:])
    assert warned(precision=precision)[-1].endswith(loss_warnings.TABLES[precision])


def test_few_inputs_that_differ_much_may_hide_an_error_at_int16() -> None:
    found = Accuracy(4, 12, (output(error=0.014),))
    likely = {"y": 0.017}
    lines = bad_outputs(found, "int16", {}, likely)
    assert lines[0].startswith("output y may be inaccurate: relative error 1.4 %, and up to about")
    assert not bad_outputs(found, "int8", {}, likely)
    assert not bad_outputs(found, "int16", {}, {"y": 0.0145})
