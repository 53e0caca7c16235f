# SPDX-License-Identifier: Apache-2.0
"""How often a compile's word about its accuracy is wrong: small tasks, trained here.

In: torch, scikit-learn, the data folder; names of tasks, precisions.  Out: a table with each task's
own metric on new data, float by onnxruntime against the emulated array, and the counts of false
comfort and false alarm: of the warnings of a compile that knows no metric, and of those of one that
is given the task's, as ``metric=`` would be, on half of the new inputs; the rest judges it.
With --keep DIR trained networks are kept there and read again.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import BOARD, verdict
from networks.base import Feed, Loaded, Run, float_run
from tasks import TASKS
from tasks.base import Task, Trained


@dataclass(frozen=True)
class Result:
    """One task at one precision.  ``off``: the largest error of an output on new data, in percent
    of how far its float values vary; ``told``: of their size, as the compile measured it.
    ``warnings``: of the compile; ``at_run``: of inputs beyond the range of calibration.
    ``halves``: float score and score on half of the new inputs, and on the rest."""

    name: str
    kind: str
    precision: str
    unit: str
    float_score: float
    score: float
    off: float
    told: float
    output_kinds: tuple[str, ...]
    warnings: tuple[str, ...]
    at_run: tuple[str, ...]
    halves: tuple[tuple[float, float], tuple[float, float]]
    compile_s: float

    @property
    def loss(self) -> float:
        """The loss in points or dB; below 0 where the program is better."""
        return self.float_score - self.score

    @property
    def warned(self) -> bool:
        """Whether the compile or a run warned."""
        return bool(self.warnings or self.at_run)

    @property
    def verdict(self) -> str:
        """Whether the warning, or its absence, was right."""
        return verdict(self.float_score, self.loss, self.warned)

    @property
    def metric_warns(self) -> bool:
        """Whether a compile warns that is given the metric on half of the new inputs."""
        from neuralmatrix.ir.accuracy import MetricLoss
        from neuralmatrix.quantization.loss_warnings import metric_warnings

        return bool(metric_warnings(MetricLoss(self.name, *self.halves[0]), ()))

    @property
    def metric_verdict(self) -> str:
        """Whether that was right, on the rest."""
        in_float, score = self.halves[1]
        return verdict(in_float, in_float - score, self.metric_warns)


def measured(task: Task, made: Trained, precision: str) -> Result:
    """Compile one task's network with the default settings and judge it on new data."""
    import neuralmatrix as nm

    in_float = float_run(Loaded(made.model))
    noted = _Noted(in_float)
    float_score = task.score(noted, made)
    began = time.monotonic()
    program = nm.compile(made.model, board=BOARD, calibration=[made.calibration],
                         precision=precision)  # fmt: skip
    took = time.monotonic() - began
    run = nm.Session(program).run
    found = program.accuracy
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("once", nm.InputsSaturated)
        score = task.score(run, made)
    return Result(
        task.name, task.kind, precision, task.unit, float_score, score, noted.error(run),
        100 * max(out.worst for out in found.outputs), tuple(out.kind for out in found.outputs),
        found.warnings, tuple(str(one.message) for one in caught[:1]),
        halves(task, made, in_float, run), took,
    )  # fmt: skip


