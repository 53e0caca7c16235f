# SPDX-License-Identifier: Apache-2.0
"""The steps of roundings in program files: a member of their own, checked like all others.

In: programs with roundings, files that were changed.  Out: the same program, or BadProgram.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadProgram
from neuralmatrix.ir.recipe import Recipe, Rounding, packed
from neuralmatrix.program.program import Program, load
from nmx_members import rewrite

RNG = np.random.default_rng(0)


def rounding(weights: int, *names: str) -> Rounding:
    return Rounding(names, weights, (0.5, -0.25), packed(RNG.integers(-1, 2, weights)))


RECIPE = Recipe(roundings=(rounding(10, "a"), rounding(4, "b", "c")), widened=("d",))


@pytest.fixture
def file(program: Program, tmp_path: Path) -> Path:
    path = tmp_path / "rounded.nmx"
    replace(program, recipe=RECIPE).save(path)
    return path


def test_steps_are_one_member(file: Path) -> None:
    with zipfile.ZipFile(file) as archive:
        steps = np.load(io.BytesIO(archive.read("roundings.npy")), allow_pickle=False)
        manifest = json.loads(archive.read("manifest.json"))
    assert steps.dtype == np.uint8 and steps.shape == (3 + 1,)
    assert [r["steps"] for r in manifest["body"]["recipe"]["roundings"]] == [None, None]
    found = load(file).recipe
    assert found == RECIPE
    for got, wanted in zip(found.roundings, RECIPE.roundings, strict=True):
        np.testing.assert_array_equal(got.steps, wanted.steps)


def test_programs_without_roundings_have_no_member(saved: Path) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert "roundings.npy" not in archive.namelist()


def member(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.zeros(5, np.uint8), "roundings: found shape (5,), allowed is (4,)"),
        (np.zeros((4, 1), np.uint8), "roundings: found shape (4, 1), allowed is (4,)"),
        (np.zeros(4, np.int8), "roundings.npy: found int8"),
        (np.array([0, 0, 0, 0b11000000], np.uint8), "found a step of 2, allowed is -1..1"),
    ],
)
def test_tampered_steps(file: Path, array: Any, text: str) -> None:
    rewrite(file, lambda members: members.update({"roundings.npy": member(array)}))
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(file)


def test_a_missing_or_extra_member(file: Path, saved: Path) -> None:
    rewrite(file, lambda members: members.pop("roundings.npy"))
    extra = member(np.zeros(4, np.uint8))
    with pytest.raises(BadProgram, match="found 2 roundings in the manifest"):
        load(file)
    rewrite(saved, lambda members: members.update({"roundings.npy": extra}))
    with pytest.raises(BadProgram, match="found 0 roundings in the manifest"):
        load(saved)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("weights", 14, "roundings: found shape (4,), allowed is (5,)"),
        ("weights", 0, "rounding a: found 0 weights"),
        ("weights", -6, "rounding a: found -6 weights"),
        ("weights", 1 << 60, "rounding a: found 1152921504606846976 weights"),
        ("weights", 1.5, "weights: found 1.5, allowed is an integer"),
        ("names", [], "allowed is at least one name each, each name once"),
        ("names", ["b"], "allowed is at least one name each, each name once"),
        ("names", [3], "found 3, allowed is a string"),
        ("shift", [1e300], "found 1e+300, allowed is a finite number"),
        ("steps", [0, 0, 0], "steps: found [0, 0, 0]"),
        ("bits", 2, "found 'bits'"),
    ],
)
def test_tampered_roundings(file: Path, field: str, value: Any, text: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["body"]["recipe"]["roundings"][0][field] = value
        members["manifest.json"] = json.dumps(manifest).encode()

    rewrite(file, change)
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(file)
