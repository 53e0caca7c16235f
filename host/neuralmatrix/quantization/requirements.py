# SPDX-License-Identifier: Apache-2.0
"""Accuracies that a user requires of a compile.

In: texts such as "1%", "30dB", "psnr:40dB", "top1:99%", "metric:1%", and an ``Accuracy``.
Out: AccuracyMissed where an output, or the metric, falls short.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import AccuracyMissed, BadInput
from ..ir.accuracy import Accuracy, OutputAccuracy

ALLOWED = 'a relative error "1%", a ratio "30dB", "psnr:40dB", "top1:99%" or "metric:1%"'

TRY = {
    "int8": "try precision mixed or int16",
    "int16": "try precision mixed, which also gives the layers that need it weights of two digits",
    "mixed": "allow less with max_loss (--max-loss), or try precision int16",
}


Figures = Callable[[Accuracy], dict[str, float | None]]


@dataclass(frozen=True)
class Requirement:
    """``least`` for a figure: of every output by its name, or of the user's metric."""

    text: str
    figures: Figures
    least: float
    shown: Callable[[float], str]


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _decibels(ratio: float) -> str:
    return f"{ratio:.1f} dB"


def _each(figure: Callable[[OutputAccuracy], float | None]) -> Figures:
    return lambda found: {out.name: figure(out) for out in found.outputs}


def _worst_ratio(out: OutputAccuracy) -> float:
    return min([out.snr_db, *(part.snr_db for part in out.parts)])


def _of_metric(found: Accuracy) -> dict[str, float | None]:
    return {found.metric.name: -found.metric.lost} if found.metric else {}


# (name, unit): the figures, their sign and factor, and their text
FIGURES: dict[tuple[str, str], tuple[Figures, float, Callable[[float], str]]] = {
    ("", "%"): (_each(lambda out: -out.worst), -0.01,
                lambda value: f"relative error {-100 * value:.3g} %"),
    ("", "db"): (_each(_worst_ratio), 1.0, _decibels),
    ("psnr", "db"): (_each(lambda out: out.psnr_db), 1.0, lambda value: f"PSNR {_decibels(value)}"),
    ("top1", "%"): (_each(lambda out: out.top1), 0.01, lambda value: f"top-1 {_percent(value)}"),
    ("metric", "%"): (_of_metric, -0.01, lambda value: f"{_percent(-value)} lost"),
}  # fmt: skip


def requirements(
    texts: str | Iterable[str], measured: bool = True, metric: bool = True
) -> tuple[Requirement, ...]:
    """Return the requirements in texts.  BadInput: one is none, nothing is measured, or one is of
    a metric and there is none."""
    asked = (texts,) if isinstance(texts, str) else tuple(texts)
    found = tuple(map(_requirement, asked))
    if found and not measured:
        raise BadInput(
            f"require: found {found[0].text!r} for a compile that measures nothing; give 8 or "
            "more calibration inputs, and leave accuracy=False (--no-measure) out"
        )
    of_metric = [bound.text for bound in found if bound.figures is _of_metric]
    if of_metric and not metric:
        raise BadInput(
            f"require: found {of_metric[0]!r} without a metric; give one with metric= (--metric)"
        )
    return found


def _requirement(text: str) -> Requirement:
    match = re.fullmatch(r"\s*(?:(\w+)\s*[:=]\s*)?(\d+(?:\.\d*)?)\s*(%|dB)\s*", str(text), re.I)
    key = ((match[1] or "").lower(), match[3].lower()) if match else ("?", "")
    beyond = match is not None and key[0] == "top1" and float(match[2]) > 100
    if match is None or key not in FIGURES or beyond:
        raise BadInput(f"require: found {text!r}; allowed are {ALLOWED}")
    figures, factor, shown = FIGURES[key]
    return Requirement(text.strip(), figures, factor * float(match[2]), shown)


def check_requirements(
    bounds: Iterable[Requirement], found: Accuracy | None, precision: str = "int8"
) -> None:
    """Raise AccuracyMissed if an output falls short, or nothing could be measured; BadInput if no
    output has the figure that is asked for."""
    short: list[str] = []
    for bound in bounds:
        if found is None or not found.measured:
            why = found.missing if found else "no calibration inputs were given"
            raise AccuracyMissed(f"required is {bound.text}, and nothing was measured: {why}")
        short += _short(bound, found)
    if short:
        assert found is not None
        raise AccuracyMissed(
            f"on {found.samples} held-back inputs: {'; '.join(short)}; nothing was saved; "
            + ("; ".join(found.warnings) or TRY[precision])
        )


def _short(bound: Requirement, found: Accuracy) -> list[str]:
    """Return the outputs that fall short of one requirement, as text."""
    figures = bound.figures(found)
    if all(value is None for value in figures.values()):
        kinds = ", ".join(f"{out.name!r} ({out.kind})" for out in found.outputs)
        raise BadInput(
            f"require: found {bound.text!r}, but no output has classes: {kinds}; allowed are "
            f"{ALLOWED}"
        )
    return [
        f"{name}: {bound.shown(value)}, required is {bound.text}"
        for name, value in figures.items()
        if value is not None and value < bound.least
    ]
