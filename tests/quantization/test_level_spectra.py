# SPDX-License-Identifier: Apache-2.0
"""Levels of the channels of a spectrum.

In: a Gemm with a residual, magnitudes and their logarithm.  Out: golden texts, equal real values,
levels with room; what may not be scaled stays.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from golden_passes import Exact, check_texts, exact, same_values
from graph_text import graph_text
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.recipe import as_arrays
from neuralmatrix.ir.types import Function
from neuralmatrix.quantization.level_spectra import LEAST, level_spectra, spectra, with_levels
from neuralmatrix.quantization.samples import Samples
from neuralmatrix.quantization.scales import choose_scales
from quantized import calibrated
from targets import target

ABS = Epilogue(activation=Function("abs"))
LOUDNESS = 2.0 ** np.array([0.0, 0.0, -4.0, -9.0])
LOG = Epilogue(activation=Function("log_floor"))


def spectrum(addend: bool = True, shown: bool = False) -> MatGraph:
    """Return log|x W|, whose last channels are 2^-4 and 2^-9 as loud as the first."""
    b = Exact()
    b.tensor("x", (1, 1, 6, 8))
    if addend:
        b.gemm("low", "x", 4)
    # sums of products of exact values are never a third, so no logarithm is of 0
    epilogue = Epilogue("low", 1.0, Function("abs")) if addend else ABS
    b.gemm("a", "x", 4, bias=LOUDNESS / 3, epilogue=epilogue)
    for op in b.ops:
        op.weight[:] *= LOUDNESS  # type: ignore[union-attr,index]
    b.window("y", "a", epilogue=LOG)
    mg = b.graph()
    more = (replace(mg.outputs[0], name="a", tensor="a"),) if shown else ()
    return replace(mg, outputs=(*mg.outputs, *more))


def samples() -> Samples:
    runs = [{"x": exact(seed, 1, 1, 6, 8)} for seed in (2, 3)]
    return Samples(runs, len(runs))


def levelled(mg: MatGraph) -> MatGraph:
    return level_spectra(mg, target(), samples=samples())


@pytest.mark.parametrize("case", ["one_product", "two_digits", "kept_shown"])
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    mg = spectrum(addend=case == "two_digits", shown=case == "kept_shown")
    found = levelled(mg)
    check_texts(request, f"level_spectra/{case}", graph_text(mg), graph_text(found))
    same_values(mg, found)


def test_levels_are_peaks_with_room() -> None:
    (level,) = as_arrays(levelled(spectrum()).recipe.levels).values()
    assert level[:2].tolist() == [1.0, 1.0]  # within 12 dB of the loudest
    assert LEAST < level[2] < 1.0 and level[3] == LEAST


def test_a_recipe_repeats_them() -> None:
    mg = spectrum()
    found = levelled(mg)
    again = with_levels(mg, target(), levels=found.recipe.levels, splits=found.recipe.splits)
    assert graph_text(again) == graph_text(found) and again.recipe == found.recipe


def test_other_graphs_are_the_same_object() -> None:
    b = Exact()
    b.tensor("x", (1, 1, 6, 8))
    b.gemm("y", "x", 4, epilogue=ABS)
    mg = b.graph()
    assert levelled(mg) is mg and not spectra(mg)


def test_small_magnitudes_have_a_scale_of_their_own() -> None:
    found = levelled(spectrum())
    ((name, (split,)),) = found.recipe.splits
    loudest = max(run_float(found, run)[name].max() for run in samples().runs(found))
    assert split == pytest.approx(loudest / 32)
    scales = choose_scales(calibrated(found, list(samples().runs(found))), target()).qparams
    assert scales[f"{name}:small"].scale < scales[name].scale / 25
