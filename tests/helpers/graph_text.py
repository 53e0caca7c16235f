# SPDX-License-Identifier: Apache-2.0
"""The text of a graph for golden files: everything that a pass may change.

In: a Graph, MatGraph, QGraph or any other dataclass of them.  Out: one line per item with the
fields that differ from their defaults, arrays below it.

Short arrays are printed in full.  A long one is its shape and a digest of its bytes if it holds
integers or multiples of 1/4096, which are exact in any order of summation.  Other floats are
summarised in four digits, which are equal on all machines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import numpy as np

SHORT = 12  # elements up to which an array is printed in full
EXACT = 4096  # a float is exact if it is a multiple of 1 / EXACT
SORTED = frozenset({"tensors", "shapes", "quant", "qparams"})  # mappings without an order


def graph_text(graph: Any) -> str:
    """Return the text of a graph: a section per field, a line per item."""
    lines = []
    for field in fields(graph):
        value = getattr(graph, field.name)
        if isinstance(value, Mapping):
            lines += _mapping(field.name, value)
        elif isinstance(value, tuple) and value and is_dataclass(value[0]):
            lines.append(f"{field.name}:")
            for item in value:
                lines += _block(item, "  ")
        elif not _is_default(field, value):
            lines.append(f"{field.name}: {_short(value)}")
    return "\n".join([*lines, ""])


def mapping_text(values: Mapping[str, Any]) -> str:
    """Return one line per name."""
    return "\n".join([*(f"{name}: {_short(value)}" for name, value in values.items()), ""])


def _mapping(what: str, values: Mapping[str, Any]) -> list[str]:
    names = sorted(values) if what in SORTED else list(values)
    return [f"{what} {name}: {_short(values[name])}" for name in names]


def _block(item: Any, indent: str = "") -> list[str]:
    """Return a line of small fields, then the arrays and the fields that hold arrays."""
    words, below = [type(item).__name__], []
    for field in sorted(fields(item), key=_place):
        value = getattr(item, field.name)
        if value is None or _is_default(field, value):
            continue
        if isinstance(value, np.ndarray):
            below.append(f"{indent}  {field.name}: {array_text(value)}")
        elif _holds_arrays(value):
            nested = _block(value, f"{indent}  ")
            below += [f"{indent}  {field.name}: {nested[0].strip()}", *nested[1:]]
        else:
            words.append(f"{field.name}={_short(value)}")
    return [indent + " ".join(words), *below]


def _place(field: Field[Any]) -> tuple[bool, str]:
    """Return the fields with an operation's outputs first, in an order independent of
    declaration."""
    return field.name != "output", field.name


def _is_default(field: Field[Any], value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return False
    if field.default_factory is not MISSING:
        return bool(value == field.default_factory())
    return field.default is not MISSING and bool(value == field.default)


def _holds_arrays(value: Any) -> bool:
    if not is_dataclass(value):
        return False
    held = (getattr(value, field.name) for field in fields(value))
    return any(isinstance(v, np.ndarray) or _holds_arrays(v) for v in held)


def _short(value: Any) -> str:
    """Return a small value in one line."""
    if isinstance(value, np.ndarray):
        return array_text(value)
    if isinstance(value, float | np.floating):
        return f"{value:.4g}"
    if is_dataclass(value):
        named = ((f, getattr(value, f.name)) for f in fields(value))
        inner = (f"{f.name}={_short(v)}" for f, v in named if not _is_default(f, v))
        return f"{type(value).__name__}({', '.join(inner)})"
    if isinstance(value, tuple | list):
        return f"({','.join(map(_short, value))})"
    if isinstance(value, frozenset | set):
        return f"{{{','.join(sorted(map(_short, value)))}}}"
    return str(value)


def array_text(array: np.ndarray) -> str:
    """Return the shape, and the values or their summary."""
    size = "x".join(map(str, array.shape)) or "scalar"
    flat = array.reshape(-1)
    if flat.size <= SHORT:
        return f"{size} [{' '.join(_numbers(flat))}]"
    if flat.dtype.kind != "f":
        return f"{size} {_digest(flat)} [{' '.join(_numbers(flat[:6]))} ...]"
    floats = flat.astype(np.float64)
    steps = floats * EXACT
    if np.array_equal(steps, np.rint(steps)):
        return f"{size} {_digest(np.rint(steps))} [{' '.join(_numbers(floats[:6]))} ...]"
    ramp = np.arange(flat.size) % 97
    sums = (floats.sum(), np.abs(floats).sum(), (np.abs(floats) * ramp).sum())
    return f"{size} sums {' '.join(_numbers(sums))} [{' '.join(_numbers(floats[:6]))} ...]"


def _numbers(values: Iterable[Any]) -> list[str]:
    return [f"{v + 0:.4g}" if isinstance(v, float | np.floating) else str(v) for v in values]


def _digest(values: np.ndarray) -> str:
    """Return eight hexadecimal digits of an array of integers."""
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()[:8]
