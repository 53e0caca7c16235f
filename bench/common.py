# SPDX-License-Identifier: Apache-2.0
"""Shared parts of the benchmarks: the data folder, the networks' preprocessing, reports.

In: NEURALMATRIX_DATA (default: ../shared/data next to the repository).
Out: arrays, rows, JSON lines.
"""

from __future__ import annotations

import io
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "models"), str(REPOSITORY / "host")]

from data_sets import data_folder as data_folder  # noqa: E402

Array = npt.NDArray[Any]
Source = Literal["measured", "emulated", "estimated"]
BOARD = "pynq-z2"
CALIBRATION_IMAGES = 256
# A compile should warn of a loss above either end of FELT, and not of one within QUIET.
FELT_POINTS, FELT_PERCENT = 1.0, 2.0
QUIET_POINTS, QUIET_PERCENT = 0.5, 1.0
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]


@dataclass(frozen=True)
class Row:
    """One number, its provenance label, and the bar that it must reach (inclusive)."""

    what: str
    value: float
    unit: str
    source: Source
    at_least: float | None = None
    at_most: float | None = None

    @property
    def verdict(self) -> str:
        """ "pass", "fail", or "" where there is no bar."""
        if self.at_least is None and self.at_most is None:
            return ""
        low = self.at_least is None or self.value >= self.at_least
        high = self.at_most is None or self.value <= self.at_most
        return "pass" if low and high else "fail"

    @property
    def bar(self) -> str:
        """The bar as text."""
        low = "" if self.at_least is None else f">= {self.at_least:g}"
        return low if self.at_most is None else f"<= {self.at_most:g}"


@dataclass(frozen=True)
class Task:
    """A trained network, its inputs and labels."""

    name: str
    path: Path
    input: str
    x: Array
    y: Array


def report(bench: str, rows: list[Row]) -> None:
    """Print the rows as JSON lines and then as a table."""
    where = {"bench": bench, "cpu": platform.machine(), "cores": os.cpu_count()}
    for row in rows:
        print(json.dumps({**where, **asdict(row), "verdict": row.verdict}))
    width = max(len(row.what) for row in rows)
    print()
    for row in rows:
        number = f"{row.value:>12.4g} {row.unit:<10}"
        print(f"{row.what:<{width}} {number} {row.source:<10} {row.bar:<10} {row.verdict}")
    print(flush=True)


def cifar10_images() -> tuple[Array, Array]:
    """Read uint8 images (10000, 3, 32, 32) and labels."""
    from PIL import Image

    archive = np.load(data_folder() / "cifar10" / "test_jpeg.npz")
    jpeg, offsets = archive["jpeg"], archive["off"]
    images = [
        np.asarray(Image.open(io.BytesIO(jpeg[begin:end].tobytes())).convert("RGB"))
        for begin, end in zip(offsets[:-1], offsets[1:], strict=True)
    ]
    return np.stack(images).transpose(0, 3, 1, 2), archive["y"]


def resnet20_task() -> Task:
    """Return the fine-tuned ResNet-20 on CIFAR-10."""
    images, labels = cifar10_images()
    x = (images.astype(np.float32) / 255 - IMAGENET_MEAN) / IMAGENET_STD
    path = data_folder() / "resnet_cifar" / "resnet20_finetuned_jpeg.onnx"
    return Task("ResNet-20", path, "input", x, labels)


def resnet8_task() -> Task:
    """Return MLPerf Tiny's ResNet-8 on CIFAR-10, raw pixels."""
    images, labels = cifar10_images()
    path = data_folder() / "mlperf_tiny" / "pretrainedResnet.onnx"
    return Task("ResNet-8", path, input_name(path), images.astype(np.float32), labels)


