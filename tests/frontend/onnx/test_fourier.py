# SPDX-License-Identifier: Apache-2.0
"""DFT and STFT.

In: ONNX models of one node.  Out: onnxruntime's values; refusals that say why.
"""

from __future__ import annotations

import numpy as np
import pytest
from build_onnx import signed
from neuralmatrix.errors import UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from onnx_forms import Form, checked


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize("length", [None, 8, 20])
def test_dft(onesided: int, axis: int, length: int | None) -> None:
    f = Form()
    more = () if length is None else (np.array(length),)
    f.op("DFT", "x", *more, axis=axis, onesided=onesided)
    checked(f.model({"x": (2, 12, 12, 1)}), tolerance=1e-4)  # sums of 20 values of about 1


@pytest.mark.parametrize("window", [True, False])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("shape", [(1, 64), (1, 64, 1)])
def test_stft(shape: tuple[int, ...], onesided: int, window: bool) -> None:
    f = Form()
    kernel = np.hanning(16) if window else ""
    f.op("STFT", "x", np.array(12), kernel, np.array(16), onesided=onesided)
    checked(f.model({"x": shape}), tolerance=1e-4)


@pytest.mark.parametrize(
    ("shape", "attributes", "words"),
    [
        ((1, 12, 2), {}, "its signal is complex"),
        ((1, 12, 1), {"inverse": 1}, "the inverse transform"),
    ],
)
def test_refusals(shape: tuple[int, ...], attributes: dict[str, int], words: str) -> None:
    f = Form()
    f.op("DFT", "x", axis=1, **attributes)
    with pytest.raises(UnsupportedModel, match=words):
        import_onnx(f.model({"x": shape}))


def test_a_window_of_the_run_time_is_refused() -> None:
    f = Form()
    f.op("STFT", "x", np.array(8), "window")
    model = f.model({"x": (1, 64), "window": (16,)})
    with pytest.raises(UnsupportedModel, match="the window is computed at run time"):
        import_onnx(model)


def test_frames_and_window_differ() -> None:
    f = Form()
    f.op("STFT", "x", np.array(8), signed((16,), 1), np.array(12))
    with pytest.raises(UnsupportedModel, match="frames of 12"):
        import_onnx(f.model({"x": (1, 64)}))
