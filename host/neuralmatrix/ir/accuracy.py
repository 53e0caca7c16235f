# SPDX-License-Identifier: Apache-2.0
"""What the integers of a program lose against the float model, as the compiler measured it.

In: nothing.  Out: ``Accuracy``, which a program carries in its file, and its text.
Needs the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import Any, Literal

Kind = Literal[
    "class scores", "probabilities", "vectors", "values", "pictures", "states", "answers"
]

FEWEST_SATURATED = 1e-4  # share of a tensor's values from which the text names it
MOST_LINES = 5
SAME = {
    "class scores": "top-1 equal", "probabilities": "same side of 0.5", "answers": "equal",
}  # fmt: skip


def decibels(relative_error: float) -> float:
    """Return the signal-to-noise ratio in dB of a relative error, at most 160."""
    return -20 * log10(max(relative_error, 1e-8))


@dataclass(frozen=True)
class PartAccuracy:
    """A part of an output whose scale differs from the rest's.

    ``where``: "axis 1: 0..3".  ``relative_error``: norm of the error over that of the float values.
    """

    where: str
    relative_error: float

    @property
    def snr_db(self) -> float:
        """The signal-to-noise ratio in dB."""
        return decibels(self.relative_error)


@dataclass(frozen=True)
class OutputAccuracy:
    """One output over all measured inputs.

    ``top1``: share of rows whose largest element is the float model's (class scores), of values on
    the same side of 0.5 (probabilities), or of equal integers (answers, which the host computes;
    ``relative_error`` is the share of others).  ``changed``: a smoother estimate of the share that
    differs, also from rows that nearly do.  ``psnr_db``: peak of the float values to error.
    """

    name: str
    kind: Kind
    relative_error: float
    psnr_db: float
    top1: float | None = None
    changed: float | None = None
    rows: int = 0  # that ``top1`` counts
    absolute_error: float = 0.0  # root mean square, in units of the output
    parts: tuple[PartAccuracy, ...] = ()

    @property
    def snr_db(self) -> float:
        """The signal-to-noise ratio in dB."""
        return decibels(self.relative_error)

    @property
    def worst(self) -> float:
        """The largest relative error of its parts, or its own."""
        return max((part.relative_error for part in self.parts), default=self.relative_error)

    def to_text(self) -> str:
        """Return one line."""
        error = f"relative error {100 * self.relative_error:.3g} % ({self.snr_db:.1f} dB)"
        same = SAME.get(self.kind)
        parts = "; ".join(f"{p.where} {100 * p.relative_error:.3g} %" for p in self.parts)
        shown = [f"output {self.name} ({self.kind}): {error}"]
        if same and self.top1 is not None:
            shown.append(f"{same} in {100 * self.top1:.4g} % of {self.rows:,}")
        return ", ".join(shown) + (f"; by part: {parts}" if parts else "")


@dataclass(frozen=True)
class LayerLoss:
    """A layer's own loss, of exact inputs as its integers have them, and the ratio behind it."""

    name: str
    source: str
    relative_error: float
    snr_db: float


@dataclass(frozen=True)
class Saturation:
    """The share of a tensor's float values that lie beyond the range of its integers."""

    tensor: str
    share: float


@dataclass(frozen=True)
class MetricLoss:
    """The user's own metric, larger is better, of the float model and of the program's integers."""

    name: str
    float_score: float
    score: float

    @property
    def lost(self) -> float:
        """What the integers lose, as a share of the float model's score; below 0 if they gain."""
        loss = self.float_score - self.score
        return loss / abs(self.float_score) if self.float_score else loss

    def to_text(self) -> str:
        """Return one line."""
        what = f"{100 * self.lost:.3g} % lost" if self.lost > 0 else "nothing lost"
        return (
            f"metric {self.name}: {self.score:.6g} in integers, {self.float_score:.6g} in float: "
            f"{what}"
        )


@dataclass(frozen=True)
class Accuracy:
    """Losses on inputs that set no range, weight or choice of the program.

    ``samples``: how many were measured; 0 if none could be, and ``missing`` says why.
    ``calibrated_on``: how many inputs chose the numbers.  ``warnings``: what is bad, why, and what
    to try; empty where nothing is.  ``causes``: of what is lost, bad or not.  ``method``: how
    ranges were chosen.  ``judge``: who else ran the float model, and with what difference.
    ``metric``: of the user, on inputs that it chose.
    """

    samples: int
    calibrated_on: int
    outputs: tuple[OutputAccuracy, ...] = ()
    layers: tuple[LayerLoss, ...] = ()
    saturated: tuple[Saturation, ...] = ()
    warnings: tuple[str, ...] = ()
    missing: str = ""
    method: str = ""
    judge: str = ""
    causes: tuple[str, ...] = ()
    metric: MetricLoss | None = None

    @property
    def measured(self) -> bool:
        """Whether any input was measured."""
        return self.samples > 0

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON, with decibels."""
        outputs = [
            {
                **{k: v for k, v in vars(out).items() if k != "parts"},
                "snr_db": out.snr_db,
                "parts": [{**vars(part), "snr_db": part.snr_db} for part in out.parts],
            }
            for out in self.outputs
        ]
        return {
            "basis": BASIS if self.measured else f"not measured: {self.missing}",
            "samples": self.samples,
            "calibrated_on": self.calibrated_on,
            "method": self.method,
            "judge": self.judge,
            "outputs": outputs,
            "layers": [dict(vars(layer)) for layer in self.layers],
            "saturated": [dict(vars(one)) for one in self.saturated],
            "metric": {**vars(self.metric), "lost": self.metric.lost} if self.metric else None,
            "causes": list(self.causes),
            "warnings": list(self.warnings),
        }

    @property
    def heading(self) -> str:
        """What the figures are, and on how many inputs."""
        if not self.measured:
            return f"accuracy: not measured: {self.missing}"
        count = f"{self.samples} inputs held back from calibration on {self.calibrated_on}"
        return f"accuracy: emulated, on {count}"

    def to_lines(self) -> list[str]:
        """Return the text for people: outputs, the layers that lose most, saturation, warnings."""
        if not self.measured:
            return self.details()
        return [self.heading, *(f"  {out.to_text()}" for out in self.outputs), *self.details()]

    def details(self) -> list[str]:
        """Return what the text says besides the outputs; why nothing was measured, if so."""
        lines = [] if self.metric is None else [self.metric.to_text()]
        if not self.measured:
            return [self.heading, *lines, *self._marked()]
        if most := self.layers[:MOST_LINES]:
            shares = (f"{one.source or one.name} {100 * one.relative_error:.2g} %" for one in most)
            lines.append(f"layers that lose most, each by itself: {', '.join(shares)}")
        far = [one for one in self.saturated if one.share >= FEWEST_SATURATED][:MOST_LINES]
        if far:
            shares = (f"{one.tensor} {100 * one.share:.2g} %" for one in far)
            lines.append(f"values beyond the calibrated range: {', '.join(shares)}")
        return [*lines, *self._marked()]

    def _marked(self) -> list[str]:
        """Return the warnings, marked as such, and their causes."""
        return [("" if x.startswith("cause: ") else "warning: ") + x for x in self.warnings]


BASIS = (
    "emulated: exact integers beside the float model, on inputs held back from calibration; they "
    "set no range, weight or choice"
)
