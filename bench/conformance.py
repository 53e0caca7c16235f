# SPDX-License-Identifier: Apache-2.0
"""Runs the operator cases of the ONNX project through int8 and int16 in emulation.

In: the cases of the installed onnx package: one model each, with inputs and the right outputs.
Out: what passed, was refused (with the reason) and was wrong, as docs/conformance.md.

Judged are the cases with inputs of real numbers whose operators docs/operators.md lists.  Floats
are run-time inputs, anything else is bound as a constant; where that is refused, all inputs but
the first float become constants, as weights, slopes and masks are, and then all but the first
input, as scales of integers are.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import json
import logging
import multiprocessing
import re
import signal
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
from common import REPOSITORY
from neuralmatrix.errors import WAY_OUT
from neuralmatrix.frontend.onnx.control_flow import CONTROL
from neuralmatrix.frontend.onnx.operator_table import HANDLERS, MICROSOFT
from neuralmatrix.quantization.host_part import HOST_ALONE

BARS = {"int8": 20.0, "int16": 35.0}  # dB
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")
SECONDS = 60  # of one case in one precision
SMALL_TYPES = re.compile(r"FLOAT8|FLOAT4|INT4|INT2|e8m0|e4m3|e5m2|float4|int4|int2$")  # of a case
PAGE = REPOSITORY / "docs" / "conformance.md"
LISTED = {"": {*HANDLERS, *CONTROL, "Constant"}, "com.microsoft": {*MICROSOFT}}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """One model of the ONNX project, what it is given and what it should return."""

    name: str
    kind: str
    model: Any
    inputs: Arrays
    outputs: Arrays

    @property
    def floats(self) -> list[str]:
        """The inputs of real numbers; of those, inputs without elements are only shown a type."""
        found = [name for name, array in self.inputs.items() if _is_float(array)]
        return [name for name in found if self.inputs[name].size] or found


@dataclass(frozen=True)
class Verdict:
    """``outcome``: pass, refused, wrong or fault; ``decibels``: of the worst output; ``alone``: the
    host computes all of it, nothing runs on the array."""

    name: str
    kind: str
    precision: str
    outcome: str
    decibels: float | None = None
    reason: str = ""
    seconds: float = 0.0
    alone: bool = False


def _is_float(array: np.ndarray) -> bool:
    return array.dtype.name in ("float16", "bfloat16", "float32", "float64")


# ---------------------------------------------------------------- the cases


def cases(kinds: Iterable[str] = KINDS) -> list[Case]:
    """Return the cases that are judged."""
    from onnx.backend.test import loader

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        tests = [test for kind in kinds for test in loader.load_model_tests(kind=kind)]
    found = (_read(test) for test in tests if test.model is not None or test.model_dir)
    return [case for case in found if case is not None and case.floats]


def _read(test: Any) -> Case | None:
    """Return a case; None where an operator is not listed, or a value is not a tensor."""
    import onnx

    model = test.model or onnx.load(Path(test.model_dir, "model.onnx"))
    if not set(_operators(model.graph)) <= {(d, op) for d, ops in LISTED.items() for op in ops}:
        return None
    given, right = test.data_sets[0] if test.data_sets else _from_folder(Path(test.model_dir))
    try:
        names = ([v.name for v in model.graph.input], [v.name for v in model.graph.output])
        inputs, outputs = (
            {name: _array(value) for name, value in zip(ns, values, strict=False)}
            for ns, values in zip(names, (given, right), strict=True)
        )
    except TypeError:
        return None
    return Case(test.name, test.kind, model, inputs, outputs)


def _operators(graph: Any) -> Iterator[tuple[str, str]]:
    for node in graph.node:
        yield "" if node.domain == "ai.onnx" else node.domain, node.op_type
        for attribute in node.attribute:
            yield from _operators(attribute.g)


def _from_folder(folder: Path) -> tuple[list[Any], list[Any]]:
    import onnx

    def read(what: str) -> list[Any]:
        files = sorted(Path(folder, "test_data_set_0").glob(f"{what}_*.pb"))
        return [onnx.TensorProto.FromString(file.read_bytes()) for file in files]

    return read("input"), read("output")


def _array(value: Any) -> np.ndarray:
    """Return a tensor's values; TypeError for sequences, optionals and text."""
    import onnx

    if isinstance(value, onnx.TensorProto):
        value = onnx.numpy_helper.to_array(value)
    array = np.asarray(value)
    if isinstance(value, list) or array.dtype.kind in "OUS":
        raise TypeError(f"{array.dtype} is no tensor of numbers")
    return array


# ---------------------------------------------------------------- one case


