# SPDX-License-Identifier: Apache-2.0
"""Sweeps in this process: rows, what is refused, and how one goes on."""

from __future__ import annotations

import json
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node
from judged import CLASSES, OTHERS, SAMPLES, two_layers
from neuralmatrix.cluster import DataSet, Here, Point, points_of, sweep
from neuralmatrix.errors import BadInput

POINTS = points_of(["pynq-z2", "kv260"], ["int8", "mixed", "int16"], [0.02])


def test_points_are_boards_by_precisions_by_losses() -> None:
    found = points_of(["a", "b"], ["int8", "mixed"], [0.1, 0.2])
    assert found[:3] == (Point("a", "int8"), Point("a", "mixed", 0.1), Point("a", "mixed", 0.2))
    assert len(found) == 6
    assert points_of(["a"], ["mixed"]) == (Point("a", "mixed"),)


@pytest.mark.parametrize(
    "boards, precisions, losses, words",
    [
        ([], ["int8"], [], "at least one board"),
        (["a", "a"], ["int8"], [], "each once"),
        (["a"], ["int4"], [], "found 'int4', allowed are int8, mixed, int16"),
        (["a"], ["int8"], [0.1], "without precision mixed"),
    ],
)
def test_points_that_are_none(
    boards: list[str], precisions: list[str], losses: list[float], words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        points_of(boards, precisions, losses)


@pytest.mark.gxx
def test_a_row_is_what_one_compile_gives() -> None:
    (row,) = sweep(
        two_layers(), points_of(["pynq-z2"], ["int16"]), SAMPLES,
        data=DataSet(OTHERS, CLASSES), workers=Here(1),
    )  # fmt: skip
    program = nm.compile(two_layers(), "pynq-z2", [SAMPLES], precision="int16")
    y = nm.Session(program, threads=1).run(OTHERS)["y"]
    assert row.frames_per_s == program.estimate().frames_per_s
    assert program.accuracy is not None
    assert row.relative_error == program.accuracy.outputs[0].worst and row.held_back == 4
    assert row.sums == (np.count_nonzero(y.argmax(-1) == CLASSES), 40)


def test_a_sweep_that_was_stopped_goes_on(tmp_path: Path) -> None:
    kept, wanted = tmp_path / "sweep.json", sweep(two_layers(), POINTS, SAMPLES)

    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(two_layers(), POINTS, SAMPLES, kept=kept, progress=stop)
    assert len(json.loads(kept.read_text())["rows"]) == 2
    steps: list[int] = []
    found = sweep(
        two_layers(), POINTS, SAMPLES, kept=kept, progress=lambda done, total: steps.append(done)
    )
    assert found == wanted and steps == [2, 3, 4, 5, 6]
    more = points_of(["pynq-z2"], ["int8"])
    assert sweep(two_layers(), more, SAMPLES, kept=kept) == wanted[:1], "nothing is done again"


def test_a_file_of_another_sweep_is_kept(tmp_path: Path) -> None:
    kept, points = tmp_path / "sweep.json", POINTS[:1]
    sweep(two_layers(), points, SAMPLES, kept=kept)
    text = kept.read_text()
    others = {"x": SAMPLES["x"] + 1}
    with pytest.raises(BadInput, match="rows of another model, other inputs, options or version"):
        sweep(two_layers(), points, others, kept=kept)
    with pytest.raises(BadInput, match="rows of another model"):
        sweep(two_layers(), points, SAMPLES, kept=kept, data=DataSet(OTHERS, CLASSES))
    with pytest.raises(BadInput, match="rows of another model"):
        sweep(two_layers(), points, SAMPLES, kept=kept, method="minmax")
    assert kept.read_text() == text
    kept.write_text(text[:-20])
    with pytest.raises(BadInput, match="found no sweep"):
        sweep(two_layers(), points, SAMPLES, kept=kept)


def test_a_point_that_does_not_fit_is_a_row() -> None:
    weight = np.random.default_rng(0).normal(size=(1024, 1200)).astype(np.float32)
    large = model([node("MatMul", ["x", "w"], ["y"])], {"x": (1, 1024)}, ["y"], {"w": weight})
    feeds = {"x": weight.T[:2]}
    (row,) = sweep(large, POINTS[:1], feeds, cma_mbytes=1)
    assert "MiB" in row.refused and row.frames_per_s is None and row.relative_error is None


def test_external_data_travels(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    proto = onnx.load_from_string(two_layers())
    onnx.save(proto, str(path), save_as_external_data=True, size_threshold=0, location="w.bin")
    points = POINTS[:1]
    assert sweep(path, points, SAMPLES) == sweep(two_layers(), points, SAMPLES)
