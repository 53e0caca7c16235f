# SPDX-License-Identifier: Apache-2.0
"""The ``.nmx`` file: a zip of uncompressed .npy members and one JSON manifest.

In: a ``Program``, or a file from any source.  Out: the file, or the program (not yet verified).
The rows of embedding tables are separate members, named by the number of their input, as are the
constants of the host's operations; the steps of all roundings together are one.
Nothing is unpickled, and every size is compared with the file's own before it is used.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass, fields, replace
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np

from .._version import __version__
from ..errors import BadProgram
from ..files import DAMAGE, is_endless, kind_of, write_whole
from ..hardware.isa import ISA_VERSION
from ..ir.host.types import HostEdges
from ..ir.recipe import Recipe
from ..ir.types import Array
from ..jsonform import FormError, from_json, to_json
from .check_tables import form_problem
from .data import ProgramData, ProgramPort, ProgramTables
from .host_constants import (
    CONSTANT,
    CONSTANT_DTYPES,
    constant_members,
    constants_problem,
    with_values,
    without_values,
)
from .rounding_steps import all_steps, roundings_problem, with_steps, without_steps

FORMAT = 4
READABLE = (3, FORMAT)  # format 3 has no operations of the host
_MANIFEST = "manifest.json"
_MANIFEST_LIMIT = 64 << 20
_ARRAYS: dict[str, np.dtype[Any]] = {
    "instructions": np.dtype("<u4"),
    "insn_layer": np.dtype("<i4"),
    "const": np.dtype("u1"),
}
_TABLE = re.compile(r"table_(0|[1-9]\d{0,3})\.npy")
_EXTRA = re.compile(rf"{_TABLE.pattern}|{CONSTANT.pattern}")
_TABLE_DTYPES = (np.dtype("i1"), np.dtype("<i2"))
_ROUNDINGS = "roundings.npy"  # of programs that have any
_OTHER = {
    "onnx": "found an ONNX model, allowed is a program (.nmx): give them in the order MODEL "
    "PROGRAM, or compile the model first",
    "npz": "found an archive of arrays (.npz), allowed is a program (.nmx): give them in the order "
    "PROGRAM INPUTS",
    "npy": "found an array (.npy), allowed is a program (.nmx)",
    **dict.fromkeys(
        (
            "pt",
            "pt2",
            "pickle",
            "torchscript",
            "keras",
            "hdf5",
            "tflite",
            "safetensors",
            "gguf",
            "savedmodel",
        ),
        "found a model of another framework, allowed is a program (.nmx); compile it first: "
        "'neuralmatrix compile' says what it takes",
    ),
    "zipped": "found an archive that holds an ONNX model, allowed is a program (.nmx)",
    "pointer": "found a pointer of Git LFS, allowed is a program (.nmx): git lfs pull fetches it",
    "html": "found a web page, allowed is a program (.nmx): download it again",
}
_EPOCH = (1980, 1, 1, 0, 0, 0)
_AGAIN = "; compile the network again"


@dataclass(frozen=True)
class _Manifest:
    format: int
    isa: int
    package: str
    fingerprint: str
    sha256: tuple[tuple[str, str], ...]
    body: ProgramTables


# ------------------------------------------------------------------------------ writing


def _npy(array: Array, dtype: np.dtype[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array, dtype), allow_pickle=False)
    return buffer.getvalue()


def _manifest_json(program: ProgramData, sums: tuple[tuple[str, str], ...]) -> bytes:
    body = ProgramTables(**{f.name: getattr(program, f.name) for f in fields(ProgramTables)})
    body = replace(body, inputs=tuple(replace(port, table=None) for port in body.inputs),
                   recipe=without_steps(body.recipe), host=without_values(body.host))  # fmt: skip
    fingerprint = program.array.fingerprint
    manifest = _Manifest(FORMAT, ISA_VERSION, __version__, fingerprint, sums, body)
    return json.dumps(to_json(manifest), indent=1).encode()


def _members(program: ProgramData) -> dict[str, bytes]:
    arrays = {f"{n}.npy": _npy(getattr(program, n), dtype) for n, dtype in _ARRAYS.items()}
    for i, port in enumerate(program.inputs):
        if port.table is not None:
            dtype = _TABLE_DTYPES[port.slot.qparams.int16]
            arrays[f"table_{i}.npy"] = _npy(port.table, dtype)
    for name, values in constant_members(program.host).items():
        arrays[name] = _npy(values, values.dtype.newbyteorder("<"))
    if program.recipe.roundings:
        arrays[_ROUNDINGS] = _npy(all_steps(program.recipe), np.dtype("u1"))
    sums = tuple((name, hashlib.sha256(data).hexdigest()) for name, data in arrays.items())
    return {_MANIFEST: _manifest_json(program, sums), **arrays}


def _write_zip(file: IO[bytes], members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)


def write(program: ProgramData, path: Path) -> None:
    """Save the program, all of it or nothing."""
    write_whole(path, lambda file: _write_zip(file, _members(program)))


# ------------------------------------------------------------------------------ reading


def _bad(path: Path, what: str) -> BadProgram:
    return BadProgram(f"{path}: {what}{_AGAIN}")


def _read_members(path: Path) -> dict[str, bytes]:
    """Read all members, each checked to be uncompressed and no larger than the file."""
    wanted = {_MANIFEST, *(f"{name}.npy" for name in _ARRAYS)}
    other = kind_of(path)
    if other in _OTHER:
        raise BadProgram(f"{path}: {_OTHER[other]}")
    if is_endless(path):
        raise _bad(path, "found no regular file")
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
            names = [info.filename for info in infos]
            others = {n for n in names if n != _ROUNDINGS and not _EXTRA.fullmatch(n)}
            if others != wanted or len(set(names)) < len(names):
                raise _bad(path, f"members: found {names[:8]}, allowed are {sorted(wanted)}, "
                                 f"table_N.npy, host_N.npy and {_ROUNDINGS}")  # fmt: skip
            for info in infos:
                limit = _MANIFEST_LIMIT if info.filename == _MANIFEST else size
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > min(limit, size):
                    raise _bad(path, f"{info.filename}: found compressed or too large, allowed is "
                                     f"stored and at most {min(limit, size)} bytes")  # fmt: skip
            return {name: archive.read(name) for name in names}
    except FileNotFoundError:
        raise BadProgram(f"{path}: no such file; compile a network to it first") from None
    except OSError as error:
        raise _bad(path, f"found no file to read ({error.strerror or error})") from None
    except DAMAGE as error:
        raise _bad(path, f"found no intact .nmx file ({error})") from None


def _parse_manifest(path: Path, text: bytes) -> _Manifest:
    try:
        data = json.loads(text)
        version = data.get("format") if isinstance(data, dict) else None
        if version not in READABLE or data.get("isa") != ISA_VERSION:
            isa = data.get("isa") if isinstance(data, dict) else None
            found = f"format {version!r} with ISA {isa!r}"
            raise _bad(
                path,
                f"found {found}, allowed is format "
                f"{' or '.join(map(str, READABLE))} with ISA {ISA_VERSION}",
            )
        return from_json(_Manifest, data, "manifest")
    except FormError as error:
        raise _bad(path, str(error)) from None
    except (ValueError, RecursionError) as error:
        raise _bad(path, f"manifest.json: found no JSON ({error})") from None


def _parse_array(path: Path, name: str, data: bytes, allowed: tuple[np.dtype[Any], ...]) -> Array:
    """Return a view of the member's bytes; its header must account for every byte."""
    stream = io.BytesIO(data)
    try:
        np.lib.format.read_magic(stream)
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    except (ValueError, EOFError, SyntaxError, TypeError, RecursionError) as error:
        raise _bad(path, f"{name}: found no array header ({error})") from None
    start = stream.tell()
    if dtype not in allowed or fortran or len(data) - start != prod(shape) * dtype.itemsize:
        kinds = " or ".join(map(str, allowed))
        raise _bad(path, f"{name}: found {dtype} {shape} in {len(data) - start} bytes, "
                         f"allowed is C-ordered {kinds} of that size")  # fmt: skip
    flat: Array = np.frombuffer(data, dtype, offset=start)
    return flat.reshape(shape)


