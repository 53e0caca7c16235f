# SPDX-License-Identifier: Apache-2.0
"""Published overlays: one file that holds a built overlay, and its installation.

In: an overlay's folder, or an archive.  Out: an archive, or an installed folder that the driver
finds.  An archive is a zip of exactly the overlay's five files.  Whatever an archive says is
checked before it is installed; it appears whole or not at all.
"""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..errors import BadInput, OverlayMissing, WrongOverlay
from ..files import DAMAGE, make_folder, replace_folder, write_whole
from ..paths import added_overlays_dir
from .board import board_names, load_board
from .isa import ISA_VERSION
from .overlay_folder import (
    BIT,
    EXPECTED,
    HWH,
    INFO,
    SELFTEST,
    Overlay,
    OverlayInfo,
    boards_of,
    check_files,
    open_overlay,
)

MEBI = 1 << 20
# The largest file of each name, in bytes: those of the largest parts are a fifth of it.
MOST_BYTES = {
    BIT: 256 * MEBI,
    HWH: 64 * MEBI,
    INFO: MEBI,
    SELFTEST: 64 * MEBI,
    EXPECTED: 64 * MEBI,
}
MOST_ARCHIVE = sum(MOST_BYTES.values())
_TIME = (1980, 1, 1, 0, 0, 0)  # the same overlay gives the same archive
_BLOCK = 1 << 20
_AGAIN = "fetch it again, or ask who published it"


def archive_name(info: OverlayInfo) -> str:
    """Return the name under which an overlay is published."""
    return f"{info.name}-{info.fingerprint}-{info.clock_mhz:.4g}mhz.zip"


def pack(folder: Path, target: Path) -> None:
    """Write a built overlay as one archive.  OverlayMissing: a file is absent or damaged."""
    overlay = open_overlay(folder)
    check_files(overlay)

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in MOST_BYTES:
                member = zipfile.ZipInfo(name, _TIME)
                member.compress_type = zipfile.ZIP_DEFLATED
                with (folder / name).open("rb") as source, archive.open(member, "w") as out:
                    shutil.copyfileobj(source, out, _BLOCK)

    write_whole(target, fill)


# ------------------------------------------------------------------------------ reading


def _faults(members: list[zipfile.ZipInfo]) -> Iterator[str]:
    """List what is wrong with the names and stated sizes of an archive's members."""
    names = [member.filename for member in members]
    for name in sorted(set(names) - set(MOST_BYTES)):
        yield f"it holds {name!r}, allowed are {', '.join(MOST_BYTES)}"
    for name in MOST_BYTES:
        if names.count(name) != 1:
            yield f"it holds {names.count(name)} files {name}, allowed is one"
    for member in members:
        most = MOST_BYTES.get(member.filename, 0)
        if member.filename in MOST_BYTES and member.file_size > most:
            yield f"{member.filename} has {member.file_size} bytes, allowed are {most}"
        if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
            yield f"{member.filename} is no regular file"
        if member.flag_bits & 1:
            yield f"{member.filename} is encrypted"


def _copy(source: IO[bytes], target: Path, most: int) -> None:
    """Copy at most ``most`` bytes; what a zip states about sizes may be wrong."""
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            most -= len(block)
            if most < 0:
                raise ValueError(f"{target.name} is larger than it says")
            file.write(block)


def _unpack(path: Path, folder: Path) -> None:
    """Unpack an archive.  OverlayMissing: it is damaged, or holds something else."""
    try:
        with zipfile.ZipFile(path) as archive:
            faults = list(_faults(archive.infolist()))
            if faults:
                raise ValueError("; ".join(faults))
            for name, most in MOST_BYTES.items():
                with archive.open(name) as source:
                    _copy(source, folder / name, most)
    except (OSError, *DAMAGE) as error:
        found = getattr(error, "strerror", None) or error
        raise OverlayMissing(f"{path}: no overlay can be read of it: {found}; {_AGAIN}") from None


# ------------------------------------------------------------------------------ checks


def _mismatches(info: OverlayInfo) -> Iterator[str]:
    """List where an overlay differs from what this version of the package knows of its board."""
    board = load_board(info.name)
    if info.isa_version != ISA_VERSION:
        yield (
            f"it speaks instruction set {info.isa_version}, this version {ISA_VERSION}: take the "
            "overlay of this version, or install the version that it belongs to"
        )
    elif info.fingerprint != board.array.fingerprint:
        yield (
            f"its array is {info.fingerprint}, that of {info.name} here is "
            f"{board.array.fingerprint}: take the overlay of this version"
        )
    if info.part != board.part.name:
        yield f"it is for the part {info.part}, {info.name} has {board.part.name}"
    if set(info.boards) != set(boards_of(info.name)):
        found, here = ", ".join(info.boards), ", ".join(boards_of(info.name)) or "none"
        yield f"it says that it serves {found}; here {here} load it"


def check_fit(overlay: Overlay, where: object) -> None:
    """Raise WrongOverlay unless an overlay fits a board of this version; name every difference."""
    info = overlay.info
    if info.name not in board_names():
        raise WrongOverlay(
            f"{where}: found an overlay for {info.name!r}, allowed are {', '.join(board_names())}; "
            "install the version of neuralmatrix that knows this board"
        )
    if info.origin != "vivado":
        raise WrongOverlay(
            f"{where}: found an overlay of an emulated board, which holds no bitstream; take one "
            "that Vivado built"
        )
    found = list(_mismatches(info))
    if found:
        raise WrongOverlay(f"{where}: this overlay does not fit: {'; '.join(found)}")


# ------------------------------------------------------------------------------ installation


def install(path: Path) -> Overlay:
    """Check an archive and install it where the driver looks; return the installed overlay.

    OverlayMissing: the archive is damaged.  WrongOverlay: it does not fit this version's boards.
    """
    root = added_overlays_dir()
    make_folder(root)
    staged = Path(tempfile.mkdtemp(prefix=".adding-", dir=root))
    try:
        staged.chmod(0o755)
        _unpack(path, staged)
        overlay = open_overlay(staged)
        check_files(overlay)
        check_fit(overlay, path)
        replace_folder(root / overlay.info.name, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return open_overlay(root / overlay.info.name)


def remove(name: str) -> Path:
    """Remove an overlay that ``install`` made; return where it was."""
    folder = added_overlays_dir() / load_board(name).overlay
    if not folder.is_dir():
        raise BadInput(
            f"no overlay of {name} was added: {folder} does not exist; 'neuralmatrix overlay list' "
            "shows all that are found"
        )
    shutil.rmtree(folder)
    return folder
