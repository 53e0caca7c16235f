# SPDX-License-Identifier: Apache-2.0
"""Measures a finished QGraph beside the float model, on inputs that chose none of its numbers.

In: a QGraph, the MatGraph that it was made from, runs.  Out: ``Accuracy``: losses by output, the
layers that lose most, saturation, and warnings with their cause.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ..ir.accuracy import Accuracy, LayerLoss, Saturation, decibels
from ..ir.matgraph.ops import MatGraph
from ..ir.matgraph.reference import evaluate, run_float
from ..ir.quantized_values import dequantize_array
from ..ir.types import Array
from .fake_quant import rerun, with_rounded_weights
from .integer_reference import run_integer
from .loss_warnings import Causes, bad_outputs, causes_of
from .losses import Judge, accuracy_of, judge, likely_error, relative_error, varying_error
from .qgraph import QGraph
from .samples import FEWEST_MEASURED, Run, chunks
from .trials import Outputs, float_outputs, integer_outputs

DETAILED = 2  # runs of which every tensor is looked at
MOST_LAYERS = 8
FEWEST_SHOWN = 1e-5  # share of saturated values of a tensor


def measure_accuracy(
    graph: QGraph, model: MatGraph, runs: Sequence[Run], calibrated_on: int, method: str = ""
) -> Accuracy:
    """Return what the integers lose on ``runs``; ``model`` is the float graph, unchanged."""
    if not runs:
        return Accuracy(0, calibrated_on, missing=_too_few(calibrated_on), method=method)
    wanted, found = float_outputs(model, runs), integer_outputs(graph, runs)
    judges = _judges(model, wanted)
    outputs = tuple(accuracy_of(judges[name], found[name], y) for name, y in wanted.items())
    varying = {name: varying_error(judges[name], found[name], y) for name, y in wanted.items()}
    real = real_graph(graph)
    details = [_Detail(graph, real, run) for run in runs[:DETAILED]]
    layers = _worst_layers(real, details)
    saturated = _saturated(graph, real, runs)
    shares = Causes(*_shares(graph, real, details[0]), calibrated_on, saturated)
    made = Accuracy(len(runs), calibrated_on, outputs, layers, saturated, method=method)
    likely = {name: likely_error(found[name], y) for name, y in wanted.items()}
    precision = graph.recipe.precision
    causes = causes_of(made, shares, precision)
    bad = bad_outputs(made, precision, varying, likely)
    return replace(made, causes=causes, warnings=(*bad, *causes) if bad else ())


def _too_few(count: int) -> str:
    given = (
        "1 calibration input was given" if count == 1 else f"{count} calibration inputs were given"
    )
    return (
        f"{given}; with {FEWEST_MEASURED} or more, one in four is "
        "held back and measured: give 16 to 256 typical inputs"
    )


def _judges(model: MatGraph, wanted: Outputs) -> dict[str, Judge]:
    ports = {port.name: port for port in model.outputs}
    return {name: judge(ports[name], y, model) for name, y in wanted.items()}


# ---------------------------------------------------------------- layers


class _Detail:
    """All tensors of one run: of the integers, in reals, and of the same graph in floats."""

    def __init__(self, graph: QGraph, real: MatGraph, run: Run) -> None:
        values = run_integer(graph, run)
        self.found = {n: dequantize_array(q, graph.qparams[n]) for n, q in values.items()}
        self.wanted = run_float(real, run)


def real_graph(graph: QGraph) -> MatGraph:
    """Return the operations of a QGraph in floats, as its recipe changed them: its tensors have the
    values that the integers stand for."""
    constants = {n: dequantize_array(q, graph.qparams[n]) for n, q in graph.constants.items()}
    ops = tuple(qop.op for qop in graph.ops)
    return MatGraph(graph.inputs, graph.outputs, ops, graph.tensors, constants)


def _worst_layers(real: MatGraph, details: Sequence[_Detail]) -> tuple[LayerLoss, ...]:
    """Return the layers with the largest loss of their own, on the inputs that they really get."""
    losses = []
    for op in real.ops:
        own, behind = [], []
        for detail in details:
            exact = evaluate(op, detail.found, real, {})[op.output]
            own.append(min(1.0, relative_error(detail.found[op.output], exact)))
            behind.append(relative_error(detail.found[op.output], detail.wanted[op.output]))
        mean, total = float(np.mean(own)), float(np.mean(behind))
        losses.append(LayerLoss(op.output, op.source, mean, decibels(total)))
    losses.sort(key=lambda layer: -layer.relative_error)
    return tuple(losses[:MOST_LAYERS])


def _saturated(graph: QGraph, real: MatGraph, runs: Sequence[Run]) -> tuple[Saturation, ...]:
    """Return the tensors with float values beyond what their integers can express."""
    counts: Counter[str] = Counter()
    for chunk in chunks(real, runs):
        values = run_float(real, chunk)
        for name, qp in graph.qparams.items():
            lo, hi = (qp.scale * (q - qp.zero_point) for q in (qp.qmin - 0.5, qp.qmax + 0.5))
            counts[name] += int(np.sum((values[name] < lo) | (values[name] > hi)))
    sizes = {name: prod(tensor.shape) * len(runs) for name, tensor in real.tensors.items()}
    shares = [Saturation(name, count / sizes[name]) for name, count in counts.items()]
    most = sorted(shares, key=lambda one: -one.share)[:MOST_LAYERS]
    return tuple(one for one in most if one.share >= FEWEST_SHOWN)


def _shares(graph: QGraph, real: MatGraph, detail: _Detail) -> tuple[float, float, float]:
    """Return the relative error of the outputs by int8 weights alone, by rounded activations alone,
    and by everything together, on one run."""
    feeds: Mapping[str, Array] = {p.tensor: detail.wanted[p.tensor] for p in real.inputs}
    start = {**real.constants, **feeds}
    weights = _error(real, rerun(with_rounded_weights(real), start, {}), detail.wanted)
    quant = {name: graph.qparams[name] for name in real.tensors}
    activations = _error(real, rerun(real, start, quant), detail.wanted)
    return weights, activations, _error(real, detail.found, detail.wanted)


def _error(mg: MatGraph, found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    each = [relative_error(found[p.tensor], wanted[p.tensor]) for p in mg.outputs]
    return float(np.max(each))
