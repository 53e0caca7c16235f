# SPDX-License-Identifier: Apache-2.0
"""Board files: all load and fit, and an error names the wrong field."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.board import board_from_file, board_names, load_board
from neuralmatrix.hardware.board_table import board_table
from neuralmatrix.hardware.isa import FIELDS, Opcode
from neuralmatrix.hardware.resources import KINDS, MOST, bram36, resources, uram
from neuralmatrix.hardware.target import ArrayConfig
from neuralmatrix.paths import boards_dir

NAMES = (
    "aup-zu3", "kr260", "kv260", "pynq-z1", "pynq-z2", "rfsoc4x2", "ultra96-v2", "zcu104",
)  # fmt: skip


def test_all_boards_are_there() -> None:
    assert board_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_follows_the_shares(name: str) -> None:
    used = resources(load_board(name))
    shares = {kind: used.share(kind) for kind in KINDS}
    assert all(share <= 1 for share in shares.values()), shares
    comfortable = all(shares[kind] <= used.limits[kind] for kind in KINDS)
    placeable = all(shares[kind] <= MOST[kind] <= 1 for kind in KINDS)
    assert used.fits == ("yes" if comfortable else "tight" if placeable else "no")
    assert all(piece.basis for piece in used.pieces)


@pytest.mark.parametrize("name", NAMES)
def test_array_can_be_addressed(name: str) -> None:
    array = load_board(name).array
    bits = {f.name: f.bits for f in FIELDS[Opcode.LOAD]}
    largest = max(array.ibuf_words, array.wbuf_words, 8 * array.pbuf_rows, array.obuf_rows)
    assert largest <= 1 << bits["dst"]
    assert array.win**2 <= array.rows and array.win < 1 << 4


def test_pynq_z2_is_what_programs_are_built_for() -> None:
    board = load_board("pynq-z2")
    expected = ArrayConfig(16, 16, 8192, 4096, 512, 1024, 1024, 1024, 512, 64, 512, 32, 64, 2)
    assert board.array == expected == load_board("pynq-z1").array
    assert board.clock_mhz == 100 and board.dram_bytes_per_s == 1.575e9
    assert board.timing.ddr_bytes_per_256_cycles == 4032
    assert board.timing.load_port_bytes == 8 and board.timing.burst_beats == 16


@pytest.mark.parametrize("name", NAMES)
def test_the_fallback_clock_is_slower_and_of_the_same_array(name: str) -> None:
    board = load_board(name)
    slow = board.fallback
    assert slow.clock_mhz == board.fallback_clock_mhz < board.clock_mhz
    assert slow.array == board.array, "programs run at either clock"
    assert design_of(slow).clock.mhz == slow.clock_mhz
    assert 0.1 < board.fallback_loss < 0.25
    assert slow.timing.ddr_bytes_per_256_cycles > board.timing.ddr_bytes_per_256_cycles


def test_fingerprint_names_the_array() -> None:
    array = load_board("pynq-z2").array
    assert array.fingerprint == replace(array).fingerprint
    changed = {
        replace(array, **{name: 4 * value}).fingerprint for name, value in asdict(array).items()
    }
    assert len(changed | {array.fingerprint}) == len(asdict(array)) + 1


def test_unknown_board_lists_the_names() -> None:
    with pytest.raises(BadInput, match="unknown board 'pynq'; allowed are aup-zu3, .*, zcu104"):
        load_board("pynq")


@pytest.mark.parametrize(
    ("width", "depth", "expected"),
    ((128, 8192, 30), (128, 1024, 4), (32, 1024, 1), (36, 512, 0.5), (9, 2049, 1)),
)
def test_block_ram_shapes(width: int, depth: int, expected: float) -> None:
    assert bram36(width, depth) == expected


def test_byte_writes_take_the_parity_bits_and_half_the_width() -> None:
    assert bram36(128, 512, shared=True) == 4 and bram36(128, 8192, shared=True) == 32


def test_ultra_ram_shape() -> None:
    assert uram(256, 16384) == 16 and uram(72, 4096) == 1 and uram(73, 4097) == 4


def test_table_is_json() -> None:
    rows = json.loads(json.dumps(board_table()))
    assert [row["name"] for row in rows] == list(NAMES)
    assert all(
        row["resources"]["dsp"]["used"] <= row["resources"]["dsp"]["available"] for row in rows
    )


# ------------------------------------------------------------------------------ bad files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(boards_dir(), tmp_path / "boards")
    return tmp_path / "boards"


def change(path: Path, keys: tuple[str, ...], value: Any) -> None:
    data = json.loads(path.read_text())
    place = data
    for key in keys[:-1]:
        place = place[key]
    if value is None:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    (
        (("clock_mhz",), "100", r"pynq-z2.json.clock_mhz: found '100', allowed is a finite number"),
        (("clock_mhz",), -1, r"impossible values: .*clock_mhz = -1"),
        (("clock_mhz",), 0, r"impossible values: clock_mhz = 0 \(must be 1 to 1000\)"),
        (("clock_mhz",), 5e-324, r"impossible values: clock_mhz = 4.94066e-324"),
        (("fallback_clock_mhz",), 100.0, r"fallback_clock_mhz = 100 \(must be above 0 and below"),
        (("fallback_clock_mhz",), 83.0, r"fallback_clock_mhz = 83 \(no dividers .* is 76.9230769"),
        (("fallback_clock_mhz",), -1, r"fallback_clock_mhz = -1 \(must be above 0"),
        (("fallback_clock_mhz",), None, r"fallback_clock_mhz: found 'nothing', allowed is a value"),
        (("overlay",), "x" * 5000, r"overlay: found 'x+', allowed is the name of a board file"),
        (("part", "dsp"), 220.5, r"part.dsp: found 220.5, allowed is an integer"),
        (("part", "dsp"), True, r"part.dsp: found True, allowed is an integer"),
        (("part", "dsp_type"), "DSP58", r"dsp_type: found 'DSP58', allowed is one of 'DSP48E1'"),
        (("ports", "load"), None, r"ports.load: found 'nothing', allowed is a value"),
        (("ports", "loda"), {}, r"ports.loda: found 'loda', allowed is one of load, store, fetch"),
        (("notes",), "none", r"notes: found 'none', allowed is a list"),
        (("power",), [3], r"power\[0\]: found 3, allowed is an object \(PowerRail\)"),
        (("array_name",), "../x", r"array_name: found '../x', allowed is a name in arrays/"),
        (("array_name",), "8x8", r"8x8.json: not readable as JSON"),
        (("name",), "pynq", r"name = 'pynq' in a file called pynq-z2.json"),
        (("dram", "efficiency"), 1.5, r"dram.efficiency = 1.5"),
    ),
)
def test_bad_board_file(folder: Path, keys: tuple[str, ...], value: Any, text: str) -> None:
    path = folder / "pynq-z2.json"
    change(path, keys, value)
    with pytest.raises(BadInput, match=text):
        board_from_file(path)


def test_bad_array_file(folder: Path) -> None:
    change(folder / "arrays" / "16x16-z7.json", ("macs_per_dsp",), 3)
    with pytest.raises(BadInput, match=r"macs_per_dsp: found 3, allowed is one of 1, 2"):
        board_from_file(folder / "pynq-z2.json")
    change(folder / "arrays" / "16x16-z7.json", ("macs_per_dsp",), 2)
    change(folder / "arrays" / "16x16-z7.json", ("rows",), 24)
    with pytest.raises(BadInput, match="rows x cols = 24 x 16"):
        board_from_file(folder / "pynq-z2.json")


@pytest.mark.parametrize("text", ("", "[]", "{", '"x"', "\x00"))
def test_not_a_board_file(folder: Path, text: str) -> None:
    path = folder / "pynq-z2.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="pynq-z2.json"):
        board_from_file(path)
