# SPDX-License-Identifier: Apache-2.0
"""The board's side of a deployment: stores files under one folder, each whole or not at all.

In: one request as JSON, and a file's bytes on standard input.  Out: lines that begin with ``MARK``.
``python -c`` runs its text on a board before any file of this package is there, so it
imports the standard library alone.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, BinaryIO

MARK = "neuralmatrix: "  # distinguishes these lines from a login shell's output
MANIFEST = "manifest.json"
_BLOCK = 1 << 18


def say(**fields: Any) -> None:
    """Print one line for this machine; a login greeting before it may lack a newline."""
    sys.stdout.write("\n" + MARK + json.dumps(fields) + "\n")
    sys.stdout.flush()


def _place(root: str, name: str) -> str:
    parts = name.split("/")
    if name.startswith("/") or not all(parts) or {".", ".."} & set(parts):
        raise ValueError(f"{name!r} is not a name within a folder")
    return os.path.join(root, *parts)


def _sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(_BLOCK), b""):
            digest.update(block)
    return digest.hexdigest()


def _files(folder: str) -> Iterator[str]:
    """Return the relative names of the unpacked files, without compiled modules."""
    for base, _, names in os.walk(folder):
        for name in names:
            if name != MANIFEST and not name.endswith(".pyc"):
                yield os.path.relpath(os.path.join(base, name), folder)


def _hashes(folder: str) -> dict[str, str]:
    return {name: _sha256(os.path.join(folder, name)) for name in sorted(_files(folder))}


def _remove(path: str) -> None:
    if os.path.isdir(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


# ------------------------------------------------------------------------------ probe


def _version(package: str) -> str:
    """Return an installed package's version; empty without it or for a mere folder."""
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        return ""
    try:
        return version(package)
    except PackageNotFoundError:
        return "of an unknown version"


def probe() -> dict[str, Any]:
    """Describe this interpreter: version, packages, rights."""
    return {
        "python": sys.executable,
        "version": list(sys.version_info[:3]),
        "numpy": _version("numpy"),
        "pynq": _version("pynq"),
        "root": os.geteuid() == 0,
        "emulated": bool(os.environ.get("NEURALMATRIX_EMULATED_BOARD")),
    }


# ------------------------------------------------------------------------------ have, put


def _is_whole(path: str, sha256: str) -> bool:
    """Check a file by its hash, a folder by the hashes in its manifest."""
    if os.path.isfile(path):
        return _sha256(path) == sha256
    try:
        with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
            stated = json.load(file)
    except (OSError, ValueError):
        return False
    return bool(stated["sha256"] == sha256 and stated["files"] == _hashes(path))


def have(root: str, files: dict[str, str]) -> dict[str, Any]:
    """Report which of the named files or folders are intact; remove damaged ones."""
    root = os.path.abspath(os.path.expanduser(root))
    os.makedirs(root, exist_ok=True)
    if not os.access(root, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), root)
    found = []
    for name, sha256 in files.items():
        path = _place(root, name)
        if _is_whole(path, sha256):
            found.append(name)
        else:
            _remove(path)
    return {"root": root, "have": found, "free": shutil.disk_usage(root).free}


def _receive(source: BinaryIO, path: str, size: int) -> str:
    """Write ``size`` bytes to ``path`` and return their hash."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        while size:
            block = source.read(min(size, _BLOCK))
            if not block:
                raise EOFError("the connection ended before the end of the file")
            digest.update(block)
            file.write(block)
            size -= len(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _unpack(archive: str, folder: str, sha256: str) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            content = tar.extractfile(member)
            if content is None:
                raise ValueError(f"{member.name!r} is not a file")
            path = _place(folder, member.name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with content, open(path, "wb") as file:
                shutil.copyfileobj(content, file, _BLOCK)
    manifest = {"sha256": sha256, "files": _hashes(folder)}
    with open(os.path.join(folder, MANIFEST), "w", encoding="utf-8") as file:
        json.dump(manifest, file)


def put(root: str, name: str, size: int, sha256: str, tree: bool) -> dict[str, Any]:
    """Store a file or an unpacked archive from standard input; it appears by one rename."""
    target = _place(root, name)
    part, unpacked = f"{target}.{os.getpid()}.part", f"{target}.{os.getpid()}.tree"
    os.makedirs(os.path.dirname(target), exist_ok=True)
    try:
        found = _receive(sys.stdin.buffer, part, size)
        if found != sha256:
            raise ValueError(f"{name}: SHA-256 is {found[:12]}..., sent was {sha256[:12]}...")
        if tree:
            _unpack(part, unpacked, sha256)
        try:
            os.replace(unpacked if tree else part, target)
        except OSError:
            if not _is_whole(target, sha256):  # else another deployment has just put it there
                raise
    finally:
        _remove(part)
        _remove(unpacked)
    return {}


def warm(root: str, name: str, modules: str) -> dict[str, Any]:
    """Import modules of a folder once, so that compiled modules lie there.  If root were the
    first to import them, the user could not remove the compiled modules."""
    folder = _place(root, name)
    script = f"import sys; sys.path.insert(0, {folder!r}); import {modules}"
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    return {}


# ------------------------------------------------------------------------------ get, drop


def get(root: str, name: str) -> dict[str, Any]:
    """Announce a file, then send its bytes."""
    path = _place(root, name)
    say(size=os.path.getsize(path), sha256=_sha256(path))
    with open(path, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    sys.stdout.buffer.flush()
    return {}


def drop(root: str, name: str) -> dict[str, Any]:
    """Remove a folder or a file."""
    _remove(_place(root, name))
    return {}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "have": have,
    "put": put,
    "get": get,
    "drop": drop,
    "probe": probe,
    "warm": warm,
}


def main(request: str) -> int:
    """Answer one request; an error becomes a line that names it."""
    fields = json.loads(request)
    try:
        answer = ACTIONS[fields.pop("action")](**fields)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "")
        with contextlib.suppress(OSError):
            say(error=str(error.strerror or error), code=name, path=str(error.filename or ""))
        return 1
    except (EOFError, ValueError, tarfile.TarError) as error:
        say(error=str(error), code="", path="")
        return 1
    say(**answer)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
