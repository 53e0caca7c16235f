# SPDX-License-Identifier: Apache-2.0
"""The kernels of an array compiled as threads, and runs of programs on them.

In: an array, programs with their arenas.  Out: per program what became of it, and its arena.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from neuralmatrix.hardware.cpp_headers import config_header
from neuralmatrix.hardware.target import ArrayConfig
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulation.emulator import Emulator

Array = npt.NDArray[Any]
HERE = Path(__file__).resolve().parent
HLS = HERE.parent
FLAGS = ("-std=c++14", "-O2", "-fwrapv", "-ffp-contract=fast", "-w", "-pthread")
AT_ONCE = 200  # programs of one process: their folders are its arguments


@dataclass(frozen=True)
class Outcome:
    """``said`` begins with "ended", "dead-lock" or "no end"; ``arena`` is None without an end."""

    said: str
    arena: Array | None

    @property
    def ended(self) -> bool:
        return self.said.startswith("ended")


class ConcurrentKernels:
    """Four threads with bounded streams that block, as the kernels of the device run."""

    def __init__(self, array: ArrayConfig, folder: Path) -> None:
        self.folder, self.binary = folder, folder / "kernels"
        (folder / "nm").mkdir(parents=True, exist_ok=True)
        (folder / "nm" / "config.h").write_text(config_header(array), encoding="utf-8")
        # In this order: config.h and stream.h take the place of the kernels' own.
        includes = (folder, HERE / "include", HLS / "include")
        sources = (HERE / "kernels.cpp", *sorted((HLS / "src").glob("*.cpp")))
        command = ["g++", *FLAGS, *(f"-I{path}" for path in includes), *map(str, sources)]
        subprocess.run([*command, "-o", str(self.binary)], check=True)

    def run(
        self, programs: Sequence[Program], arenas: Sequence[Array], seconds: int = 60
    ) -> list[Outcome]:
        """Run each program on its arena, of which a copy is changed; ``seconds`` limits each."""
        found: list[Outcome] = []
        for first in range(0, len(programs), AT_ONCE):
            part = slice(first, first + AT_ONCE)
            found += self._run(programs[part], arenas[part], seconds)
        return found

    def _run(
        self, programs: Sequence[Program], arenas: Sequence[Array], seconds: int
    ) -> list[Outcome]:
        folders = [self.folder / str(i) for i in range(len(programs))]
        for folder, program, arena in zip(folders, programs, arenas, strict=True):
            folder.mkdir(exist_ok=True)
            program.instructions.astype("<u4").tofile(folder / "program")
            program.const.tofile(folder / "const")
            arena.tofile(folder / "arena")
        command = [str(self.binary), str(seconds), *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        lines = done.stdout.splitlines()
        return [
            Outcome(said, _arena(folder) if said.startswith("ended") else None)
            for said, folder in zip(lines, folders, strict=True)
        ]


def _arena(folder: Path) -> Array:
    return np.fromfile(folder / "arena", np.uint8)


def beside_emulation(program: Program, kernels: ConcurrentKernels) -> tuple[Outcome, bool]:
    """Run a program on random bytes as threads and in emulation; return whether all are equal."""
    emulator = Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )
    emulator.arena[:] = np.random.default_rng(1).integers(0, 256, len(emulator.arena))
    (found,) = kernels.run([program], [emulator.arena])
    emulator.run()
    return found, found.arena is not None and np.array_equal(found.arena, emulator.arena)
