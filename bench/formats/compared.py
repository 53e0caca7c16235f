# SPDX-License-Identifier: Apache-2.0
"""A quantised network compiled without calibration, beside what its own package computes.

In: a model, inputs, right outputs.  Out: ``Row``: how many values are equal.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import neuralmatrix as nm
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BOARD = "pynq-z2"
HALF = 0.501  # of a step: an output that is not prescribed lies this close to its integer


@dataclass(frozen=True)
class Row:
    """``equal``: the share of output values within half a step of the output's integers;
    ``most``: the largest distance in such steps; ``top1``: the share of rows with one argmax."""

    network: str
    form: str
    judge: str
    equal: float
    most: float
    snr: float
    top1: float


def compared(network: str, form: str, model: Any, x: Array, judge: str, right: Array,
             **given: Any) -> Row:  # fmt: skip
    """Compile ``model``, run it in emulation on ``x``, and compare with ``right``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = nm.compile(model, board=BOARD, **given)
    port = program.outputs[0]
    (found,) = nm.Session(program).run({program.inputs[0].name: x}).values()
    found, right = (np.asarray(a, np.float64).reshape(len(x), -1) for a in (found, right))
    steps = np.abs(found - right) / port.slot.qparams.scale
    noise = float(((found - right) ** 2).sum())
    snr = 10 * np.log10(float((right**2).sum()) / noise) if noise else 150.0
    return Row(
        network, form, judge, float((steps <= HALF).mean()), float(steps.max()), min(snr, 150.0),
        float((found.argmax(1) == right.argmax(1)).mean()),
    )  # fmt: skip
