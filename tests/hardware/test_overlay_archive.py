# SPDX-License-Identifier: Apache-2.0
"""Packed overlays: what is packed is what is installed, and nothing that does not fit is."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from make_overlay_folder import overlay_folder
from neuralmatrix.errors import BadInput, NeuralMatrixError, OverlayMissing, WrongOverlay
from neuralmatrix.hardware import overlay_archive
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.isa import ISA_VERSION
from neuralmatrix.hardware.overlay_archive import archive_name, install, pack, remove
from neuralmatrix.hardware.overlay_folder import (
    BIT,
    EXPECTED,
    HWH,
    INFO,
    SELFTEST,
    found_overlays,
    open_overlay,
    resolve,
)

BOTH = ("pynq-z1", "pynq-z2")
FILES = {BIT, HWH, INFO, SELFTEST, EXPECTED}


@pytest.fixture(autouse=True)
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of added overlays, an empty one."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("NEURALMATRIX_OVERLAY_DIR", raising=False)
    return tmp_path / "data" / "neuralmatrix" / "overlays"


def packed(tmp_path: Path, board: str = "pynq-z2", **more: Any) -> Path:
    values = {"boards": BOTH if board == "pynq-z2" else (board,)} | more
    folder = overlay_folder(tmp_path / f"built-{len(os.listdir(tmp_path))}", board, **values)
    target = tmp_path / "overlay.zip"
    pack(folder, target)
    return target


def test_an_archive_is_installed_where_the_driver_looks(tmp_path: Path, added: Path) -> None:
    path = packed(tmp_path)
    found = install(path)
    assert found.folder == added / "pynq-z2"
    assert {p.name for p in found.folder.iterdir()} == FILES
    for name in BOTH:
        assert resolve(load_board(name)).folder == found.folder
    assert os.listdir(added) == ["pynq-z2"], "nothing half-installed stays"
    assert found.folder.stat().st_mode & 0o555 == 0o555, "other users, among them root, read it"
    assert [(one.used, one.problem) for one in found_overlays()] == [(True, "")]


def test_the_same_overlay_gives_the_same_archive(tmp_path: Path) -> None:
    folder = overlay_folder(tmp_path / "built", boards=BOTH)
    first, again = tmp_path / "a.zip", tmp_path / "b.zip"
    for target in (first, again):
        pack(folder, target)
    assert first.read_bytes() == again.read_bytes()
    info = open_overlay(folder).info
    assert archive_name(info) == f"pynq-z2-{info.fingerprint}-100mhz.zip"


def test_a_newer_archive_replaces_an_older_one(tmp_path: Path, added: Path) -> None:
    install(packed(tmp_path))
    (added / "pynq-z2" / "stale").write_text("x")
    assert install(packed(tmp_path, clock_mhz=83.333333)).info.clock_mhz == 83.333333
    assert {p.name for p in (added / "pynq-z2").iterdir()} == FILES


def test_what_was_added_is_removed(tmp_path: Path, added: Path) -> None:
    install(packed(tmp_path))
    assert remove("pynq-z1") == added / "pynq-z2"
    assert found_overlays() == ()
    with pytest.raises(BadInput, match="no overlay of pynq-z1 was added"):
        remove("pynq-z1")
    with pytest.raises(BadInput, match="unknown board"):
        remove("..")


def test_a_damaged_overlay_is_not_packed(tmp_path: Path) -> None:
    folder = overlay_folder(tmp_path / "built")
    (folder / BIT).write_text("half")
    with pytest.raises(OverlayMissing, match=f"{BIT}: damaged"):
        pack(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


# ------------------------------------------------------------------------------ does not fit


@pytest.mark.parametrize(
    ("more", "text"),
    (
        ({"isa_version": ISA_VERSION + 1}, f"speaks instruction set {ISA_VERSION + 1}, this"),
        ({"fingerprint": "0" * 16}, "its array is 0000000000000000, that of pynq-z2 here is"),
        ({"part": "xc7z010clg400-1"}, "it is for the part xc7z010clg400-1, pynq-z2 has xc7z020"),
        ({"boards": ("pynq-z2",)}, "it says that it serves pynq-z2; here pynq-z1, pynq-z2 load it"),
        ({"boards": (*BOTH, "zcu104")}, "serves pynq-z1, pynq-z2, zcu104; here"),
        ({"origin": "emulated"}, "an emulated board, which holds no bitstream"),
    ),
)
def test_what_does_not_fit_is_named(
    tmp_path: Path, added: Path, more: dict[str, Any], text: str
) -> None:
    with pytest.raises(WrongOverlay, match=text):
        install(packed(tmp_path, **more))
    assert os.listdir(added) == []


def test_every_difference_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(WrongOverlay, match="its array is .*; it is for the part xc0, pynq-z2 has"):
        install(packed(tmp_path, fingerprint="0" * 16, part="xc0"))


def test_boards_of_a_newer_version(tmp_path: Path) -> None:
    with pytest.raises(WrongOverlay, match="an overlay for 'pynq-z9', allowed are aup-zu3, "):
        install(packed(tmp_path, name="pynq-z9"))


def test_a_format_of_a_newer_version(tmp_path: Path) -> None:
    path = packed(tmp_path)
    rewrite(path, {INFO: lambda data: json.dumps({"format": 99, "more": data.decode()}).encode()})
    with pytest.raises(OverlayMissing, match="found format 99, allowed is 2"):
        install(path)


# ------------------------------------------------------------------------------ damaged


def rewrite(path: Path, changes: dict[str, Callable[[bytes], bytes]]) -> None:
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, changes.get(name, lambda same: same)(data))


@pytest.mark.parametrize("name", sorted(FILES - {INFO}))
def test_a_changed_file_is_found_by_its_hash(tmp_path: Path, added: Path, name: str) -> None:
    path = packed(tmp_path)
    rewrite(path, {name: lambda data: data + b"x"})
    with pytest.raises(OverlayMissing, match=f"{name}: damaged: its SHA-256"):
        install(path)
    assert os.listdir(added) == []


@pytest.mark.parametrize("damage", (b"", b"PK\x03\x04 half", b"\x1f\x8b other"))
def test_no_archive(tmp_path: Path, added: Path, damage: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(damage)
    with pytest.raises(OverlayMissing, match="no overlay can be read of it"):
        install(path)
    assert os.listdir(added) == []


@pytest.mark.parametrize("at", (0.1, 0.3, 0.5, 0.7, 0.9))
def test_a_cut_or_changed_archive_is_never_installed(
    tmp_path: Path, added: Path, at: float
) -> None:
    path = packed(tmp_path)
    whole = path.read_bytes()
    place = int(at * len(whole))
    flipped = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
    path.write_bytes(whole[:place])
    with pytest.raises(OverlayMissing):
        install(path)
    path.write_bytes(flipped)
    try:
        found = install(path)  # the byte was of no meaning, such as a time
    except NeuralMatrixError:
        assert os.listdir(added) == []
    else:
        assert {p.name for p in found.folder.iterdir()} == FILES


@pytest.mark.parametrize(
    "name", ("../evil", "/etc/evil", "sub/neuralmatrix.bit", "..\\evil", "extra.txt", "folder/")
)
def test_names_outside_the_overlay(tmp_path: Path, added: Path, name: str) -> None:
    path = packed(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, "x")
    with pytest.raises(OverlayMissing, match="it holds .*, allowed are neuralmatrix.bit, "):
        install(path)
    assert not (added.parent / "evil").exists() and os.listdir(added) == []


def test_twice_and_none(tmp_path: Path) -> None:
    path = packed(tmp_path)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(BIT, "x")
    with pytest.raises(OverlayMissing, match=f"it holds 2 files {BIT}, allowed is one"):
        install(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(INFO, "{}")
    with pytest.raises(OverlayMissing, match=f"it holds 0 files {HWH}, allowed is one"):
        install(path)


def test_links_are_refused(tmp_path: Path) -> None:
    path = packed(tmp_path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name != BIT}
    link = zipfile.ZipInfo(BIT)
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(link, "/etc/passwd")
        for name, data in files.items():
            archive.writestr(name, data)
    with pytest.raises(OverlayMissing, match=f"{BIT} is no regular file"):
        install(path)


def test_files_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = packed(tmp_path)
    monkeypatch.setitem(overlay_archive.MOST_BYTES, BIT, 4)
    with pytest.raises(OverlayMissing, match=f"{BIT} has 16 bytes, allowed are 4"):
        install(path)


def test_a_size_that_is_a_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb states a small size: what is unpacked is counted, not believed."""
    with pytest.raises(ValueError, match="is larger than it says"):
        with (tmp_path / "big").open("w+b") as file:
            file.write(b"x" * 100)
            file.seek(0)
            overlay_archive._copy(file, tmp_path / "copy", 99)
