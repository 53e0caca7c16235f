# SPDX-License-Identifier: Apache-2.0
"""QDQ models on the array against onnxruntime running the very same file.

In: the data folder.  Out: share of images with the same top-1, for int8 and uint8 activations with
per-channel int8 weights, made here by onnxruntime.quantization.
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
DEQUANTISED = "kws_ref_model_dequant.onnx"
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
    quant_pre_process(str(task.path), str(prepared))
    quantize_static(
        str(prepared), str(result), Reader(task), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=ACTIVATIONS[activation], weight_type=QuantType.QInt8,
    )  # fmt: skip
    return result


def agreement(path: Path, task: Task, limit: int | None) -> float:
    """Percentage of inputs on which the array and onnxruntime name the same class."""
    name, x = input_name(path), task.x[:limit]
    wanted = ort_outputs(ort_session(path), name, x).argmax(1)
    # A QDQ file prescribes its scales; calibration covers tensors it leaves in float.
    feeds = [{name: task.x[:CALIBRATION_IMAGES]}]
    found, _ = emulate(compile_for(path, name, x[:1].shape, feeds), name, x)
    return 100.0 * float(np.mean(found.argmax(1) == wanted))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--limit", type=int, help="first inputs only")
    options = parser.parse_args()
    rows = []
    for key in options.tasks:
        task = TASKS[key]()
        with tempfile.TemporaryDirectory() as folder:
            files = {f"QDQ {a}": qdq_file(task, a, Path(folder)) for a in ACTIVATIONS}
            if key == "kws":
                files["dequantised"] = data_folder() / "mlperf_tiny" / DEQUANTISED
            for kind, path in files.items():
                same = agreement(path, task, options.limit)
                rows.append(Row(f"{task.name} {kind}", same, "% same", "emulated", SAME_TOP1))
    report("qdq", rows)


if __name__ == "__main__":
    main()
