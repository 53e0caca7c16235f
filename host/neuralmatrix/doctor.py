# SPDX-License-Identifier: Apache-2.0
"""What this machine can do with NeuralMatrix, and what is missing for the rest.

In: nothing.  Out: a list of checks, each with what was found and what it is for.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from .config import board_names, load_board
from .device.build import compiler
from .errors import NeuralMatrixError, ToolMissing
from .paths import hls_dir


@dataclass(frozen=True)
class Check:
    """``found`` is empty where there is nothing; ``remedy`` says what to do then."""

    name: str
    found: str
    needed_for: str
    remedy: str
    required: bool = False

    @property
    def ok(self) -> bool:
        return bool(self.found)


def _python() -> Check:
    allowed = (3, 10) <= sys.version_info[:2] <= (3, 12)
    found = platform.python_version() if allowed else ""
    return Check("python", found, "everything", "use Python 3.10 to 3.12")


def _package(
    name: str, needed_for: str, remedy: str, required: bool = False
) -> Callable[[], Check]:
    def check() -> Check:
        try:
            found = version(name)
        except PackageNotFoundError:
            found = ""
        return Check(name, found, needed_for, remedy, required)

    return check


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _compiler() -> Check:
    remedy = "install g++ or clang++ (Debian: apt install g++)"
    try:
        found = _first_line([*compiler(), "--version"])
    except ToolMissing as error:
        found, remedy = "", str(error)
    return Check("C++ compiler", found, "the emulation", remedy, required=True)


def _tool(name: str, needed_for: str, remedy: str) -> Callable[[], Check]:
    return lambda: Check(name, shutil.which(name) or "", needed_for, remedy)


def _kernels() -> Check:
    try:
        found = str(hls_dir())
    except NeuralMatrixError:
        found = ""
    return Check("kernel sources", found, "the emulation", "reinstall neuralmatrix", required=True)


def _boards() -> Check:
    try:
        found = f"{len([load_board(name) for name in board_names()])} boards"
    except NeuralMatrixError as error:
        return Check("board files", "", "compiling", str(error), required=True)
    return Check("board files", found, "compiling", "reinstall neuralmatrix", required=True)


_LATER = "not in this version"

_CHECKS: tuple[Callable[[], Check], ...] = (
    _python,
    _package("numpy", "everything", "pip install numpy", required=True),
    _compiler,
    _kernels,
    _boards,
    _package("onnx", "compiling ONNX models", "pip install onnx"),
    _package("onnxruntime", "tests against onnxruntime", "pip install onnxruntime"),
    _package("torch", "the comparison with hls4ml in bench/", "pip install torch"),
    _package("plotly", "report --html", "pip install plotly"),
    _package("pynq", f"running on a board; {_LATER}", "use a PYNQ image"),
    _tool("vitis-run", f"the overlay, with Vitis 2025 or newer; {_LATER}", "install Vitis"),
    _tool("vitis_hls", f"the overlay, with Vitis 2022.2 to 2024; {_LATER}", "install Vitis HLS"),
    _tool("vivado", f"the overlay; {_LATER}", "install Vivado"),
)


def diagnose() -> tuple[Check, ...]:
    """All checks, in the order in which they matter."""
    return tuple(check() for check in _CHECKS)
