# SPDX-License-Identifier: Apache-2.0
"""The board's stages of the first light: self-test, demos, power.

In: a board's address, an overlay.  Out: results in JSON form; outputs are compared with those of
the emulation on this machine, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from neuralmatrix.compiler import compile_model
from neuralmatrix.demo.tasks import TASKS, Samples, task
from neuralmatrix.deploy.deploy import Progress, Request, deploy
from neuralmatrix.deploy.ssh import Target
from neuralmatrix.errors import DeviceFault
from neuralmatrix.files import read_arrays, write_arrays
from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.overlay_folder import Overlay
from neuralmatrix.paths import REMOTE_DIR
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.session import Session

DEMOS = tuple(TASKS)
IMAGES = 100  # of the test images; the graph is one run
OUTPUT = "logits"


@dataclass(frozen=True)
class At:
    """A board that is reached over SSH."""

    target: Target
    board: str
    python: str | None = None
    remote_dir: str = REMOTE_DIR
    device: str = "pynq"


@dataclass(frozen=True)
class Demo:
    """A demo's program, its samples, and the outputs of the emulation on this machine."""

    program: Program
    samples: Samples
    expected: Mapping[str, Any]


@lru_cache(maxsize=len(DEMOS))
def compiled_demo(name: str, board: str) -> Demo:
    """Compile an embedded network for a board and run it in emulation."""
    chosen = task(name)
    samples = chosen.load(None if name == "gnn" else IMAGES)
    program = compile_model(chosen.model, board=board, calibration=[samples.calibration])
    return Demo(program, samples, Session(program).run(samples.feeds))


def _request(
    at: At, board: Board, overlay: Overlay | None, folder: Path, name: str, images: int | None
) -> Request:
    """Write a demo's program and inputs, all or the first ``images``, and ask for their run."""
    demo, place = compiled_demo(name, board.name), folder / "board"
    place.mkdir(exist_ok=True)
    program, inputs = place / f"{name}.nmx", place / f"{name}.inputs.npz"
    demo.program.save(program)
    feeds = {key: value[:images] for key, value in demo.samples.feeds.items()}
    write_arrays(inputs, demo.samples.feeds if name == "gnn" else feeds)
    return Request(
        program,
        inputs,
        place / f"{name}.outputs.npz",
        overlay=overlay.folder if overlay else None,
        python=at.python,
        remote_dir=at.remote_dir,
        device=at.device,
    )


def _deploy(at: At, request: Request) -> dict[str, Any]:
    return deploy(at.target, request, Progress(lambda text: print(f"  {text}", flush=True)))


def _equal(name: str, demo: Demo, outputs: Mapping[str, Any], images: int | None) -> None:
    """Raise DeviceFault unless the outputs are the emulation's, byte for byte."""
    wanted = demo.expected[OUTPUT][:images]
    if outputs[OUTPUT].tobytes() != wanted.tobytes():
        wrong = int(np.count_nonzero(outputs[OUTPUT] != wanted))
        raise DeviceFault(
            f"demo {name}: {wrong} of {wanted.size} outputs differ from the emulation's; the "
            f"outputs are in board/{name}.outputs.npz"
        )


def first_run(at: At, board: Board, overlay: Overlay | None, folder: Path) -> dict[str, Any]:
    """Open a session on the board, which loads the overlay and runs its self-test, and run one
    image.  DeviceFault: the self-test failed, or outputs differ from the emulation's."""
    request = _request(at, board, overlay, folder, "digits", 1)
    result = _deploy(at, request)
    assert request.outputs is not None
    _equal("digits", compiled_demo("digits", board.name), read_arrays(request.outputs), 1)
    ran = result["run"]
    passed = "passed, when the overlay was loaded" if overlay else "none: the emulation has none"
    return {
        "self_test": passed,
        "origin": ran["stats"]["origin"],
        "device": ran["device"],
        "python": result["python"],
        "pynq": result["pynq"],
    }


def run_demo(
    at: At, board: Board, overlay: Overlay | None, folder: Path, name: str
) -> dict[str, Any]:
    """Run a demo's test data on the board.  DeviceFault: outputs differ from the emulation's."""
    request, demo = (
        _request(at, board, overlay, folder, name, None),
        compiled_demo(name, board.name),
    )
    stats = _deploy(at, request)["run"]["stats"]
    assert request.outputs is not None
    outputs = read_arrays(request.outputs)
    _equal(name, demo, outputs, None)
    answers = outputs[OUTPUT][demo.samples.counted].argmax(1)
    return {
        "origin": stats["origin"],
        "outputs": "equal to the emulation's, byte for byte",
        "accuracy": float(np.mean(answers == demo.samples.labels)),
        "images": stats["images"],
        "cycles": stats["cycles"],
        "clock_mhz": stats["clock_mhz"],
        "array_per_s": stats["clock_mhz"] * 1e6 / stats["cycles"],
        "host_seconds": stats["host_seconds"],
        "stats": stats,
    }


def run_power(at: At, board: Board, overlay: Overlay | None, folder: Path) -> Any:
    """Time a demo on the board and read the board's rails, idle and under load."""
    asked = _request(at, board, overlay, folder, "digits", 1)
    request = Request(
        asked.program,
        bench=True,
        power=True,
        overlay=asked.overlay,
        python=at.python,
        remote_dir=at.remote_dir,
        device=at.device,
    )
    return _deploy(at, request)["bench"]
