# SPDX-License-Identifier: Apache-2.0
"""Folders of the files that are not Python.

In: nothing.  Out: the folders of the C++ sources, of the board files, of overlays, built or added,
and of what can be made again.
A wheel carries the first three as ``_hls``, ``_boards`` and ``_overlays``; a checkout has them at
the repository's root.
"""

from __future__ import annotations

import os
from pathlib import Path

from .errors import NeuralMatrixError, ToolMissing

_PACKAGE = Path(__file__).resolve().parent
_REPOSITORY = _PACKAGE.parents[1]
REMOTE_DIR = "~/.neuralmatrix"  # on a board that programs are deployed to
CACHE_VARIABLE = "NEURALMATRIX_CACHE"


def _folder(packaged: str, in_repository: str) -> Path:
    candidates = (_PACKAGE / packaged, _REPOSITORY / in_repository)
    for folder in candidates:
        if folder.is_dir():
            return folder
    tried = " and ".join(str(c) for c in candidates)
    raise ToolMissing(f"{in_repository} not found: looked at {tried}; reinstall neuralmatrix")


def hls_dir() -> Path:
    """Return the folder with ``include/nm``, ``src`` and ``emulation``."""
    return _folder("_hls", "hls")


def boards_dir() -> Path:
    """Return the folder with one JSON file per board, ``arrays`` and ``families``."""
    return _folder("_boards", "overlay/boards")


def prebuilt_dir() -> Path:
    """Return the folder of the emulations that a wheel carries; a pure wheel has none."""
    return _PACKAGE / "_emulation"


def cache_dir() -> Path:
    """Return the folder of what can be made again: $NEURALMATRIX_CACHE, else the user's cache."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "neuralmatrix"
    except RuntimeError:
        raise NeuralMatrixError(
            f"the user's home folder was not found; set {CACHE_VARIABLE} to a writable folder"
        ) from None


def added_overlays_dir() -> Path:
    """Return the user's folder of added overlays, one subfolder per board; it need not exist."""
    base = os.environ.get("XDG_DATA_HOME")
    try:
        data = Path(base) if base else Path.home() / ".local" / "share"
    except RuntimeError:
        raise NeuralMatrixError(
            "the user's home folder was not found; set XDG_DATA_HOME to a writable folder"
        ) from None
    return data / "neuralmatrix" / "overlays"


def overlay_dirs() -> tuple[Path, ...]:
    """Return the folders of overlays, one subfolder per board, first those that a user added; they
    need not exist."""
    built = (_PACKAGE / "_overlays", _REPOSITORY / "overlay" / "build")
    try:
        return (added_overlays_dir(), *built)
    except NeuralMatrixError:  # a user without a home has added none
        return built