def kws_task() -> Task:
    """Return MLPerf Tiny's keyword spotting."""
    archive = np.load(data_folder() / "mlperf_tiny" / "kws01.npz")
    x = (archive["x"].astype(np.float32) - 83) * np.float32(0.5847029089927673)
    path = data_folder() / "mlperf_tiny" / "kws_ref_model_float32_tfl.onnx"
    return Task("KWS DS-CNN", path, input_name(path), x[..., None], archive["y"])


TASKS: dict[str, Callable[[], Task]] = {
    "resnet20": resnet20_task,
    "resnet8": resnet8_task,
    "kws": kws_task,
}


def input_name(path: Path) -> str:
    """Return the name of a model's only input."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    constants = {t.name for t in graph.initializer}
    (name,) = (i.name for i in graph.input if i.name not in constants)
    return str(name)


def random_feed(model: Any) -> dict[str, Array]:
    """Make a feed for an ONNX model: random floats; integers are 1."""
    import onnx

    random, result = np.random.default_rng(0), {}
    for port in model.graph.input:
        shape = tuple(d.dim_value for d in port.type.tensor_type.shape.dim)
        floats = port.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        values = random.normal(size=shape) if floats else np.ones(shape)
        result[port.name] = values.astype(np.float32 if floats else np.int64)
    return result


def calibration(task: Task) -> list[dict[str, Array]]:
    """Return inputs of the first images, without labels (these sets lack a training part here)."""
    return [{task.input: task.x[:CALIBRATION_IMAGES]}]


def ort_session(model: Path | bytes, threads: int = 0) -> Any:
    """Open an onnxruntime session on the CPU; with 0 threads onnxruntime chooses."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    source = str(model) if isinstance(model, Path) else model
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def ort_outputs(session: Any, name: str, x: Array, batch: int = 1) -> Array:
    """Return the first output for all of x, flattened per image."""
    parts = [session.run(None, {name: x[i : i + batch]})[0] for i in range(0, len(x), batch)]
    return np.concatenate([part.reshape(-1, part.shape[-1]) for part in parts])


def compile_for(
    model: Any, name: str, shape: tuple[int, ...], feeds: list[dict[str, Array]] | None
) -> Any:
    """Compile a program for one image of ``shape`` on the benchmark's board."""
    import neuralmatrix as nm

    return nm.compile(model, board=BOARD, calibration=feeds, shapes={name: shape})


def emulation(program: Any, threads: int | None = None) -> Callable[[dict[str, Array]], Any]:
    """Build the kernels and return a function that runs feeds on the emulated array."""
    import neuralmatrix as nm

    return partial(nm.Session(program, threads=threads).run)


def emulate(program: Any, name: str, x: Array, threads: int | None = None) -> tuple[Array, float]:
    """Return the only output for all of x, flattened per image, and images per second."""
    import neuralmatrix as nm

    session = nm.Session(program, threads=threads)
    (y,) = session.run({name: x}, progress=partial(_tick, time.monotonic())).values()
    assert session.stats is not None
    return y.reshape(len(x), -1), session.stats.images_per_host_second


def _tick(began: float, done: int, total: int) -> None:
    if sys.stderr.isatty() and done % 50 in (0, total % 50):
        rate = done / (time.monotonic() - began)
        print(f"\r{done}/{total} {rate:.0f}/s ", end="\n" if done == total else "", file=sys.stderr)


def accuracy(outputs: Array, labels: Array) -> float:
    """Return top-1 in percent."""
    return 100.0 * float((outputs.argmax(1) == labels).mean())


def verdict(score: float, loss: float, warned: bool) -> str:
    """Return whether a compile's warning, or its absence, was wrong for a loss of ``score``."""
    felt = loss > FELT_POINTS or loss > score * FELT_PERCENT / 100
    quiet = loss <= QUIET_POINTS or loss <= score * QUIET_PERCENT / 100
    if felt and not warned:
        return "false comfort"
    return "false alarm" if quiet and warned else ""


def median_seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Return the median wall time after one warm-up."""
    run()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return float(np.median(seconds))
