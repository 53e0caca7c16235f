# SPDX-License-Identifier: Apache-2.0
"""Trained networks: the lowered graph in float against onnxruntime.

In: models of the data folder (``NEURALMATRIX_DATA``, else ``../shared/data`` next to the
repository).  Out: agreement of the outputs; skipped without the folder.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from neuralmatrix.ir.matgraph.ops import Gemm, Move, Window
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from targets import lower

MODELS = {
    "resnet_cifar/resnet20_finetuned_jpeg.onnx": ((3, 32, 32), 1.0, {Gemm: 20, Window: 1, Move: 2}),
    "mlperf_tiny/pretrainedResnet.onnx": ((3, 32, 32), 100.0, {Gemm: 10, Move: 0}),
    "mlperf_tiny/kws_ref_model_float32_tfl.onnx": ((49, 10, 1), 30.0, {Gemm: 6, Move: 0}),
}


@pytest.mark.parametrize("name", MODELS)
def test_against_onnxruntime(name: str, data: Path) -> None:
    path = data / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set NEURALMATRIX_DATA")
    ort = pytest.importorskip("onnxruntime")
    from neuralmatrix.frontend.onnx.import_onnx import import_onnx

    shape, gain, counts = MODELS[name]
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0].name
    mg = lower(import_onnx(path, {feed: (1, *shape)}))
    x = (np.random.default_rng(5).normal(size=(8, *shape)) * gain).astype(np.float32)
    found = port_outputs(mg, run_float(mg, {feed: x}))
    for port, wanted in zip(session.get_outputs(), session.run(None, {feed: x}), strict=True):
        # twenty float32 layers, summed in another order
        np.testing.assert_allclose(found[port.name], wanted, rtol=1e-3, atol=1e-3)
    kinds = [type(op) for op in mg.ops]
    assert {kind: kinds.count(kind) for kind in counts} == counts
