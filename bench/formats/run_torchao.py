# SPDX-License-Identifier: Apache-2.0
"""Quantises modules with torchao's PT2E flow, compiles them as they are, and compares with torch.

In: arguments; runs in the environment of torchao.txt.  Out: rows as JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import torch
from neuralmatrix.frontend.torch.export import module_to_onnx

from .compared import Row, compared
from .recorded import record
from .torchao_networks import FLOWS, NETWORKS, quantized

IMAGES = 64
PACKAGES = ("torchao", "torch", "onnx", "onnxscript")
RECORDED = {("mlp", "static"), ("cnn", "qat"), ("residual", "static")}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=Path, default=None)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    rows = [_row(name, flow, given.record) for name in NETWORKS for flow in FLOWS]
    versions = {package: version(package) for package in PACKAGES}
    print(json.dumps({"versions": versions, "rows": [*map(asdict, rows)], "trained": []}))


def _row(name: str, flow: str, folder: Path | None) -> Row:
    module, shape = quantized(name, flow)
    x, example = torch.randn(IMAGES, *shape[1:]), torch.zeros(shape)
    with torch.no_grad():
        right = module(x).numpy()
    if folder and (name, flow) in RECORDED:
        model = module_to_onnx(module, example)
        record(folder / f"{name}_{flow}_pt2e", model, x.numpy()[:8], right[:8])
    return compared(f"{name}, {flow}", "PT2E module", module, x.numpy(), "torch", right,
                    example_inputs=example)  # fmt: skip


if __name__ == "__main__":
    main()
