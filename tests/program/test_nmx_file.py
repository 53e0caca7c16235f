# SPDX-License-Identifier: Apache-2.0
"""Programs in files: saved and loaded unchanged, damaged files rejected.

In: programs, and files that were changed.  Out: the same program, or BadProgram.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadProgram, NeuralMatrixError
from neuralmatrix.ir.types import Units
from neuralmatrix.program.program import Program, load
from nmx_members import rewrite
from table_programs import with_table


def same(a: Program, b: Program) -> bool:
    values = ((getattr(a, f.name), getattr(b, f.name)) for f in fields(Program))
    return all(
        np.array_equal(x, y) if isinstance(x, np.ndarray) else x == y and type(x) is type(y)
        for x, y in values
    )


def test_round_trip(program: Program, tmp_path: Path) -> None:
    noted = replace(program, host_ops=("quantise", "dequantise"), notes=("äöü",))
    noted.save(tmp_path / "a.nmx")
    loaded = load(tmp_path / "a.nmx")
    assert same(loaded, noted)
    assert loaded.array.fingerprint == program.array.fingerprint
    loaded.save(tmp_path / "b.nmx")
    assert (tmp_path / "a.nmx").read_bytes() == (tmp_path / "b.nmx").read_bytes()


def test_members_are_plain_numpy(saved: Path, program: Program) -> None:
    with zipfile.ZipFile(saved) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        const = np.load(io.BytesIO(archive.read("const.npy")), allow_pickle=False)
    assert np.array_equal(const, program.const)


def test_tables_are_members_of_their_own(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "a.nmx"
    wanted = with_table(program)
    wanted.save(path)
    with zipfile.ZipFile(path) as archive:
        table = np.load(io.BytesIO(archive.read("table_0.npy")), allow_pickle=False)
    found = load(path)
    assert same(found, wanted)
    assert np.array_equal(found.inputs[0].table, wanted.inputs[0].table)
    assert table.dtype == np.int8 and np.array_equal(table, wanted.inputs[0].table)


@pytest.mark.parametrize(
    ("change", "text"),
    (
        (lambda m: m.pop("table_0.npy"), "steps: found shape None, allowed is (1, 4, 4, 5)"),
        (lambda m: m.update({"table_1.npy": m["table_0.npy"]}), "table_1.npy: found no input 1"),
        (lambda m: m.update({"table_0.npy": m["const.npy"]}), "table_0.npy: found uint8"),
        (lambda m: m.update({"table_x.npy": m["table_0.npy"]}), "members: found"),
        (lambda m: m.update({"table_00.npy": m["table_0.npy"]}), "members: found"),
        (lambda m: m.update({"table_0.npy": m["table_0.npy"][:-1]}), "table_0.npy: found int8"),
    ),
)
def test_tampered_tables(program: Program, tmp_path: Path, change: Any, text: str) -> None:
    path = tmp_path / "net.nmx"
    with_table(program).save(path)
    rewrite(path, change)
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(path)


def test_save_leaves_nothing_behind(program: Program, tmp_path: Path) -> None:
    with pytest.raises(NeuralMatrixError, match="cannot write .*missing.*choose a writable place"):
        program.save(tmp_path / "missing" / "a.nmx")
    (tmp_path / "folder.nmx").mkdir()
    with pytest.raises(NeuralMatrixError, match="cannot write"):
        program.save(tmp_path / "folder.nmx")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.nmx"]


def test_failed_save_keeps_the_old_file(
    saved: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("neuralmatrix.program.nmx_file._write_zip", full)
    with pytest.raises(NeuralMatrixError, match="No space left"):
        program.save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BadProgram, match="no such file; compile a network to it first"):
        load(tmp_path / "none.nmx")


def test_truncated(saved: Path) -> None:
    data = saved.read_bytes()
    for length in (0, 1, 30, len(data) // 3, len(data) // 2, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(BadProgram, match="net.nmx"):
            load(saved)


def test_damaged_bytes_never_pass_unnoticed(saved: Path, program: Program) -> None:
    data, rng = saved.read_bytes(), np.random.default_rng(1)
    refused = 0
    for position in rng.integers(0, len(data), 200):
        changed = bytearray(data)
        changed[position] ^= 1 << int(rng.integers(8))
        saved.write_bytes(changed)
        try:
            # Times and attributes in zip headers may change without changing the program.
            assert same(load(saved), program)
        except BadProgram:
            refused += 1
    assert refused > 150


@pytest.mark.parametrize("text", (b"", b"\x00" * 99, b"PK\x03\x04", b'{"format": 1}'))
def test_not_a_program(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.nmx").write_bytes(text)
    with pytest.raises(BadProgram, match="compile the network again"):
        load(tmp_path / "x.nmx")


def pickled(members: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{}, 1], object), allow_pickle=True)
    members["const.npy"] = buffer.getvalue()


def huge(members: dict[str, bytes]) -> None:
    head = members["const.npy"][:128].replace(b"(320,)", b"(9999999999999,)")
    members["const.npy"] = head[:118] + b"\n" + members["const.npy"][128:]


def float_const(members: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(384, np.float32))
    members["const.npy"] = buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "text"),
    (
        (pickled, "const.npy: found "),
        (huge, "const.npy: found "),
        (float_const, "const.npy: found float32"),
        (lambda m: m.update({"evil.py": b""}), "members: found"),
        (lambda m: m.pop("const.npy"), "members: found"),
        (lambda m: m.update({"manifest.json": b"[]"}), "found format None"),
        (lambda m: m.update({"manifest.json": b"{"}), "found no JSON"),
        (lambda m: m.update({"manifest.json": b"[" * 100000}), "found no JSON"),
    ),
)
def test_tampered_members(saved: Path, change: Any, text: str) -> None:
    rewrite(saved, change)
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(saved)


def test_compressed_members(saved: Path) -> None:
    rewrite(saved, lambda members: None, zipfile.ZIP_DEFLATED)
    with pytest.raises(BadProgram, match="found compressed or too large"):
        load(saved)


PORT = ("body", "inputs", 0)


LAYOUT = (*PORT, "slot", "layout")


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    (
        (("format",), 1, "found format 1 with ISA 2, allowed is format 3 or 4"),
        (("isa",), 1, "found format 4 with ISA 1, allowed is format 3 or 4 with ISA 2; compile"),
        (("body", "recipe", "promoted"), [3], "recipe.promoted[0]: found 3, allowed is a string"),
        (("body", "recipe", "shifts"), [["y", [1e300]]], "found 1e+300, allowed is a finite"),
        (("fingerprint",), "0" * 16, "fingerprint: found 0000000000000000"),
        (("body", "array", "rows"), 32, "fingerprint: found"),
        (("body", "board"), 3, "manifest.body.board: found 3, allowed is a string"),
        (("body", "extra"), 3, "manifest.body.extra: found 'extra'"),
        (("body", "arena_bytes"), 1 << 40, "arena_bytes: found 1099511627776"),
        (("body", "arena_bytes"), 100, "offset: found 0, allowed is 0..-156"),
        (("body", "clock_mhz"), 0.0, "clock_mhz: found 0.0"),
        (("body", "timing", "ddr_bytes_per_256_cycles"), 0, "ddr_bytes_per_256_cycles: found 0"),
        (("body", "inputs"), [], "inputs: found [], allowed is at least one"),
        ((*PORT, "name"), None, "manifest.body.inputs[0].name: found None"),
        ((*PORT, "shape"), [1, 5, 4, 5], "steps: found shape (1, 4, 5, 5)"),
        ((*PORT, "dtype"), "object", "dtype: found 'object'"),
        ((*PORT, "argmax"), [0, True, False], "argmax: found (0, True, False), allowed is null"),
        ((*PORT, "steps"), [{"kind": "flip", "arg": [0]}], "found 'flip', allowed is one of"),
        ((*PORT, "steps"), [{"kind": "reshape", "arg": [-1]}], "found shape None"),
        ((*PORT, "slot", "offset"), -1, "offset: found -1"),
        ((*PORT, "slot", "offset"), 65536, "offset: found 65536"),
        ((*PORT, "slot", "qparams", "scale"), 0, "scale: found 0.0"),
        ((*PORT, "slot", "qparams", "scale"), float("nan"), "found nan, allowed is a finite"),
        ((*PORT, "slot", "qparams", "zero_point"), 200, "zero_point: found 200"),
        ((*PORT, "slot", "fill"), -200, "fill: found -200"),
        ((*LAYOUT, "lanes"), 8, "layout.lanes: found 8, allowed is 16..16"),
        ((*LAYOUT, "h"), 0, "layout.h: found 0"),
        ((*LAYOUT, "h"), 1 << 40, "layout.h: found 1099511627776"),
        ((*LAYOUT, "broadcast"), True, "layout.c: found 5, allowed is 1..1"),
        (("body", "watchpoints", 0, "insn"), 99, "watchpoints[0].insn: found 99"),
        (("body", "watchpoints", 0, "layer"), -1, "watchpoints[0].layer: found -1"),
        (("body", "layers"), [], "insn_layer[0]: found 0"),
    ),
)
def test_tampered_manifest(saved: Path, keys: tuple[Any, ...], value: Any, text: str) -> None:
    def change(members: dict[str, bytes]) -> None:
        manifest = place = json.loads(members["manifest.json"])
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        members["manifest.json"] = json.dumps(manifest).encode()

    rewrite(saved, change)
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(saved)


def with_units(program: Program) -> Program:
    """Return the program with units at its ports and in its recipe."""
    units = Units((1, 1, 1, 1), (0.1,), (1 / 3,))
    inputs, outputs = (
        tuple(replace(port, units=units) for port in ports)
        for ports in (program.inputs, program.outputs)
    )
    recipe = replace(program.recipe, units=(("x", units),))
    return replace(program, inputs=inputs, outputs=outputs, recipe=recipe)


def test_units_are_saved_exactly(program: Program, tmp_path: Path) -> None:
    wanted = with_units(program)
    wanted.save(tmp_path / "a.nmx")
    found = load(tmp_path / "a.nmx")
    assert same(found, wanted) and found.inputs[0].units == wanted.inputs[0].units


@pytest.mark.parametrize(
    ("change", "text"),
    (
        ({"divisor": [0.0]}, "units.divisor: found 0.0"),
        ({"divisor": [-1.0]}, "units.divisor: found -1.0"),
        ({"divisor": [1e35]}, "units.divisor: found 1e+35"),
        ({"divisor": ["1"]}, "divisor[0]: found '1', allowed is a finite number"),
        ({"divisor": []}, "units.divisor: found 0, allowed is 1"),
        ({"shape": [1, 1, 1]}, "shape: found [1, 1, 1], allowed is a list of 4"),
        ({"shape": [1, 1, 1, 1 << 40]}, "units.shape: found"),
        ({"offset": [1.0, 2.0]}, "units.offset: found 2, allowed is 1"),
    ),
)
def test_tampered_units(program: Program, tmp_path: Path, change: Any, text: str) -> None:
    path = tmp_path / "net.nmx"
    with_units(program).save(path)

    def tamper(members: dict[str, bytes]) -> None:
        manifest = json.loads(members["manifest.json"])
        manifest["body"]["outputs"][0]["units"].update(change)
        members["manifest.json"] = json.dumps(manifest).encode()

    rewrite(path, tamper)
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(path)
