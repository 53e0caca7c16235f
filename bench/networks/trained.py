# SPDX-License-Identifier: Apache-2.0
"""Architectures of timm and torchvision, trained by ``models/train_timm.py`` on Fashion-MNIST.

In: NEURALMATRIX_DATA, timm, torchvision.  Out: ``NETWORKS``.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from torchvision_operators import declare_operators

from . import base
from .base import Feed, Loaded, Missing, Network, Run, Score

MODELS = Path(__file__).resolve().parents[2] / "models"
CALIBRATION, TESTS = 64, 1000


def scripts() -> Any:
    """Return models/train_timm.py; Missing without the packages or data that it needs."""
    if str(MODELS) not in sys.path:
        sys.path.append(str(MODELS))
    for module in ("torch", "timm", "torchvision"):
        base.package_folder(module)
    declare_operators()
    import train_timm
    from data_sets import find_data

    folder = find_data()
    if folder is None or not (folder / "fashion_mnist").is_dir():
        raise Missing("there is no fashion_mnist in NEURALMATRIX_DATA")
    return train_timm


def load(name: str) -> Loaded:
    return Loaded(scripts().stored(name))


def calibration() -> list[Feed]:
    return [{"input": scripts().padded("train")[0][:CALIBRATION]}]


def score(run: Run, reference: Run) -> Score:
    images, labels = scripts().padded("test")
    logits = base.only(run({"input": images[:TESTS]}), TESTS)
    return base.share(logits.argmax(1) == labels[:TESTS])


NETWORKS = tuple(
    Network(name, "", "Apache-2.0", f"models/weights/{name}.npz", "top 1 of Fashion-MNIST",
            partial(load, name), calibration, score)
    for name in ("shufflenet_fashion", "mobilenetv3_fashion", "convnext_fashion")
)  # fmt: skip
