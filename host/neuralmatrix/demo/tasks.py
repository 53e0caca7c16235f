# SPDX-License-Identifier: Apache-2.0
"""The tasks of the embedded demos: trained networks with their inputs and labels.

In: ``data`` (made by models/digits.py and models/train_demo.py).  Out: ``TASKS`` by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import BadInput
from ..ir.types import Array

DATA = Path(__file__).resolve().parent / "data"
MODEL = DATA / "digits_cnn.onnx"
LARGEST_PIXEL = 16


@dataclass(frozen=True)
class Digits:
    """Network inputs (N, 1, 8, 8) in 0..1, labels (N,), and inputs to calibrate with."""

    x: Array
    y: Array
    calibration: Array


@dataclass(frozen=True)
class Samples:
    """Feeds of all runs, feeds to calibrate with, and labels of the logits' rows ``counted``."""

    feeds: dict[str, Array]
    calibration: dict[str, Array]
    labels: Array
    counted: Array


@dataclass(frozen=True)
class Task:
    """A network, what its answers are about ("images of ...") and where its samples come from.

    ``load`` takes the largest number of samples, None for all.
    """

    title: str
    about: str
    model: Path
    load: Callable[[int | None], Samples]


def load_digits(limit: int | None = None) -> Digits:
    """Load the demo's images, at most ``limit`` of the test split."""
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit}: allowed is at least 1 image; leave it out to run all")
    with np.load(DATA / "digits.npz", allow_pickle=False) as archive:
        return Digits(
            _as_input(archive["test_x"][:limit]),
            archive["test_y"][:limit],
            _as_input(archive["calibration_x"]),
        )


def _as_input(images: Array) -> Array:
    return np.asarray(images[:, None] / LARGEST_PIXEL, np.float32)


def _digits(limit: int | None) -> Samples:
    digits = load_digits(limit)
    every = np.arange(len(digits.y))
    return Samples({"input": digits.x}, {"input": digits.calibration}, digits.y, every)


def _karate(limit: int | None) -> Samples:
    """Load the whole club as one run; the labels leave out the two leaders, trained on."""
    if limit is not None:
        raise BadInput(f"limit {limit}: the club is one graph; leave the limit out")
    with np.load(DATA / "karate.npz", allow_pickle=False) as archive:
        sides, leaders = archive["sides"], archive["leaders"]
    members = np.setdiff1d(np.arange(len(sides)), leaders)
    feeds = {"features": np.eye(len(sides), dtype=np.float32)}
    return Samples(feeds, feeds, sides[members], members)


TASKS: dict[str, Task] = {
    "digits": Task("digits CNN", "test images of handwritten digits", MODEL, _digits),
    "transformer": Task(
        "digits vision transformer",
        "test images of handwritten digits",
        DATA / "digits_vit.onnx",
        _digits,
    ),
    "gnn": Task(
        "karate club graph network",
        "members of the karate club and the side each took",
        DATA / "karate_gcn.onnx",
        _karate,
    ),
}


def task(name: str) -> Task:
    """Return the demo of that name."""
    if name not in TASKS:
        raise BadInput(f"demo {name!r}: allowed are {', '.join(TASKS)}")
    return TASKS[name]
