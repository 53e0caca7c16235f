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
    commands = [[*options, "-c", str(x), "-o", str(o)] for x, o in objects.items()]
    with ThreadPoolExecutor(min(_cores(), len(commands))) as pool:
        messages = "".join(pool.map(_run, commands))
    if messages:
        return messages
    return _run([*options, "-shared", *map(str, objects.values()), *linking, "-o", str(target)])


def _cores() -> int:
    """Return the cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def _run(command: list[str]) -> str:
    """Run a compiler; return its messages if it failed, else an empty string."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"
