# SPDX-License-Identifier: Apache-2.0
"""A user's own metric of a network: of its float model and of a program's integers.

In: a metric, what computes the outputs of single runs in float and in integers.  Out:
``MetricLoss``; BadInput of a metric that fails.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import isfinite
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import BadInput, NeuralMatrixError
from ..ir.accuracy import MetricLoss
from ..ir.types import Array
from .data import ProgramTables
from .host_edges import check_images, finished, host_runs, joined
from .host_io import check_feeds

Run = Callable[[Mapping[str, Any]], dict[str, Array]]
Metric = Callable[[Run], float]
Arrays = dict[str, Array]
Compute = Callable[[Sequence[Arrays]], Sequence[Mapping[str, Array]]]  # outputs of single runs


def check_metric(metric: Metric | None, measured: bool) -> None:
    """Raise BadInput of what is no function, or of a compile that measures nothing."""
    if metric is None:
        return
    if not callable(metric):
        raise BadInput(f"metric: found {metric!r}; allowed is a function of one argument, run")
    if not measured:
        raise BadInput(
            "metric for a compile that measures nothing; give calibration inputs, and leave "
            "accuracy=False (--no-measure) out"
        )


def metric_loss(
    metric: Metric, program: ProgramTables, in_float: Compute, integer: Compute
) -> MetricLoss:
    """Return what ``metric`` says of the float model and of the program.

    It gets a function that takes and returns what ``Session.run`` does.
    """
    name = getattr(metric, "__name__", type(metric).__name__)
    of_float, of_integers = (
        _score(name, metric, partial(_run, program, compute)) for compute in (in_float, integer)
    )
    return MetricLoss(name, of_float, of_integers)


def _score(name: str, metric: Metric, run: Run) -> float:
    try:
        score = float(metric(run))
    except NeuralMatrixError:
        raise
    except Exception as error:  # of the user's own function
        raise BadInput(f"metric {name!r} failed: {type(error).__name__}: {error}") from error
    if not isfinite(score):
        raise BadInput(f"metric {name!r}: found {score}, allowed is a finite number")
    return score


def _run(program: ProgramTables, compute: Compute, feeds: Mapping[str, Any]) -> dict[str, Array]:
    arrays, images = check_feeds(program.shown_inputs, feeds)
    check_images(program, images)
    runs = host_runs(program, arrays, images)
    outputs = compute([dict(run.feeds) for run in runs])
    return joined(program, [finished(program, *one) for one in zip(runs, outputs, strict=True)])


def read_metric(text: str) -> Metric:
    """Return the function that "file.py:function" names.  BadInput: there is none."""
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise BadInput(f"metric: found {text!r}; allowed is FILE.py:FUNCTION of a file that exists")
    found = getattr(_loaded(path), name, None)
    if not callable(found):
        raise BadInput(f"metric: {path} has no function {name!r}")
    metric: Metric = found
    return metric


def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadInput(f"metric: {path} is no Python file; give FILE.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # of the user's own file
        raise BadInput(f"metric: {path} failed: {type(error).__name__}: {error}") from error
    return module
