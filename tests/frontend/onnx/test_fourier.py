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
from neuralmatrix.ir.graph.operators import run_graph
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


@pytest.mark.parametrize("length", [None, 8, 15])
@pytest.mark.parametrize(
    ("parts", "attributes"),
    [(2, {}), (2, {"onesided": 1}), (1, {"inverse": 1}), (2, {"inverse": 1}),
     (2, {"inverse": 1, "onesided": 1})],
)  # fmt: skip
def test_complex_signals_and_inverses(
    parts: int, attributes: dict[str, int], length: int | None
) -> None:
    """Against numpy: onnxruntime knows no inverse of one side."""
    f, x = Form(), signed((2, 9, 5, parts))
    f.op("DFT", "x", *(() if length is None else (np.array(length),)), axis=1, **attributes)
    inverse, one_sided = (bool(attributes.get(n, 0)) for n in ("inverse", "onesided"))
    z = x[..., 0] + 1j * (x[..., 1] if parts == 2 else 0)
    if inverse and one_sided:
        wanted = np.fft.irfft(z, length, axis=1)[..., None]
    else:
        found = (np.fft.ifft if inverse else np.fft.fft)(z, length, axis=1)
        found = found[:, : (length or 9) // 2 + 1] if one_sided else found
        wanted = np.stack([found.real, found.imag], -1)
    graph = import_onnx(f.model({"x": x.shape}))
    (result,) = run_graph(graph, {"x": x}).values()
    np.testing.assert_allclose(result, wanted, rtol=1e-4, atol=1e-4)


def test_the_axis_of_parts_is_refused() -> None:
    f = Form()
    f.op("DFT", "x", axis=2)
    with pytest.raises(UnsupportedModel, match="real and imaginary parts"):
        import_onnx(f.model({"x": (1, 12, 2)}))


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
