# SPDX-License-Identifier: Apache-2.0
"""Measures seconds and peak memory of compiles, each in a process of its own.

In: networks with random weights; optionally their names, ``--base TREE``, a checkout of this
project to compare with, and ``--rounds``.
Out: of every network, compiled without measuring: seconds and peak resident size of the first
compile, seconds of a second one, which finds in the cache what the first has found, and the ratio
of both to the base's in interleaved rounds (processor seconds, the least of all rounds, as other
work on the machine moves these less).  Of ResNet-50 also a compile with its search, which tries
choices on the integers of 24 images and measures the result on 8.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import BOARD, REPOSITORY, Row, report

CALIBRATION, FEW = 32, 8  # inputs
MOST_SECONDS, MOST_GIGABYTES, MOST_TIMES, MOST_OF_BASE = 40, 4, 4, 0.4
CACHE = "NEURALMATRIX_COMPILE_CACHE"
LSTM_STEPS, LSTM_FEATURES, LSTM_HIDDEN = 400, 16, 64
IN_TREE = """
import sys
sys.path[:0] = sys.argv.pop(1).split(":")
import compile_time
compile_time.show(*sys.argv[1:])
"""


def resnet50() -> tuple[Any, dict[str, Any]]:
    """Return ResNet-50 for 224x224 with 32 images."""
    from zoo import resnet50

    return resnet50(), {"input": np.random.default_rng(0).normal(size=(CALIBRATION, 3, 224, 224))}


def vit_tiny() -> tuple[Any, dict[str, Any]]:
    """Return ViT-tiny for 224x224."""
    from zoo_transformers import vit_tiny

    return vit_tiny(), {"input": np.random.default_rng(0).normal(size=(FEW, 3, 224, 224))}


def minilm_128() -> tuple[Any, dict[str, Any]]:
    """Return the encoder of MiniLM-L6's shape with 128 tokens."""
    from zoo_transformers import Size, bert

    model, rng = bert(30522, Size(384, 6, 12, 1536, 128)), np.random.default_rng(0)
    feeds = {}
    for port in model.graph.input:
        shape = (FEW, *(d.dim_value for d in port.type.tensor_type.shape.dim[1:]))
        words = rng.integers(0, 30000, shape)
        feeds[port.name] = words if port.name == "input_ids" else np.ones(shape, np.int64)
    return model, feeds


