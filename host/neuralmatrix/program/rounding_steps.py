# SPDX-License-Identifier: Apache-2.0
"""The steps of a recipe's roundings as one array, for the program file.

In: a Recipe; or one without steps, and an array of any origin.  Out: the array; the Recipe, or the
first problem in words.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..ir.recipe import Recipe
from ..ir.types import Array

_WEIGHTS_LIMIT = 1 << 32
_PAIRS = 0b01010101  # the low bits of the four steps of a byte


def without_steps(recipe: Recipe) -> Recipe:
    """Return the recipe as a manifest holds it."""
    bare = tuple(replace(rounding, steps=None) for rounding in recipe.roundings)
    return replace(recipe, roundings=bare)


def all_steps(recipe: Recipe) -> Array:
    """Return the steps of all roundings, one after the other."""
    return np.concatenate([np.asarray(r.steps, np.uint8) for r in recipe.roundings])


def roundings_problem(recipe: Recipe, steps: Array) -> str:
    """Describe what is wrong with roundings, or with the array of their steps; an empty string if
    nothing is."""
    names = [name for rounding in recipe.roundings for name in rounding.names]
    if len(set(names)) < len(names) or not all(r.names for r in recipe.roundings):
        return f"roundings: found {names[:8]}, allowed is at least one name each, each name once"
    for rounding in recipe.roundings:
        if not 0 < rounding.weights < _WEIGHTS_LIMIT:
            return (f"rounding {rounding.names[0]}: found {rounding.weights} weights, "
                    f"allowed is 1..{_WEIGHTS_LIMIT - 1}")  # fmt: skip
    wanted = sum(rounding.bytes for rounding in recipe.roundings)
    if steps.shape != (wanted,):
        return f"roundings: found shape {steps.shape}, allowed is {(wanted,)}"
    if np.any(steps & (steps >> 1) & _PAIRS):
        return "roundings: found a step of 2, allowed is -1..1"
    return ""


def with_steps(recipe: Recipe, steps: Array) -> Recipe:
    """Return the recipe with views of the array of all steps."""
    found, start = [], 0
    for rounding in recipe.roundings:
        end = start + rounding.bytes
        found.append(replace(rounding, steps=steps[start:end]))
        start = end
    return replace(recipe, roundings=tuple(found))
