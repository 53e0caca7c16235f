# SPDX-License-Identifier: Apache-2.0
"""Overlays on disk: where they are found, and errors that name damage.

In: folders made by the tests.  Out: ``Overlay``, or one error that says what to do.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make_overlay_folder import overlay_folder
from neuralmatrix.errors import NeuralMatrixError, OverlayMissing, WrongOverlay
from neuralmatrix.hardware import overlay_folder as overlays
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.overlay_folder import (
    BIT,
    EXPECTED,
    HWH,
    INFO,
    SELFTEST,
    board_of_device,
    boards_of,
    check_array,
    check_board,
    check_files,
    open_overlay,
    read_info,
    resolve,
    write_info,
)

Z1, Z2, ULTRA = (load_board(name) for name in ("pynq-z1", "pynq-z2", "ultra96-v2"))


def make(folder: Path) -> Path:
    """Make the overlay that PYNQ-Z1 and Z2 share."""
    return overlay_folder(folder, boards=("pynq-z1", "pynq-z2"))


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Provide no overlay by environment or package; return the folder of the package's."""
    monkeypatch.delenv(overlays.DIRECTORY_VARIABLE, raising=False)
    packaged = tmp_path / "packaged"
    monkeypatch.setattr(overlays, "overlay_dirs", lambda: (packaged,))
    return packaged


# ------------------------------------------------------------------------------ finding


@pytest.mark.parametrize("name", (None, BIT, INFO))
def test_explicit(tmp_path: Path, name: str | None) -> None:
    folder = make(tmp_path / "mine")
    found = resolve(Z2, folder / name if name else str(folder))
    assert found.folder == folder.resolve() and found.bit == folder.resolve() / BIT
    assert found.info.utilization[0].used == 101.5 and found.info.worst_slack_ns == 0.125


@pytest.mark.parametrize("inner", ("", "pynq-z2"))
@pytest.mark.parametrize("board", (Z1, Z2))
def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inner: str, board: Any,
                     nowhere: Path) -> None:  # fmt: skip
    """The environment names an overlay's folder, or one with a folder per board."""
    make(nowhere / "pynq-z2")
    folder = make(tmp_path / "mine" / inner)
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(tmp_path / "mine"))
    assert resolve(board).folder == folder.resolve()
    explicit = make(tmp_path / "explicit")
    assert resolve(board, explicit).folder == explicit.resolve()


def test_package_data(nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """They are used even if the environment names a folder without this board."""
    folder = make(nowhere / "pynq-z2")
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(tmp_path))
    assert resolve(Z1).folder == folder.resolve()


def test_nowhere(nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (nowhere / "ultra96-v2").mkdir(parents=True)
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(tmp_path / "mine"))
    with pytest.raises(OverlayMissing) as caught:
        resolve(ULTRA)
    text = str(caught.value)
    assert "no overlay for Ultra96" in text and "make overlay BOARD=ultra96-v2" in text
    looked = [tmp_path / "mine", tmp_path / "mine" / "ultra96-v2", nowhere / "ultra96-v2"]
    assert text.split("Looked at:")[1].split() == [str(folder) for folder in looked]


