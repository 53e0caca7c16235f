# SPDX-License-Identifier: Apache-2.0
"""Networks of others, as their users would judge them: float by onnxruntime against the program.

In: packages of ``networks/requirements.txt``; names of networks, precisions.  Out: a table, how
often the compiler warned rightly, with --json all of it for each network and precision.  A run in
slices is put together by --read of their JSON, and --markdown prints the table of a page.
A network whose package is missing is left out; an error of one does not end the run.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import BOARD
from networks import NETWORKS, results
from networks.base import Feed, Loaded, Missing, Network, Run, float_run
from networks.results import HEAD, Result, line


def measured(network: Network, precision: str, evaluated: dict[str, Any]) -> Result:
    """Compile one network and evaluate it; ``evaluated`` keeps what all precisions share."""
    package = f"{network.package} {network.version}" if network.package else "this repository"
    result = Result(network.name, precision, package, network.licence, network.judged,
                    reads=network.reads)  # fmt: skip
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
        result = replace(result, compile_s=time.monotonic() - began, **said(program))
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


def said(program: Any) -> dict[str, tuple[str, ...]]:
    """Return what the compile says: warnings of lost accuracy, what it measured, notes."""
    accuracy = program.accuracy
    return {
        "warnings": tuple(map(str, accuracy.warnings)) if accuracy else (),
        "accuracy": tuple(accuracy.to_lines()) if accuracy else (),
        "notes": tuple(program.notes),
    }


def run_all(names: list[str], precisions: list[str], file: Path | None) -> list[Result]:
    """Measure the networks one by one; each is printed, and ``file`` written, as it is known."""
    found: list[Result] = []
    for name in names:
        evaluated: dict[str, Any] = {}
        for precision in precisions:
            try:
                found.append(measured(NETWORKS[name], precision, evaluated))
            except Missing as reason:
                print(f"{name:22} left out: {reason}", flush=True)
                break
            except Exception:  # of the package, or of its inputs
                traceback.print_exc(limit=-4)
                break
            print(line(found[-1]), flush=True)
            if file:
                results.write(found, file)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS),
                        metavar="NAME", help=", ".join(NETWORKS))  # fmt: skip
    parser.add_argument("--precision", nargs="+", default=["int8"],
                        choices=["int8", "int16", "mixed"])  # fmt: skip
    parser.add_argument("--json", type=Path, help="write all results to this file")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table at the end")
    parser.add_argument("--read", nargs="+", type=Path, metavar="JSON",
                        help="print the tables of earlier runs' results; run nothing")  # fmt: skip
    options = parser.parse_args()
    print(HEAD, flush=True)
    if options.read:
        found = results.read(options.read)
        print("\n".join(line(result) for result in found))
    else:
        found = run_all(options.networks, options.precision, options.json)
    print(results.summary(found))
    if options.markdown:
        print(results.markdown(found))


if __name__ == "__main__":
    sys.exit(main())
