# SPDX-License-Identifier: Apache-2.0
"""Compiles the kernels for this CPU, once per array, schedule and source.

In: an ArrayConfig, a schedule.  Out: the path of a shared library in the cache, with its digest.
A library appears in the cache by one rename: an interrupted build leaves none, and parallel builds
do not disturb each other.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import NeuralMatrixError, ToolMissing
from ...hardware.target import ArrayConfig
from ...paths import hls_dir
from .schedule import FLAGS as SCHEDULE_FLAGS
from .schedule import Schedule, config

CACHE_VARIABLE = "NEURALMATRIX_CACHE"
COMPILERS = ("clang++", "g++")  # the compiler of the faster code first
# All floats hold integers exactly: a fused multiply-add changes only the speed.
MATH = ("-fwrapv", "-ffp-contract=fast")
FLAGS = ("-O3", "-std=c++14", *MATH, "-fPIC", "-shared", "-fvisibility=hidden")
NATIVE = "-march=native"
WIDTH = "-mprefer-vector-width="
CLANG_WIDTH, OTHER_WIDTH = "512", "256"  # the options with which each runs ResNet-20 fastest
BUILD_SECONDS = 300
DIGEST = ".sha256"  # suffixes of libraries other than .so
_ADVICE = (
    "install one (Debian and Ubuntu: apt install clang, or g++; macOS: xcode-select --install) "
    "or name it in the environment variable CXX"
)


def cache_dir() -> Path:
    """Return the folder of built libraries: $NEURALMATRIX_CACHE, else the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "neuralmatrix"
    except RuntimeError:
        raise NeuralMatrixError(
            f"the user's home folder was not found; set {CACHE_VARIABLE} to a writable folder"
        ) from None


def compiler() -> tuple[str, ...]:
    """Find the C++ compiler's command.  ToolMissing: there is none."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise ToolMissing(
            f"the environment variable CXX is not a command ({error}); {_ADVICE}"
        ) from None
    for command in [named] if named else [[name] for name in COMPILERS]:
        found = shutil.which(command[0])
        if found:
            return (found, *command[1:])
    tried = " ".join(named) if named else ", ".join(COMPILERS)
    raise ToolMissing(f"no C++ compiler found (tried {tried}); {_ADVICE}")


def _sources() -> tuple[Path, ...]:
    root = hls_dir()
    return (*sorted((root / "src").glob("*.cpp")), root / "emulation" / "bridge.cpp")


def _headers() -> tuple[Path, ...]:
    root = hls_dir()
    found = [*(root / "include" / "nm").glob("*.h"), *(root / "emulation").glob("*.h")]
    return tuple(sorted(path for path in found if path.name != "config.h"))


def _cpu() -> str:
    """Describe what -march=native depends on, as several machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    features = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return f"{platform.system()} {platform.machine()} {platform.processor()} {features}"


def library_path(array: ArrayConfig, schedule: Schedule = "cpu") -> Path:
    """Return the path of the library of this array, this schedule and these sources."""
    digest = hashlib.sha256()
    for path in (*_sources(), *_headers()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    named = os.environ.get("CXX", "")
    options = (*FLAGS, *SCHEDULE_FLAGS[schedule], CLANG_WIDTH, OTHER_WIDTH)
    for text in (config(array, schedule), _cpu(), named, *options):
        digest.update(text.encode() + b"\0")
    return cache_dir() / f"emulation-{array.fingerprint}-{digest.hexdigest()[:16]}.so"


@contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """Make a temporary folder in the cache."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="build-", dir=cache))
    except OSError as error:
        raise NeuralMatrixError(
            f"the cache folder {cache} is not writable ({error.strerror}); "
            f"set {CACHE_VARIABLE} to a writable folder"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(command: list[str]) -> str:
    """Run a compiler; return its messages if it failed, else an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"


def _compile(folder: Path, array: ArrayConfig, schedule: Schedule) -> Path:
    """Compile into ``folder``.  ToolMissing: no compiler, or one that fails."""
    command = compiler()
    (folder / "nm").mkdir()
    (folder / "nm" / "config.h").write_text(config(array, schedule), encoding="utf-8")
    # The array's config.h comes before the committed one.
    include = ["-I", str(folder), "-I", str(hls_dir() / "include")]
    target = folder / "emulation.so"
    files = [*map(str, _sources()), "-o", str(target)]
    messages, flags = "", (*FLAGS, *SCHEDULE_FLAGS[schedule])
    width = WIDTH + (CLANG_WIDTH if "clang" in command[0] else OTHER_WIDTH)
    for tuning in ((NATIVE, width), (NATIVE,), ()):  # other compilers and CPUs have fewer flags
        messages = _run([*command, *flags, *tuning, *include, *files])
        if not messages and target.is_file():
            return target
    tail = "\n".join(messages.splitlines()[-12:])
    raise ToolMissing(
        f"the C++ compiler {' '.join(command)} could not build the emulation:\n{tail}\n{_ADVICE}"
    )


def _digest(library: Path) -> bytes:
    return hashlib.sha256(library.read_bytes()).hexdigest().encode()


def _intact(library: Path) -> bool:
    """Return whether a library is undamaged: loading a damaged one can end this process."""
    try:
        return library.with_suffix(DIGEST).read_bytes() == _digest(library)
    except OSError:
        return False


def build(array: ArrayConfig, schedule: Schedule = "cpu") -> Path:
    """Return the library of an array in a schedule, built unless the cache has it."""
    path = library_path(array, schedule)
    if _intact(path):
        return path
    with _scratch(path.parent) as folder:
        library, digest = _compile(folder, array, schedule), folder / DIGEST
        digest.write_bytes(_digest(library))
        # In this order no library lies there without its digest.  If parallel builds differ and
        # their renames mix, the next process builds again.
        os.replace(digest, path.with_suffix(DIGEST))
        os.replace(library, path)
    return path
