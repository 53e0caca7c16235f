# SPDX-License-Identifier: Apache-2.0
"""GridSample with a constant grid.

In: every mode and padding, with samples inside, at the borders and outside.
Out: onnxruntime's values, in float and lowered; refusals.
"""

from __future__ import annotations

import numpy as np
import pytest
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from onnx_forms import Form, checked

GRID = np.random.default_rng(0).uniform(-1.4, 1.4, (2, 3, 4, 2)).astype(np.float32)
GRID[0, 0, 0], GRID[1, 2, 3] = (-1, 1), (1, -1)


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_samples_of_a_constant_grid(mode: str, padding: str, aligned: int) -> None:
    f = Form()
    f.op("GridSample", "x", GRID, mode=mode, padding_mode=padding, align_corners=aligned)
    checked(f.model({"x": (2, 3, 5, 4)}), tolerance=1e-4)


def test_computed_grids_and_volumes_are_refused() -> None:
    f = Form()
    f.op("GridSample", "x", "g")
    with pytest.raises(UnsupportedModel, match="the grid is computed at run time"):
        import_onnx(f.model({"x": (1, 3, 5, 4), "g": (1, 2, 2, 2)}))
