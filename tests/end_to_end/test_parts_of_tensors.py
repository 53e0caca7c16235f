# SPDX-License-Identifier: Apache-2.0
"""Tensors whose parts differ in scale: each part is as good as in a network with equal ones.

In: tables in units of their own, joined features, detections, packed states; onnxruntime.  Out: the
signal-to-noise ratio of every part, and integers that the kernels and ``nm.verify`` make again.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import onnxruntime_outputs
from neuralmatrix.ir.types import Units
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.session import Session
from neuralmatrix.verification import signal_to_noise
from parted_networks import PARTED, Parted
from slow import slow_after

pytestmark = pytest.mark.gxx

TIMES = 300.0
# int8 steps of equal parts give 30 to 45 dB.  Divisors are chosen per channel, and other roundings
# fall on other values: 4 dB.
ROOM = 4.0
PRECISIONS = slow_after(1, ["int8", "int16", "mixed"])


@lru_cache(maxsize=4)
def network(kind: str, times: float) -> Parted:
    return PARTED[kind](times)


def compiled(kind: str, times: float, precision: str) -> tuple[Program, dict[str, float]]:
    """Return the program, and the SNR of every part against onnxruntime."""
    net = network(kind, times)
    # both with the same choices: those of the search would differ with the scales
    chosen = {"method": "minmax", "refine": False}
    chosen |= {"max_loss": 0.05} if precision == "mixed" else {}
    program = nm.compile(net.proto, calibration=net.feeds, precision=precision, **chosen)
    session = Session(program, threads=1)
    wanted, found = (
        {name: np.stack([run[name] for run in runs]) for name in runs[0]}
        for runs in (
            [onnxruntime_outputs(net.proto, feed) for feed in net.feeds],
            [session.run(feed) for feed in net.feeds],
        )
    )
    right, ours = net.parts(wanted), net.parts(found)
    return program, {part: signal_to_noise(right[part], ours[part]) for part in right}


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", PARTED)
def test_every_part_is_as_good_as_without_the_difference(
    kind: str, precision: str, tmp_path: Path
) -> None:
    program, found = compiled(kind, TIMES, precision)
    _, control = compiled(kind, 1.0, precision)
    assert program.recipe.units
    for part, snr in found.items():
        assert snr > control[part] - ROOM, (part, found, control)
    program.save(tmp_path / "net.nmx")
    again, net = nm.load(tmp_path / "net.nmx"), network(kind, TIMES)
    assert again.recipe == program.recipe and again.inputs == program.inputs
    assert nm.verify(net.proto, again, net.feeds[0]).ok


def test_a_channel_that_was_silent_may_wake_up() -> None:
    """Its later values fit as with one scale, and the others are as good as before."""
    found = []
    for times in (TIMES, 1.0):
        net = PARTED["joined"](times)
        silent = [{**feed, "t": feed["t"] * np.float32([[1, 1, 1, 0]])} for feed in net.feeds]
        session = Session(nm.compile(net.proto, calibration=silent), threads=1)
        for feeds in (silent, net.feeds):
            wanted = np.stack([onnxruntime_outputs(net.proto, feed)["y"] for feed in feeds])
            ours = np.stack([session.run(feed)["y"] for feed in feeds])
            found.append(signal_to_noise(wanted, ours))
    # the output's own range does not know the column either; the control loses as much
    assert found[0] > found[2] - ROOM and found[1] > found[3] - ROOM


def test_units_that_do_not_fit_the_model_are_refused() -> None:
    net = network("head", TIMES)
    program = nm.compile(net.proto, calibration=net.feeds)
    for units in (("nothing", Units((1, 1, 1, 1), (2.0,))), ("x", Units((1, 1, 1, 5), (2.0,) * 5))):
        other = replace(program, recipe=replace(program.recipe, units=(units,)))
        with pytest.raises(nm.BadInput, match=r"not compiled from this model.*its recipe"):
            nm.verify(net.proto, other, net.feeds[0])
