# SPDX-License-Identifier: Apache-2.0
"""Data sets with labels: of a program that copies its input, and of a small network.

Every third label of the copy is wrong, so that a lost or doubled chunk changes the count.
"""

from __future__ import annotations

import numpy as np
from build_onnx import model, node
from programs import copy_program

PROGRAM = copy_program()
IMAGES = 12
X = np.random.default_rng(3).normal(0, 20, (IMAGES, *PROGRAM.inputs[0].shape[1:]))
X = X.astype(np.float32)
FEEDS = {"x": X}
# The copy is exact up to its quantisation, which keeps the order of what it tells apart.
STEPS = np.clip(np.floor(X / np.float32(0.5) + np.float32(0.5)), -131, 124)
LABELS = STEPS.argmax(-1)
LABELS.reshape(-1)[::3] += 1
RIGHT = int(np.count_nonzero(np.arange(LABELS.size) % 3))

_RNG = np.random.default_rng(5)
WEIGHTS = [_RNG.normal(0, 0.5, shape).astype(np.float32) for shape in ((8, 16), (16, 5))]
SAMPLES = {"x": _RNG.normal(size=(16, 8)).astype(np.float32)}
OTHERS = {"x": _RNG.normal(size=(40, 8)).astype(np.float32)}
CLASSES = (np.maximum(OTHERS["x"] @ WEIGHTS[0], 0) @ WEIGHTS[1]).argmax(-1)


def two_layers() -> bytes:
    """A network that scores 5 classes, as ``CLASSES`` does for ``OTHERS``."""
    nodes = [
        node("MatMul", ["x", "w0"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("MatMul", ["r", "w1"], ["y"]),
    ]
    constants = dict(zip(("w0", "w1"), WEIGHTS, strict=True))
    return model(nodes, {"x": (1, 8)}, ["y"], constants).SerializeToString()
