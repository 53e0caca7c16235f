# SPDX-License-Identifier: Apache-2.0
"""``bench/comfort.py``: metrics, verdicts, kept networks, and one task from data to its row.

In: small arrays with known answers, one task.  Out: scores, results.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def comfort() -> Any:
    sys.path.insert(0, str(ROOT / "bench"))
    try:
        import comfort

        yield comfort
    finally:
        sys.path.remove(str(ROOT / "bench"))


@pytest.mark.parametrize(
    ("score", "loss", "warned", "verdict"),
    [
        (90.0, 0.4, False, ""),
        (90.0, 0.4, True, "false alarm"),
        (90.0, 0.8, True, "false alarm"),  # within 1 %
        (90.0, 0.95, True, ""),
        (90.0, 1.1, False, "false comfort"),
        (20.0, 0.45, False, "false comfort"),  # 2 %
        (90.0, -3.0, False, ""),
    ],
)
def test_verdicts(comfort: Any, score: float, loss: float, warned: bool, verdict: str) -> None:
    from common import verdict as found

    assert found(score, loss, warned) == verdict


def test_metrics(comfort: Any) -> None:
    from tasks import base

    truth = np.array([[0.0], [1.0], [1.0], [0.0]])
    found = np.array([[0.1], [0.9], [0.2], [0.7]])
    assert base.f1(found, truth) == pytest.approx(50.0)
    assert base.sides(found, truth) == pytest.approx(50.0)
    assert base.auc(found, truth) == pytest.approx(75.0)
    assert base.r2(truth, truth) == pytest.approx(100.0)
    assert base.r2(np.full((4, 1), 0.5), truth) == pytest.approx(0.0, abs=1e-6)
    assert base.top1(np.eye(4), np.array([0, 1, 2, 0])) == pytest.approx(75.0)
    assert base.psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert base.iou(found, truth) == pytest.approx(100 / 3)


def test_an_error_is_that_of_what_varies(comfort: Any) -> None:
    x = np.array([[1.0], [3.0]], np.float32)
    noted = comfort._Noted(lambda feed: {"y": 300 + feed["x"]})
    noted({"x": x})
    assert noted.error(lambda feed: {"y": 300.5 + feed["x"]}) == pytest.approx(50.0)


@pytest.mark.slow
@pytest.mark.gxx
def test_one_task_from_data_to_its_row(comfort: Any, tmp_path: Path) -> None:
    task = comfort.TASKS["iris"]
    made = comfort.trained(task, tmp_path)
    again = comfort.trained(task, tmp_path)  # read, not trained
    assert len(list(tmp_path.iterdir())) == 1 and len(made.calibration["x"]) == 64
    assert again.model == made.model and np.array_equal(again.test["x"], made.test["x"])
    (result,) = [comfort.measured(task, again, "int8")]
    assert result.float_score > 80 and abs(result.loss) < 5 and result.told > 0
    assert "class scores" in comfort.line(result)
    assert comfort.summary([result], "int8").startswith("int8: 1 judged")
