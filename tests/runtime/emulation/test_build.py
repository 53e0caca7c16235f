# SPDX-License-Identifier: Apache-2.0
"""The cache of built emulations: reuse, parallel builds, and errors.

In: a fake compiler where the real one is not needed.  Out: files in a temporary cache.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from neuralmatrix.errors import NeuralMatrixError, ToolMissing
from neuralmatrix.hardware.board import load_board
from neuralmatrix.paths import cache_dir, hls_dir
from neuralmatrix.runtime.emulation import notice, prebuilt
from neuralmatrix.runtime.emulation.build import DIGEST, build, library_path
from neuralmatrix.runtime.emulation.compilers import sources
from neuralmatrix.runtime.emulation.lock import turn

ARRAY = load_board("pynq-z2").array
FAKE = """#!{python}
import pathlib, sys
log = pathlib.Path({log!r})
with log.open("a") as file:  # compilers run side by side
    file.write("\\n".join([*sys.argv[1:], "--", ""]))
{body}
pathlib.Path(sys.argv[sys.argv.index("-o") + 1]).write_bytes(b"library")
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("NEURALMATRIX_CACHE", str(folder))
    return folder


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a compiler that only writes a file, after running ``body``."""

    def make(body: str = "") -> Path:
        log, path = tmp_path / "log", tmp_path / "fake c++"
        path.write_text(FAKE.format(python=sys.executable, log=str(log), body=body))
        path.chmod(0o755)
        monkeypatch.setenv("CXX", f"'{path}' -DEXTRA")
        return log

    return make


def commands(log: Path) -> int:
    return log.read_text().splitlines().count("--") if log.exists() else 0


def libraries(log: Path) -> int:
    """Return how many libraries were linked."""
    return log.read_text().splitlines().count("-shared") if log.exists() else 0


def test_built_once(cache: Path, fake) -> None:
    log = fake()
    first, again = build(ARRAY), build(ARRAY)
    assert first == again == library_path(ARRAY)
    assert first.parent == cache and first.read_bytes() == b"library"
    assert libraries(log) == 1 and commands(log) == len(sources()) + 1
    assert sorted(cache.iterdir()) == [first.with_suffix(DIGEST), first]


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "bit-flipped": lambda path: path.write_bytes(b"\x01" + path.read_bytes()[1:]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("suffix", [".so", DIGEST])
@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_library_is_built_afresh(cache: Path, fake, what: str, suffix: str) -> None:
    log = fake()
    path = build(ARRAY)
    DAMAGES[what](path.with_suffix(suffix))
    assert build(ARRAY) == path and path.read_bytes() == b"library"
    assert libraries(log) == 2
    build(ARRAY)
    assert libraries(log) == 2


def test_arrays_and_compilers_have_their_own(cache: Path, fake, monkeypatch) -> None:
    fake()
    other = load_board("kv260").array
    paths = {library_path(ARRAY), library_path(other)}
    monkeypatch.setenv("CXX", "another")
    assert len(paths | {library_path(ARRAY)}) == 3
    assert ARRAY.fingerprint in library_path(ARRAY).name


def test_flags_that_a_compiler_does_not_know_are_dropped(cache: Path, fake) -> None:
    log = fake('if "-march=native" in sys.argv: sys.exit("unknown architecture")')
    assert build(ARRAY).is_file()
    assert libraries(log) == 1 and commands(log) == 3 * len(sources()) + 1
    assert "-DEXTRA" in log.read_text()


def test_a_compiler_that_fails_leaves_nothing(cache: Path, fake) -> None:
    fake('sys.exit("internal compiler error: tired")')
    with pytest.raises(ToolMissing, match=r"(?s)could not build the emulation:.*tired.*CXX"):
        build(ARRAY)
    assert list(cache.iterdir()) == []


def test_an_interrupted_build_leaves_nothing(cache: Path, fake, monkeypatch) -> None:
    fake()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "Popen", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build(ARRAY)
    assert list(cache.iterdir()) == []


def test_no_compiler(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ToolMissing, match=r"no C\+\+ compiler found \(tried clang\+\+, g\+\+\)"):
        build(ARRAY)
    monkeypatch.setenv("CXX", "nowhere++")
    with pytest.raises(ToolMissing, match=r"tried nowhere\+\+.*apt install.*CXX"):
        build(ARRAY)


def test_a_cache_that_cannot_be_written(tmp_path: Path, fake, monkeypatch) -> None:
    fake()
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    monkeypatch.setenv("NEURALMATRIX_CACHE", str(blocker / "cache"))
    with pytest.raises(NeuralMatrixError, match="not writable .*; set NEURALMATRIX_CACHE"):
        build(ARRAY)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NEURALMATRIX_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "neuralmatrix"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "neuralmatrix"


_USE = """
from neuralmatrix.hardware.board import load_board
from neuralmatrix.runtime.emulation.build import build
build(load_board("pynq-z2").array)
"""
_LOAD = """
from neuralmatrix.hardware.board import load_board
from neuralmatrix.runtime.emulation.emulator import library
assert library(load_board("pynq-z2").array).nm_fingerprint()
"""


def _start(cache: Path, code: str = _USE) -> subprocess.Popen[str]:
    host = Path(__import__("neuralmatrix").__file__).parents[1]
    env = {**os.environ, "NEURALMATRIX_CACHE": str(cache), "PYTHONPATH": str(host)}
    command = [sys.executable, "-c", code]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def _ended(process: subprocess.Popen[str]) -> None:
    _, messages = process.communicate(timeout=300)
    assert process.returncode == 0, messages


def test_processes_side_by_side_build_once(cache: Path, fake) -> None:
    log = fake("import time; time.sleep(0.2)")
    for process in [_start(cache) for _ in range(8)]:
        _ended(process)
    assert libraries(log) == 1
    assert sorted(cache.iterdir()) == [library_path(ARRAY).with_suffix(DIGEST), library_path(ARRAY)]


def test_a_killed_builder_keeps_nobody_waiting(cache: Path, fake) -> None:
    log = fake("import time; time.sleep(0.5)")
    process = _start(cache)
    while commands(log) == 0:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list(cache.glob("*.lock"))
    build(ARRAY)
    assert sorted(cache.iterdir()) == [library_path(ARRAY).with_suffix(DIGEST), library_path(ARRAY)]


def test_a_turn_whose_lock_file_is_replaced_meanwhile(tmp_path: Path) -> None:
    """A second holder of the removed file's lock would run beside the holder of the new one."""
    lock = tmp_path / "a.lock"
    for _ in range(3):
        with turn(lock, ""):
            assert lock.exists()
        assert not lock.exists()


