# SPDX-License-Identifier: Apache-2.0
"""Runs our Tcl scripts against the recording stubs.

In: a script and the tool's environment.  Out: ``Recording``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUBS = Path(__file__).resolve().parent / "stubs.tcl"
TCLSH = shutil.which("tclsh")

needs_tclsh = pytest.mark.skipif(TCLSH is None, reason="no tclsh: apt install tcl")


@dataclass(frozen=True)
class Call:
    """One recorded command."""

    command: str
    options: dict[str, str]
    arguments: list[str]


@dataclass(frozen=True)
class Recording:
    """The recorded commands of a script and its end."""

    code: int
    errors: str
    calls: tuple[Call, ...]

    def of(self, command: str) -> list[Call]:
        """Return the calls of one command, in order."""
        return [call for call in self.calls if call.command == command]

    @property
    def message(self) -> str:
        """The last error, on one line."""
        return " ".join(self.errors.rpartition("ERROR: ")[2].split())


def run_script(
    tool: str, script: Path, arguments: list[str], folder: Path, **found: Any
) -> Recording:
    """Run ``script`` as ``tool`` would, in ``folder``; ``found`` sets STUB_ variables."""
    assert TCLSH is not None
    record = folder / "record.json"
    settings = {f"STUB_{name.upper()}": str(value) for name, value in found.items()}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("STUB_")}
    done = subprocess.run(
        [TCLSH, str(STUBS), tool, str(record), str(script), *arguments],
        cwd=folder, env={**environment, **settings}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    calls = tuple(Call(**json.loads(line)) for line in record.read_text().splitlines() if line)
    return Recording(done.returncode, done.stderr, calls)
