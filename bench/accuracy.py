# SPDX-License-Identifier: Apache-2.0
"""Top-1 of trained networks: float by onnxruntime against int8 on the emulated array.

In: the data folder; optionally names of tasks and --limit.  Out: both accuracies and the loss.
Calibration uses the inputs of the first 256 test images without their labels: these sets hold no
training images.
"""

from __future__ import annotations

import argparse

from common import (
    TASKS,
    Row,
    accuracy,
    calibration,
    compile_for,
    emulate,
    ort_outputs,
    ort_session,
    report,
)

LARGEST_LOSS = {"resnet20": 0.3, "resnet8": 0.3, "kws": 0.5}  # percentage points


def rows(key: str, limit: int | None) -> list[Row]:
    """Measure float and int8 accuracy of one task."""
    task = TASKS[key]()
    x, y = task.x[:limit], task.y[:limit]
    float_top1 = accuracy(ort_outputs(ort_session(task.path), task.input, x), y)
    program = compile_for(task.path, task.input, x[:1].shape, calibration(task))
    outputs, speed = emulate(program, task.input, x)
    array_top1 = accuracy(outputs, y)
    return [
        Row(f"{task.name} float, {len(y)} inputs", float_top1, "%", "measured"),
        Row(f"{task.name} int8 array", array_top1, "%", "emulated"),
        Row(f"{task.name} loss", float_top1 - array_top1, "points", "emulated",
            at_most=LARGEST_LOSS[key]),
        Row(f"{task.name} emulation", speed, "images/s", "measured"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help=", ".join(TASKS))
    parser.add_argument("--limit", type=int, help="use only the first inputs")
    options = parser.parse_args()
    for key in options.tasks:
        report("accuracy", rows(key, options.limit))


if __name__ == "__main__":
    main()
