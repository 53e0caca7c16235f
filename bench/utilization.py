# SPDX-License-Identifier: Apache-2.0
"""Estimated array utilisation and frames/s at batch 1 on pynq-z2.

In: networks of models/zoo with random weights (utilisation depends on shapes alone).
Out: utilisation, frames/s and what bounds the layers, all estimated by the cycle model.
"""

from __future__ import annotations

import argparse
from collections import Counter

import neuralmatrix as nm
from common import BOARD, Row, random_feed, report
from zoo import ZOO
from zoo_transformers import TRANSFORMERS

LEAST = {  # percent
    "resnet20": 65,
    "resnet18": 85,
    "resnet50": 85,
    "mobilenet_v1": 45,
    "mobilenet_v2": 45,
    "bert_base": 85,  # 128 tokens
    "vit_tiny": 75,  # 224 x 224 pixels
}
MOST_OTHER = 8  # percent of a transformer's cycles that are not matrix products
PRODUCTS = ("Gemm", "MatMul", "MatMulStatistic")
LEAST_FRAMES = {"resnet20": 300}


def rows(name: str) -> list[Row]:
    """Compile one network and read its estimate."""
    model = {**ZOO, **TRANSFORMERS}[name]()
    program = nm.compile(model, board=BOARD, calibration=[random_feed(model)])
    estimate = program.estimate()
    nbytes = program.const.nbytes + program.arena_bytes + program.instructions.nbytes
    bounds, kinds = Counter[str](), Counter[str]()
    for layer in estimate.layers:
        bounds[layer.bound] += layer.cycles
        kinds[layer.kind] += layer.cycles
    shares = [
        Row(f"{name} cycles bound by {bound}", 100 * cycles / estimate.cycles, "%", "estimated")
        for bound, cycles in bounds.most_common()
    ]
    return [
        Row(f"{name} utilisation on {BOARD}", 100 * estimate.utilization, "%", "estimated",
            at_least=LEAST[name]),
        Row(f"{name} on {BOARD}", 1 / estimate.latency_s, "frames/s", "estimated",
            at_least=LEAST_FRAMES.get(name)),
        Row(f"{name} DRAM", estimate.dram_bytes / 1e6, "MB/image", "estimated"),
        Row(f"{name} constants, program and activations", nbytes / 1e6, "MB", "measured"),
        *(split(name, kinds) if name in TRANSFORMERS else ()),
        *shares,
    ]  # fmt: skip


def split(name: str, kinds: Counter[str]) -> list[Row]:
    """Return cycles outside matrix products, and those that recompute QK^T for row maxima."""
    total = sum(kinds.values())
    other = total - sum(kinds[kind] for kind in PRODUCTS)
    return [
        Row(f"{name} cycles that are not matrix products", 100 * other / total, "%", "estimated",
            at_most=MOST_OTHER),
        Row(f"{name} cycles of QK^T for row maxima", 100 * kinds["MatMulStatistic"] / total,
            "%", "estimated"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(LEAST), help=", ".join(LEAST))
    for name in parser.parse_args().networks:
        report("utilization", rows(name))


if __name__ == "__main__":
    main()
