# SPDX-License-Identifier: Apache-2.0
"""The cache of built emulations: reuse, parallel builds, and errors.

In: a fake compiler where the real one is not needed.  Out: files in a temporary cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from neuralmatrix.errors import NeuralMatrixError, ToolMissing
from neuralmatrix.hardware.board import load_board
from neuralmatrix.paths import hls_dir
from neuralmatrix.runtime.emulation.build import DIGEST, build, cache_dir, library_path

ARRAY = load_board("pynq-z2").array
FAKE = """#!{python}
import pathlib, sys
log = pathlib.Path({log!r})
log.write_text(log.read_text() + "\\n".join(sys.argv[1:]) + "\\n--\\n" if log.exists() else "--\\n")
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


def compilations(log: Path) -> int:
    return log.read_text().count("--\n") if log.exists() else 0


def test_built_once(cache: Path, fake) -> None:
    log = fake()
    first, again = build(ARRAY), build(ARRAY)
    assert first == again == library_path(ARRAY)
    assert first.parent == cache and first.read_bytes() == b"library"
    assert compilations(log) == 1
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
    assert compilations(log) == 2
    build(ARRAY)
    assert compilations(log) == 2


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
    assert compilations(log) == 3
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

    monkeypatch.setattr(subprocess, "run", interrupt)
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
from neuralmatrix.runtime.emulation.emulator import library
assert library(load_board("pynq-z2").array).nm_fingerprint()
"""


def _start(cache: Path, **more: str) -> subprocess.Popen[str]:
    host = Path(__import__("neuralmatrix").__file__).parents[1]
    env = {**os.environ, "NEURALMATRIX_CACHE": str(cache), "PYTHONPATH": str(host), **more}
    command = [sys.executable, "-c", _USE]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.gxx
def test_processes_side_by_side_and_damaged_libraries(tmp_path: Path) -> None:
    """Both build, or one finds the other's library; a damaged library is built again."""
    cache = tmp_path / "cache"
    for process in [_start(cache), _start(cache)]:
        assert process.wait(300) == 0, process.stderr.read()
    (built,) = cache.glob("*.so")
    whole = built.read_bytes()
    built.write_bytes(whole[: len(whole) // 2])
    process = _start(cache)
    assert process.wait(300) == 0, process.stderr.read()
    assert built.stat().st_size == len(whole)


def test_sources_are_found() -> None:
    assert (hls_dir() / "emulation" / "bridge.cpp").is_file()
