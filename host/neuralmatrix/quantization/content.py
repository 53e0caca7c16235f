# SPDX-License-Identifier: Apache-2.0
"""Values by their content: a digest of what a result depends on, and results as bytes.

In: values of frozen data classes, mappings, tuples, arrays, strings and numbers.  Out: a digest, or
bytes and the same values again, to the last bit.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np

from ..ir.types import Array

DIGEST_BYTES = 20


# ---------------------------------------------------------------- digests


def digest_of(*values: Any) -> str:
    """Return a digest of the values' types and content.  TypeError: a value of another kind."""
    found = hashlib.blake2b(digest_size=DIGEST_BYTES)
    _feed(found.update, values)
    return found.hexdigest()


def _feed(update: Callable[[Any], None], value: Any) -> None:
    """Feed a value to a hash; every part begins with its kind and size."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        update(f"array {array.dtype.str} {np.shape(value)}\n".encode())
        update(array.reshape(-1).view(np.uint8).data)
    elif isinstance(value, Enum):
        update(f"enum {type(value).__name__} {value.name}\n".encode())
    elif value is None or isinstance(value, (str, int, float)):
        update(f"{type(value).__name__} {value!r}\n".encode())
    elif isinstance(value, bytes):
        update(b"bytes %d\n" % len(value) + value)
    else:
        kind, parts = _parts(value)
        update(f"{kind} {len(parts)}\n".encode())
        for part in parts:
            _feed(update, part)


def _parts(value: Any) -> tuple[str, list[Any]]:
    """Return the name of a compound value's kind, and its parts."""
    if is_dataclass(value) and not isinstance(value, type):
        return type(value).__name__, [getattr(value, f.name) for f in fields(value)]
    if isinstance(value, Mapping):
        return "mapping", [part for item in value.items() for part in item]
    if isinstance(value, (tuple, list)):
        return "sequence", list(value)
    if isinstance(value, (set, frozenset)):
        return "set", sorted(digest_of(part) for part in value)
    raise TypeError(f"a {type(value).__name__} has no digest")


# ---------------------------------------------------------------- bytes


def to_bytes(value: Any) -> bytes:
    """Return a value as bytes."""
    return json.dumps(_packed(value), separators=(",", ":")).encode()


def from_bytes(data: bytes, classes: Mapping[str, type]) -> Any:
    """Return the value of ``to_bytes``; ``classes``: those that it may consist of, by name.

    ValueError, KeyError or TypeError: it is damaged, or of another version.
    """
    return _unpacked(json.loads(data), classes)


def _packed(value: Any) -> Any:
    """Return JSON: scalars as they are, all else a list that begins with its kind."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        text = base64.b64encode(array.tobytes()).decode()
        kind = "array" if isinstance(value, np.ndarray) else "number"
        return [kind, array.dtype.str, list(np.shape(value)), text]
    if value is None or type(value) in (str, bool, int, float):
        return value
    if isinstance(value, Enum):
        return ["enum", type(value).__name__, value.name]
    if is_dataclass(value) and not isinstance(value, type):
        named = {f.name: _packed(getattr(value, f.name)) for f in fields(value)}
        return ["class", type(value).__name__, named]
    if isinstance(value, Mapping):
        return ["mapping", [[_packed(key), _packed(part)] for key, part in value.items()]]
    if isinstance(value, (tuple, list)):
        return ["tuple" if isinstance(value, tuple) else "list", [_packed(x) for x in value]]
    raise TypeError(f"a {type(value).__name__} cannot be kept")


def _unpacked(data: Any, classes: Mapping[str, type]) -> Any:
    if not isinstance(data, list):
        return data
    return _KINDS[data[0]](classes, *data[1:])


def _array(classes: Mapping[str, type], dtype: str, shape: list[int], text: str) -> Array:
    flat = np.frombuffer(base64.b64decode(text, validate=True), np.dtype(dtype))
    return np.array(flat.reshape(shape))


def _number(classes: Mapping[str, type], dtype: str, shape: list[int], text: str) -> Any:
    return _array(classes, dtype, shape, text)[()]


def _enum(classes: Mapping[str, type], name: str, member: str) -> Any:
    kind: Any = classes[name]
    return kind[member]


def _object(classes: Mapping[str, type], name: str, named: dict[str, Any]) -> Any:
    return classes[name](**{key: _unpacked(part, classes) for key, part in named.items()})


def _mapping(classes: Mapping[str, type], items: list[Any]) -> dict[Any, Any]:
    return {_unpacked(key, classes): _unpacked(part, classes) for key, part in items}


def _list(classes: Mapping[str, type], items: list[Any]) -> list[Any]:
    return [_unpacked(part, classes) for part in items]


def _tuple(classes: Mapping[str, type], items: list[Any]) -> tuple[Any, ...]:
    return tuple(_list(classes, items))


_KINDS: Mapping[str, Callable[..., Any]] = {
    "array": _array,
    "number": _number,
    "enum": _enum,
    "class": _object,
    "mapping": _mapping,
    "list": _list,
    "tuple": _tuple,
}
