# SPDX-License-Identifier: Apache-2.0
"""What is bad about a measured accuracy, why, and what to try.

In: ``Accuracy`` and the causes of its losses.  Out: lines of plain words; none where all is well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..ir.accuracy import Accuracy, MetricLoss, OutputAccuracy, Saturation

# From which loss an output is bad: of its relative error, or of changed answers.
MOST_RELATIVE = {
    "values": 0.07, "pictures": 0.015, "states": 0.03, "vectors": 0.07, "class scores": 0.1,
}  # fmt: skip
# int16 is asked for where int8 loses too much: there every kind of output counts as pictures do.
MOST_AT_INT16 = MOST_RELATIVE["pictures"]
MOST_ABSOLUTE = 0.05  # root mean square error of probabilities
# A few samples may hold no value near 0.5; where some are not small, their relative error counts
# as that of class scores does.
SOME_POSITIVE, MOST_OF_SOME = 0.05, 0.1
MOST_CHANGED = 0.02
FEW_ROWS = 0.5  # of one answer: what the estimate of changed ones may be off
LEAST_CHANGING = 0.02  # relative error below which changed answers are those of near ties
MOST_PART = 0.03  # relative error of a part of an output
# Error relative to how far values vary.  A coefficient of determination loses its square, 0.6
# points at 0.08; vectors are compared as wholes, in which the errors of elements cancel.
MOST_VARYING = {"values": 0.08, "pictures": 0.08, "vectors": 0.15}
ANSWERING = ("class scores", "probabilities")  # kinds whose own answers are counted
MOST_LOST = 0.01  # share of the score of the user's own metric
FEW = 16  # calibration inputs
MUCH_SATURATED = 0.002  # share of a tensor's values
MAIN = 0.5  # share of the squared loss that makes a cause the main one


@dataclass(frozen=True)
class Causes:
    """Relative errors of the outputs by weights alone, activations alone, and all together."""

    weights: float
    activations: float
    total: float
    calibrated_on: int
    saturated: tuple[Saturation, ...]


def bad_outputs(
    found: Accuracy, precision: str, varying: Mapping[str, float],
    likely: Mapping[str, float] | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Return one line per bad output; ``varying``: the errors of outputs relative to how far their
    values vary; ``likely``: what those of other inputs may be."""
    int16 = precision == "int16"
    return tuple(
        line
        for out in found.outputs
        if (line := _bad(out, varying.get(out.name, 0.0), int16)
            or _likely_bad(out, (likely or {}).get(out.name, 0.0), int16))
    )  # fmt: skip


def metric_warnings(found: MetricLoss, causes: Sequence[str]) -> tuple[str, ...]:
    """Return what is bad by the user's own metric, which decides alone, and the causes of it."""
    return (found.to_text(), *causes) if found.lost > MOST_LOST else ()


def warnings_behind(
    made: Mapping[str, Sequence[OutputAccuracy]], outputs: Sequence[OutputAccuracy], precision: str
) -> tuple[str, ...]:
    """Return one line per bad output of the host, and what to try; ``made``: the array's outputs
    that each is computed of."""
    bad = [line for out in outputs if (line := _bad_behind(out, made[out.name], precision))]
    return (*bad, f"cause: losses of what it reads; {ACTIVATIONS[precision]}") if bad else ()


def _bad_behind(out: OutputAccuracy, read: Sequence[OutputAccuracy], precision: str) -> str:
    """Return what is bad about an output of the host, or nothing.

    Changed answers of class scores and probabilities are counted where these are judged.
    """
    names = ", ".join(one.name for one in read)
    what = f"output {out.name}, which the host computes of {names}, is inaccurate"
    if out.kind == "answers":
        steps = any(one.kind not in ANSWERING and one.worst > LEAST_CHANGING for one in read)
        if not steps or out.relative_error <= _most_changed(out):
            return ""
        return f"{what}: {100 * out.relative_error:.2g} % of its values differ"
    most = max((MOST_RELATIVE.get(one.kind, MOST_OF_SOME) for one in read), default=MOST_OF_SOME)
    if out.relative_error <= (MOST_AT_INT16 if precision == "int16" else most):
        return ""
    return f"{what}: relative error {100 * out.relative_error:.3g} %"


