# SPDX-License-Identifier: Apache-2.0
"""Networks through hls4ml's converters: our backend beside hls4ml's own compiled emulation.

In: the name of an environment; runs in it.  Out: rows as JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .hls4ml_networks import NETWORKS, Array, Data, Trained, digits

PACKAGES = ("hls4ml", "keras", "jax", "hgq2", "QKeras", "tensorflow-cpu", "qonnx", "torch", "onnx")


@dataclass(frozen=True)
class FrontRow:
    """Accuracies of the trained network, of hls4ml's emulation and of ours; the shares of outputs
    that are equal and that are within half a step of ours; how often faster our ``compile()`` is.
    """

    network: str
    trained: float
    hls4ml: float
    ours: float
    equal: float
    near: float
    faster: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("environment", choices=sorted(NETWORKS))
    parser.add_argument("--record", type=Path, default=None, help="nothing is recorded here")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    data = digits()
    with redirect_stdout(sys.stderr):  # hls4ml prints its topology
        rows = [_row(name, make, data) for name, make in NETWORKS[given.environment].items()]
    print(json.dumps({"versions": _versions(), "fronts": [*map(asdict, rows)]}))


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _row(name: str, make: Callable[[Data], Trained], data: Data) -> FrontRow:
    trained = make(data)
    with tempfile.TemporaryDirectory() as folder:
        theirs, their_seconds, _ = _through(trained, "Vitis", folder)
        ours, our_seconds, model = _through(trained, "NeuralMatrix", folder)
        (port,) = model._neuralmatrix.session.program.outputs
    apart = np.abs(theirs - ours)
    right = [_share(y, data.test_y) for y in (trained.outputs, theirs, ours)]
    near = float((apart <= 0.5 * port.slot.qparams.scale).mean())
    return FrontRow(name, *right, float((apart == 0).mean()), near, their_seconds / our_seconds)


def _through(trained: Trained, backend: str, folder: str) -> tuple[Array, float, Any]:
    """Return the outputs of a backend, the seconds of its ``compile()``, and its model."""
    model = trained.convert(backend, str(Path(folder) / backend))
    began = time.perf_counter()
    model.compile()
    seconds = time.perf_counter() - began
    y = np.asarray(model.predict(np.ascontiguousarray(trained.inputs)))
    return y.reshape(len(trained.inputs), -1), seconds, model


def _share(y: Array, labels: Array) -> float:
    return float((np.asarray(y).reshape(len(labels), -1).argmax(1) == labels).mean())


if __name__ == "__main__":
    main()
