# SPDX-License-Identifier: Apache-2.0
"""Programs: saved and loaded unchanged, damaged files refused, and the static proof exact."""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadProgram, NeuralMatrixError
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.isa import Instruction, Opcode, decode
from neuralmatrix.ir.types import ViewStep
from neuralmatrix.program.check_tables import form_problem
from neuralmatrix.program.program import Program, load
from neuralmatrix.program.verify import verify_program
from oracle import needed_sizes
from programs import copy_instructions, copy_program, insn, make_program, random_program

# ------------------------------------------------------------------------------ files


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


def with_table(program: Program, dtype: Any = np.int8, rows: int = 9) -> Program:
    """The program with row numbers (1, 4, 4) for its input, whose rows have 5 values."""
    table = np.arange(rows * 5).reshape(rows, 5).astype(dtype)
    steps = (ViewStep("reshape", (1, 4, 4, 5)),)
    port = replace(program.inputs[0], shape=(1, 4, 4), dtype="int64", steps=steps, table=table)
    return replace(program, inputs=(port,))


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


@pytest.mark.parametrize(
    ("table", "text"),
    (
        (np.zeros((3, 5), np.int16), "table: found int16 (3, 5), allowed is int8 (V, D)"),
        (np.zeros((3, 4), np.int8), "steps: found shape None"),
        (np.zeros((0, 5), np.int8), "table: found int8 (0, 5)"),
        (np.zeros(5, np.int8), "table: found int8 (5,)"),
    ),
)
def test_tables_that_fit_no_input(program: Program, table: Any, text: str) -> None:
    port = replace(with_table(program).inputs[0], table=table)
    assert text in form_problem(replace(program, inputs=(port,)))


def test_inputs_may_share_a_name_and_then_a_shape(program: Program) -> None:
    one = with_table(program).inputs[0]
    assert not form_problem(replace(program, inputs=(one, one)))
    other = replace(one, shape=(1, 16))
    assert "each name once" in form_problem(replace(program, inputs=(one, other)))


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


