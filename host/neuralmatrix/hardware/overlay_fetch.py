# SPDX-License-Identifier: Apache-2.0
"""Fetches a published overlay.

In: a file's name or an https URL, and the SHA-256 that its publisher states.  Out: a file.
"""

from __future__ import annotations

import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from .._version import __version__
from ..errors import BadInput, OverlayMissing
from .overlay_archive import MOST_ARCHIVE
from .overlay_folder import file_hash

TIMEOUT_S = 60.0  # without a byte
_BLOCK = 1 << 18
_ALLOWED = "allowed are a file, file:///... and https://..."


class _OnlyHttps(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https alone."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"it leads to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _copy(source: IO[bytes], target: Path) -> None:
    room = MOST_ARCHIVE
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            room -= len(block)
            if room < 0:
                raise ValueError(f"it is larger than {MOST_ARCHIVE} bytes, more than any overlay")
            file.write(block)


def _download(url: str, target: Path) -> None:
    """Download over https.  OverlayMissing: it failed, or is too large."""
    request = urllib.request.Request(url, headers={"User-Agent": f"neuralmatrix/{__version__}"})
    opener = urllib.request.build_opener(_OnlyHttps)
    try:
        with opener.open(request, timeout=TIMEOUT_S) as source:
            stated = source.headers.get("Content-Length")
            _copy(source, target)
        if stated is not None and target.stat().st_size != int(stated):
            raise ValueError(f"found {target.stat().st_size} of {stated} bytes")
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise OverlayMissing(
            f"{url}: not fetched: {reason}; check address and network, or download the file in "
            "another way and name it"
        ) from None


def _local(source: str) -> Path | None:
    """Return the file that ``source`` names; None for a URL of another machine."""
    parts = urlsplit(source)
    if parts.scheme == "https":
        return None
    if parts.scheme == "file":
        if parts.netloc not in ("", "localhost"):
            raise BadInput(f"{source}: found a file of another machine, {_ALLOWED}")
        return Path(url2pathname(parts.path))
    if "://" in source:
        raise BadInput(f"{source}: found {parts.scheme!r}, {_ALLOWED}")
    return Path(source)


def _check_hash(path: Path, source: str, sha256: str) -> None:
    wanted = sha256.strip().lower()
    if len(wanted) != 64 or set(wanted) - set("0123456789abcdef"):
        raise BadInput(f"--sha256: found {sha256!r}, allowed are 64 hexadecimal digits")
    found = file_hash(path).sha256
    if found != wanted:
        raise OverlayMissing(
            f"{source}: its SHA-256 is {found}, wanted is {wanted}; do not use this file: fetch "
            "it again, and compare with what its publisher states"
        )


@contextmanager
def fetched(source: str, sha256: str | None = None) -> Iterator[Path]:
    """Give the file that ``source`` names; a download exists within the block alone.

    BadInput: another kind of address.  OverlayMissing: not to be had, or another SHA-256.
    """
    with tempfile.TemporaryDirectory(prefix="neuralmatrix-") as folder:
        path = _local(source)
        if path is None:
            path = Path(folder) / (Path(urlsplit(source).path).name or "overlay.zip")
            _download(source, path)
        elif not path.is_file():
            raise OverlayMissing(f"{source}: found no file of that name; {_ALLOWED}")
        if sha256 is not None:
            _check_hash(path, source, sha256)
        yield path
