# SPDX-License-Identifier: Apache-2.0
"""Finds Vitis HLS and Vivado, asks for their versions, and runs them.

In: the PATH, a script.  Out: commands; BuildFailed with the tool's last lines.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from neuralmatrix.errors import BuildFailed, ToolMissing
from neuralmatrix.hardware.overlay_folder import Tool

TIMEOUT_S = 24 * 3600  # a large array takes hours; a tool that waits for a licence would never end
VERSION_TIMEOUT_S = 120
LAST_LINES = 12
UNKNOWN = "unknown"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Program:
    """How to call a tool: ``command`` before the script, ``version`` for its version."""

    name: str
    command: tuple[str, ...]
    version: tuple[str, ...]


# The newer name first: from 2024.2 on vitis_hls is a wrapper, which later versions lack.
HLS = (
    Program("vitis-run", ("vitis-run", "--mode", "hls", "--tcl"), ("vitis-run", "--version")),
    Program("vitis_hls", ("vitis_hls", "-f"), ("vitis_hls", "-version")),
)
VIVADO = Program(
    "vivado",
    ("vivado", "-mode", "batch", "-notrace", "-nojournal", "-nolog", "-source"),
    ("vivado", "-version"),
)


def _missing(what: str, tried: str) -> ToolMissing:
    return ToolMissing(
        f"{what} was not found (tried {tried}); install AMD's Vitis, which brings Vitis HLS and "
        "Vivado, with the devices of your board, and source its settings64.sh in this shell"
    )


def find_hls() -> Program:
    """Find the tool that runs an HLS script.  ToolMissing: there is none."""
    for program in HLS:
        if shutil.which(program.name):
            return program
    raise _missing("Vitis HLS", ", ".join(program.name for program in HLS))


def find_vivado() -> Program:
    """Find Vivado.  ToolMissing: there is none."""
    if shutil.which(VIVADO.name):
        return VIVADO
    raise _missing("Vivado", VIVADO.name)


def tool_version(program: Program) -> Tool:
    """Return name and version for ``overlay.json``; "unknown" if the tool prints none."""
    try:
        done = subprocess.run(
            program.version,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return Tool(program.name, UNKNOWN)
    found = re.search(r"\bv?(20\d\d\.\d+(?:\.\d+)?)", done.stdout + done.stderr)
    return Tool(program.name, found.group(1) if found else UNKNOWN)


def last_words(log: Path) -> str:
    """Return the errors in a log, else its last lines."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line for line in lines if line.startswith(("ERROR", "CRITICAL WARNING"))]
    shown = (errors or [line for line in lines if line.strip()])[-LAST_LINES:]
    return "\n".join(f"  {line}" for line in shown) or "  (the log is empty)"


def _ended(start: Callable[[], subprocess.Popen[bytes]], timeout_s: float) -> int | None:
    """Start a tool; return its exit status, None after a timeout.  Its children end with it."""
    process = None
    try:
        with _stops_later():
            process = start()
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def _stops_later() -> Iterator[None]:
    """Keep signals that stop a build until its tool is known: it would outlive the build."""
    arrived: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    before = {one: signal.getsignal(one) for one in STOPPING if is_main}
    before = {one: handler for one, handler in before.items() if callable(handler)}
    for one in before:
        signal.signal(one, lambda number, frame: arrived.append(number))
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
    for number in arrived:
        signal.raise_signal(number)


def run(
    program: Program,
    script: Path,
    *,
    arguments: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    folder: Path,
    log: Path,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Run a script in ``folder``, all output into ``log``.  BuildFailed: it failed."""
    command = [*program.command, str(script), *arguments]
    with log.open("wb") as output:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                command,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

        status = _ended(start, timeout_s)
    if status == 0:
        return
    how = f"stopped with status {status}" if status is not None else f"ran past {timeout_s:g} s"
    raise BuildFailed(f"{program.name} {how} in {script.name}; from {log}:\n{last_words(log)}")