class Terminal(list):
    """A standard error stream."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: terminal

    def write(self, text: str) -> None:
        self.append(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("terminal", "patience", "silent", "said"),
    [(True, 9.0, False, True), (True, 0.0, True, False), (False, 9.0, False, False),
     (False, 0.0, False, True), (False, 0.0, True, False)],
)  # fmt: skip
def test_a_builder_says_what_it_does(
    cache: Path, fake, monkeypatch, terminal: bool, patience: float, silent: bool, said: bool
) -> None:
    fake()
    screen = Terminal(terminal)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(notice, "PATIENCE_S", patience)
    monkeypatch.setattr(notice, "_silent", silent)
    build(ARRAY)
    assert ("once per machine" in "".join(screen)) == said


def test_without_a_compiler_the_package_s_own(cache: Path, tmp_path: Path, monkeypatch) -> None:
    level = prebuilt.Level("any", prebuilt.platform.machine())
    better = prebuilt.Level("none has it", level.machine, frozenset({"no such feature"}))
    monkeypatch.setattr(prebuilt, "LEVELS", (better, level))
    monkeypatch.setattr(prebuilt, "prebuilt_dir", lambda: tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    for each in (better, level):
        (tmp_path / each.file(ARRAY)).write_bytes(b"library")
    assert build(ARRAY) == tmp_path / level.file(ARRAY)
    with pytest.raises(ToolMissing):
        build(ARRAY, "device")
    with pytest.raises(ToolMissing):
        build(replace(ARRAY, pbuf_rows=2 * ARRAY.pbuf_rows))
    monkeypatch.setenv("CXX", "nowhere++")
    with pytest.raises(ToolMissing):
        build(ARRAY)


@pytest.mark.slow
@pytest.mark.gxx
def test_a_damaged_library_is_built_again(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    _ended(_start(cache, _LOAD))
    (built,) = cache.glob("*.so")
    whole = built.read_bytes()
    built.write_bytes(whole[: len(whole) // 2])
    _ended(_start(cache, _LOAD))
    assert built.stat().st_size == len(whole)


def test_sources_are_found() -> None:
    assert (hls_dir() / "emulation" / "bridge.cpp").is_file()
