# SPDX-License-Identifier: Apache-2.0
"""Measures the pynq driver's overhead per inference: the host's time besides copies and array.

In: a network of ResNet-8's shape with random weights, the emulated board under the pynq package.
Out: milliseconds of host, transfer and array for one image; without pynq, a message.
The host's time is this machine's: a board's processor is slower.
"""

from __future__ import annotations

import importlib.util
import os
import sys

import numpy as np
import onnx
from common import BOARD, Row, compile_for, report
from zoo import Builder, basic_block, network

REPEATS, MOST_MS = 200, 1.0
WIDTHS, SIZE, CLASSES = [16, 32, 64], 32, 10


def resnet8() -> onnx.ModelProto:
    """Make three stages of one block each, as in MLPerf Tiny's image classifier: 12.5 MMAC."""

    def body(b: Builder) -> None:
        x = b.unit("input", "stem", WIDTHS[0], 3)
        for i, width in enumerate(WIDTHS):
            x = basic_block(b, x, f"stage{i + 1}", width, 2 if i else 1)
        b.classifier(x, CLASSES)

    return network("resnet8", 3, SIZE, ("logits", [1, CLASSES]), body)


def rows() -> list[Row]:
    """Measure medians of single images through pynq.Overlay on the emulated board."""
    from neuralmatrix.measure.bench import Options, bench_program

    shape = (1, 3, SIZE, SIZE)
    x = np.random.default_rng(0).normal(size=(16, *shape[1:])).astype(np.float32)
    program = compile_for(resnet8(), "input", shape, [{"input": x}])
    result = bench_program(program, "pynq", Options((1,), REPEATS))
    latency = result["latency"]
    medians = {part: 1e3 * latency[f"{part}_s"]["median"] for part in ("host", "transfer", "array")}
    name = f"ResNet-8 on the {result['origin']}, one image"
    return [
        Row(f"{name}: host", medians["host"], "ms", "measured", at_most=MOST_MS),
        Row(f"{name}: transfer", medians["transfer"], "ms", "emulated"),
        Row(f"{name}: array", medians["array"], "ms", "emulated"),
    ]


def main() -> None:
    if importlib.util.find_spec("pynq") is None:
        print("overhead: skipped: pynq is not installed; pip install 'neuralmatrix[pynq]'")
        sys.exit(0)
    os.environ.setdefault("NEURALMATRIX_EMULATED_BOARD", BOARD)
    report("overhead", rows())


if __name__ == "__main__":
    main()
