# SPDX-License-Identifier: Apache-2.0
"""Files that the command line reads and writes.

In: ``.npz`` files, ``name=1x3x224x224``.  Out: arrays by name, shapes by name, whole files.
A file is written all at once or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput, NeuralMatrixError

Array = npt.NDArray[Any]

# Errors of numpy and zipfile on a damaged file, in addition to OSError.
DAMAGE = (
    EOFError,
    MemoryError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,
    TokenError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
_SHAPE = re.compile(r"(?P<name>.+)=(?P<dims>[1-9]\d{0,8}(?:[x,][1-9]\d{0,8})*)")


def parse_shapes(options: list[str]) -> dict[str, tuple[int, ...]]:
    """Parse ``["input=1x3x224x224"]`` to ``{"input": (1, 3, 224, 224)}``."""
    shapes = {}
    for option in options:
        match = _SHAPE.fullmatch(option)
        if match is None:
            raise BadInput(f"--shape: found {option!r}, allowed is NAME=1x3x224x224")
        if match["name"] in shapes:
            raise BadInput(f"--shape: found {match['name']!r} twice, allowed is once per input")
        shapes[match["name"]] = tuple(int(d) for d in re.split("[x,]", match["dims"]))
    return shapes


def is_endless(path: Path) -> bool:
    """Return whether reading might never end, as for a pipe or a device."""
    return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def read_arrays(path: Path) -> dict[str, Array]:
    """Read the arrays in a ``.npz`` file without unpickling anything."""
    if is_endless(path):
        raise BadInput(f"{path}: found no regular file to read; name a .npz file (numpy.savez)")
    try:
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise BadInput(f"{path}: found a single array, allowed is .npz (numpy.savez)")
            arrays = _members(path, file)
    except OSError as error:
        found = error.strerror or error
        text = f"{path}: found no file to read ({found}); name a .npz file (numpy.savez)"
        raise BadInput(text) from None
    except DAMAGE as error:
        raise BadInput(f"{path}: found no readable .npz file ({error}); use numpy.savez") from None
    if not arrays:
        raise BadInput(f"{path}: found no arrays, allowed is one per input; use numpy.savez")
    return arrays


def _members(path: Path, file: IO[bytes]) -> dict[str, Array]:
    arrays = {}
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            name = info.filename
            if not name.endswith(".npy"):
                raise BadInput(f"{path}: found {name!r}, allowed are .npy members; use numpy.savez")
            with archive.open(info) as member:
                arrays[name[:-4]] = np.lib.format.read_array(member, allow_pickle=False)
    return arrays


# ------------------------------------------------------------------------------ kinds of files

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"PK", "zip"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (4, b"TFL3", "tflite"),
    (0, b"\x93NUMPY", "npy"),
    (0, b"\x80\x02", "pickle"),
    (0, b"\x80\x03", "pickle"),
    (0, b"\x80\x04", "pickle"),
    (0, b"\x80\x05", "pickle"),
    (8, b'{"', "safetensors"),
    (0, b"<?xml", "xml"),
    (0, b"GGUF", "gguf"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"version https://", "pointer"),  # of Git LFS
    (0, b"<!DOCTYPE", "html"),
    (0, b"<!doctype", "html"),
    (0, b"<html", "html"),
    (0, b"{", "json"),
)
# What a zip holds, by the end of a member's name; the first that fits counts.
_MEMBERS: tuple[tuple[str, str], ...] = (
    ("instructions.npy", "nmx"),
    ("model.weights.h5", "keras"),
    ("archive_format", "pt2"),
    ("serialized_exported_program.json", "pt2"),
    ("constants.pkl", "torchscript"),
    ("data.pkl", "pt"),
    (".npy", "npz"),
    (".onnx", "zipped"),
    ("saved_model.pb", "savedmodel"),
)


def kind_of(path: str | Path) -> str:
    """Return what a file is by its content: a key of what newcomers give for an ONNX model or a
    program, "onnx" by its name alone; empty for anything else."""
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except OSError:
        return ""
    for start, magic, kind in _MAGIC:
        if head[start:].startswith(magic):
            return _kind_of_zip(Path(path)) if kind == "zip" else kind
    return "onnx" if Path(path).suffix == ".onnx" else ""


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, *DAMAGE):
        return ""
    return next((kind for end, kind in _MEMBERS if any(n.endswith(end) for n in names)), "")


# ------------------------------------------------------------------------------ writing


def check_target(path: Path) -> None:
    """Raise NeuralMatrixError before the work starts if ``path`` cannot become a file."""
    try:
        if path.exists() and not path.is_file():
            raise _no_place(path, "it exists and is no regular file")
        tempfile.TemporaryFile(dir=path.parent, prefix=path.name).close()
    except OSError as error:
        raise _no_place(path, error.strerror or str(error)) from None


def _no_place(path: Path, why: str) -> NeuralMatrixError:
    return NeuralMatrixError(f"cannot write {path}: {why}; choose a writable place")


def make_folder(path: Path) -> None:
    """Create a folder unless it exists."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(path, error.strerror or str(error)) from None


def write_whole(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write atomically: ``fill`` a temporary file next to ``path``, then rename it."""
    check_target(path)
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            dir=path.parent, prefix=path.name, suffix=".part", delete=False
        ) as file:
            temporary = file.name
            fill(file)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        raise _no_place(path, error.strerror or str(error)) from None
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def replace_folder(target: Path, folder: Path) -> None:
    """Replace ``target`` by ``folder``, on the same disk; ``target`` is complete before and after.

    An error leaves the old ``target``.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    try:
        os.replace(folder, target)
    except OSError:
        if old.exists():
            os.replace(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Save arrays by name as ``.npz``."""

    def fill(file: IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)

    write_whole(path, fill)
