# SPDX-License-Identifier: Apache-2.0
"""Measures the emulation's speed, and onnxruntime's in float on the same cores.

In: networks of models/zoo with random weights.  Out: GMAC/s of one large convolution on one thread,
images/s of ResNet-20, seconds an image of ResNet-50 and a sentence of BERT-base, and the ratios to
onnxruntime.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnx
from common import (
    BOARD,
    Row,
    compile_for,
    emulation,
    median_seconds,
    ort_session,
    random_feed,
    report,
)
from zoo import ZOO, Builder, network
from zoo_transformers import TRANSFORMERS

CONV_CHANNELS, CONV_SIZE = 256, 28
THREADS = min(2, os.cpu_count() or 1)
RESNET20_IMAGES = 200
LEAST_GMACS, LEAST_RESNET20, MOST_RESNET50 = 15, 400, 0.7
MOST_BERT = 2  # seconds, 128 tokens


def one_convolution() -> onnx.ModelProto:
    """Make a single 3x3 convolution of 462 million multiply-adds."""

    def body(b: Builder) -> None:
        b.conv("input", "y", CONV_CHANNELS, 3)

    shape = [1, CONV_CHANNELS, CONV_SIZE, CONV_SIZE]
    return network("convolution", CONV_CHANNELS, CONV_SIZE, ("y", shape), body)


def prepare(model: onnx.ModelProto, images: int) -> tuple[Any, dict[str, Any]]:
    """Return a model's program, and feeds of ``images`` images."""
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    x = np.random.default_rng(0).normal(size=(images, *shape[1:])).astype(np.float32)
    return compile_for(model, "input", shape, [{"input": x[:1]}]), {"input": x}


def gemm_rows() -> list[Row]:
    """Measure the GEMM nest in a separate program, including loads, epilogue and stores."""
    program, feeds = prepare(one_convolution(), 1)
    run = emulation(program, threads=1)
    gmacs = program.estimate().macs / median_seconds(lambda: run(feeds)) / 1e9
    return [Row("3x3 convolution, 1 thread", gmacs, "GMAC/s", "measured", at_least=LEAST_GMACS)]


def network_rows(name: str, images: int, bar: dict[str, float]) -> list[Row]:
    """Measure parallel images, one image alone, onnxruntime on as many threads, and the ratio."""
    model = ZOO[name]()
    program, feeds = prepare(model, images)
    one = {"input": feeds["input"][:1]}
    run = emulation(program, threads=THREADS)
    ours = median_seconds(lambda: run(feeds), 3) / images
    alone = median_seconds(lambda: run(one))
    ort = ort_session(model.SerializeToString(), THREADS)
    theirs = median_seconds(lambda: ort.run(None, one), 20)
    value, unit = (1 / ours, "images/s") if "at_least" in bar else (ours, "s/image")
    return [
        Row(f"{name} emulation, {THREADS} threads", value, unit, "measured", **bar),
        Row(f"{name} emulation, one image", 1e3 * alone, "ms", "measured"),
        Row(f"{name} onnxruntime float, {THREADS} threads", 1e3 * theirs, "ms/image", "measured"),
        Row(f"{name} emulation / onnxruntime", ours / theirs, "x time", "measured"),
    ]


def transformer_rows(name: str, most: float) -> list[Row]:
    """Measure one sentence alone."""
    import neuralmatrix as nm

    model = TRANSFORMERS[name]()
    feeds = random_feed(model)
    run = emulation(nm.compile(model, board=BOARD, calibration=[feeds]))
    ours = median_seconds(lambda: run(feeds), 3)
    ort = ort_session(model.SerializeToString(), THREADS)
    theirs = median_seconds(lambda: ort.run(None, feeds), 5)
    return [
        Row(f"{name} emulation", ours, "s/sentence", "measured", at_most=most),
        Row(f"{name} onnxruntime float, {THREADS} threads", theirs, "s/sentence", "measured"),
        Row(f"{name} emulation / onnxruntime", ours / theirs, "x time", "measured"),
    ]


def main() -> None:
    report("speed", gemm_rows())
    report("speed", transformer_rows("bert_base", MOST_BERT))
    report("speed", network_rows("resnet20", RESNET20_IMAGES, {"at_least": LEAST_RESNET20}))
    report("speed", network_rows("resnet50", THREADS, {"at_most": MOST_RESNET50}))


if __name__ == "__main__":
    main()
