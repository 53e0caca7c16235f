# SPDX-License-Identifier: Apache-2.0
"""What a deployment copies: this package, an overlay, a program.

In: folders and files of this machine.  Out: ``Piece``, named by its content.
The same content gives the same bytes, so that a board that has a piece is known to have it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..hardware.overlay_folder import BIT, EXPECTED, HWH, INFO, SELFTEST, Overlay
from ..paths import boards_dir, hls_dir

_PACKAGE = Path(__file__).resolve().parents[1]
_LEFT_OUT = ("__pycache__", "_boards", "_hls", "_overlays", "demo")
_SOURCES = ("include/**/*.h", "src/*.cpp", "src/*.h", "emulation/*.*")
_RUN = "neuralmatrix.deploy.board_run, neuralmatrix.measure.bench, neuralmatrix.runtime.session"
_BOARDS = ("*.json", "*/*.json")


@dataclass(frozen=True)
class Piece:
    """A file, or the archive of a folder; ``name`` is where it lies on the board."""

    name: str
    data: bytes
    tree: bool
    modules: str = ""  # the packages that a run imports

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def _modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(_PACKAGE.rglob("*.py")):
        relative = path.relative_to(_PACKAGE)
        if relative.parts[0] not in _LEFT_OUT:
            yield f"neuralmatrix/{relative.as_posix()}", path


def _carried(folder: Path, patterns: Iterable[str], target: str) -> Iterator[tuple[str, Path]]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file():
                yield f"neuralmatrix/{target}/{path.relative_to(folder).as_posix()}", path


def _archive(files: Iterable[tuple[str, Path]]) -> bytes:
    """Make a compressed archive without times and owners."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, path in files:
            data = path.read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def _named(prefix: str, suffix: str, data: bytes, tree: bool, modules: str = "") -> Piece:
    digest = hashlib.sha256(data).hexdigest()
    return Piece(f"{prefix}-{digest[:16]}{suffix}", data, tree, modules)


def package_piece() -> Piece:
    """Pack the package as in a wheel, without demos and notebooks."""
    files = [
        *_modules(),
        *_carried(hls_dir(), _SOURCES, "_hls"),
        *_carried(boards_dir(), _BOARDS, "_boards"),
    ]
    return _named("package", "", _archive(files), tree=True, modules=_RUN)


def overlay_piece(overlay: Overlay) -> Piece:
    """Pack the files of an overlay."""
    names = (BIT, HWH, SELFTEST, EXPECTED, INFO)
    files = [(name, overlay.folder / name) for name in names]
    return _named("overlay", "", _archive(files), tree=True)


def program_piece(path: Path) -> Piece:
    """Take a program's file unchanged."""
    return _named("program", ".nmx", path.read_bytes(), tree=False)
