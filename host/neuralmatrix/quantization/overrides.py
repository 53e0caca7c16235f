# SPDX-License-Identifier: Apache-2.0
"""The user's own choices for single layers, beside those of the search.

In: patterns of layers' names with what is asked for, a MatGraph.  Out: tensors that are int16, and
layers whose weights have two digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase

from ..errors import BadInput
from ..ir.matgraph.ops import MatGraph, MatOp, Move
from ..ir.recipe import Recipe
from .widen_weights import may_widen

Wanted = str | Mapping[str, str]
ALLOWED = {"activations": ("int16",), "weights": ("wide",)}


@dataclass(frozen=True)
class Override:
    """``pattern``: of the names of layers or tensors, as a shell's; ``choices``: of ``ALLOWED``."""

    pattern: str
    choices: Mapping[str, str]


def overrides_of(given: Mapping[str, Wanted] | None) -> tuple[Override, ...]:
    """Return checked overrides.  BadInput: a word that is none of ``ALLOWED``.

    >>> overrides_of({"layer3.*": "int16"})[0].choices
    {'activations': 'int16'}
    """
    if given is not None and not isinstance(given, Mapping):
        raise BadInput(f"overrides: found {given!r}, allowed is a dict of layers")
    found = []
    for pattern, wanted in (given or {}).items():
        choices = dict(wanted) if isinstance(wanted, Mapping) else {_kind(wanted): wanted}
        for kind, choice in choices.items():
            if choice not in ALLOWED.get(kind, ()):
                raise BadInput(
                    f"overrides: found {pattern!r}: {wanted!r}; allowed are 'int16' (or "
                    "{'activations': 'int16'}) and 'wide' (or {'weights': 'wide'}), or both in one "
                    "dict"
                )
        found.append(Override(str(pattern), choices))
    return tuple(found)


def _kind(word: object) -> str:
    return next((kind for kind, words in ALLOWED.items() if word in words), "activations")


def parse_override(text: str) -> tuple[str, Wanted]:
    """Return the override of a text LAYER=int16, LAYER=wide or LAYER=int16,wide.

    >>> parse_override("head=int16,wide")
    ('head', {'activations': 'int16', 'weights': 'wide'})
    """
    pattern, found, words = text.rpartition("=")
    if not found or not pattern:
        raise BadInput(f"override: found {text!r}; allowed is LAYER=int16, LAYER=wide or both")
    return pattern, {_kind(word): word for word in words.split(",")}


def with_overrides(recipe: Recipe, mg: MatGraph, overrides: Iterable[Override]) -> Recipe:
    """Return ``recipe`` with what the overrides ask for; BadInput where one names no layer."""
    promoted, widened = dict.fromkeys(recipe.promoted), dict.fromkeys(recipe.widened)
    for override in overrides:
        ops = _named(mg, override.pattern)
        if "activations" in override.choices:
            promoted |= dict.fromkeys(op.output for op in ops if not isinstance(op, Move))
        if "weights" in override.choices:
            widened |= dict.fromkeys(_widened(ops, override.pattern))
    return replace(recipe, promoted=tuple(promoted), widened=tuple(widened))


def _names(op: MatOp) -> tuple[str, ...]:
    """Return the names by which an operation is known: "/block/fc/Gemm" is also "block.fc.Gemm",
    and "block.fc", the submodule that made it."""
    source = op.source or op.output
    dotted = source.strip("/").replace("/", ".")
    return source, op.output, dotted, dotted.rpartition(".")[0]


def _named(mg: MatGraph, pattern: str) -> list[MatOp]:
    """Return the operations of layers, or that make tensors, which a pattern fits."""
    found = [op for op in mg.ops if any(fnmatchcase(name, pattern) for name in _names(op))]
    if not found:
        names = list(dict.fromkeys(op.source or op.output for op in mg.ops))
        near = get_close_matches(pattern, names, n=3, cutoff=0.4) or names[:5]
        raise BadInput(
            f"overrides: {pattern!r} is no layer; layers are {', '.join(map(repr, near))} and "
            "others (neuralmatrix report shows all)"
        )
    return found


def _widened(ops: Iterable[MatOp], pattern: str) -> list[str]:
    """Return the operations whose weights may have two digits."""
    found = [op.output for op in ops if may_widen(op)]
    if not found:
        raise BadInput(
            f"overrides: {pattern!r} has no weights that int8 rounds; 'wide' is allowed for layers "
            "with float weights"
        )
    return found