def lstm_400() -> tuple[Any, dict[str, Any]]:
    """Return an LSTM over 400 steps, which is unrolled."""
    from onnx import helper, numpy_helper

    rng, gates = np.random.default_rng(0), 4 * LSTM_HIDDEN
    weights = {
        "w": rng.normal(0, 0.2, (1, gates, LSTM_FEATURES)),
        "r": rng.normal(0, 0.1, (1, gates, LSTM_HIDDEN)),
        "b": rng.normal(0, 0.1, (1, 2 * gates)),
    }
    cell = helper.make_node("LSTM", ["x", *weights], ["", "y"], hidden_size=LSTM_HIDDEN)
    x = helper.make_tensor_value_info("x", 1, [LSTM_STEPS, 1, LSTM_FEATURES])
    y = helper.make_tensor_value_info("y", 1, [1, 1, LSTM_HIDDEN])
    constants = [numpy_helper.from_array(np.float32(v), name) for name, v in weights.items()]
    graph = helper.make_graph([cell], "lstm", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return model, {"x": rng.normal(size=(LSTM_STEPS, 1, LSTM_FEATURES))}


NETS: dict[str, Callable[[], tuple[Any, dict[str, Any]]]] = {
    "resnet50": resnet50,
    "vit_tiny": vit_tiny,
    "minilm_128": minilm_128,
    "lstm_400": lstm_400,
}


@dataclass(frozen=True)
class Cost:
    """Of one compile: seconds, processor seconds of all threads, and gigabytes."""

    seconds: float
    worked: float
    gigabytes: float


def show(name: str, measured: str = "") -> None:
    """Compile once and print the cost."""
    import neuralmatrix as nm
    import neuralmatrix.compiler  # noqa: F401  (loading it is no part of a compile)

    model, feeds = NETS[name]()
    feeds = {n: x if x.dtype.kind == "i" else x.astype(np.float32) for n, x in feeds.items()}
    warnings.simplefilter("ignore", nm.AccuracyWarning)  # of random weights
    began, worked = time.perf_counter(), time.process_time()
    nm.compile(model, board=BOARD, calibration=[feeds], accuracy=bool(measured))
    seconds, worked = time.perf_counter() - began, time.process_time() - worked
    print(seconds, worked, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9)


def apart(name: str, measured: str = "", tree: Path = REPOSITORY, cache: str = "") -> Cost:
    """Return the cost of a compile in a process of its own, by the package of ``tree``.

    ``cache``: a folder of what compiles keep; none of it by default.  numpy's products have one
    thread: two that wait for each other on a busy machine spend more processor time on that than on
    products.
    """
    own = {"XDG_CACHE_HOME": cache} if cache else {CACHE: "0"}
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", **own}
    env.pop("NEURALMATRIX_CACHE", None)
    places = (tree / "host", tree / "models", Path(__file__).resolve().parent)
    command = [sys.executable, "-c", IN_TREE, ":".join(map(str, places)), name]
    done = subprocess.run([*command, *([measured] if measured else [])], capture_output=True,
                          text=True, check=True, env={**env, "PYTHONPATH": ""})  # fmt: skip
    return Cost(*map(float, done.stdout.split()))


def least(costs: list[Cost]) -> Cost:
    """Return the least of every number."""
    return Cost(*(min(getattr(c, f) for c in costs) for f in ("seconds", "worked", "gigabytes")))


def rows_of(name: str, base: Path | None, rounds: int) -> list[Row]:
    """Return the rows of one network, compiled without measuring."""
    first, again, before = list[Cost](), list[Cost](), list[Cost]()
    for _ in range(rounds):
        before += [apart(name, tree=base)] if base else []
        with tempfile.TemporaryDirectory() as cache:
            first.append(apart(name, cache=cache))
            again.append(apart(name, cache=cache))
    one, two = least(first), least(again)
    bar = MOST_SECONDS if name == "resnet50" else None
    rows = [
        Row(f"{name} compile, nothing measured", one.seconds, "s", "measured", at_most=bar),
        Row(f"{name} the same again", two.seconds, "s", "measured"),
        Row(f"{name} peak memory", one.gigabytes, "GB", "measured", at_most=MOST_GIGABYTES),
    ]
    if base:
        old = least(before)
        rows += [
            Row(f"{name} peak memory of the base", old.gigabytes, "GB", "measured"),
            Row(f"{name} processor seconds, to the base's", one.worked / old.worked, "times",
                "measured", at_most=MOST_OF_BASE),
            Row(f"{name} again, to the base's", two.worked / old.worked, "times", "measured"),
        ]  # fmt: skip
    return rows


def searched() -> list[Row]:
    """Return the rows of ResNet-50's compile with its search, to one without."""
    plain, whole = apart("resnet50"), apart("resnet50", "measured")
    return [
        Row("resnet50 compile, searched and measured", whole.seconds, "s", "measured"),
        Row("resnet50 peak memory, searched and measured", whole.gigabytes, "GB", "measured",
            at_most=MOST_GIGABYTES),
        Row("resnet50 compile, ratio of both", whole.seconds / plain.seconds, "times", "measured",
            at_most=MOST_TIMES),
        Row("the same of processor seconds, which other work on the machine moves less",
            whole.worked / plain.worked, "times", "measured"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("nets", nargs="*", default=list(NETS), help=", ".join(NETS))
    parser.add_argument("--base", type=Path, help="a checkout to compare with")
    parser.add_argument("--rounds", type=int, default=1, help="the least of so many counts")
    options = parser.parse_args()
    rows = [r for name in options.nets for r in rows_of(name, options.base, options.rounds)]
    report("compile_time", rows + (searched() if "resnet50" in options.nets else []))


if __name__ == "__main__":
    main()
