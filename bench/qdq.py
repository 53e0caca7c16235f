# SPDX-License-Identifier: Apache-2.0
"""Compares QDQ models on the array with onnxruntime on the same file.

In: the data folder.  Out: share of inputs with the same top-1, for int8 and uint8 activations with
per-channel int8 weights (made here by onnxruntime.quantization) and a converted TFLite network.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    CALIBRATION_IMAGES,
    TASKS,
    Row,
    Task,
    calibration,
    compile_for,
    data_folder,
    emulate,
    input_name,
    ort_outputs,
    ort_session,
    report,
)
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

ACTIVATIONS = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
SAME_TOP1 = 99.5


class Reader(CalibrationDataReader):  # type: ignore[misc]
    """The first images of a task, one at a time."""

    def __init__(self, task: Task) -> None:
        self.feeds: Iterator[dict[str, Any]] = iter(
            [{task.input: x[None]} for x in task.x[:CALIBRATION_IMAGES]]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


def qdq_file(task: Task, activation: str, folder: Path) -> Path:
    """Write the QDQ form of a task's model."""
    prepared, result = folder / "prepared.onnx", folder / f"{activation}.onnx"
    quant_pre_process(str(task.path), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared), str(result), Reader(task), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=ACTIVATIONS[activation], weight_type=QuantType.QInt8,
    )  # fmt: skip
    return result


def dequantized_task() -> Task:
    """Return keyword spotting converted from int8 TFLite: its input has the quantised values."""
    archive = np.load(data_folder() / "mlperf_tiny" / "kws01.npz")
    path = data_folder() / "mlperf_tiny" / "kws_ref_model_dequant.onnx"
    return Task("KWS dequantised", path, input_name(path), archive["x"][..., None], archive["y"])


def rows(task: Task, path: Path, limit: int | None) -> list[Row]:
    """Return how often array and onnxruntime find the same class for a file (ties: the first)."""
    x = task.x[:limit]
    wanted = ort_outputs(ort_session(path), task.input, x)
    # A QDQ file prescribes its scales; calibration is for tensors that it leaves in float.
    found, _ = emulate(compile_for(path, task.input, x[:1].shape, calibration(task)), task.input, x)
    same = 100.0 * float(np.mean(found.argmax(1) == wanted.argmax(1)))
    name = f"{task.name} {path.stem}, same top-1"
    return [Row(name, same, "%", "emulated", at_least=SAME_TOP1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--limit", type=int, help="use only the first inputs")
    options = parser.parse_args()
    for key in options.tasks:
        task = TASKS[key]()
        with tempfile.TemporaryDirectory() as folder:
            for activation in ACTIVATIONS:
                path = qdq_file(task, activation, Path(folder))
                report("qdq", rows(task, path, options.limit))
        if key == "kws":
            task = dequantized_task()
            report("qdq", rows(task, task.path, options.limit))


if __name__ == "__main__":
    main()