def _bad(out: OutputAccuracy, varying: float, int16: bool) -> str:
    """Return what is bad about an output, or nothing."""
    error = f"relative error {100 * out.worst:.3g} %"
    if out.changed is not None and out.changed > _most_changed(out) and _not_ties(out):
        equal = 100 * (out.top1 or 0.0)
        what = "the same largest element" if out.kind == "class scores" else "the same side of 0.5"
        return (
            f"output {out.name} is inaccurate: about {100 * out.changed:.2g} % of its answers "
            f"change ({what} in {equal:.4g} % of the {out.rows:,} measured), {error}"
        )
    if out.kind == "probabilities":
        return _bad_probabilities(out, MOST_AT_INT16 if int16 else MOST_OF_SOME)
    if out.relative_error > (MOST_AT_INT16 if int16 else MOST_RELATIVE[out.kind]):
        return f"output {out.name} is inaccurate: {error}"
    worst = max(out.parts, key=lambda part: part.relative_error, default=None)
    if worst is not None and worst.relative_error > MOST_PART:
        return f"output {out.name} is inaccurate in its part {worst.where}: {error}"
    if varying > MOST_VARYING.get(out.kind, varying):
        return (
            f"output {out.name} is inaccurate: {error}, but {100 * varying:.3g} % of how far its "
            "values vary"
        )
    return ""


def _likely_bad(out: OutputAccuracy, likely: float, int16: bool) -> str:
    """Return what is likely bad about an output whose error few inputs measure, or nothing."""
    if not int16 or out.kind == "probabilities" or likely <= MOST_AT_INT16:
        return ""
    error = f"relative error {100 * out.relative_error:.3g} %"
    return (
        f"output {out.name} may be inaccurate: {error}, and up to about {100 * likely:.2g} % of "
        "other inputs, by how much the few measured ones differ"
    )


def _most_changed(out: OutputAccuracy) -> float:
    """Return the largest share of changed answers that is no news of so few rows."""
    return MOST_CHANGED + FEW_ROWS / max(out.rows, 1)


def _not_ties(out: OutputAccuracy) -> bool:
    """Return whether answers change by more than the noise that near ties need."""
    return out.kind == "probabilities" or out.worst > LEAST_CHANGING


def _bad_probabilities(out: OutputAccuracy, most: float) -> str:
    """Return what is bad about values from 0 to 1, whose small ones mean as little as 0."""
    rms = out.absolute_error / max(out.relative_error, 1e-30)
    if rms > SOME_POSITIVE and out.relative_error > most:
        return f"output {out.name} is inaccurate: relative error {100 * out.relative_error:.3g} %"
    if out.absolute_error <= MOST_ABSOLUTE:
        return ""
    return (
        f"output {out.name} is inaccurate: its values from 0 to 1 are {out.absolute_error:.2g} off"
    )


def causes_of(found: Accuracy, causes: Causes, precision: str) -> tuple[str, ...]:
    """Return the causes of what is lost in order of weight, each with what to try."""
    lines = []
    beyond = [one for one in causes.saturated if one.share > MUCH_SATURATED]
    if causes.calibrated_on < FEW:
        lines.append(
            f"cause: thin calibration on {causes.calibrated_on} inputs; give 16 to 256 typical ones"
        )
    if beyond:
        lines.append(
            f"cause: range: {100 * beyond[0].share:.2g} % of the values of {beyond[0].tensor} lie "
            "beyond its calibrated range; give more, and more varied, calibration inputs"
        )
    total = max(causes.total**2, 1e-30)
    weights, activations = causes.weights**2 / total, causes.activations**2 / total
    if weights > MAIN:
        lines.append(f"cause: int8 weights; {WEIGHTS[precision]}")
    if activations > MAIN:
        lines.append(f"cause: {precision} activations; {ACTIVATIONS[precision]}")
    if weights + activations < MAIN:
        worst = found.layers[0] if found.layers else None
        where = f", most in {worst.source or worst.name}" if worst else ""
        lines.append(f"cause: tables or integer steps inside layers{where}; {TABLES[precision]}")
    return tuple(lines)


WEIGHTS = {
    "int8": "precision mixed gives the layers that need it weights of two digits",
    "int16": "precision mixed with max_loss=0.015 (--max-loss) gives the layers that need it "
    "weights of two digits",
    "mixed": "allow less with max_loss (--max-loss), or train with quantised weights",
}
ACTIVATIONS = {
    "int8": "try precision mixed, or int16",
    "int16": "rescale the network's inputs, or cut the tensor of widest range",
    "mixed": "allow less with max_loss (--max-loss), or try precision int16",
}
TABLES = {
    "int8": "try precision mixed, or int16",
    "int16": "look at its table ('neuralmatrix segments') and at the range of its inputs",
    "mixed": "allow less with max_loss (--max-loss), or try precision int16",
}
