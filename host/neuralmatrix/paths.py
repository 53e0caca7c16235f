# SPDX-License-Identifier: Apache-2.0
"""Folders of the files that are not Python.

In: nothing.  Out: the folders of the C++ sources, of the board files and of built overlays.
A wheel carries them as ``_hls``, ``_boards`` and ``_overlays``; a checkout has them at the
repository's root.
"""

from __future__ import annotations

from pathlib import Path

from .errors import ToolMissing

_PACKAGE = Path(__file__).resolve().parent
_REPOSITORY = _PACKAGE.parents[1]
REMOTE_DIR = "~/.neuralmatrix"  # on a board that programs are deployed to


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


def overlay_dirs() -> tuple[Path, ...]:
    """Return folders of built overlays, one subfolder per board; they need not exist."""
    return (_PACKAGE / "_overlays", _REPOSITORY / "overlay" / "build")
