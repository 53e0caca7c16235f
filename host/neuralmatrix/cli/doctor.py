# SPDX-License-Identifier: Apache-2.0
"""What this machine can do with NeuralMatrix, and what is missing for the rest.

In: a machine, this one if none is given.  Out: a list of checks, each with what was found and what
it is for.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable

from ..errors import NeuralMatrixError, ToolMissing
from ..hardware.board import board_names, load_board
from ..paths import hls_dir
from ..runtime.emulation.compilers import compiler
from ..runtime.emulation.prebuilt import prebuilt
from ..runtime.emulation.schedule import ABOUT, SCHEDULE_VARIABLE, chosen
from .doctor_board import board_checks, is_board
from .doctor_machine import Check, Machine

__all__ = ["Check", "Machine", "diagnose", "is_board"]


def _python(machine: Machine) -> Check:
    allowed = (3, 10) <= sys.version_info[:2] <= (3, 12)
    found = platform.python_version() if allowed else ""
    return Check("python", found, "everything", "use Python 3.10 to 3.12")


def _package(
    name: str, needed_for: str, remedy: str, required: bool = False
) -> Callable[[Machine], Check]:
    return lambda machine: Check(name, machine.installed(name), needed_for, remedy, required)


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _compiler(machine: Machine) -> Check:
    """Check for a C++ compiler; a board runs programs without one, and a package that carries
    emulations needs none."""
    remedy = "install g++ or clang++ (Debian: apt install g++)"
    try:
        found = _first_line([*compiler(), "--version"])
    except ToolMissing as error:
        found, remedy = "", str(error)
    if not found and any(prebuilt(load_board(name).array) for name in board_names()):
        found = "none; the package carries emulations"
    return Check("C++ compiler", found, "the emulation", remedy, required=not is_board(machine))


def _tool(name: str, needed_for: str, remedy: str) -> Callable[[Machine], Check]:
    def check(machine: Machine) -> Check:
        found = shutil.which(name, path=machine.environ.get("PATH", "")) or ""
        return Check(name, found, needed_for, remedy)

    return check


def _kernels(machine: Machine) -> Check:
    try:
        found = str(hls_dir())
    except NeuralMatrixError:
        found = ""
    return Check("kernel sources", found, "the emulation", "reinstall neuralmatrix", required=True)


def _schedule(machine: Machine) -> Check:
    """Name the schedule that emulations take if no argument names one."""
    named = machine.environ.get(SCHEDULE_VARIABLE) or "cpu"
    try:
        schedule = chosen(named)
    except NeuralMatrixError as error:
        remedy = f"correct or unset {SCHEDULE_VARIABLE}"
        return Check("schedule", named, "the emulation", remedy, True, str(error))
    return Check("schedule", f"{schedule}: {ABOUT[schedule]}", "the emulation", "")


def _boards(machine: Machine) -> Check:
    try:
        found = f"{len([load_board(name) for name in board_names()])} boards"
    except NeuralMatrixError as error:
        return Check("board files", "", "compiling", str(error), required=True)
    return Check("board files", found, "compiling", "reinstall neuralmatrix", required=True)


_ANYWHERE: tuple[Callable[[Machine], Check], ...] = (
    _python,
    _package("numpy", "everything", "pip install numpy", required=True),
    _compiler,
    _kernels,
    _schedule,
    _boards,
    _package("onnx", "compiling ONNX models", "pip install onnx"),
    _package("plotly", "plots: --html", "pip install plotly"),
)
_COMPUTER: tuple[Callable[[Machine], Check], ...] = (
    _package("onnxruntime", "comparing with this CPU", "pip install onnxruntime"),
    _package("torch", "compiling torch modules", "pip install torch onnxscript"),
    _package(
        "pynq", "an emulated board; a board's image includes it", "pip install 'neuralmatrix[pynq]'"
    ),
    _tool("ssh", "deploy to a board", "install OpenSSH (Debian: apt install openssh-client)"),
    _tool("vitis-run", "building overlays, with Vitis 2024.2 or newer", "install Vitis"),
    _tool("vitis_hls", "building overlays, with Vitis 2022.2 to 2024.1", "install Vitis"),
    _tool("vivado", "building overlays", "install Vivado"),
)


def diagnose(machine: Machine | None = None) -> tuple[Check, ...]:
    """Run all checks, most important first; those about a board run only on a board."""
    machine = machine or Machine()
    board = board_checks(machine)
    return (*board, *(check(machine) for check in _ANYWHERE + (() if board else _COMPUTER)))