def test_the_environment_names_no_folder(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The package's own overlay is not taken instead."""
    make(nowhere / "pynq-z2")
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(OverlayMissing, match="NEURALMATRIX_OVERLAY_DIR: found '.*gone', allowed"):
        resolve(Z2)


@pytest.mark.parametrize("name", board_names())
def test_boards_by_their_device_name(name: str) -> None:
    board = load_board(name)
    assert board_of_device(board.device_name) == board
    assert board_of_device(f"{board.device_name} of another kind") is None


def test_boards_that_share_a_bitstream() -> None:
    shared = [name for overlay in board_names() for name in boards_of(overlay)]
    assert sorted(shared) == sorted(board_names())
    assert boards_of("pynq-z2") == ("pynq-z1", "pynq-z2") and not boards_of("pynq-z1")


# ------------------------------------------------------------------------------ refusing


@pytest.mark.parametrize(
    ("path", "text"),
    (
        ("none", "there is no such file or folder; name the folder that 'make overlay' made"),
        ("x" * 5000, "there is no such file or folder"),
        (f"mine/{HWH}", f"found '{HWH}', allowed are a folder, {BIT} and {INFO}"),
        ("empty", f"{INFO}: not readable .*an overlay is a folder of"),
    ),
)
def test_bad_paths(tmp_path: Path, path: str, text: str) -> None:
    make(tmp_path / "mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OverlayMissing, match=text):
        resolve(Z2, tmp_path / path)


@pytest.mark.parametrize(
    ("change", "text"),
    (
        ({"format": 3}, "found format 3, allowed is 2"),
        ({"format": 0}, "found format 0, allowed is 2"),
        ({"clock_mhz": "fast"}, "clock_mhz: found 'fast', allowed is a finite number"),
        ({"origin": "guessed"}, "origin: found 'guessed', allowed is one of"),
        ({"more": 1}, "more: found 'more'"),
    ),
)
def test_bad_info(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    folder = make(tmp_path / "mine")
    data = json.loads((folder / INFO).read_text())
    (folder / INFO).write_text(json.dumps({**data, **change}))
    with pytest.raises(OverlayMissing, match=text):
        open_overlay(folder)


@pytest.mark.parametrize("content", ("", "[]", "{", "\udcff", "[" * 100_000, "1" * 10_000))
def test_info_that_is_none(tmp_path: Path, content: str) -> None:
    folder = make(tmp_path / "mine")
    (folder / INFO).write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(OverlayMissing, match=INFO):
        open_overlay(folder)


@pytest.mark.parametrize("name", (BIT, HWH, SELFTEST, EXPECTED))
def test_files(tmp_path: Path, name: str) -> None:
    found = open_overlay(make(tmp_path / "mine"))
    check_files(found)
    (found.folder / name).write_text("something else")
    with pytest.raises(OverlayMissing, match=f"{name}: damaged: .*make overlay BOARD=pynq-z2"):
        check_files(found)
    (found.folder / name).unlink()
    with pytest.raises(OverlayMissing, match=f"{name}: not readable"):
        check_files(found)


@pytest.mark.parametrize("name", (BIT, HWH, SELFTEST, EXPECTED))
def test_a_file_without_a_hash(tmp_path: Path, name: str) -> None:
    folder = make(tmp_path / "mine")
    info = read_info(folder)
    write_info(folder, replace(info, files=tuple(f for f in info.files if f.name != name)))
    with pytest.raises(OverlayMissing, match=f"found no hash of {name}"):
        check_files(open_overlay(folder))


def test_hashes_name_files_of_the_folder_alone(tmp_path: Path) -> None:
    """A name with a path does not read files outside the folder."""
    folder = make(tmp_path / "mine")
    (tmp_path / "secret").write_text("secret")
    outside = overlays.FileHash("../secret", overlays.file_hash(tmp_path / "secret").sha256)
    info = read_info(folder)
    write_info(folder, replace(info, files=(*info.files, outside)))
    with pytest.raises(OverlayMissing, match="secret: not readable"):
        check_files(open_overlay(folder))


def test_boards_and_arrays(tmp_path: Path) -> None:
    found = open_overlay(make(tmp_path / "mine"))
    for name in (Z1.device_name, Z2.device_name, "a board without a file"):
        check_board(found, name)
    with pytest.raises(WrongOverlay, match="found an overlay for pynq-z1, pynq-z2, but this board"):
        check_board(found, ULTRA.device_name)
    check_array(found, "pynq-z1", Z1.array.fingerprint)
    with pytest.raises(WrongOverlay, match=f"the program needs {ULTRA.array.fingerprint} .*ultra"):
        check_array(found, "ultra96-v2", ULTRA.array.fingerprint)


def test_info_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = make(tmp_path / "mine")
    info = read_info(folder)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_info(folder, replace(info, clock_mhz=float("nan")))
    assert read_info(folder) == info
    with pytest.raises(NeuralMatrixError, match="cannot write"):
        write_info(tmp_path / "none", info)
