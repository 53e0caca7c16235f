# SPDX-License-Identifier: Apache-2.0
"""Networks of others, as their users would judge them: float by onnxruntime against the program.

In: packages of ``networks/requirements.txt``; names of networks, precisions.  Out: a table, how
often the compiler warned rightly, and with --json all of it for each network and precision.
A network whose package is missing is left out; an error of one does not end the run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import traceback
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common import BOARD, verdict
from networks import NETWORKS
from networks.base import Feed, Loaded, Missing, Network, Run, float_run


@dataclass(frozen=True)
class Result:
    """One network at one precision; percentages are of its own metric."""

    name: str
    precision: str
    package: str
    licence: str
    judged: str
    decisions: int = 0
    float_percent: float | None = None
    percent: float | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    compile_s: float = 0.0
    evaluate_s: float = 0.0
    refusal: str = ""

    @property
    def loss(self) -> float | None:
        """The loss in points; below 0 where the program is better."""
        if self.float_percent is None or self.percent is None:
            return None
        return self.float_percent - self.percent

    @property
    def verdict(self) -> str:
        """Whether the warning, or its absence, was right."""
        if self.loss is None or self.float_percent is None:
            return ""
        return verdict(self.float_percent, self.loss, bool(self.warnings))


def measured(network: Network, precision: str, evaluated: dict[str, Any]) -> Result:
    """Compile one network and evaluate it; ``evaluated`` keeps what all precisions share."""
    package = f"{network.package} {network.version}" if network.package else "this repository"
    result = Result(network.name, precision, package, network.licence, network.judged)
    if not evaluated:
        loaded = network.load()
        reference = float_run(loaded)
        score = network.evaluate(reference, reference)
        evaluated.update(loaded=loaded, reference=reference, score=score,
                         feeds=network.calibration())  # fmt: skip
    score = evaluated["score"]
    result = replace(result, float_percent=score.percent, decisions=score.count)
    began = time.monotonic()
    try:
        program = compiled(evaluated["loaded"], evaluated["feeds"], precision)
        result = replace(result, compile_s=time.monotonic() - began, notes=tuple(program.notes),
                         warnings=warnings_of(program))  # fmt: skip
        began = time.monotonic()
        found = network.evaluate(emulated(program), evaluated["reference"])
    except Exception as error:  # of one network, which must not end the run
        return replace(result, refusal=f"{type(error).__name__}: {' '.join(str(error).split())}")
    return replace(result, percent=found.percent, evaluate_s=time.monotonic() - began)


def compiled(loaded: Loaded, feeds: list[Feed], precision: str) -> Any:
    """Compile with the default settings."""
    import neuralmatrix as nm

    return nm.compile(
        loaded.model, board=BOARD, calibration=feeds, precision=precision,
        shapes=dict(loaded.shapes), constants=dict(loaded.constants) or None,
    )  # fmt: skip


def emulated(program: Any) -> Run:
    """Return the program in emulation; N inputs in one feed run in parallel."""
    import neuralmatrix as nm

    return nm.Session(program).run


def warnings_of(program: Any) -> tuple[str, ...]:
    """Return what the compile says about a loss of accuracy."""
    found = getattr(getattr(program, "accuracy", None), "warnings", ())
    return tuple(str(warning) for warning in found)


def line(result: Result) -> str:
    """Return the row of the table."""
    if result.loss is None:
        return f"{result.name:22} {result.precision:6} {result.refusal[:110]}"
    warned = "yes" if result.warnings else "no"
    seconds = f"{result.compile_s:5.0f} {result.evaluate_s:5.0f}"
    return (
        f"{result.name:22} {result.precision:6} {result.float_percent:7.2f} {result.percent:7.2f} "
        f"{result.loss:7.2f} {result.decisions:6} {warned:>6} {seconds}  {result.verdict}"
    )


HEAD = (f"{'network':22} {'acts':6} {'float %':>7} {'array %':>7} {'loss':>7} {'of':>6} "
        f"{'warned':>6} {'comp.':>5} {'eval.':>5} s")  # fmt: skip


def summary(results: list[Result]) -> str:
    """Return how many were judged, and how often the compiler's word was wrong."""
    judged = [r for r in results if r.loss is not None]
    counts = {v: sum(r.verdict == v for r in judged) for v in ("false comfort", "false alarm")}
    refused = len(results) - len(judged)
    return (
        f"{len(judged)} judged, {refused} refused; "
        f"{counts['false comfort']} false comfort, {counts['false alarm']} false alarm"
    )


def run_all(names: list[str], precisions: list[str]) -> list[Result]:
    """Measure the networks one by one, printing each as it is known."""
    results = []
    for name in names:
        evaluated: dict[str, Any] = {}
        for precision in precisions:
            try:
                results.append(measured(NETWORKS[name], precision, evaluated))
            except Missing as reason:
                print(f"{name:22} left out: {reason}", flush=True)
                break
            except Exception:  # of the package, or of its inputs
                traceback.print_exc(limit=-4)
                break
            print(line(results[-1]), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS),
                        metavar="NAME", help=", ".join(NETWORKS))  # fmt: skip
    parser.add_argument("--precision", nargs="+", default=["int8"],
                        choices=["int8", "int16", "mixed"])  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all results to this file")
    options = parser.parse_args()
    print(HEAD, flush=True)
    results = run_all(options.networks, options.precision)
    print(summary(results))
    if options.json:
        text = [{**asdict(r), "loss": r.loss, "verdict": r.verdict} for r in results]
        options.json.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