def _check_sums(path: Path, manifest: _Manifest, members: dict[str, bytes]) -> None:
    stated = dict(manifest.sha256)
    for name in sorted({*stated, *members} - {_MANIFEST}):
        found = hashlib.sha256(members[name]).hexdigest() if name in members else "no such member"
        if stated.get(name) != found:
            raise _bad(path, f"{name}: found checksum {found[:12]}, allowed is "
                             f"{str(stated.get(name))[:12]}")  # fmt: skip
    if manifest.fingerprint != manifest.body.array.fingerprint:
        raise _bad(path, f"fingerprint: found {manifest.fingerprint}, allowed is "
                         f"{manifest.body.array.fingerprint}")  # fmt: skip


def _with_tables(
    path: Path, ports: tuple[ProgramPort, ...], members: dict[str, bytes]
) -> tuple[ProgramPort, ...]:
    found = list(ports)
    for name in members:
        match = _TABLE.fullmatch(name)
        if match is None:
            continue
        number = int(match[1])
        if number >= len(ports):
            raise _bad(path, f"{name}: found no input {number}, allowed is 0..{len(ports) - 1}")
        table = _parse_array(path, name, members[name], _TABLE_DTYPES)
        found[number] = replace(ports[number], table=table)
    return tuple(found)


def _with_constants(
    path: Path, host: HostEdges | None, members: dict[str, bytes]
) -> HostEdges | None:
    """Return the operations of the host with their constant operands: views of the members."""
    found = {
        name: _parse_array(path, name, data, CONSTANT_DTYPES)
        for name, data in members.items()
        if CONSTANT.fullmatch(name)
    }
    problem = constants_problem(host, found)
    if problem:
        raise _bad(path, problem)
    return with_values(host, found)


def _with_steps(path: Path, recipe: Recipe, members: dict[str, bytes]) -> Recipe:
    """Return the recipe with the steps of its roundings: views of one member."""
    if (_ROUNDINGS in members) != bool(recipe.roundings):
        raise _bad(path, f"{_ROUNDINGS}: found {len(recipe.roundings)} roundings in the manifest, "
                         "allowed is the member where there are any")  # fmt: skip
    if not recipe.roundings:
        return recipe
    steps = _parse_array(path, _ROUNDINGS, members[_ROUNDINGS], (np.dtype("u1"),))
    problem = roundings_problem(recipe, steps)
    if problem:
        raise _bad(path, problem)
    return with_steps(recipe, steps)


def read(path: Path) -> ProgramData:
    """Read the program in a file and check its form."""
    members = _read_members(path)
    manifest = _parse_manifest(path, members[_MANIFEST])
    _check_sums(path, manifest, members)
    parts: dict[str, Any] = {f.name: getattr(manifest.body, f.name) for f in fields(ProgramTables)}
    for name, dtype in _ARRAYS.items():
        parts[name] = _parse_array(path, f"{name}.npy", members[f"{name}.npy"], (dtype,))
    parts["inputs"] = _with_tables(path, manifest.body.inputs, members)
    parts["host"] = _with_constants(path, manifest.body.host, members)
    parts["recipe"] = _with_steps(path, manifest.body.recipe, members)
    program = ProgramData(**parts)
    problem = form_problem(program)
    if problem:
        raise _bad(path, problem)
    return program
