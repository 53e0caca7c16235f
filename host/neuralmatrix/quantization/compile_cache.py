# SPDX-License-Identifier: Apache-2.0
"""The cache of what compiling found: tables' indices and recipes, by what they depend on.

In: a function, its arguments.  Out: what it returned for the same arguments before, in this or
another process.

An entry's name is the digest of the arguments, of this package's sources, of numpy's version and of
the CPU, so that a compile gives the same program, byte for byte, with the cache and without.
Entries appear by one rename, and damaged ones are made again: processes need no lock.  A cache that
cannot be read or written is no error.  ``NEURALMATRIX_COMPILE_CACHE`` is its bound in megabytes; 0
switches it off.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ..errors import BadInput, NeuralMatrixError
from ..hardware.host_cpu import cpu
from ..paths import cache_dir
from .content import digest_of, from_bytes, to_bytes

VARIABLE = "NEURALMATRIX_COMPILE_CACHE"
MEGABYTES = 256.0
FULL = 0.8  # share of the bound that is left when old entries go
PACKAGE = Path(__file__).resolve().parents[1]
T = TypeVar("T")


def remembered(
    what: str,
    make: Callable[..., T],
    *arguments: Any,
    classes: Mapping[str, type],
    keeps: Callable[[T], bool] = lambda found: True,
) -> T:
    """Return ``make(*arguments)``, or what it returned for equal arguments before.

    ``classes``: what results consist of, by name.  ``keeps``: whether a result may be kept.
    """
    path = _entry(what, arguments)
    if path is None:
        return make(*arguments)
    known = _read(path, classes)
    if known is not None:
        return known[0]  # type: ignore[no-any-return]
    found = make(*arguments)
    if keeps(found):
        _write(path, to_bytes(found))
    return found


def folder() -> Path:
    """Return the folder of the entries."""
    return cache_dir() / "compile"


def bound() -> float:
    """Return the most megabytes of the cache, 0 if it is off.  BadInput: no number is given."""
    given = os.environ.get(VARIABLE)
    try:
        megabytes = MEGABYTES if given is None else float(given)
    except ValueError:
        megabytes = -1.0
    if not 0 <= megabytes < float("inf"):
        raise BadInput(f"{VARIABLE}: found {given!r}, allowed are megabytes from 0 (no cache)")
    return megabytes


def _entry(what: str, arguments: tuple[Any, ...]) -> Path | None:
    """Return the file of a result; None without a cache."""
    if not bound():
        return None
    try:
        return folder() / f"{what}-{digest_of(_version(), arguments)}"
    except (NeuralMatrixError, TypeError):  # no home folder, or arguments without a digest
        return None


@lru_cache(maxsize=1)
def _version() -> tuple[str, ...]:
    """Return what results depend on besides arguments."""
    found = hashlib.blake2b()
    for path in sorted(PACKAGE.rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest(), np.__version__, cpu()


def _read(path: Path, classes: Mapping[str, type]) -> tuple[Any] | None:
    """Return the result of an entry; None if there is none, or a damaged one."""
    try:
        data = path.read_bytes()
        os.utime(path)  # what is used stays
    except OSError:
        return None
    try:
        return (from_bytes(zlib.decompress(data), classes),)  # zlib checks a sum of the content
    except (zlib.error, ValueError, KeyError, TypeError, IndexError):
        return None


def _write(path: Path, data: bytes) -> None:
    """Keep a result; a cache that is not writable stays as it is."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            temporary = file.name
            file.write(zlib.compress(data, 1))
        os.replace(temporary, path)
        _trim(path.parent, bound() * 1e6)
    except OSError:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def _trim(place: Path, most: float) -> None:
    """Remove the entries that were used longest ago if all together exceed the bound."""
    found = []
    for entry in os.scandir(place):
        try:
            state = entry.stat()
        except FileNotFoundError:  # another process has removed it
            continue
        found.append((state.st_mtime, state.st_size, entry.path))
    total = sum(size for _, size, _ in found)
    for _, size, path in sorted(found) if total > most else ():
        if total <= FULL * most:
            break
        Path(path).unlink(missing_ok=True)
        total -= size
