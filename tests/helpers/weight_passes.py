# SPDX-License-Identifier: Apache-2.0
"""Compiling with rounded or widened weights, whatever the settings would choose.

In: a model, calibration inputs.  Out: its Program.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import neuralmatrix as nm
import pytest
from neuralmatrix import compiler
from neuralmatrix.compiler import Options
from neuralmatrix.program.program import Program
from neuralmatrix.quantization.passes import NumberPasses, chosen
from neuralmatrix.quantization.round_weights import round_weights
from neuralmatrix.quantization.samples import Samples
from neuralmatrix.quantization.settings import Settings
from neuralmatrix.quantization.widen_weights import widen_weights


def compiled(
    monkeypatch: pytest.MonkeyPatch,
    model: Any,
    feeds: Iterable[dict[str, Any]],
    rounded: bool = True,
    widened: Sequence[str] = (),
    **settings: Any,
) -> Program:
    """Return the program with the weights of all layers rounded, or those of ``widened`` wider."""
    samples = Samples(feeds, 256)

    def numbers(options: Options) -> NumberPasses:
        made = chosen(Settings(**settings), samples)
        rounding = partial(round_weights, samples=samples) if rounded else made.round_weights
        widening = partial(widen_weights, names=widened)
        return replace(made, round_weights=rounding, widen_weights=widening)

    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_numbers", numbers)
        return nm.compile(model, calibration=feeds, **settings)
