# SPDX-License-Identifier: Apache-2.0
"""The cache of tables' indices and recipes: the same programs, less work, and no harm.

In: small networks, a temporary folder.  Out: programs with and without the cache, and its files.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node
from neuralmatrix.errors import BadInput
from neuralmatrix.quantization import compile_cache, integer_epilogues, passes
from neuralmatrix.quantization.compile_cache import VARIABLE, remembered
from neuralmatrix.quantization.pwl import near

RNG = np.random.default_rng(7)
WEIGHTS = {
    "v": RNG.normal(0, 0.4, (6, 3, 3, 3)).astype(np.float32),
    "w": RNG.normal(0, 0.4, (5, 6, 3, 3)).astype(np.float32),
}
FEEDS = [{"x": RNG.normal(0, 1.5, (12, 3, 8, 8)).astype(np.float32)}]


def network() -> onnx.ModelProto:
    nodes = [
        node("Conv", ["x", "v"], ["a"], pads=[1, 1, 1, 1]),
        node("Sigmoid", ["a"], ["b"]),
        node("Conv", ["b", "w"], ["c"]),
        node("Tanh", ["c"], ["y"]),
    ]
    return model(nodes, {"x": (1, 3, 8, 8)}, ["y"], WEIGHTS)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEURALMATRIX_CACHE", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "64")
    return tmp_path / "compile"


def compiled(path: Path, precision: str = "int8") -> bytes:
    for kept in (near._near, integer_epilogues._table):  # as in a new process
        kept.cache_clear()
    nm.compile(network(), calibration=FEEDS, precision=precision).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("precision", ["int8", "mixed"])
def test_the_program_is_the_same(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setenv(VARIABLE, "0")
    plain = compiled(tmp_path / "plain.nmx", precision)
    assert not cache.exists()
    monkeypatch.setenv(VARIABLE, "64")
    first = compiled(tmp_path / "first.nmx", precision)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(passes, "search", refused)
    monkeypatch.setattr(near, "best_lines", refused)
    again = compiled(tmp_path / "again.nmx", precision)
    assert plain == first == again
    assert {path.name.partition("-")[0] for path in cache.iterdir()} == {"recipe", "index"}


def test_other_inputs_and_settings_have_recipes_of_their_own(cache: Path, tmp_path: Path) -> None:
    def recipes() -> int:
        return len(list(cache.glob("recipe-*")))

    compiled(tmp_path / "a.nmx")
    assert recipes() == 1
    other = [{"x": FEEDS[0]["x"] + np.float32(1e-6)}]
    nm.compile(network(), calibration=other)
    assert recipes() == 2
    nm.compile(network(), calibration=FEEDS, method="minmax")
    assert recipes() == 3
    nm.compile(network(), calibration=FEEDS, board="kv260")
    assert recipes() == 4


def test_a_search_that_time_ended_is_not_kept(cache: Path) -> None:
    nm.compile(network(), calibration=FEEDS, search_seconds=0, method="auto")
    assert not list(cache.glob("recipe-*"))


@pytest.mark.parametrize("damage", [b"", b"nothing", None])
def test_damaged_entries_are_made_again(cache: Path, tmp_path: Path, damage: bytes | None) -> None:
    first = compiled(tmp_path / "first.nmx")
    whole = {path: path.read_bytes() for path in cache.iterdir()}
    for path, data in whole.items():
        path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert compiled(tmp_path / "again.nmx") == first
    assert {path: path.read_bytes() for path in cache.iterdir()} == whole


def test_a_cache_that_cannot_be_written_is_no_error(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NEURALMATRIX_CACHE", str(tmp_path / "file"))
    compiled(tmp_path / "program.nmx")


@pytest.mark.parametrize("given", ["-1", "much", "inf", "nan"])
def test_a_bound_that_is_none(cache: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(VARIABLE, given)
    with pytest.raises(BadInput, match=f"{VARIABLE}: found '{given}', allowed are megabytes"):
        nm.compile(network(), calibration=FEEDS)


def test_what_was_used_longest_ago_goes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.01")
    noise = np.random.default_rng(1)

    def kept(number: int) -> None:
        remembered("noise", lambda _: noise.bytes(1500).hex(), number, classes={})

    for number in range(5):
        kept(number)
        for age, path in enumerate(sorted(cache.iterdir(), key=lambda p: -p.stat().st_mtime)):
            os.utime(path, (1e9 - age, 1e9 - age))
    first = compile_cache._entry("noise", (0,))
    assert first is not None and first.exists()
    kept(0)  # used again
    for number in range(5, 8):
        kept(number)
    assert first.exists()
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 10_000


_COMPILE = """
import sys
sys.path[:0] = {path!r}
from test_compile_cache import compiled
from pathlib import Path
compiled(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_processes_side_by_side(cache: Path, tmp_path: Path) -> None:
    here = Path(__file__).resolve().parent
    code = _COMPILE.format(path=[str(here), *sys.path])
    places = [tmp_path / f"{number}.nmx" for number in range(2)]
    commands = [[sys.executable, "-c", code, str(place)] for place in places]
    for process in [subprocess.Popen(command, env=dict(os.environ)) for command in commands]:
        assert process.wait(120) == 0
    assert len({place.read_bytes() for place in places}) == 1
    assert not list(cache.glob("*.part"))
