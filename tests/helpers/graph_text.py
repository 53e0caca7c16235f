# SPDX-License-Identifier: Apache-2.0
"""Everything a pass may change of a graph, as text for golden files.

In: a Graph, MatGraph, QGraph or any other dataclass of them.  Out: one line per item with the
fields that differ from their defaults, arrays below it.

Short arrays are spelled out.  Of a long one there is the shape and a digest of its bytes where it
holds integers, or floats that are multiples of 1/4096: those are exact in whatever order a machine
adds them up.  Other floats are summed up in four digits, which all machines agree on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

import numpy as np

SHORT = 12  # elements up to which an array is spelled out
EXACT = 4096  # a float is exact if it is a multiple of 1 / EXACT
SORTED = frozenset({"tensors", "shapes", "quant", "qparams"})  # mappings without an order


def graph_text(graph: Any) -> str:
    """The text of a graph: a section per field, a line per item."""
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
    """One line per name."""
    return "\n".join([*(f"{name}: {_short(value)}" for name, value in values.items()), ""])


def _mapping(what: str, values: Mapping[str, Any]) -> list[str]:
    names = sorted(values) if what in SORTED else list(values)
    return [f"{what} {name}: {_short(values[name])}" for name in names]


def _block(item: Any, indent: str = "") -> list[str]:
    """A line of small fields, then the arrays and what holds arrays."""
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
    """What an operation makes comes first; the order of declaration makes no difference."""
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
    """A small value in one line."""
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
    """Shape, and the values or what stands for them."""
    size = "x".join(map(str, array.shape)) or "scalar"
    flat = array.reshape(-1)
    if flat.size <= SHORT:
        return f"{size} [{' '.join(_numbers(flat))}]"
    if flat.dtype.kind != "f":
        return f"{size} {_digest(flat)} [{' '.join(_numbers(flat[:6]))} ...]"
    int16 = flat.astype(np.float64)
    steps = int16 * EXACT
    if np.array_equal(steps, np.rint(steps)):
        return f"{size} {_digest(np.rint(steps))} [{' '.join(_numbers(int16[:6]))} ...]"
    ramp = np.arange(flat.size) % 97
    sums = (int16.sum(), np.abs(int16).sum(), (np.abs(int16) * ramp).sum())
    return f"{size} sums {' '.join(_numbers(sums))} [{' '.join(_numbers(int16[:6]))} ...]"


def _numbers(values: Iterable[Any]) -> list[str]:
    return [f"{v + 0:.4g}" if isinstance(v, float | np.floating) else str(v) for v in values]


def _digest(values: np.ndarray) -> str:
    """Eight hexadecimal digits of an array of integers."""
    return hashlib.sha256(values.astype("<i8").tobytes()).hexdigest()[:8]
