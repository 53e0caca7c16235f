# SPDX-License-Identifier: Apache-2.0
"""Estimated array utilisation and frames/s at batch 1 on pynq-z2.

In: networks of models/zoo with random weights (utilisation depends on shapes alone).
Out: utilisation, frames/s and what bounds the layers, all estimated by the cycle model.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np
from common import BOARD, Row, compile_for, report
from zoo import ZOO

LEAST = {  # percent
    "resnet20": 65,
    "resnet18": 85,
    "resnet50": 85,
    "mobilenet_v1": 45,
    "mobilenet_v2": 45,
}
LEAST_FRAMES = {"resnet20": 300}


def rows(name: str) -> list[Row]:
    """Compile one network and read its estimate."""
    model = ZOO[name]()
    shape = tuple(d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    estimate = compile_for(model, "input", shape, [{"input": image}]).estimate()
    bounds = Counter[str]()
    for layer in estimate.layers:
        bounds[layer.bound] += layer.cycles
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
        *shares,
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(LEAST), help=", ".join(LEAST))
    for name in parser.parse_args().networks:
        report("utilization", rows(name))


if __name__ == "__main__":
    main()
