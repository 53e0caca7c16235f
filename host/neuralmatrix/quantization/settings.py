# SPDX-License-Identifier: Apache-2.0
"""The user's choices about precision and calibration.

In: the arguments of ``compile_model``.  Out: ``Settings``, checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, get_args

from ..errors import BadInput

Method = Literal["mse", "minmax", "percentile"]

Precision = Literal["int8", "int16", "mixed"]

MEASURES = {
    "relative": "relative error of the outputs",
    "top1": "share of outputs whose largest element differs from the float model's",
}
MAX_LOSS = 0.05  # of mixed; the loss by int8 weights alone in a network of a few dozen layers


@dataclass(frozen=True)
class Settings:
    """How precision, ranges and integers are chosen; see ``compile_model``."""

    precision: str = "int8"
    method: Method = "mse"
    max_images: int = 256
    refine: bool | None = None
    max_loss: float | None = None
    measure: str = "relative"

    @property
    def refines(self) -> bool:
        return self.precision == "mixed" if self.refine is None else self.refine


def check_settings(settings: Settings, calibrated: bool) -> None:
    """Raise BadInput on an unknown name, a loss out of range, or missing calibration inputs."""
    allowed = {
        "precision": (settings.precision, get_args(Precision)),
        "measure": (settings.measure, tuple(MEASURES)),
    }
    for what, (found, names) in allowed.items():
        if found not in names:
            raise BadInput(f"{what} {found!r}; allowed are {', '.join(names)}")
    loss, images = settings.max_loss, settings.max_images
    if loss is not None and not (isinstance(loss, Real) and 0 <= loss <= 1):
        raise BadInput(f"max_loss {loss!r}; allowed is 0 to 1")
    if loss is not None and settings.precision != "mixed":
        raise BadInput(
            f"max_loss {loss!r} with precision {settings.precision}; it decides what 'mixed' "
            "promotes: choose precision mixed, or leave max_loss out"
        )
    if settings.measure != Settings.measure and settings.precision != "mixed":
        raise BadInput(
            f"measure {settings.measure!r} with precision {settings.precision}; it judges what "
            "'mixed' promotes: choose precision mixed, or leave measure out"
        )
    if not isinstance(images, Integral) or images < 1:
        raise BadInput(f"max_images {images!r}; allowed are integers from 1")
    if not calibrated and (settings.precision == "mixed" or settings.refines):
        raise BadInput(
            "precision mixed and refinements are chosen on calibration inputs, and none are given; "
            "pass calibration= (--calibration) with 16 to 256 typical inputs"
        )
