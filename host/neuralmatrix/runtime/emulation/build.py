# SPDX-License-Identifier: Apache-2.0
"""Builds the kernels for this CPU, once per machine, array, schedule and source.

In: an ArrayConfig, a schedule.  Out: the path of a shared library in the cache, with its digest;
without a compiler that of the library which the package carries.
A library appears in the cache by one rename: an interrupted build leaves none.  Of processes that
need the same library one builds it, and the others wait.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import NeuralMatrixError
from ...hardware.host_cpu import cpu
from ...hardware.target import ArrayConfig
from ...paths import CACHE_VARIABLE, cache_dir
from .compilers import FLAGS, compile_library, compiler, headers, sources
from .lock import turn
from .notice import notice
from .prebuilt import prebuilt
from .schedule import FLAGS as SCHEDULE_FLAGS
from .schedule import Schedule, config

NATIVE = "-march=native"
WIDTH = "-mprefer-vector-width="
CLANG_WIDTH, OTHER_WIDTH = "512", "256"  # the options with which each runs ResNet-20 fastest
DIGEST, LOCK = ".sha256", ".lock"  # suffixes of what lies beside a library


def library_path(array: ArrayConfig, schedule: Schedule = "cpu") -> Path:
    """Return the path of the library of this array, this schedule and these sources."""
    digest = hashlib.sha256()
    for path in (*sources(), *headers()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    named = os.environ.get("CXX", "")
    options = (*FLAGS, *SCHEDULE_FLAGS[schedule], CLANG_WIDTH, OTHER_WIDTH)
    for text in (config(array, schedule), cpu(), named, *options):
        digest.update(text.encode() + b"\0")
    return cache_dir() / f"emulation-{array.fingerprint}-{digest.hexdigest()[:16]}.so"


def build(array: ArrayConfig, schedule: Schedule = "cpu") -> Path:
    """Return the library of an array in a schedule, built unless the cache has it.

    One that this machine's compiler builds runs faster than the package's own.  ToolMissing: there
    is neither.  NeuralMatrixError: the cache is not writable.
    """
    path = library_path(array, schedule)
    if _intact(path):
        return path
    try:
        compiler()
        _build_alone(path, array, schedule)
    except NeuralMatrixError:
        carried = prebuilt(array) if schedule == "cpu" and not os.environ.get("CXX") else None
        if carried is None:
            raise
        return carried
    return path


def forget(library: Path) -> None:
    """Remove a library that cannot be loaded from the cache: the next ``build`` makes it again."""
    if library.parent == cache_dir():
        library.unlink(missing_ok=True)


def _build_alone(path: Path, array: ArrayConfig, schedule: Schedule) -> None:
    """Put the library into the cache, unless another process does so first."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with turn(path.with_suffix(LOCK), "another process builds the emulation; waiting for it"):
            if not _intact(path):
                _build(path, array, schedule)
    except OSError as error:
        raise NeuralMatrixError(
            f"the cache folder {path.parent} is not writable ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a writable folder"
        ) from None


def _build(path: Path, array: ArrayConfig, schedule: Schedule) -> None:
    command = compiler()
    width = WIDTH + (CLANG_WIDTH if "clang" in command[0] else OTHER_WIDTH)
    tunings = ((NATIVE, width), (NATIVE,), ())  # other compilers and CPUs have fewer options
    name = Path(command[0]).name
    what = f"{name} builds the emulation of this array, once per machine: a few seconds"
    with notice(what), _scratch(path) as folder:
        library, digest = compile_library(folder, array, schedule, tunings), folder / DIGEST
        digest.write_bytes(_digest(library))
        # In this order no library lies there without its digest.
        os.replace(digest, path.with_suffix(DIGEST))
        os.replace(library, path)


@contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Make a temporary folder in the cache; remove those of builds that were killed."""
    for left in path.parent.glob(f"{path.stem}-*.build"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{path.stem}-", suffix=".build", dir=path.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _digest(library: Path) -> bytes:
    return hashlib.sha256(library.read_bytes()).hexdigest().encode()


def _intact(library: Path) -> bool:
    """Return whether a library is undamaged: loading a damaged one can end this process."""
    try:
        return library.with_suffix(DIGEST).read_bytes() == _digest(library)
    except OSError:
        return False
