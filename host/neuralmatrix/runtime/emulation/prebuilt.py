# SPDX-License-Identifier: Apache-2.0
"""The emulations that a wheel carries, for machines without a C++ compiler.

In: an ArrayConfig, this machine's CPU.  Out: the path of the best library that the CPU runs.
``setup.py`` makes them for every array of the board files: an x86-64 CPU since about 2013 runs
x86-64-v3, whose vector units compute about as fast as with the CPU's own options; v2 is for older
ones and virtual machines that hide AVX2.  Every 64-bit ARM has what the one of armv8-a needs.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ...hardware.board import board_names, load_board
from ...hardware.host_cpu import cpu_features
from ...hardware.target import ArrayConfig
from ...paths import prebuilt_dir
from .compilers import compile_library

# The user's machine may lack the compiler's own libraries, or have older ones.
LINKING = ("-static-libstdc++", "-static-libgcc", "-s")
V2 = frozenset("cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3".split())
V3 = V2 | frozenset("abm avx avx2 bmi1 bmi2 f16c fma movbe xsave".split())


@dataclass(frozen=True)
class Level:
    """A set of instructions: its name for the compiler, the machines and features that it needs."""

    name: str
    machine: str
    features: frozenset[str] = frozenset()

    @property
    def options(self) -> tuple[str, ...]:
        """The compiler's options."""
        return (f"-march={self.name}",)

    def file(self, array: ArrayConfig) -> str:
        """Return the name of an array's library."""
        return f"emulation-{array.fingerprint}-{self.name}.so"


# The best first.
LEVELS = (
    Level("x86-64-v3", "x86_64", V3),
    Level("x86-64-v2", "x86_64", V2),
    Level("armv8-a", "aarch64"),
)


def prebuilt(array: ArrayConfig) -> Path | None:
    """Return the library of this package for an array and this CPU; None if there is none."""
    machine, features = platform.machine(), cpu_features()
    for level in LEVELS:
        path = prebuilt_dir() / level.file(array)
        if level.machine == machine and level.features <= features and path.is_file():
            return path
    return None


def make_all(folder: Path) -> list[Path]:
    """Build the libraries of all arrays that boards have, for CPUs of this machine's kind.

    Several boards share an array.  ToolMissing: no compiler, or one that fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {board.array.fingerprint: board.array for board in map(load_board, board_names())}
    levels = [level for level in LEVELS if level.machine == platform.machine()]
    return [_made(folder, array, level) for array in arrays.values() for level in levels]


def _made(folder: Path, array: ArrayConfig, level: Level) -> Path:
    with tempfile.TemporaryDirectory() as scratch:
        library = compile_library(Path(scratch), array, "cpu", [level.options], LINKING)
        return Path(shutil.copyfile(library, folder / level.file(array)))
