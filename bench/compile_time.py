# SPDX-License-Identifier: Apache-2.0
"""Measures seconds and peak memory of compiling ResNet-50 at 224x224.

In: models/zoo.resnet50 (random weights), 8 calibration images.  Out: seconds, peak resident size.
Runs in a process of its own, so that the peak is the compiler's.
"""

from __future__ import annotations

import resource
import time

import numpy as np
from common import Row, compile_for, report
from zoo import resnet50

CALIBRATION = 8
MOST_SECONDS, MOST_GIGABYTES = 20, 3


def main() -> None:
    model = resnet50()
    shape = (1, 3, 224, 224)
    rng = np.random.default_rng(0)
    feeds = [{"input": rng.normal(size=shape).astype(np.float32)} for _ in range(CALIBRATION)]
    began = time.perf_counter()
    compile_for(model, "input", shape, feeds)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    report("compile_time", [
        Row("ResNet-50 compile", seconds, "s", "measured", at_most=MOST_SECONDS),
        Row("ResNet-50 peak memory", peak, "GB", "measured", at_most=MOST_GIGABYTES),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
