# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: the choice of promoted tensors.

In: small networks with known weak spots.  Out: the right tensors promoted to int16.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import attention
from golden_passes import chosen_precision
from golden_passes import mixed as choice
from golden_text import check_golden
from graph_text import graph_text
from neuralmatrix.ir.matgraph.ops import MatGraph
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.recipe import as_numbers
from neuralmatrix.ir.types import ViewStep
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.mixed_precision import Mixed
from precision_nets import ranges, runs, weak_spot
from quantized import calibrated, quantized


def mixed(mg: MatGraph, max_loss: float, method: str = "mse", measure: str = "relative") -> Mixed:
    """Return the promoted tensors, on the inputs of the calibration."""
    known = calibrated(mg, runs(mg), method, precision="mixed")
    return choice(mg, known, runs(mg), max_loss, measure)


def test_the_weak_tensor_alone_is_raised() -> None:
    mg = weak_spot()
    found = mixed(mg, 0.05, "minmax")
    assert found.tensors == {"b"}
    assert found.met and found.before > 0.1
    assert found.after == pytest.approx(integer_error_on_runs(mg, ("b",)), rel=1e-6)
    assert "1 of 4 int8 tensors promoted to int16" in found.to_text()
    assert "b: alone" in found.to_text()


def integer_error_on_runs(mg: MatGraph, promoted: tuple[str, ...]) -> float:
    q = quantized(mg, ranges(mg, "minmax"), "int8", promoted)
    y = np.concatenate([run_float(mg, run)["y"] for run in runs(mg)])
    quantized_values = np.concatenate([run_integer(q, run)["y"] for run in runs(mg)])
    return float(
        np.linalg.norm(dequantize_array(quantized_values, q.qparams["y"]) - y) / np.linalg.norm(y)
    )


def test_nothing_is_raised_where_int8_is_enough() -> None:
    mg = attention()
    found = mixed(mg, 0.5)
    assert found.promoted == () and found.met and found.after == found.before


def test_an_impossible_loss_stops_near_int16() -> None:
    mg = attention()
    found = mixed(mg, 1e-6)
    assert not found.met and found.promoted
    # a tenth above the floor, and errors that rounded floats do not model
    assert found.after < 1.3 * found.floor
    assert "not met; int16 throughout has" in found.to_text()


def test_a_tighter_loss_raises_more() -> None:
    mg = attention(sharpness=2.0)
    chosen = [mixed(mg, loss) for loss in (0.03, 0.012)]
    assert len(chosen[0].promoted) < len(chosen[1].promoted)
    assert chosen[0].after > chosen[1].after
    for found in chosen:
        assert found.met, found.to_text()


def shifted(mg: MatGraph, size: float) -> MatGraph:
    """Return the graph with shifts of ``c``'s biases in its recipe."""
    shifts = as_numbers({"c": np.full(24, size, np.float32)})
    return replace(mg, recipe=replace(mg.recipe, shifts=shifts))


def test_shifts_that_int16_loses_by_are_left_out() -> None:
    """They cancel the errors of int8; where those are gone, the shifts are the error."""
    mg = weak_spot()
    found, bare = mixed(shifted(mg, 3.0), 0.02, "minmax"), mixed(mg, 0.02, "minmax")
    assert found.recipe.shifts == () and found.met
    assert found.before > 2 * found.floor and found.floor == bare.floor


def test_shifts_stay_where_int16_meets_the_bound_with_them() -> None:
    found = mixed(shifted(weak_spot(), 1e-3), 0.05, "minmax")
    assert found.recipe.shifts != () and found.met


def as_rows(mg: MatGraph) -> MatGraph:
    """Return the graph with an output of 40 rows, whose elements are classes."""
    rows = (ViewStep("reshape", (1, 40, 10)),)
    return replace(mg, outputs=(replace(mg.outputs[0], shape=(1, 40, 10), steps=rows),))


def test_top1_counts_rows() -> None:
    mg = as_rows(weak_spot())
    found = mixed(mg, 0.05, "minmax", "top1")  # int8 weights alone change 4 of 160 rows
    assert 0.05 < found.before <= 1 and found.met
    assert "largest element differs" in found.to_text()


# ---------------------------------------------------------------- golden texts


@pytest.mark.parametrize(("max_loss", "promoted"), [(0.05, ["b"]), (1.0, [])])
def test_golden(request: pytest.FixtureRequest, max_loss: float, promoted: list[str]) -> None:
    mg = weak_spot()
    found = chosen_precision(mg, ranges(mg, "minmax"), runs(mg), max_loss)
    case = "weak_spot" if promoted else "kept_int8"
    check_golden(request, f"choose_precision/{case}.in.txt", graph_text(mg))
    check_golden(request, f"choose_precision/{case}.out.txt", f"int16: {' '.join(found)}")
    assert found == promoted
