# SPDX-License-Identifier: Apache-2.0
"""Built overlays: the files of an overlay, and the folders in which overlays are looked for.

In: a folder, an environment variable, what a user added, or the package's own data.
Out: ``Overlay``.
An overlay is a folder of ``neuralmatrix.bit``, ``neuralmatrix.hwh``, ``overlay.json``,
``selftest.nmx`` and ``selftest.npz``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..errors import OverlayMissing, WrongOverlay
from ..files import write_whole
from ..jsonform import FormError, from_json, to_json
from ..paths import overlay_dirs
from .board import Board, board_names, load_board

FORMAT = 2
BIT, HWH, INFO = "neuralmatrix.bit", "neuralmatrix.hwh", "overlay.json"
SELFTEST, EXPECTED = "selftest.nmx", "selftest.npz"
DIRECTORY_VARIABLE = "NEURALMATRIX_OVERLAY_DIR"
EMULATED_VARIABLE = "NEURALMATRIX_EMULATED_BOARD"  # the board to emulate below pynq
CLOCK_TOLERANCE = 1.001  # relative tolerance of the clock: dividers and crystals


@dataclass(frozen=True)
class Tool:
    """A tool that the build used."""

    name: str
    version: str


@dataclass(frozen=True)
class Utilization:
    """Cells of one kind ("lut", "ff", "dsp", "bram36", "uram") after placement."""

    kind: str
    used: float
    available: int


@dataclass(frozen=True)
class FileHash:
    """SHA-256 of a file of the folder, in hex."""

    name: str
    sha256: str


@dataclass(frozen=True)
class OverlayInfo:
    """``overlay.json``."""

    format: int
    name: str  # the board whose file it was built from
    boards: tuple[str, ...]  # all boards that load this bitstream
    origin: Literal["vivado", "emulated"]
    fingerprint: str  # of the array and its instruction set
    isa_version: int  # of the instruction set
    part: str
    clock_mhz: float  # timing is met up to this clock
    worst_slack_ns: float | None
    commit: str
    tools: tuple[Tool, ...]
    utilization: tuple[Utilization, ...]
    files: tuple[FileHash, ...]
    missed_clock_mhz: float | None = None  # at which timing was missed, before clock_mhz


@dataclass(frozen=True)
class Overlay:
    """A folder whose ``overlay.json`` was read."""

    folder: Path
    info: OverlayInfo

    @property
    def bit(self) -> Path:
        return self.folder / BIT


# ------------------------------------------------------------------------------ making


def file_hash(path: Path) -> FileHash:
    """Return name and SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return FileHash(path.name, digest.hexdigest())


def hash_files(
    folder: Path, names: Iterable[str] = (BIT, HWH, SELFTEST, EXPECTED)
) -> tuple[FileHash, ...]:
    """Return the hashes of an overlay's files, for its ``overlay.json``."""
    return tuple(file_hash(folder / name) for name in names)


def write_info(folder: Path, info: OverlayInfo) -> None:
    """Write ``overlay.json``, all of it or nothing."""
    text = json.dumps(to_json(info), indent=2, allow_nan=False) + "\n"
    write_whole(folder / INFO, lambda file: file.write(text.encode()))


# ------------------------------------------------------------------------------ reading


def build_command(name: str) -> str:
    """Return the command that builds the overlay of a board."""
    return f"make overlay BOARD={name}"


def _check_regular(path: Path) -> None:
    """Raise OverlayMissing unless this is a file; reading a pipe might never end."""
    try:
        odd = path.exists() and not path.is_file()
    except OSError:
        return  # reading it gives the reason
    if odd:
        raise OverlayMissing(f"{path}: found no regular file; copy the overlay again")


def _check_format(path: Path, data: object) -> None:
    """Raise OverlayMissing for another format, whose fields may be others."""
    found = data.get("format") if isinstance(data, dict) else FORMAT
    if isinstance(found, int) and found != FORMAT:
        raise OverlayMissing(
            f"{path}: found format {found}, allowed is {FORMAT}; build the overlay with this "
            "version, or install the version that it was built with"
        )


def read_info(folder: Path) -> OverlayInfo:
    """Read ``overlay.json`` of a folder.  OverlayMissing: there is none, or it is damaged."""
    path = folder / INFO
    _check_regular(path)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        _check_format(path, data)
        info = from_json(OverlayInfo, data, INFO)
    except OSError as error:
        found = error.strerror or error
        raise OverlayMissing(
            f"{path}: not readable ({found}); an overlay is a folder of {BIT}, {HWH} and {INFO}, "
            "as 'make overlay' leaves it"
        ) from None
    except (FormError, ValueError, RecursionError, MemoryError) as error:
        again = "copy the overlay again, or build it again"
        raise OverlayMissing(f"{path}: damaged: {error}; {again}") from None
    return info


