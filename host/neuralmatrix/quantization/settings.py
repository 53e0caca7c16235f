# SPDX-License-Identifier: Apache-2.0
"""The user's choices about precision and calibration.

In: the arguments of ``compile_model``.  Out: ``Settings``, checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from ..errors import BadInput
from .overrides import Override

Method = Literal["auto", "mse", "minmax", "percentile"]

FEWEST_REFINED = 8  # calibration inputs with which refinements are tried unasked

Precision = Literal["int8", "int16", "mixed"]

MEASURES = {
    "relative": "relative error of the outputs",
    "top1": "share of outputs whose largest element differs from the float model's",
    "psnr": "root mean square error of the outputs over their peak",
}
# What mixed allows by default, by the kind of an output: answers stand more than values do.
MAX_LOSS = {
    "class scores": 0.05,
    "probabilities": 0.05,
    "vectors": 0.05,
    "values": 0.01,
    "pictures": 0.01,
    "states": 0.01,
}
SEARCH_SECONDS = 600.0

Measure = str | Mapping[str, str]


@dataclass(frozen=True)
class Settings:
    """How precision, ranges and integers are chosen; see ``compile_model``."""

    precision: str = "int8"
    method: str = "auto"
    max_images: int = 256
    refine: bool | None = None
    max_loss: float | None = None
    measure: Measure = "relative"
    search_seconds: float = SEARCH_SECONDS
    measured: bool = True  # hold inputs back, measure the accuracy, and choose by trials
    overrides: tuple[Override, ...] = ()  # the user's own choices for layers

    @property
    def searches(self) -> bool:
        """Whether choices are tried on the loss of the integers."""
        return self.measured or self.precision == "mixed" or bool(self.refine)

    def tries_refinement(self, inputs: int) -> bool:
        """Return whether factors and shifts are tried: a few inputs say too little about them."""
        return inputs >= FEWEST_REFINED if self.refine is None else self.refine

    def measures(self, outputs: Iterable[str]) -> dict[str, str]:
        """Return the measure of every output.  BadInput: one of an output that does not exist."""
        names = list(dict.fromkeys(outputs))
        if isinstance(self.measure, str):
            return dict.fromkeys(names, self.measure)
        unknown = sorted(set(self.measure) - set(names))
        if unknown:
            raise BadInput(f"measure: found output {unknown[0]!r}; allowed are {', '.join(names)}")
        return {name: self.measure.get(name, "relative") for name in names}


def check_settings(settings: Settings, calibrated: bool) -> None:
    """Raise BadInput on an unknown name, a loss out of range, or missing calibration inputs."""
    _check_names(settings)
    loss, images, mixed = settings.max_loss, settings.max_images, settings.precision == "mixed"
    if loss is not None and not (isinstance(loss, Real) and 0 <= loss <= 1):
        raise BadInput(f"max_loss {loss!r}; allowed is 0 to 1")
    if loss is not None and not mixed:
        raise BadInput(
            f"max_loss {loss!r} with precision {settings.precision}; it decides what 'mixed' "
            "promotes: choose precision mixed, or leave max_loss out"
        )
    if not isinstance(images, Integral) or images < 1:
        raise BadInput(f"max_images {images!r}; allowed are integers from 1")
    seconds = settings.search_seconds
    if not isinstance(seconds, Real) or not 0 <= seconds < float("inf"):
        raise BadInput(f"search_seconds {seconds!r}; allowed are seconds from 0")
    _check_used(settings, calibrated)
    if mixed and any("weights" in override.choices for override in settings.overrides):
        raise BadInput(
            "overrides of weights with precision mixed, which chooses them; allowed with it are "
            "overrides of activations: choose precision int8 or int16, or leave 'wide' out"
        )
    if not calibrated and (mixed or settings.refine):
        raise BadInput(
            "precision mixed and refinements are chosen on calibration inputs, and none are given; "
            "pass calibration= (--calibration) with 16 to 256 typical inputs"
        )


def _check_used(settings: Settings, calibrated: bool) -> None:
    """Raise BadInput on a choice about a search that does not take place."""
    if calibrated and settings.searches:
        return
    given = [name for name, least in (("measure", "relative"), ("search_seconds", SEARCH_SECONDS))
             if getattr(settings, name) != least]  # fmt: skip
    if given:
        raise BadInput(
            f"{given[0]} {getattr(settings, given[0])!r} without a search; give calibration inputs "
            f"and leave accuracy=False (--no-measure) out, or leave {given[0]} out"
        )


def _check_names(settings: Settings) -> None:
    measure = settings.measure
    measures = (measure,) if isinstance(measure, str) else tuple(measure.values())
    checks = [
        ("precision", (settings.precision,), get_args(Precision)),
        ("calibration method", (settings.method,), get_args(Method)),
        ("measure", measures, tuple(MEASURES)),
    ]
    for what, found, names in checks:
        for name in found:
            if name not in names:
                raise BadInput(f"{what} {name!r}; allowed are {', '.join(names)}")
