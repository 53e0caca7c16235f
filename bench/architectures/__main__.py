# SPDX-License-Identifier: Apache-2.0
"""Compiles small networks of other packages, exported both ways, and compares with onnxruntime.

In: packages (timm, torchvision, transformers, torch_geometric, torch).  Out: a table, counts;
with --markdown the page docs/architectures.md.  Each network and export runs in a process of its
own, with a limit of time and memory; --json keeps results, and what it holds is not run again.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
BOARD = "pynq-z2"
REPOSITORY = Path(__file__).resolve().parents[2]
EXPORTS = {"torch.export": (18, 20, 21, 23), "legacy": (11, 13, 14, 15, 17)}
LEAST_DB = {"int8": 20.0, "int16": 35.0}
CALIBRATION, FRESH = 16, 4
PLAIN: dict[str, Any] = {"method": "mse", "refine": False}  # measured, without a search: in seconds
SECONDS, GIGABYTES = 600, 8
GOOD = ("right", "warned")
COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # of torch's messages


# ---------------------------------------------------------------- one network, in its own process


def one(name: str, export: str) -> dict[str, Any]:
    """Return what became of a network: of the export, and of each precision."""
    from .registry import ARCHITECTURES

    architecture = ARCHITECTURES[name]
    opsets = EXPORTS[export]
    first = sorted(ARCHITECTURES).index(name) % len(opsets)
    found: dict[str, Any] = {"name": name, "package": architecture.package, "export": export}
    try:
        feeds = list(architecture.feeds(CALIBRATION, 1))
        module = architecture.module()
    except Exception as error:  # whatever a package raises is its own
        return {**found, "opset": opsets[first], "not exported": reason_of(error)}
    for opset in opsets[first:]:  # an operator may be younger than the opset
        try:
            model = exported(module, feeds[0], export, opset)
            break
        except Exception as error:  # and what an exporter raises is its own
            failed = {**found, "opset": opset, "not exported": reason_of(error)}
    else:
        return failed
    found["opset"] = opset
    fresh = list(architecture.feeds(FRESH, 2))
    try:
        expected = reference(model, fresh)
    except Exception as error:  # a file that onnxruntime refuses is none
        return {**found, "not exported": reason_of(error)}
    return {
        **found,
        **{precision: judged(model, feeds, fresh, expected, precision) for precision in LEAST_DB},
    }


def exported(module: Any, feed: dict[str, Array], export: str, opset: int) -> bytes:
    """Return the ONNX file that torch's exporter writes."""
    import torch

    from .base import tensors

    into = io.BytesIO()
    options: dict[str, Any] = {"input_names": list(feed), "opset_version": opset}
    arguments = tensors(feed)
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if export == "legacy":
            torch.onnx.export(module, arguments, into, dynamo=False, **options)
            return into.getvalue()
        program = torch.onnx.export(module, arguments, dynamo=True, verbose=False, **options)
        return bytes(program.model_proto.SerializeToString())


def reference(model: bytes, feeds: Iterable[dict[str, Array]]) -> list[dict[str, Array]]:
    """Return onnxruntime's outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    taken = {value.name for value in session.get_inputs()}
    return [
        dict(
            zip(
                names,
                session.run(names, {k: v for k, v in feed.items() if k in taken}),
                strict=True,
            )
        )
        for feed in feeds
    ]


def judged(
    model: bytes, feeds: list[dict[str, Array]], fresh: list[dict[str, Array]],
    expected: list[dict[str, Array]], precision: str,
) -> dict[str, Any]:  # fmt: skip
    """Compile, run on inputs that did not calibrate, and return the verdict with its reason."""
    import neuralmatrix as nm
    from neuralmatrix.errors import BadProgram, CompilerFault, NeuralMatrixError
    from neuralmatrix.runtime.session import Session

    try:
        import onnx

        taken = {value.name for value in onnx.load_from_string(model).graph.input}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            given = [{k: v for k, v in feed.items() if k in taken} for feed in feeds]
            program = nm.compile(model, board=BOARD, calibration=given, precision=precision,
                                 **PLAIN)  # fmt: skip
            session = Session(program, threads=1)
            outputs = [session.run({k: v for k, v in feed.items() if k in taken}) for feed in fresh]
    except (BadProgram, CompilerFault) as error:  # of the compiler's own making
        return {"verdict": "fault", "why": first_line(error)}
    except NeuralMatrixError as error:
        return {"verdict": "refused", "why": reason_of(error)}
    except Exception as error:  # an error of another kind is a fault
        return {"verdict": "fault", "why": reason_of(error)}
    worst = min(snr([e[n] for e in expected], [o[n] for o in outputs]) for n in expected[0])
    warned = bool(program.accuracy and program.accuracy.warnings)
    verdict = "right" if worst >= LEAST_DB[precision] else "warned" if warned else "wrong"
    return {"verdict": verdict, "dB": round(worst, 1), "cycles": int(program.estimate().cycles)}


def snr(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Return the signal-to-noise ratio of all inputs together, in dB."""
    wanted = np.stack([np.asarray(array, np.float64) for array in expected])
    given = np.stack([np.asarray(array, np.float64).reshape(wanted.shape[1:]) for array in found])
    noise, signal = np.sum((given - wanted) ** 2), np.sum(wanted**2)
    if noise == 0:
        return 200.0
    return float(10 * np.log10(max(signal, 1e-300) / noise))


