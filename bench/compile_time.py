# SPDX-License-Identifier: Apache-2.0
"""Measures seconds and peak memory of compiling ResNet-50 at 224x224, with and without its search.

In: models/zoo.resnet50 (random weights), 32 calibration images.  Out: seconds and peak resident
size of a compile that measures nothing, and of the default one, which tries choices on the
integers of 24 images and measures the result on 8; their ratio.
Each compile runs in a process of its own, so that the peak is its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
import warnings

import numpy as np
from common import BOARD, Row, report

CALIBRATION = 32
MOST_SECONDS, MOST_GIGABYTES, MOST_TIMES = 40, 4, 4


def one(measured: bool) -> tuple[float, float, float]:
    """Compile once; return seconds, processor seconds of all threads, and gigabytes."""
    import neuralmatrix as nm
    from zoo import resnet50

    model = resnet50()
    rng = np.random.default_rng(0)
    feeds = [{"input": rng.normal(size=(CALIBRATION, 3, 224, 224)).astype(np.float32)}]
    warnings.simplefilter("ignore", nm.AccuracyWarning)  # of random weights
    began, worked = time.perf_counter(), time.process_time()
    nm.compile(model, board=BOARD, calibration=feeds, accuracy=measured)
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    return seconds, worked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def apart(measured: bool) -> tuple[float, float, float]:
    """Return what ``one`` returns in a process of its own.

    numpy's products have one thread: two that wait for each other on a busy machine spend more
    processor time on that than on products.
    """
    command = [sys.executable, __file__, "measured" if measured else "plain"]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    text = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    seconds, worked, gigabytes = map(float, text.split())
    return seconds, worked, gigabytes


def main() -> None:
    if len(sys.argv) > 1:
        print(*one(sys.argv[1] == "measured"))
        return
    (plain, plain_work, small), (whole, whole_work, large) = apart(False), apart(True)
    report("compile_time", [
        Row("ResNet-50 compile, nothing measured", plain, "s", "measured", at_most=MOST_SECONDS),
        Row("ResNet-50 peak memory, nothing measured", small, "GB", "measured",
            at_most=MOST_GIGABYTES),
        Row("ResNet-50 compile, searched and measured", whole, "s", "measured"),
        Row("ResNet-50 peak memory, searched and measured", large, "GB", "measured",
            at_most=MOST_GIGABYTES),
        Row("ResNet-50 compile, ratio of both", whole / plain, "times", "measured",
            at_most=MOST_TIMES),
        Row("the same of processor seconds, which other work on the machine moves less",
            whole_work / plain_work, "times", "measured"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
