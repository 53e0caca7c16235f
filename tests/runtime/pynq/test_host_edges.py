# SPDX-License-Identifier: Apache-2.0
"""Networks whose edges the host computes, under the real pynq package: every byte is emulation's.

In: text networks and detectors on an emulated board.  Out: the outputs that emulation gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import detectors
import neuralmatrix as nm
import pytest
import text_masks
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulated_board.board import EmulatedBoard
from neuralmatrix.runtime.session import Session

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]


def check(found: dict[str, Any], made: Program, given: dict[str, Any]) -> None:
    wanted = Session(made, threads=1).run(given)
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("name", text_masks.NETWORKS)
def test_masks_and_positions_made_by_the_host(board: EmulatedBoard, name: str) -> None:
    proto = text_masks.NETWORKS[name]()
    given = text_masks.feeds(proto, 3)
    made = nm.compile(proto, calibration=[text_masks.feeds(proto)], accuracy=False)
    with Session(made, "pynq", overlay=board.overlay) as session:
        check(session.run(given), made, given)
        assert session.stats is not None and session.stats.images == 3


def test_a_detector_with_its_selection(board: EmulatedBoard, tmp_path: Path) -> None:
    pictures = detectors.pictures()
    fixed = nm.compile(detectors.best_of_a_number(), calibration=[{"x": pictures}], accuracy=False)
    fixed.save(tmp_path / "net.nmx")
    loaded = nm.load(tmp_path / "net.nmx")
    with Session(loaded, "pynq", overlay=board.overlay) as session:
        check(session.run({"x": pictures[:4]}), fixed, {"x": pictures[:4]})
    of_any_size = nm.compile(detectors.detector(), calibration=[{"x": pictures}], accuracy=False)
    with Session(of_any_size, "pynq", overlay=board.overlay) as session:
        for picture in pictures[:3]:
            found = session.run({"x": picture[None]})
            assert len(found["detections"]) > 10
            check(found, of_any_size, {"x": picture[None]})
