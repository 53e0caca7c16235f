# SPDX-License-Identifier: Apache-2.0
"""One network compiled in many ways: for boards, precisions and allowed losses.

In: a model, calibration inputs, points; a data set if there is one.  Out: a ``Row`` per point.
Rows can be kept in a file as they come, and what is there is not done again.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .._version import __version__
from ..compiler import compile_model
from ..errors import (
    AccuracyWarning,
    BadInput,
    DoesNotFit,
    UnsupportedModel,
    WrongOverlay,
)
from ..files import Array, write_whole
from ..frontend.onnx.load import read, require_onnx
from ..ir.accuracy import Accuracy
from ..jsonform import FormError, from_json, to_json
from ..program.program import Program
from .data_sets import Evaluation, evaluate
from .workers import HERE, Feeds, Workers

REFUSALS = (DoesNotFit, UnsupportedModel, WrongOverlay)  # of a point, not of the sweep
LONGEST_S = 86400.0  # a search that a clock ends would find other numbers on a slower machine
PRECISIONS = ("int8", "mixed", "int16")

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Point:
    """One way to compile; ``max_loss`` of mixed precision (None: the compiler's own)."""

    board: str
    precision: str
    max_loss: float | None = None


@dataclass(frozen=True)
class Row:
    """What a point gives.

    ``frames_per_s``, ``latency_ms``, ``utilization``, ``dram_bytes``: estimated, at the board's
    clock.  ``relative_error`` of the worst output, ``same_answers`` (share of 1; None: it has none)
    of ``held_back`` inputs: emulated, beside the float model.  ``score``: the metric over the data
    set, ``sums`` behind it.  ``refused``: why there is no program, empty where there is one.
    """

    point: Point
    refused: str = ""
    frames_per_s: float | None = None
    latency_ms: float | None = None
    utilization: float | None = None
    dram_bytes: int | None = None
    relative_error: float | None = None
    same_answers: float | None = None
    held_back: int = 0
    score: float | None = None
    unit: str = ""
    sums: tuple[float, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """Inputs, what is right, and how outputs are judged, as ``evaluate`` takes them."""

    feeds: Feeds
    truth: Array
    metric: str = "top1"
    output: str | None = None


@dataclass(frozen=True)
class Question:
    """What all points share: the model's bytes, calibration, options of the compiler."""

    model: bytes = field(repr=False)
    calibration: Feeds | None = None
    data: DataSet | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Return what tells this question from another one."""
        found = hashlib.sha256(self.model)
        data = self.data
        for part in (self.calibration, data and data.feeds, data and {"": data.truth}):
            for name, x in sorted((part or {}).items()):
                found.update(f"{name} {x.dtype} {x.shape}".encode())
                found.update(np.ascontiguousarray(x).data)
        judged = data and (data.metric, data.output)
        options = {
            name: {k: np.asarray(v).tolist() for k, v in value.items()}
            if isinstance(value, Mapping)
            else value
            for name, value in self.options.items()
        }
        found.update(json.dumps([__version__, judged, options], sort_keys=True).encode())
        return found.hexdigest()


@dataclass(frozen=True)
class _Kept:
    """The file of a sweep."""

    digest: str
    rows: tuple[Row, ...] = ()


# ------------------------------------------------------------------------------ points


def points_of(
    boards: Sequence[str], precisions: Sequence[str], losses: Sequence[float] = ()
) -> tuple[Point, ...]:
    """Return every board with every precision, mixed with each of ``losses``.

    BadInput: there is none, one occurs twice, or losses without mixed precision.
    """
    if losses and "mixed" not in precisions:
        raise BadInput("losses: found some without precision mixed, which alone has them; add it")
    found = tuple(
        Point(board, precision, loss)
        for board in boards
        for precision in precisions
        for loss in ((losses or (None,)) if precision == "mixed" else (None,))
    )
    unknown = sorted(set(precisions) - set(PRECISIONS))
    if unknown:
        raise BadInput(f"precisions: found {unknown[0]!r}, allowed are {', '.join(PRECISIONS)}")
    if not found or len(set(found)) < len(found):
        raise BadInput(
            f"found boards {list(boards)}, precisions {list(precisions)} and losses "
            f"{list(losses)}; allowed is at least one board and precision, each once"
        )
    return found


# ------------------------------------------------------------------------------ one point


def _row(shared: tuple[Question, Workers], point: Point) -> Row:
    """Compile one way, estimate, and score the data set."""
    question, workers = shared
    try:
        program = _compiled(question, point)
        found = _scored(question.data, program, workers)
    except REFUSALS as error:
        return Row(point, str(error).partition("\n")[0])
    estimate = program.estimate()
    return Row(
        point,
        frames_per_s=estimate.frames_per_s,
        latency_ms=1e3 * estimate.latency_s,
        utilization=estimate.utilization,
        dram_bytes=estimate.dram_bytes,
        **_losses(program.accuracy),
        **found,
    )


def _compiled(question: Question, point: Point) -> Program:
    options = dict(question.options)
    if question.calibration is not None:
        options.update(calibration=[question.calibration], search_seconds=LONGEST_S)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # the row says what is lost
        return compile_model(
            question.model, point.board, precision=point.precision, max_loss=point.max_loss,
            **options,
        )  # fmt: skip


def _losses(accuracy: Accuracy | None) -> dict[str, Any]:
    if accuracy is None or not accuracy.measured:
        return {}
    same = [out.top1 for out in accuracy.outputs if out.top1 is not None]
    return {
        "relative_error": max(out.worst for out in accuracy.outputs),
        "same_answers": min(same, default=None),
        "held_back": accuracy.samples,
    }


def _scored(data: DataSet | None, program: Program, workers: Workers) -> dict[str, Any]:
    if data is None:
        return {}
    found: Evaluation = evaluate(
        program, data.feeds, data.truth, data.metric, output=data.output, workers=workers
    )
    return {"score": found.value, "unit": found.unit, "sums": found.sums}


# ------------------------------------------------------------------------------ all points


def sweep(
    model: Any,
    points: Sequence[Point],
    calibration: Feeds | None = None,
    *,
    data: DataSet | None = None,
    workers: Workers = HERE,
    kept: Path | None = None,
    progress: Progress = lambda done, total: None,
    **options: Any,
) -> tuple[Row, ...]:
    """Compile a model in many ways and return a row for each, in the order of ``points``.

    ``model``: ONNX path, bytes or ModelProto.  ``calibration``: {input name: array}.  ``data``: a
    data set that every program is run on.  ``kept``: a file that receives each row as it comes; a
    sweep that was stopped goes on from there.  ``options`` are those of ``compile`` that all points
    share.  A point that fits no board becomes a row that says so; other errors end the sweep.

    >>> sweep("net.onnx", points_of(["pynq-z2"], ["int8", "int16"]), calib)  # doctest: +SKIP
    """
    question = Question(_bytes(model), calibration, data, options)
    digest = question.digest
    rows = {row.point: row for row in _read(kept, digest)}
    todo = [point for point in points if point not in rows]
    done = len(points) - len(todo)
    if kept is not None and done:
        progress(done, len(points))
    for number, row in workers.each(_row, (question, workers.inner), todo):
        rows[todo[number]] = row
        done += 1
        _write(kept, _Kept(digest, tuple(rows.values())))
        progress(done, len(points))
    return tuple(rows[point] for point in points)


def _bytes(model: Any) -> bytes:
    """Return a model with its external data as one piece, which can travel."""
    if isinstance(model, bytes):
        return model
    proto, folder = read(model)
    if folder is None:
        return bytes(proto.SerializeToString())
    onnx = require_onnx()
    onnx.external_data_helper.load_external_data_for_model(proto, str(folder))
    try:
        return bytes(proto.SerializeToString())
    except ValueError as error:
        raise BadInput(f"{model}: it does not fit in one message ({error})") from None


def _read(path: Path | None, digest: str) -> tuple[Row, ...]:
    if path is None or not path.exists():
        return ()
    try:
        found = from_json(_Kept, json.loads(path.read_bytes()), "sweep")
    except (OSError, ValueError, FormError) as error:
        raise BadInput(
            f"{path}: found no sweep ({error}); name another file, or remove it"
        ) from None
    if found.digest != digest:
        raise BadInput(
            f"{path}: found rows of another model, other inputs, options or version; name another "
            "file, or remove it"
        )
    return found.rows


def _write(path: Path | None, kept: _Kept) -> None:
    if path is not None:
        text = json.dumps(to_json(kept), indent=1, allow_nan=False).encode()
        write_whole(path, lambda file: file.write(text))