def rewrite(path: Path, change: Callable[[dict[str, bytes]], None], method: int = 0) -> None:
    """Unpack, change members, fix the checksums, pack."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    try:
        manifest = json.loads(members["manifest.json"])
        sums = [n for n in members if n.endswith(".npy")]
        manifest["sha256"] = [[n, hashlib.sha256(members[n]).hexdigest()] for n in sums]
        members["manifest.json"] = json.dumps(manifest).encode()
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


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
        (("format",), 1, "found format 1 with ISA 2, allowed is format 2"),
        (("isa",), 1, "found format 2 with ISA 1, allowed is format 2 with ISA 2; compile the"),
        (("body", "recipe", "raised"), [3], "recipe.raised[0]: found 3, allowed is a string"),
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
        ((*LAYOUT, "replicated"), True, "layout.c: found 5, allowed is 1..1"),
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


# ------------------------------------------------------------------------------ proof


@pytest.mark.parametrize("seed", range(8))
def test_random_programs_pass(seed: int) -> None:
    verify_program(random_program(seed, 200))


def resized(program: Program, name: str, size: int) -> Program:
    if name == "const":
        return replace(program, const=program.const[:size])
    if name == "arena_bytes":
        return replace(program, arena_bytes=size)
    return replace(program, array=replace(program.array, **{name: size}))


@pytest.mark.parametrize("seed", range(3))
def test_limits_are_exact(seed: int) -> None:
    """Every memory shrunk to what the program touches passes; one less is refused."""
    program = random_program(seed + 10, 60)
    sizes = needed_sizes(program)
    assert len(sizes) == 12
    assert sizes.pop("win") <= program.array.win
    for name, size in sizes.items():
        program = resized(program, name, size)
    verify_program(program)
    for name, size in sizes.items():
        with pytest.raises(BadProgram, match=r"instruction \d+ \(\w+\): .*found .*allowed is"):
            verify_program(resized(program, name, size - 1))


LOAD, WEIGHTS, PARAMS, SETUP, COMPUTE, STORE, END = range(7)


@pytest.mark.parametrize(
    ("index", "change", "text"),
    (
        (LOAD, {"n2": 0}, "instruction 0 (LOAD): n2: found 0, allowed is 1..65535"),
        (LOAD, {"dest": 7}, "instruction 0 (LOAD): dest: found 7, allowed is 0..6"),
        (LOAD, {"addr": 65300}, "highest byte read: found 65555, allowed is 0..65535"),
        (LOAD, {"s0": -16}, "lowest byte read: found -240, allowed is 0..65535"),
        (LOAD, {"lane_stride": -1}, "lowest byte read: found -15"),
        (LOAD, {"dst": 8190}, "last word written: found 8205, allowed is 0..8191"),
        (LOAD, {"pad_top": 255, "n0": 65535}, "last word written: found"),
        (LOAD, {"signal_load": 1}, "signal_load: found 1, allowed is 0..0"),
        (WEIGHTS, {"addr": 200}, "highest byte read: found 455, allowed is 0..383"),
        (SETUP, {"seg_kind": 3, "seg_count": 1}, "seg_cells: found 0, allowed is 1..256"),
        (SETUP, {"seg_cells": 257}, "seg_cells: found 257, allowed is 0..256"),
        (SETUP, {"seg_count": 16, "seg_base": 510, "seg_cells": 129}, "last map row: found 512"),
        (SETUP, {"seg_kind": 1}, "seg_count: found 0, allowed is 1..64"),
        (SETUP, {"seg_count": 65}, "seg_count: found 65, allowed is 0..64"),
        (SETUP, {"seg_count": 17, "seg_base": 511}, "last segment row: found 512"),
        (SETUP, {"stat": 3, "u_en": 1}, "u_en (with MOMENTS): found 1, allowed is 0..0"),
        (SETUP, {"stat": 1}, "rows (with stat_first 0): found 16, allowed is 0..0"),
        (SETUP, {"stat_lanes": 17}, "stat_lanes: found 17, allowed is 0..16"),
        (SETUP, {"hi": 128}, "hi: found 128, allowed is -128..127"),
        (SETUP, {"lo": 127, "hi": 126}, "hi: found 126, allowed is 127..127"),
        (COMPUTE, {"nb": 0}, "nb: found 0, allowed is 1..65535"),
        (COMPUTE, {"nb": 2, "first": 0}, "first (with nb > 1): found 0, allowed is 1..1"),
        (COMPUTE, {"mode": 1}, "win_h: found 0, allowed is 1..4"),
        (COMPUTE, {"mode": 1, "win_h": 5, "win_w": 1}, "win_h: found 5, allowed is 1..4"),
        (COMPUTE, {"mode": 1, "win_h": 1, "win_w": 1}, "stride_h: found 0"),
        (COMPUTE, {"x_base": 8190}, "last word of x: found 8205, allowed is 0..8191"),
        (COMPUTE, {"cb": 257}, "last weight word: found 4111, allowed is 0..4095"),
        (COMPUTE, {"w_wide": 1, "w_base": 4065}, "last weight word: found 4096"),
        (COMPUTE, {"acc_base": 1009}, "last accumulator row: found 1024"),
        (COMPUTE, {"o_base": 1009}, "last output row: found 1024"),
        (COMPUTE, {"p_base": 512}, "last parameter row: found 512"),
        (STORE, {"addr": 65536 - 240}, "highest byte written: found 65551"),
        (STORE, {"src": 1009}, "last row read: found 1024"),
        (STORE, {"addr": 4104}, "addr modulo 16: found 8, allowed is 0..0"),
        (STORE, {"s0": 24}, "s0 modulo 16: found 8, allowed is 0..0"),
        (STORE, {"s0": -4096}, "lowest byte written: found -57344"),
        (STORE, {"wait_compute": 0}, "tokens from COMPUTE to STORE: found +1 sent"),
        (COMPUTE, {"wait_store": 1}, "tokens from STORE to COMPUTE: found -1 sent"),
        (END, {"wait_load": 1}, "instruction 6 (END): wait_load: found 1, allowed is 0..0"),
    ),
)
def test_each_violation_is_named(index: int, change: dict[str, int], text: str) -> None:
    program = copy_program()
    instructions = [decode(tuple(words)) for words in program.instructions.tolist()]
    old = instructions[index]
    instructions[index] = Instruction(old.opcode, {**old.values, **change})
    with pytest.raises(BadProgram, match=re.escape(text)):
        verify_program(replace(program, instructions=as_words(instructions)))


def words_with(index: int, word: int, bits: int) -> Program:
    program = copy_program()
    words = program.instructions.copy()
    words[index, word] |= bits
    return replace(program, instructions=words)


@pytest.mark.parametrize(
    ("program", "text"),
    (
        (words_with(6, 0, 0xF), "instruction 6: opcode: found 15, allowed is 0..4"),
        (words_with(6, 15, 1), "instruction 6 (END): reserved bits: found a 1"),
        (words_with(0, 0, 1 << 31), "instruction 0 (LOAD): reserved bits: found a 1"),
        (make_program([]), "instructions: found none"),
        (make_program([insn(Opcode.END)] * 2), "END: found at [0, 1], allowed is once, at 1"),
        (make_program(copy_instructions(16)[:-1]), "END: found at [], allowed is once, at 5"),
    ),
)
def test_bad_encoding(program: Program, text: str) -> None:
    with pytest.raises(BadProgram, match=re.escape(text)):
        verify_program(program)


def test_compute_needs_an_epilogue() -> None:
    instructions = copy_instructions(16)
    del instructions[SETUP]
    with pytest.raises(BadProgram, match="EPILOGUE before this: found 0"):
        verify_program(make_program(instructions))


def test_endless_programs_are_refused() -> None:
    instructions = copy_instructions(16)
    steps = dict(nb=65535, kh=255, m1=1024, m0=1, mode=1, win_h=1, win_w=1)
    values = {**instructions[COMPUTE].values, **steps, "stride_h": 255, "stride_w": 1, "x_m1": 0}
    instructions[COMPUTE] = Instruction(Opcode.COMPUTE, values)
    with pytest.raises(BadProgram, match="cycles: found .*allowed is at most"):
        verify_program(make_program(instructions))


def crossed_tokens() -> Program:
    load = dict(n2=1, n1=1, n0=1, s0=16, lane_stride=1)
    store = dict(n2=1, n1=1, n0=1, s0=16)
    return make_program(
        [
            insn(Opcode.LOAD, wait_store=1, signal_store=1, **load),
            insn(Opcode.STORE, wait_load=1, signal_load=1, **store),
            insn(Opcode.END),
        ]
    )


def test_crossed_waits_are_a_deadlock() -> None:
    text = (
        "LOAD at instruction 0 waits for a token of STORE; COMPUTE has an empty queue; "
        "STORE at instruction 1 waits for a token of LOAD"
    )
    with pytest.raises(BadProgram, match=text):
        verify_program(crossed_tokens())


def test_full_queue_is_a_deadlock() -> None:
    """LOAD's queue fills with instructions that wait for a STORE which FETCH cannot reach."""
    load = dict(n2=1, n1=1, n0=1, s0=16, lane_stride=1)
    store = dict(n2=1, n1=1, n0=1, s0=16)
    program = make_program(
        [
            *(insn(Opcode.LOAD, wait_store=i == 0, **load) for i in range(4)),
            insn(Opcode.STORE, signal_load=1, **store),
            insn(Opcode.END),
        ]
    )
    verify_program(program)
    shallow = replace(program, array=replace(program.array, queue_depth=2))
    with pytest.raises(BadProgram, match="FETCH at instruction 2 waits for room in the queue of"):
        verify_program(shallow)
