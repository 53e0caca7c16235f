# SPDX-License-Identifier: Apache-2.0
"""Networks that Brevitas, qonnx and torchao quantised, as their exporters wrote them.

In: the files of tests/data/formats, recorded by `make formats`.  Out: the outputs of the package
that made them, without calibration.
"""

from __future__ import annotations

from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "data" / "formats"
FILES = sorted(FOLDER.glob("*.onnx"))
LEAST_DB = 35.0  # of networks with a softmax, whose tables are close, not equal


def test_every_form_is_recorded() -> None:
    forms = {path.stem.rsplit("_", 1)[1] for path in FILES}
    assert forms == {"qcdq", "qonnx", "pt2e"}


@pytest.mark.gxx
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_outputs_are_those_of_the_package(path: Path) -> None:
    data = np.load(path.with_suffix(".npz"))
    program = nm.compile(path)
    (found,) = nm.Session(program, threads=1).run({program.inputs[0].name: data["x"]}).values()
    found, wanted = np.asarray(found).reshape(data["y"].shape), data["y"]
    if path.stem.startswith("attention"):
        noise = np.square(found - wanted).sum()
        assert 10 * np.log10(np.square(wanted).sum() / noise) >= LEAST_DB
        return
    steps = np.abs(found - wanted) / program.outputs[0].slot.qparams.scale
    assert (steps <= 0.501).mean() >= 0.999 and steps.max() < 1.501
