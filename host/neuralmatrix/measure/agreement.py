# SPDX-License-Identifier: Apache-2.0
"""The agreement of two sets of outputs.

In: outputs by name, the float model's first.  Out: per output, the error and the share of equal
answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput

Array = npt.NDArray[Any]


def _snr_db(wanted: Array, found: Array) -> float | None:
    """Return the signal-to-noise ratio; None where either the signal or the error is zero."""
    error = float(np.square(found - wanted).sum())
    signal = float(np.square(wanted).sum())
    return 10 * float(np.log10(signal / error)) if error > 0 and signal > 0 else None


def _equal_answers(wanted: Array, found: Array) -> float | None:
    """Return the share of equal arg-max along the last dimension; integers are compared as they
    are.
    """
    if wanted.dtype.kind in "iub":
        return float((wanted == found).mean())
    if wanted.ndim < 2 or wanted.shape[-1] < 2:
        return None
    return float((wanted.argmax(-1) == found.argmax(-1)).mean())


def _one(wanted: Array, found: Array) -> dict[str, Any]:
    if wanted.shape != found.shape:
        return {"equal_shapes": False, "shapes": [list(wanted.shape), list(found.shape)]}
    left, right = wanted.astype(np.float64), found.astype(np.float64)
    return {
        "equal_shapes": True,
        "values": int(left.size),
        "largest_difference": float(np.abs(left - right).max(initial=0)),
        "largest_value": float(np.abs(left).max(initial=0)),
        "snr_db": _snr_db(left, right),
        "equal_answers": _equal_answers(wanted, found),
    }


def agreement(wanted: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Any]:
    """Return per output: largest difference, signal to noise in dB, share of equal answers.

    BadInput: an output of the float model is not finite.
    """
    for name, values in wanted.items():
        if not np.isfinite(np.asarray(values, np.float64)).all():
            raise BadInput(
                f"output {name!r} of the float model: found NaN or infinity, allowed are finite "
                "values; check the model, or give inputs that it is made for"
            )
    return {name: _one(np.asarray(wanted[name]), np.asarray(found[name])) for name in wanted}