def judge(case: Case, precision: str) -> Verdict:
    """Compile and run one case; the next way of binding is tried where one is refused."""
    first, *others = case.floats
    bindings = [{n: a for n, a in case.inputs.items() if n not in case.floats}]
    if others:
        bindings.append({n: a for n, a in case.inputs.items() if n != first})
    data = next(iter(case.inputs))
    if data not in case.floats:
        bindings.append({n: a for n, a in case.inputs.items() if n != data})
    start, said = time.monotonic(), ""
    for constants in bindings:
        try:
            worst, alone = _decibels(case, constants, precision)
        except nm.NeuralMatrixError as error:
            said = said or f"{type(error).__name__}: {' '.join(str(error).split())}"
            continue
        outcome = "pass" if worst >= BARS[precision] else "wrong"
        return _verdict(case, precision, outcome, start, decibels=round(worst, 1), alone=alone)
    return _verdict(case, precision, "refused", start, reason=said)


def _verdict(case: Case, precision: str, outcome: str, start: float, **more: Any) -> Verdict:
    seconds = round(time.monotonic() - start, 2)
    return Verdict(case.name, case.kind, precision, outcome, seconds=seconds, **more)


def _decibels(case: Case, constants: Arrays, precision: str) -> tuple[float, bool]:
    """Return the signal to noise of the worst output, and whether the host computes all."""
    feed = {name: a for name, a in case.inputs.items() if name not in constants}
    feed = {name: a.astype(np.float32) if _is_float(a) else a for name, a in feed.items()}
    shapes = {name: a.shape for name, a in feed.items() if a.size}
    program = nm.compile(
        case.model, calibration=[feed], precision=precision, constants=constants, shapes=shapes
    )
    found = nm.Session(program).run(feed)
    worst = min(_signal_to_noise(right, found[name]) for name, right in case.outputs.items())
    alone = HOST_ALONE in program.notes
    if alone and not all(_same_infinities(y, found[name]) for name, y in case.outputs.items()):
        worst = -150.0
    return worst, alone


def _same_infinities(right: np.ndarray, found: np.ndarray) -> bool:
    """Return whether what is not finite, which the host alone may compute, is the same."""
    bad = ~np.isfinite(right.astype(np.float64))
    return np.array_equal(right[bad], np.reshape(found, right.shape)[bad], equal_nan=True)


def _signal_to_noise(right: np.ndarray, found: np.ndarray) -> float:
    if np.prod(right.shape) != found.size:
        return -150.0
    right, found = right.astype(np.float64), found.astype(np.float64).reshape(right.shape)
    finite = np.isfinite(right)  # of infinity and NaN there is no nearest integer
    noise = float(np.square(right[finite] - found[finite]).sum())
    signal = float(np.square(right[finite]).sum())
    return 150.0 if noise == 0 else float(10 * np.log10(max(signal, 1e-300) / noise))


# ---------------------------------------------------------------- all cases


def _child(end: Connection, case: Case, precision: str) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        verdict = judge(case, precision)
    except Exception as error:  # a fault of the compiler is one more outcome to count
        text = f"{type(error).__name__}: {error}"
        verdict = _verdict(case, precision, "fault", time.monotonic(), reason=text)
    end.send(verdict)


