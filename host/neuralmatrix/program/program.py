# SPDX-License-Identifier: Apache-2.0
"""The program that a compiler makes and a device runs: instructions, constants, inputs, outputs.

In: the schedule.  Out: ``Program``, and the ``.nmx`` file it is saved as.
Needs numpy and the standard library alone.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from . import nmx_file
from .data import ProgramData
from .estimate import Estimate, estimate
from .verify import verify_program


@dataclass(frozen=True, eq=False, kw_only=True)
class Program(ProgramData):
    """A compiled network that can be saved and estimated."""

    def save(self, path: str | Path) -> None:
        """Write the program to ``path`` (``net.nmx``), all of it or nothing."""
        nmx_file.write(self, Path(path))

    def estimate(self) -> Estimate:
        """Return cycles, utilisation and DRAM bytes from the cycle model."""
        return estimate(self)


def load(path: str | Path) -> Program:
    """Read a program from any source.  BadProgram: damaged, of another version, or unsafe."""
    data = nmx_file.read(Path(path))
    verify_program(data)
    return Program(**{f.name: getattr(data, f.name) for f in fields(ProgramData)})
