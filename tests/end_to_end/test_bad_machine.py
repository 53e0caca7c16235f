# SPDX-License-Identifier: Apache-2.0
"""Machines without a compiler or a cache, and builds that are interrupted or concurrent.

In: environments, signals.  Out: one message each, nothing half-written, an intact cache.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from bad_files import PREVIOUS, check_refused, make_files
from conftest import ROOT
from neuralmatrix.runtime.emulation import emulator
from neuralmatrix.runtime.emulation.build import DIGEST

NO_COMPILER = "no C++ compiler found...name it in the environment variable CXX"
NO_CACHE = "is not writable...set NEURALMATRIX_CACHE to a writable folder"
MACHINES: dict[str, tuple[Mapping[str, str], str]] = {
    "no compiler on the path": ({"PATH": "@folder", "CXX": ""}, NO_COMPILER),
    "CXX names nothing": ({"CXX": "@no/g++"}, NO_COMPILER),
    "CXX fails": ({"CXX": "@fail"}, "could not build the emulation:...exit code 3"),
    "CXX is killed": ({"CXX": "@die"}, "could not build the emulation:...exit code -9"),
    "cache is a file": ({"NEURALMATRIX_CACHE": "@net.onnx"}, NO_CACHE),
    "cache below a file": ({"NEURALMATRIX_CACHE": "@net.onnx/cache"}, NO_CACHE),
    "cache in no real folder": ({"NEURALMATRIX_CACHE": "/proc/cache"}, NO_CACHE),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    make_files(folder)
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("what", MACHINES)
def test_machine(
    what: str,
    files: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(files / "fail", "exit 3")
    script(files / "die", "kill -9 $$")
    variables, text = MACHINES[what]
    monkeypatch.setenv("NEURALMATRIX_CACHE", str(tmp_path / "cache"))
    for name, value in variables.items():
        path = str(files / value[1:]) if value.startswith("@") else value
        monkeypatch.setenv(name, path)
    emulator._library.cache_clear()
    check_refused(capsys, files, "run @net.nmx @cal.npz -o @old.out", text)
    assert not (tmp_path / "cache").exists() or not [*(tmp_path / "cache").iterdir()]


def start(folder: Path, output: str, **environment: str) -> subprocess.Popen[str]:
    """Start ``neuralmatrix run`` in a process of its own."""
    words = ["run", str(folder / "net.nmx"), str(folder / "cal.npz"), "-o", str(folder / output)]
    return subprocess.Popen(
        [sys.executable, "-m", "neuralmatrix", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT / "host"), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


@pytest.fixture
def copied(files: Path, tmp_path: Path) -> Path:
    for name in ("net.nmx", "cal.npz"):
        shutil.copy(files / name, tmp_path)
    (tmp_path / "old.out").write_bytes(PREVIOUS)
    return tmp_path


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM))
def test_interrupted_build(copied: Path, number: signal.Signals) -> None:
    script(copied / "slow", f"touch {copied}/begun\nexec sleep 60")
    cache = copied / "cache"
    process = start(copied, "old.out", CXX=str(copied / "slow"), NEURALMATRIX_CACHE=str(cache))
    for _ in range(1000):
        if (copied / "begun").exists() or process.poll() is not None:
            break
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode > 0 and out == "" and "Traceback" not in err
    assert [*cache.iterdir()] == []
    names = {"net.nmx", "cal.npz", "old.out", "slow", "begun", "cache"}
    assert {path.name for path in copied.iterdir()} == names
    assert (copied / "old.out").read_bytes() == PREVIOUS


@pytest.mark.slow
@pytest.mark.gxx
def test_two_builds_at_once(copied: Path) -> None:
    cache = copied / "cache"
    both = [start(copied, name, NEURALMATRIX_CACHE=str(cache)) for name in ("a.npz", "b.npz")]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    assert sorted(path.suffix for path in cache.iterdir()) == [DIGEST, ".so"]
    assert (copied / "a.npz").read_bytes() == (copied / "b.npz").read_bytes()
