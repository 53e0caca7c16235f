# SPDX-License-Identifier: Apache-2.0
"""Compiles the kernels into a shared library.

In: an ArrayConfig, a schedule, options for a CPU.  Out: a shared library in a folder.
The files are compiled side by side, one per core.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

from ...errors import ToolMissing
from ...hardware.target import ArrayConfig
from ...paths import hls_dir
from .schedule import FLAGS as SCHEDULE_FLAGS
from .schedule import Schedule, config

COMPILERS = ("clang++", "g++")  # the compiler of the faster code first
# All floats hold integers exactly: a fused multiply-add changes only the speed.
MATH = ("-fwrapv", "-ffp-contract=fast")
FLAGS = ("-O3", "-std=c++14", *MATH, "-fPIC", "-fvisibility=hidden")
BUILD_SECONDS = 300
ADVICE = (
    "install one (Debian and Ubuntu: apt install clang, or g++; macOS: xcode-select --install) "
    "or name it in the environment variable CXX"
)


def compiler() -> tuple[str, ...]:
    """Find the C++ compiler's command.  ToolMissing: there is none."""
    try:
        named = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise ToolMissing(
            f"the environment variable CXX is not a command ({error}); {ADVICE}"
        ) from None
    for command in [named] if named else [[name] for name in COMPILERS]:
        found = shutil.which(command[0])
        if found:
            return (found, *command[1:])
    tried = " ".join(named) if named else ", ".join(COMPILERS)
    raise ToolMissing(f"no C++ compiler found (tried {tried}); {ADVICE}")


def sources() -> tuple[Path, ...]:
    """Return the files to compile."""
    root = hls_dir()
    return (*sorted((root / "src").glob("*.cpp")), root / "emulation" / "bridge.cpp")


def headers() -> tuple[Path, ...]:
    """Return the files that the sources include, but for the array's ``config.h``."""
    root = hls_dir()
    found = [*(root / "include" / "nm").glob("*.h"), *(root / "emulation").glob("*.h")]
    return tuple(sorted(path for path in found if path.name != "config.h"))


def compile_library(
    folder: Path,
    array: ArrayConfig,
    schedule: Schedule,
    tunings: Sequence[Sequence[str]],
    linking: Sequence[str] = (),
) -> Path:
    """Compile into an empty folder; return the library.

    ``tunings``: options for a CPU, of which the first that the compiler takes counts.
    ToolMissing: there is no compiler, or it fails.
    """
    command = compiler()
    (folder / "nm").mkdir()
    (folder / "nm" / "config.h").write_text(config(array, schedule), encoding="utf-8")
    # The array's config.h comes before the committed one.
    include = ["-I", str(folder), "-I", str(hls_dir() / "include")]
    target, messages = folder / "emulation.so", ""
    for tuning in tunings:
        options = [*command, *FLAGS, *SCHEDULE_FLAGS[schedule], *tuning, *include]
        messages = _compiled(options, linking, target)
        if not messages and target.is_file():
            return target
    tail = "\n".join(messages.splitlines()[-12:])
    raise ToolMissing(
        f"the C++ compiler {' '.join(command)} could not build the emulation:\n{tail}\n{ADVICE}"
    )


def _compiled(options: Sequence[str], linking: Sequence[str], target: Path) -> str:
    """Compile all sources and link ``target``; return the messages of what failed, or ""."""
    objects = {source: target.with_name(f"{source.stem}.o") for source in sources()}
    compiling = [[*options, "-c", str(x), "-o", str(o)] for x, o in objects.items()]
    link = [*options, "-shared", *map(str, objects.values()), *linking, "-o", str(target)]
    return _run_all(compiling) or _run_all([link])


def _cores() -> int:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _run_all(commands: Sequence[Sequence[str]]) -> str:
    """Run compilers side by side; return the messages of those that failed, or "".

    Where this is interrupted, none of them goes on.
    """
    started: list[subprocess.Popen[str]] = []
    stopped = Event()
    with ThreadPoolExecutor(min(_cores(), len(commands))) as pool:
        try:
            return "".join(pool.map(lambda command: _run(command, started, stopped), commands))
        except BaseException:
            stopped.set()  # before the list is read: a compiler that is missing there sees it
            for process in started:
                process.kill()
            raise


def _run(command: Sequence[str], started: list[subprocess.Popen[str]], stopped: Event) -> str:
    """Run a compiler, entered in ``started``; return its messages if it failed, else ""."""
    if stopped.is_set():
        return "stopped"
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)
    except OSError as error:
        return str(error)
    started.append(process)
    if stopped.is_set():
        process.kill()
    try:
        _, messages = process.communicate(timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.communicate()
        return str(error)
    return "" if process.returncode == 0 else messages or f"exit code {process.returncode}"
