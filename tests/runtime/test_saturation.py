# SPDX-License-Identifier: Apache-2.0
"""Input values beyond the calibrated range are counted, and many of them warned of.

In: a program that copies its input, feeds inside and outside its range.  Out: counts, warnings.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.hardware.tensor_layout import Blocked
from neuralmatrix.ir.types import Array, QParams, Units, ViewStep
from neuralmatrix.program.data import ProgramPort, TensorSlot
from neuralmatrix.runtime.saturation import Saturated, saturated, texts_of
from programs import copy_program

SHAPE = (1, 4, 5, 10)


def port(q: QParams, table: Array | None = None) -> ProgramPort:
    slot = TensorSlot("x", 0, Blocked(1, 4, 5, 10, 16), q)
    return ProgramPort("x", SHAPE, "float32", slot, (), table=table)


INT8 = port(QParams(0.01, -28))  # -1.0..1.55
INT16 = port(QParams(0.001, 0, True))


def run(of: ProgramPort, x: Array, images: int = 1) -> Saturated | None:
    return saturated([of], {"x": np.asarray(x, np.float32)}, images).get("x")


def test_values_within_the_range_and_a_few_steps_do_not_count() -> None:
    rng = np.random.default_rng(0)
    assert run(INT8, rng.uniform(-1.015, 1.565, SHAPE)) is None
    assert run(INT8, np.zeros((0, 4))) is None
    assert run(INT16, np.full(SHAPE, 32.6)) is None


@pytest.mark.parametrize("value", [-1.6, 2.2])
def test_values_beyond_an_end_count(value: float) -> None:
    x = np.zeros((4, 4, 5, 10), np.float32)
    x[1, 0, 0, :5] = x[3, 0, 0, 0] = value
    found = run(INT8, x, 4)
    assert found is not None and found.share == 6 / 800 and found.images == 2
    assert found.found == pytest.approx((min(value, 0), max(value, 0)))
    assert found.covered == pytest.approx((-1.0, 1.55)) and found.is_much


def test_one_outlier_is_counted_and_not_told() -> None:
    x = np.zeros((10, 4, 5, 10), np.float32)
    x[0, 0, 0, 0] = 2.0
    found = saturated([INT8], {"x": x}, 10)
    assert found["x"].images == 1 and not found["x"].is_much and texts_of(found, 10) == []
    x[0, 0, 0, 0] = 200.0  # far outside
    (text,) = texts_of(saturated([INT8], {"x": x}, 10), 10)
    assert "'x'" in text and "1 of 10 inputs" in text and "200" in text and "calibrat" in text


def test_ranges_around_an_offset_are_those_of_the_real_values() -> None:
    celsius = replace(INT8, units=Units((1, 1, 1, 1), (10.0,), (300.0,)))  # 290..315.5
    assert run(celsius, np.linspace(290, 315.5, 200).reshape(SHAPE)) is None
    found = run(celsius, np.full(SHAPE, 317.0))
    assert found is not None and found.share == 1 and found.covered == pytest.approx((290, 315.5))
    few = np.full((10, *SHAPE[1:]), 300.0, np.float32)
    few[0, 0, 0, 0] = 320
    assert not saturated([celsius], {"x": few}, 10)["x"].is_much  # 4.5 beyond, of 25.5 covered
    few[0, 0, 0, 0] = 330
    assert saturated([celsius], {"x": few}, 10)["x"].is_much


def test_what_is_cut_off_counts_beside_the_width_of_the_range() -> None:
    """A normal distribution whose tail reaches a little further than calibration's is no news; the
    same values at a larger scale are."""
    x = np.random.default_rng(0).normal(0.275, 0.4, (100, *SHAPE[1:])).astype(np.float32)
    tail = run(INT8, x, 100)
    assert tail is not None and tail.share == 1e-3 and tail.images == 18 and not tail.is_much
    beyond = np.maximum(0, np.abs(x - 0.275) - 1.275) / 2.55
    assert tail.lost == pytest.approx(float(np.sqrt(np.mean(beyond**2))), rel=1e-3)
    wider = run(INT8, 1.5 * (x - 0.275) + 0.275, 100)
    assert wider is not None and wider.is_much


def test_the_part_that_goes_farthest_beyond_its_own_range_is_told() -> None:
    """Channels first outside, last inside: channel 3 is a hundred times as large as the others."""
    divisors = np.where(np.arange(10) == 3, 100.0, 1.0)
    parts = replace(
        INT8, shape=(1, 10, 4, 5), units=Units((1, 1, 1, 10), tuple(divisors)),
        steps=(ViewStep("transpose", (0, 2, 3, 1)),),
    )  # fmt: skip
    x = np.zeros((2, 10, 4, 5), np.float32)
    x[:, 3] = 150
    assert saturated([parts], {"x": x}, 2) == {}
    x[1, 4, 2, 2], x[0, 3, 1, 1] = 2.0, 160.0
    found = saturated([parts], {"x": x}, 2)["x"]
    assert found.images == 2 and found.share == 2 / 400
    assert found.found == (0, 2) and found.covered == pytest.approx((-1.0, 1.55))


def test_indices_of_a_table_have_no_range() -> None:
    assert run(port(QParams(0.01), np.zeros((3, 2), np.int8)), np.full(SHAPE, 2)) is None


@pytest.mark.gxx
def test_a_session_counts_and_warns_once_per_run() -> None:
    program = copy_program()
    shape = program.inputs[0].shape
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session = nm.Session(program, threads=1)
        session.run({"x": np.zeros(shape, np.float32)})
    assert session.stats is not None and session.stats.saturated == {}
    assert session.stats.notes == []
    with pytest.warns(nm.InputsSaturated, match="input 'x': 100 % of the values") as caught:
        session.run({"x": np.full((3, *shape[1:]), 1e6, np.float32)})
    assert len(caught) == 1 and caught[0].filename == __file__
    assert session.stats.saturated["x"].images == 3 and len(session.stats.notes) == 1