def halves(
    task: Task, made: Trained, in_float: Run, run: Run
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return both scores on half of the new inputs, drawn at random, and on the rest; on all of
    them twice where they belong together, as the nodes of a graph."""
    count = len(made.truth)
    order = np.random.default_rng(0).permutation(count)
    parts = [np.sort(order[: count // 2]), np.sort(order[count // 2 :])]
    if any(len(x) != count for x in made.test.values()):
        parts = [np.arange(count)] * 2
    scores = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for some in parts:
            test = {name: x if len(x) != count else x[some] for name, x in made.test.items()}
            one = replace(made, test=test, truth=made.truth[some])
            scores.append((task.score(in_float, one), task.score(run, one)))
    return scores[0], scores[1]


class _Noted:
    """A run that keeps what it was given and what it answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._calls: list[tuple[Feed, dict[str, Any]]] = []

    def __call__(self, feed: Feed) -> dict[str, Any]:
        self._calls.append((feed, self._run(feed)))
        return self._calls[-1][1]

    def error(self, other: Run) -> float:
        """Return the largest error of an output of ``other`` on the same inputs, in percent of the
        spread of the right values around the mean of each element."""
        found = [other(feed) for feed, _ in self._calls]
        worst = 0.0
        for name in self._calls[0][1]:
            right = np.concatenate([answer[name] for _, answer in self._calls]).astype(np.float64)
            y = np.concatenate([f[name] for f in found]).reshape(right.shape)
            spread = np.sqrt(np.mean(right.var(0)))
            worst = max(worst, float(np.sqrt(np.mean((y - right) ** 2)) / max(spread, 1e-30)))
        return 100 * worst


# ---------------------------------------------------------------- trained networks


def trained(task: Task, keep: Path | None) -> Trained:
    """Train a task's network, or read it from the folder."""
    if keep is None:
        return task.make()
    file = keep / f"{task.name.replace(' ', '-').replace('%', '')}.npz"
    if not file.exists():
        keep.mkdir(parents=True, exist_ok=True)
        _write(file, task.make())
    return _read(file)


def _write(file: Path, made: Trained) -> None:
    arrays = {f"calibration/{n}": x for n, x in made.calibration.items()}
    arrays |= {f"test/{n}": x for n, x in made.test.items()}
    model = np.frombuffer(made.model.SerializeToString(), np.uint8)
    np.savez(file, model=model, truth=made.truth, **arrays)


def _read(file: Path) -> Trained:
    import onnx

    arrays = np.load(file)
    feeds: dict[str, Feed] = {
        part: {n.split("/")[1]: arrays[n] for n in arrays.files if n.startswith(part + "/")}
        for part in ("calibration", "test")
    }
    model = onnx.load_from_string(arrays["model"].tobytes())
    return Trained(model, feeds["calibration"], feeds["test"], arrays["truth"])


# ---------------------------------------------------------------- the table

HEAD = (
    f"{'task':30} {'acts':6} {'':4} {'float':>7} {'array':>7} {'loss':>7} {'off %':>6} "
    f"{'told %':>6} {'warned':>6} {'s':>4}  {'verdict':14} by its metric"
)


def line(r: Result) -> str:
    """Return the row of one result."""
    warned = "yes" if r.warnings else "run" if r.at_run else ""
    return (
        f"{r.name:30} {r.precision:6} {r.unit:4} {r.float_score:7.2f} {r.score:7.2f} {r.loss:7.2f} "
        f"{r.off:6.2f} {r.told:6.2f} {warned:>6} {r.compile_s:4.0f}  "
        f"{r.verdict:14} {'warned ' if r.metric_warns else ''}{r.metric_verdict:14} "
        f"{', '.join(r.output_kinds)}"
    )


def summary(results: list[Result], precision: str) -> str:
    """Return the counts at one precision."""
    those = [r for r in results if r.precision == precision]
    told = {
        "": [(r.warned, r.verdict) for r in those],
        ", given the metric": [(r.metric_warns, r.metric_verdict) for r in those],
    }
    return "\n".join(
        f"{precision}{what}: {len(those)} judged, {sum(warned for warned, _ in found)} warned; "
        + ", ".join(f"{sum(v == wrong for _, v in found)} {wrong}"
                    for wrong in ("false comfort", "false alarm"))
        for what, found in told.items()
    )  # fmt: skip


def run_all(names: list[str], precisions: list[str], keep: Path | None) -> list[Result]:
    """Judge the tasks one by one, printing each as it is known."""
    results = []
    for name in names:
        try:
            made = trained(TASKS[name], keep)
            for precision in precisions:
                results.append(measured(TASKS[name], made, precision))
                print(line(results[-1]), flush=True)
        except Exception:  # of one task, which must not end the run
            print(f"{name}:", flush=True)
            traceback.print_exc(limit=-4)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS),
                        metavar="TASK", help="; ".join(TASKS).replace("%", "%%"))  # fmt: skip
    parser.add_argument("--precision", nargs="+", default=["int8"],
                        choices=["int8", "int16", "mixed"])  # fmt: skip
    parser.add_argument("--keep", type=Path, help="folder of trained networks")
    parser.add_argument("--json", type=Path, help="write all results to this file")
    options = parser.parse_args()
    print(HEAD, flush=True)
    results = run_all(options.tasks, options.precision, options.keep)
    for precision in options.precision:
        print(summary(results, precision))
    if options.json:
        text = [{**asdict(r), "loss": r.loss, "verdict": r.verdict} for r in results]
        options.json.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