def check_files(overlay: Overlay) -> None:
    """Raise OverlayMissing if a file is absent or differs from the built one."""
    names = {file.name for file in overlay.info.files}
    again = f"copy the overlay again, or build it: {build_command(overlay.info.name)}"
    for name in sorted({BIT, HWH, SELFTEST, EXPECTED} - names):
        raise OverlayMissing(f"{overlay.folder / INFO}: found no hash of {name}; {again}")
    for file in overlay.info.files:
        path = overlay.folder / Path(file.name).name
        _check_regular(path)
        try:
            found = file_hash(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise OverlayMissing(f"{path}: not readable ({reason}); {again}") from None
        if found.sha256 != file.sha256:
            raise OverlayMissing(
                f"{path}: damaged: its SHA-256 begins {found.sha256[:12]}, that of the built file "
                f"{file.sha256[:12]}; {again}"
            )


def open_overlay(path: Path) -> Overlay:
    """Open the overlay named by its folder, its bitstream or its ``overlay.json``."""
    if not os.path.exists(path):  # False instead of an error where access is denied
        raise OverlayMissing(
            f"overlay {str(path)!r}: there is no such file or folder; name the folder that "
            f"'make overlay' made, its {BIT} or its {INFO}"
        )
    if not path.is_dir() and path.name not in (BIT, INFO):
        raise OverlayMissing(
            f"overlay {path}: found {path.name!r}, allowed are a folder, {BIT} and {INFO}"
        )
    folder = path if path.is_dir() else path.parent
    return Overlay(folder.resolve(), read_info(folder))


# ------------------------------------------------------------------------------ searching


def boards_of(overlay: str) -> tuple[str, ...]:
    """Return the boards that load the bitstream of the board called ``overlay``.

    >>> boards_of("pynq-z2")
    ('pynq-z1', 'pynq-z2')
    """
    return tuple(name for name in board_names() if load_board(name).overlay == overlay)


def board_of_device(device_name: str) -> Board | None:
    """Return the board that pynq calls ``device_name``; None if it has no board file."""
    boards = (load_board(name) for name in board_names())
    return next((board for board in boards if board.device_name == device_name), None)


def _candidates(name: str) -> list[Path]:
    """List the folders that may hold the overlay, in the order of the search."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    places = [Path(named), Path(named) / name] if named else []
    return places + [folder / name for folder in overlay_dirs()]


def _check_variable() -> None:
    """Raise OverlayMissing if the environment names no folder; another overlay would hide that."""
    named = os.environ.get(DIRECTORY_VARIABLE)
    if named and not (os.path.isdir(named) and os.access(named, os.R_OK | os.X_OK)):
        raise OverlayMissing(
            f"{DIRECTORY_VARIABLE}: found {named!r}, allowed is a readable folder: an overlay's, "
            "or one that holds a folder per board; correct or unset it"
        )


def resolve(board: Board, explicit: str | Path | None = None) -> Overlay:
    """Find the overlay for a board: the one named, else the environment's, else the one that was
    added, else the package's.

    A folder needs an ``overlay.json``.  OverlayMissing: there is none; the message lists the
    folders searched.
    """
    if explicit is not None:
        return open_overlay(Path(explicit))
    _check_variable()
    places = _candidates(board.overlay)
    for folder in places:
        if os.path.exists(folder / INFO):
            return open_overlay(folder)
    looked = "".join(f"\n  {folder}" for folder in places)
    raise OverlayMissing(
        f"no overlay for {board.title} was found; add a published one (neuralmatrix overlay add "
        f"FILE_OR_URL), or build it where Vivado is installed: {build_command(board.overlay)}, "
        f"copy the folder to the board, and name it with overlay= or {DIRECTORY_VARIABLE}.  "
        f"Looked at:{looked}"
    )


@dataclass(frozen=True)
class Found:
    """An overlay in one of the folders searched; ``problem`` says what is damaged, if it is."""

    overlay: Overlay
    used: bool  # sessions on its boards load it unless they name another
    problem: str = ""


def _problem(overlay: Overlay) -> str:
    try:
        check_files(overlay)
    except OverlayMissing as error:
        return str(error)
    return ""


def found_overlays() -> tuple[Found, ...]:
    """Return the overlays of all boards, in the order of the search, damaged ones included."""
    found: list[Found] = []
    for name in sorted({load_board(board).overlay for board in board_names()}):
        present = [folder for folder in _candidates(name) if os.path.exists(folder / INFO)]
        for number, folder in enumerate(present):
            try:
                overlay = open_overlay(folder)
            except OverlayMissing:
                continue
            if overlay.info.name == name:
                found.append(Found(overlay, number == 0, _problem(overlay)))
    return tuple(found)


def check_board(overlay: Overlay, device_name: str) -> None:
    """Raise WrongOverlay if the overlay was built for other boards than this one."""
    board = board_of_device(device_name)
    if board is not None and board.name not in overlay.info.boards:
        raise WrongOverlay(
            f"{overlay.folder}: found an overlay for {', '.join(overlay.info.boards)}, but this "
            f"board is {board.name} ({device_name}); {build_command(board.overlay)}"
        )


def check_array(overlay: Overlay, board: str, fingerprint: str) -> None:
    """Raise WrongOverlay if the overlay's array is not the one a program was compiled for."""
    if overlay.info.fingerprint != fingerprint:
        raise WrongOverlay(
            f"{overlay.folder}: found the array {overlay.info.fingerprint}, the program needs "
            f"{fingerprint} (it was compiled for {board}); compile it for "
            f"board={overlay.info.name!r}, or load that board's overlay"
        )
