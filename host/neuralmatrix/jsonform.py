# SPDX-License-Identifier: Apache-2.0
"""Frozen dataclasses to JSON and back, every field checked.

In: a dataclass, or parsed JSON of unknown origin.  Out: parsed JSON, or the dataclass.
A wrong, missing or unknown field raises ``FormError`` naming its path; nothing is guessed.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from math import isfinite
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
_INT_LIMIT = 1 << 62


class FormError(ValueError):
    """``where`` found ``what``, which is not allowed."""

    def __init__(self, where: str, allowed: str, found: Any) -> None:
        text = repr(found)
        shown = text if len(text) <= 60 else text[:57] + "..."
        super().__init__(f"{where}: found {shown}, allowed is {allowed}")


def to_json(value: Any) -> Any:
    """Convert dataclasses and mappings to objects and tuples to lists, recursively."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_json(v) for v in value]
    if isinstance(value, Mapping):
        return {key: to_json(v) for key, v in value.items()}
    return value


def _int(data: Any, where: str) -> int:
    if isinstance(data, bool) or not isinstance(data, int) or abs(data) >= _INT_LIMIT:
        raise FormError(where, "an integer", data)
    return data


def _float(data: Any, where: str) -> float:
    number = isinstance(data, (int, float)) and not isinstance(data, bool)
    if not number or abs(data) >= _INT_LIMIT * 2.0**900 or not isfinite(data):
        raise FormError(where, "a finite number", data)
    return float(data)


def _bool(data: Any, where: str) -> bool:
    if not isinstance(data, bool):
        raise FormError(where, "true or false", data)
    return data


def _str(data: Any, where: str) -> str:
    if not isinstance(data, str):
        raise FormError(where, "a string", data)
    return data


_SCALARS: dict[Any, Callable[[Any, str], Any]] = {
    int: _int,
    float: _float,
    bool: _bool,
    str: _str,
}


def _tuple(types_: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise FormError(where, "a list", data)
    if len(types_) == 2 and types_[1] is Ellipsis:
        return tuple(_value(types_[0], d, f"{where}[{i}]") for i, d in enumerate(data))
    if len(data) != len(types_):
        raise FormError(where, f"a list of {len(types_)}", data)
    pairs = zip(types_, data, strict=True)
    return tuple(_value(t, d, f"{where}[{i}]") for i, (t, d) in enumerate(pairs))


def _literal(choices: tuple[Any, ...], data: Any, where: str) -> Any:
    if isinstance(data, bool) or not isinstance(data, (str, int)) or data not in choices:
        raise FormError(where, "one of " + ", ".join(map(repr, choices)), data)
    return data


def _union(members: tuple[Any, ...], data: Any, where: str) -> Any:
    """Parse a union: None, or the member whose field names are those of the object."""
    if data is None and type(None) in members:
        return None
    rest = [m for m in members if m is not type(None)]
    if len(rest) == 1:
        return _value(rest[0], data, where)
    keys = set(data) if isinstance(data, dict) else set()
    for member in rest:
        if {f.name for f in fields(member)} == keys:
            return _dataclass(member, data, where)
    raise FormError(where, "the fields of " + " or ".join(m.__name__ for m in rest), data)


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _dataclass(cls: type[T], data: Any, where: str) -> T:
    if not isinstance(data, dict):
        raise FormError(where, f"an object ({cls.__name__})", data)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise FormError(f"{where}.{unknown[0]}", "one of " + ", ".join(known), unknown[0])
    missing = [
        n
        for n, f in known.items()
        if n not in data and f.default is MISSING and f.default_factory is MISSING
    ]
    if missing:
        raise FormError(f"{where}.{missing[0]}", "a value", "nothing")
    hints: dict[str, Any] = _hints(cls)  # type: ignore[arg-type]
    return cls(**{n: _value(hints[n], v, f"{where}.{n}") for n, v in data.items()})


def _value(annotation: Any, data: Any, where: str) -> Any:
    if annotation in _SCALARS:
        return _SCALARS[annotation](data, where)
    if is_dataclass(annotation):
        return _dataclass(annotation, data, where)  # type: ignore[arg-type]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return _tuple(arguments, data, where)
    if origin in (Union, types.UnionType):
        return _union(arguments, data, where)
    return _literal(arguments, data, where)


def from_json(cls: type[T], data: Any, where: str) -> T:
    """Make the dataclass that parsed JSON describes.  FormError: a field is wrong."""
    return _dataclass(cls, data, where)