def reason_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return the beginning of a message; a list of refusals goes on with its first entry."""
    lines = COLOURS.sub("", str(error)).strip().splitlines() or [""]
    return " ".join(line.strip() for line in lines[: 1 + lines[0].endswith(":")])[:300]


# ---------------------------------------------------------------- all of them


def apart(name: str, export: str) -> dict[str, Any]:
    """Return the result of ``one`` in a process of its own."""
    command = [sys.executable, "-m", "bench.architectures", "--one", name, export]
    bare = {"name": name, "export": export}
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS,
                             cwd=REPOSITORY)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {**bare, "fault": f"no end within {SECONDS} s"}
    lines = ran.stdout.strip().splitlines()
    if ran.returncode or not lines:
        return {
            **bare,
            "fault": first_line(RuntimeError((ran.stderr.strip().splitlines() or [""])[-1])),
        }
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def run_all(
    names: Sequence[str], exports: Sequence[str], kept: Path | None, jobs: int
) -> list[dict[str, Any]]:
    """Run what ``kept`` does not hold yet, and return all results."""
    results = (
        [json.loads(line) for line in kept.read_text().splitlines()]
        if kept and kept.exists()
        else []
    )
    done = {(result["name"], result["export"]) for result in results}
    todo = [(name, export) for name in names for export in exports if (name, export) not in done]
    with ThreadPoolExecutor(jobs) as pool:
        for result in pool.map(lambda pair: apart(*pair), todo):
            results.append(result)
            print(line_of(result), file=sys.stderr, flush=True)
            if kept:
                with kept.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    return results


def line_of(result: dict[str, Any]) -> str:
    """Return one line of text for a result."""
    reason = result.get("fault") or result.get("not exported")
    texts = [f"{p} {cell(result[p])}" for p in LEAST_DB if p in result]
    whys = [result[p]["why"] for p in LEAST_DB if "why" in result.get(p, {})]
    return f"{result['name']:34} {result['export']:12} {reason or '  '.join(texts + whys[:1])}"


def cell(found: dict[str, Any]) -> str:
    return f"{found['verdict']} {found['dB']} dB" if "dB" in found else str(found["verdict"])


def counts(results: Sequence[dict[str, Any]], listed: int = 0) -> str:
    """Return how many networks have each verdict; ``listed``: how many there are to run."""
    exported_ones = [r for r in results if "not exported" not in r]
    found = len({r["name"] for r in results})
    several = f"{found} networks" + (f" of {listed}" if listed > found else "")
    lines = [f"{several}, {len(results)} exports asked for, "
             f"{len(exported_ones)} made by torch"]  # fmt: skip
    for precision in LEAST_DB:
        verdicts = Counter(r.get(precision, {}).get("verdict", "fault") for r in exported_ones)
        total = sum(verdicts.values())
        good = sum(verdicts[verdict] for verdict in GOOD)
        parts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        share = 100 * good / max(total, 1)
        lines.append(f"{precision}: {share:.1f} % compile and are right or warned ({parts})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", help="networks, or beginnings of names (default: all)")
    parser.add_argument("--exports", nargs="+", choices=tuple(EXPORTS), default=list(EXPORTS))
    parser.add_argument("--json", type=Path, help="file of results, one line each; continued")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--markdown", action="store_true", help="print the page of docs/")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "EXPORT"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        limit = GIGABYTES << 30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        print(json.dumps(one(*given.one)))
        return
    from .page import markdown
    from .registry import ARCHITECTURES

    names = [n for n in ARCHITECTURES if not given.names or n.startswith(tuple(given.names))]
    results = run_all(names, given.exports, given.json, given.jobs)
    text = counts(results, len(ARCHITECTURES))
    print(markdown(results, text) if given.markdown else text)


if __name__ == "__main__":
    main()