def _warm() -> None:
    """Run a small network here, so that no child has to import and load what it needs."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy")
    graph = helper.make_graph([helper.make_node("Tanh", ["x"], ["y"])], "warm", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feed = np.linspace(-1, 1, 4, dtype=np.float32)[None]
    _decibels(Case("warm", "", model, {"x": feed}, {"y": np.tanh(feed)}), {}, "int8")


def run_all(jobs: Iterable[tuple[Case, str]], workers: int, seconds: int) -> Iterator[Verdict]:
    """Judge every case in a process of its own, so that none can stop or slow another."""
    context = multiprocessing.get_context("fork")
    _warm()
    waiting, running = deque(jobs), {}
    while waiting or running:
        while waiting and len(running) < workers:
            ours, theirs = context.Pipe(duplex=False)
            job = waiting.popleft()
            child = context.Process(target=_child, args=(theirs, *job))
            child.start()
            theirs.close()
            running[ours] = (child, job, time.monotonic())
        for end in wait(list(running), timeout=1):
            child, job, start = running.pop(end)
            yield _received(end, job, start)
            child.join()
        for child, _, start in running.values():
            if time.monotonic() - start > seconds:
                os.kill(child.pid, signal.SIGKILL)


def _received(end: Any, job: tuple[Case, str], start: float) -> Verdict:
    try:
        verdict: Verdict = end.recv()
    except EOFError:
        return _verdict(*job, "fault", start, reason="ended without an answer, or ran too long")
    return verdict


# ---------------------------------------------------------------- the page


def _short(reason: str) -> str:
    """Return a refusal without names and numbers of the case at hand."""
    head = reason.split(" cannot run on the array: ")[-1].split(WAY_OUT[:20])[0].strip()
    for sign in "'\"":
        head = sign.join(part if i % 2 == 0 else "..." for i, part in enumerate(head.split(sign)))
    return re.sub(r"\d+", "n", head.split(": ", 1)[-1]).replace("|", "/")[:160]


def _beside_small_types(verdicts: Sequence[Verdict]) -> str:
    """Return how many cases are of types that no program has, and the share of the others that
    pass."""
    small = {v.name for v in verdicts if SMALL_TYPES.search(v.name)}
    shares = []
    for precision in BARS:
        others = [v for v in verdicts if v.precision == precision and v.name not in small]
        passed = sum(v.outcome == "pass" for v in others)
        shares.append(f"{100 * passed / max(len(others), 1):.1f} % at {precision}")
    return (
        f"{len(small)} of the cases are of floats of 4 and 8 bits or integers of 2 and 4.\n"
        f"Of the others pass {' and '.join(shares)}."
    )


def page(verdicts: Sequence[Verdict]) -> str:
    """Return docs/conformance.md."""
    import onnx

    count = Counter((v.kind, v.precision, v.outcome) for v in verdicts)
    alone = Counter((v.kind, v.precision) for v in verdicts if v.outcome == "pass" and v.alone)
    lines = [
        "# Conformance",
        "",
        "`make conformance` runs the operator cases of the ONNX project (the package onnx "
        f"{onnx.__version__}) in",
        "emulation and writes this page. Judged are the cases with inputs of real numbers whose",
        "operators [operators](operators.md) lists, by their own outputs: int8 passes from "
        f"{BARS['int8']:.0f} dB on, int16 from",
        f"{BARS['int16']:.0f} dB. All counts are emulated.",
        "",
        "Cases that pass by the host alone leave nothing for the array: constants, shapes,",
        "comparisons of inputs.",
        "",
        "| cases | precision | all | pass | of these by the host alone | refused | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for precision in BARS:
            pick: Callable[[str], int] = lambda o, k=kind, p=precision: count[k, p, o]  # noqa: E731
            passed, refused, wrong = pick("pass"), pick("refused"), pick("wrong") + pick("fault")
            numbers = (passed + refused + wrong, passed, alone[kind, precision], refused, wrong)
            cells = " | ".join(f"{n:,}" for n in numbers)
            lines.append(f"| {kind} | {precision} | {cells} |")
    lines += ["", _beside_small_types(verdicts)]
    lines += ["", "## Refused, and why", "", "| cases | reason |", "|---|---|"]
    reasons = {(v.name, _short(v.reason)) for v in verdicts if v.outcome == "refused"}
    numbers = Counter(reason for _, reason in reasons)
    for reason, number in sorted(numbers.items(), key=lambda pair: (-pair[1], pair[0])):
        lines.append(f"| {number} | {reason} |")
    wrong = [v for v in verdicts if v.outcome in ("wrong", "fault")]
    if wrong:
        lines += ["", "## Wrong", "", "| case | precision | what |", "|---|---|---|"]
        lines += [
            f"| {v.name} | {v.precision} | {v.reason[:160] or f'{v.decibels} dB'} |" for v in wrong
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="run only cases whose names hold one of these")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seconds", type=int, default=SECONDS, help="most time of one case")
    parser.add_argument("--precision", choices=tuple(BARS), help="run only this one")
    parser.add_argument("--json", type=Path, help="write every verdict to this file")
    options = parser.parse_args()
    wanted = [c for c in cases() if not options.only or any(o in c.name for o in options.only)]
    precisions = [options.precision] if options.precision else list(BARS)
    jobs = [(case, precision) for case in wanted for precision in precisions]
    verdicts = []
    for v in run_all(jobs, options.jobs, options.seconds):
        print(
            f"{v.outcome:8} {v.name} {v.precision} {v.decibels or ''} {v.reason[:300]}", flush=True
        )
        verdicts.append(v)
    verdicts.sort(key=lambda v: v.name)
    if options.json:
        options.json.write_text(json.dumps([asdict(v) for v in verdicts], indent=0))
    if not options.only and not options.precision:
        PAGE.write_text(page(verdicts))
    counts = Counter((v.precision, v.outcome) for v in verdicts)
    print(*(f"{p} {outcome}: {n}" for (p, outcome), n in sorted(counts.items())), sep="\n")
    sys.exit(any(v.outcome in ("wrong", "fault") for v in verdicts))


if __name__ == "__main__":
    main()
