# SPDX-License-Identifier: Apache-2.0
"""The emulations that a wheel carries: built, chosen by the CPU, and run without a compiler.

In: an embedded program.  Out: the same outputs and cycles as with this machine's own build.
"""

from __future__ import annotations

import platform
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.demo.tasks import MODEL
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.host_cpu import cpu_features
from neuralmatrix.runtime.emulation import emulator, prebuilt
from neuralmatrix.runtime.emulation.prebuilt import LEVELS, Level

ARRAY = load_board("pynq-z2").array
HERE = [x for x in LEVELS if x.machine == platform.machine() and x.features <= cpu_features()]
PROGRAM = MODEL.parent / "digits.16x16-z7.nmx"


def ran() -> tuple[bytes, int]:
    """Return the logits of one random image and the cycles."""
    emulator._library.cache_clear()
    x = np.random.default_rng(2).random((1, 1, 8, 8)).astype(np.float32)
    session = nm.Session(nm.load(PROGRAM), threads=1)
    (y,) = session.run({"input": x}).values()
    assert session.stats is not None
    return y.tobytes(), session.stats.cycles


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.parametrize("level", HERE, ids=lambda level: level.name)
def test_the_same_results_without_a_compiler(
    level: Level, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ran()
    folder = tmp_path / "package"
    folder.mkdir()
    made = prebuilt._made(folder, ARRAY, level)
    monkeypatch.setattr(prebuilt, "prebuilt_dir", lambda: folder)
    monkeypatch.setenv("NEURALMATRIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    assert prebuilt.prebuilt(ARRAY) == made
    try:
        assert ran() == own
    finally:
        emulator._library.cache_clear()
    assert not (tmp_path / "cache").exists()


def test_every_array_and_level_of_this_machine_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prebuilt, "_made", lambda folder, array, level: level.file(array))
    made = prebuilt.make_all(tmp_path)
    arrays = {load_board(name).array.fingerprint for name in board_names()}
    levels = [level for level in LEVELS if level.machine == platform.machine()]
    assert len(made) == len(set(made)) == len(arrays) * len(levels)


@pytest.mark.parametrize(
    ("machine", "features", "wanted"),
    [
        ("x86_64", prebuilt.V3 | {"avx512f"}, "x86-64-v3"),
        ("x86_64", prebuilt.V3 - {"fma"}, "x86-64-v2"),
        ("x86_64", prebuilt.V2 - {"ssse3"}, None),
        ("aarch64", frozenset({"asimd"}), "armv8-a"),
        ("riscv64", frozenset(), None),
    ],
)
def test_the_best_that_the_cpu_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, features: frozenset[str],
    wanted: str | None,
) -> None:  # fmt: skip
    monkeypatch.setattr(prebuilt, "prebuilt_dir", lambda: tmp_path)
    monkeypatch.setattr(prebuilt, "cpu_features", lambda: features)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    for level in LEVELS:
        (tmp_path / level.file(ARRAY)).touch()
    found = prebuilt.prebuilt(ARRAY)
    assert (found and found.name) == (wanted and f"emulation-{ARRAY.fingerprint}-{wanted}.so")
