# SPDX-License-Identifier: Apache-2.0
"""Required accuracies: their texts, and what falls short.

In: texts and figures.  Out: AccuracyMissed that names them; BadInput for what means nothing.
"""

from __future__ import annotations

import pytest
from neuralmatrix.errors import AccuracyMissed, BadInput
from neuralmatrix.ir.accuracy import Accuracy, OutputAccuracy, PartAccuracy
from neuralmatrix.quantization.requirements import check_requirements, requirements

SCORES = OutputAccuracy("scores", "class scores", 0.02, 41.0, 0.97, 0.03, 100)
BOXES = OutputAccuracy("boxes", "values", 0.001, 60.0, parts=(PartAccuracy("axis 1: 0..3", 0.05),))
FOUND = Accuracy(8, 24, (SCORES, BOXES), warnings=("cause: int8 weights; try mixed",))


@pytest.mark.parametrize("text", ["5%", "5 %", "26dB", "26 db", "psnr:41dB", "TOP1=97%"])
def test_what_is_met(text: str) -> None:
    check_requirements(requirements(text), FOUND)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1%", "scores: relative error 2 %, required is 1%; boxes: relative error 5 %"),
        ("30dB", "boxes: 26.0 dB, required is 30dB"),
        ("psnr:45dB", "scores: PSNR 41.0 dB, required is psnr:45dB"),
        (
            "top1:99%",
            "on 8 held-back inputs: scores: top-1 97 %, required is top1:99%; nothing",
        ),
        ("top1:99%", "cause: int8 weights; try mixed"),
    ],
)
def test_what_falls_short(text: str, message: str) -> None:
    with pytest.raises(AccuracyMissed, match=message):
        check_requirements(requirements(["50%", text]), FOUND)


@pytest.mark.parametrize("text", ["", "1", "good", "1dB%", "psnr:1%", "top1:30dB", "-3%", "x:1%"])
def test_what_means_nothing(text: str) -> None:
    with pytest.raises(BadInput, match="allowed are a relative error"):
        requirements(text)


def test_top1_of_outputs_without_classes() -> None:
    found = Accuracy(8, 24, (BOXES,))
    with pytest.raises(BadInput, match=r"no output has classes: 'boxes' \(values\)"):
        check_requirements(requirements("top1:99%"), found)


def test_what_was_not_measured_is_not_met() -> None:
    with pytest.raises(AccuracyMissed, match="nothing was measured: 3 calibration inputs"):
        check_requirements(requirements("50%"), Accuracy(0, 3, missing="3 calibration inputs"))
    with pytest.raises(AccuracyMissed, match="no calibration inputs were given"):
        check_requirements(requirements("50%"), None)
    with pytest.raises(BadInput, match="measures nothing; give 8 or more"):
        requirements("1%", measured=False)
