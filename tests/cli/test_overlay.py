# SPDX-License-Identifier: Apache-2.0
"""``neuralmatrix overlay``: add, list, path, remove."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_overlay_folder import overlay_folder
from neuralmatrix.cli.main import app
from neuralmatrix.errors import WrongOverlay
from neuralmatrix.hardware.overlay_archive import pack
from neuralmatrix.hardware.overlay_folder import BIT, file_hash
from typer.testing import CliRunner


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["overlay", *map(str, words)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("NEURALMATRIX_OVERLAY_DIR", raising=False)
    folder = overlay_folder(tmp_path / "named" / "pynq-z2", boards=("pynq-z1", "pynq-z2"))
    pack(folder, tmp_path / "a.zip")
    return tmp_path / "a.zip"


def test_added_listed_named_removed(archive: Path, tmp_path: Path) -> None:
    assert "no overlays found" in run("list")
    place = tmp_path / "data" / "neuralmatrix" / "overlays" / "pynq-z2"
    text = run("add", archive, "--sha256", file_hash(archive).sha256)
    assert text == f"added for pynq-z1, pynq-z2, 100 MHz: {place}\n"
    (row,) = json.loads(run("list", "--json"))
    assert (row["name"], row["used"], row["folder"]) == ("pynq-z2", True, str(place))
    assert "yes" in run("list")
    assert run("path", "pynq-z1") == f"{place}\n"
    (place / BIT).write_text("half")
    (row,) = json.loads(run("list", "--json"))
    assert "damaged" in row["problem"]
    assert run("remove", "pynq-z2") == f"removed {place}\n"
    assert json.loads(run("list", "--json")) == []


def test_the_variable_comes_first(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURALMATRIX_OVERLAY_DIR", str(tmp_path / "named"))
    text = run("add", archive)
    assert f"but sessions use {tmp_path / 'named' / 'pynq-z2'}" in text
    rows = json.loads(run("list", "--json"))
    assert [row["used"] for row in rows] == [True, False]


def test_what_does_not_fit_is_one_error(archive: Path, tmp_path: Path) -> None:
    other = overlay_folder(tmp_path / "other", part="xc0", boards=("pynq-z1", "pynq-z2"))
    pack(other, tmp_path / "b.zip")
    with pytest.raises(WrongOverlay, match="for the part xc0"):
        run("add", tmp_path / "b.zip")
