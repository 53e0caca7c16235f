# SPDX-License-Identifier: Apache-2.0
"""Types that all stages share: arrays, shapes, quantisation parameters, functions, views.

In: nothing.  Out: plain frozen dataclasses and the evaluation of a view in numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

Shape = tuple[int, ...]

# How a value between two steps is rounded: halves to even, up or down; or all down.
Rounding = Literal["even", "up", "down", "floor"]


@dataclass(frozen=True)
class QParams:
    """real = scale * (q - zero_point); q is int16 (zero_point 0) if ``int16``, else int8.

    ``limit`` > 0 narrows q to -limit..limit, where a full-range tensor could overflow an
    accumulator.  ``ends`` are the least and the largest q that a source model prescribes, where
    they are not those of the type: of fewer bits, or of a narrow range.  ``rounding``: how a model
    that prescribes it has values brought to these steps; two tensors of the same steps are alike
    whatever it is.
    """

    scale: float
    zero_point: int = 0
    int16: bool = False
    limit: int = 0
    ends: tuple[int, int] | None = None
    rounding: Rounding = field(default="even", compare=False)

    @property
    def qmin(self) -> int:
        least = max(-32640 if self.int16 else -128, -self.limit if self.limit else -32640)
        return max(least, self.ends[0]) if self.ends else least

    @property
    def qmax(self) -> int:
        most = min(32639 if self.int16 else 127, self.limit or 32639)
        return min(most, self.ends[1]) if self.ends else most


@dataclass(frozen=True)
class Function:
    """A scalar function of one variable: ``functions.FUNCTIONS[name]``, or an expression."""

    name: str
    params: tuple[float, ...] = ()


@dataclass(frozen=True)
class Units:
    """Parts of a tensor in units of their own: real = offset + divisor * stored.

    ``divisor`` and ``offset`` are flat, of ``shape``: each of its four sizes is that of the
    (N,H,W,C) tensor or 1.  Without ``offset``, all are 0.
    """

    shape: tuple[int, int, int, int]
    divisor: tuple[float, ...]
    offset: tuple[float, ...] = ()


@dataclass(frozen=True)
class ViewStep:
    """One step between a source tensor and its (N,H,W,C) form: numpy reshape, transpose or take.

    The arguments of a take are an axis and the order of that axis: a permutation.
    """

    kind: Literal["reshape", "transpose", "take"]
    arg: tuple[int, ...]


def apply_steps(x: Array, steps: tuple[ViewStep, ...]) -> Array:
    """Run view steps on an array."""
    for step in steps:
        if step.kind == "take":
            x = np.take(x, step.arg[1:], step.arg[0])
        else:
            x = x.reshape(step.arg) if step.kind == "reshape" else np.transpose(x, step.arg)
    return x


def arg_max(y: Array, axis: int, keepdims: bool, select_last: bool) -> Array:
    """Return the index of the largest value along an axis: of equal ones the first or the last."""
    found = np.argmax(np.flip(y, axis) if select_last else y, axis)
    index = np.asarray(y.shape[axis] - 1 - found if select_last else found)
    return np.expand_dims(index, axis) if keepdims else index
