# SPDX-License-Identifier: Apache-2.0
"""Processes take turns on a board by a lock file.

In: a lock file, and another process.  Out: whether another process used the board; errors.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from neuralmatrix.errors import DeviceTimeout
from neuralmatrix.runtime.pynq.board_lock import turn

OTHER = """
import sys
from pathlib import Path
from neuralmatrix.runtime.pynq.board_lock import turn
with turn(Path(sys.argv[1])) as undisturbed:
    print(undisturbed, flush=True)
    sys.stdin.read()
"""


def other(path: Path) -> subprocess.Popen[str]:
    """Start another process that holds the board until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert process.stdout is not None and process.stdout.readline() == "False\n"
    return process


def test_the_first_knows_nothing_and_then_it_does(tmp_path: Path) -> None:
    found = []
    for _ in range(3):
        with turn(tmp_path / "lock") as undisturbed:
            found.append(undisturbed)
    assert found == [False, True, True]


def test_another_process_in_between(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with turn(path):
        pass
    other(path).communicate()
    with turn(path) as undisturbed:
        assert not undisturbed
    with turn(path) as undisturbed:
        assert undisturbed


def test_another_process_does_not_let_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = other(path)
    with pytest.raises(DeviceTimeout, match=f"busy for 0.05 s with process {process.pid}, "):
        with turn(path, 0.05):
            raise AssertionError
    process.communicate()
    with turn(path, 0.05) as undisturbed:
        assert not undisturbed


def test_another_process_dies(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = other(path)
    process.kill()
    process.communicate()
    with turn(path, 0.05) as undisturbed:
        assert not undisturbed


def test_an_error_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(ZeroDivisionError), turn(path):
        _ = 1 // 0
    other(path).communicate()


@pytest.mark.parametrize("path", (None, Path("/nowhere/lock")))
def test_nobody_to_share_with(path: Path | None) -> None:
    with turn(path) as undisturbed:
        assert undisturbed
