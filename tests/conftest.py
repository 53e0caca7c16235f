# SPDX-License-Identifier: Apache-2.0
"""What all tests share: markers that skip themselves, and small programs.

In: the machine.  Out: fixtures.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from golden_text import pytest_addoption as pytest_addoption
from neuralmatrix.program.program import Program
from programs import copy_program

from models.data_sets import find_data

ROOT = Path(__file__).resolve().parents[1]
# Tests see what a compile does, and not what one before it left; those of the cache switch it on.
os.environ["NEURALMATRIX_COMPILE_CACHE"] = "0"


def pynq() -> str | None:
    """The version of pynq, if it is installed."""
    try:
        return version("pynq")
    except PackageNotFoundError:
        return None


def sshd() -> str | None:
    """OpenSSH's server, which lies outside most users' PATH; None without it or its client."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    return shutil.which("ssh") and shutil.which("sshd", path=path)


_AVAILABLE: dict[str, tuple[Callable[[], object], str]] = {
    "gxx": (lambda: shutil.which("g++") or shutil.which("clang++"), "no C++ compiler"),
    "data": (find_data, "no data: set NEURALMATRIX_DATA"),
    "board": (lambda: os.environ.get("BOARD"), "not on a board"),
    "pynq": (pynq, "no pynq: pip install pynq"),
    "ssh": (sshd, "no OpenSSH server: apt install openssh-server openssh-client"),
    "vitis": (lambda: shutil.which("vitis-run") or shutil.which("vitis_hls"), "no Vitis HLS"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (available, reason) in _AVAILABLE.items():
        if item.get_closest_marker(marker) and not available():
            pytest.skip(reason)


@pytest.fixture
def data() -> Path:
    """The folder with models and data sets."""
    folder = find_data()
    if folder is None:
        pytest.skip("no data: set NEURALMATRIX_DATA")
    return folder


@pytest.fixture
def program() -> Program:
    """A program that copies (1, 5, 4, 4) through the array."""
    return copy_program()


@pytest.fixture
def saved(program: Program, tmp_path: Path) -> Path:
    """That program in a file."""
    path = tmp_path / "net.nmx"
    program.save(path)
    return path
