# SPDX-License-Identifier: Apache-2.0
"""Runs a program on this machine: ``python -m neuralmatrix.deploy.board_run JOB``.

In: a job as JSON.  Out: outputs in a file; progress, results and errors as marked lines.
Needs numpy, and pynq where the device is the board.
"""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import NeuralMatrixError
from ..files import read_arrays, write_arrays
from ..jsonform import to_json
from ..measure.bench import Options, bench_program
from ..measure.power_run import PowerOptions
from ..program.program import Program, load
from ..runtime.saturation import without_warnings
from ..runtime.session import Session
from .board_receive import say

LAST_LINES = 12  # last characters of a traceback


@dataclass(frozen=True)
class Job:
    """Paths on the machine that runs it; ``inputs`` and ``outputs`` come together."""

    program: str
    device: str
    overlay: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    bench: bool = False
    power: bool = False

    def to_text(self) -> str:
        """Return the job as text for the command line."""
        return json.dumps(asdict(self))


def _run(job: Job, program: Program) -> dict[str, Any]:
    assert job.inputs is not None and job.outputs is not None
    feeds = read_arrays(Path(job.inputs))
    with Session(program, job.device, overlay=job.overlay) as session:
        with without_warnings():
            outputs = session.run(feeds, lambda done, total: say(done=done, total=total))
        assert session.stats is not None
        info, stats, notes = dict(session.device_info), to_json(session.stats), session.stats.notes
    write_arrays(Path(job.outputs), outputs)
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    return {"shapes": shapes, "device": to_json(info), "stats": stats, "notes": notes}


def _bench(job: Job, program: Program) -> dict[str, Any]:
    options = Options(power=PowerOptions() if job.power else None)
    return bench_program(program, job.device, options, overlay=job.overlay)


def execute(job: Job) -> dict[str, Any]:
    """Load, run and bench as the job requests."""
    program = load(Path(job.program))
    results: dict[str, Any] = {}
    if job.inputs:
        results["run"] = _run(job, program)
    if job.bench:
        results["bench"] = _bench(job, program)
    return results


def main(text: str) -> int:
    """Do one job; every error becomes one line."""
    try:
        results = execute(Job(**json.loads(text)))
    except BrokenPipeError:  # the session is closed, nothing reads these lines
        return 1
    except NeuralMatrixError as error:
        say(error=type(error).__name__, text=str(error))
        return 1
    except Exception:
        lines = traceback.format_exc().splitlines()
        say(error="", text="\n".join(lines[-LAST_LINES:]))
        return 1
    say(results=results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
