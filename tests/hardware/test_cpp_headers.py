# SPDX-License-Identifier: Apache-2.0
"""The generated headers: fresh, and consistent with isa.py.

In: the tables of isa.py, the board files.  Out: nothing.
"""

from __future__ import annotations

import ctypes
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.cpp_headers import COMMITTED, config_header, isa_header, main
from neuralmatrix.hardware.isa import SLOTS, WORDS, Instruction, Opcode, encode, field_range
from neuralmatrix.paths import hls_dir
from neuralmatrix.runtime.emulation.compilers import compiler

HEADERS = hls_dir() / "include" / "nm"
_RENEW = "run python -m neuralmatrix.hardware.cpp_headers"


def test_committed_headers_are_fresh() -> None:
    assert (HEADERS / "isa.h").read_text() == isa_header(), _RENEW
    assert (HEADERS / "config.h").read_text() == config_header(load_board(COMMITTED).array), _RENEW


def test_main_writes_both(tmp_path: Path) -> None:
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"isa.h", "config.h"}


def test_fingerprint_is_a_number_too() -> None:
    array = load_board("kv260").array
    assert f"FINGERPRINT_BITS = 0x{array.fingerprint}ull;" in config_header(array)


def test_memory_of_the_accumulators_comes_from_the_board() -> None:
    board = load_board("kv260")
    assert "#define NM_ACC_MEMORY uram\n" in config_header(board.array, None, ("ibuf", "acc"))
    assert "#define NM_ACC_MEMORY bram\n" in config_header(board.array, None, ("ibuf",))
    assert "#define NM_ACC_MEMORY bram\n" in config_header(board.array)


def test_products_per_dsp_come_from_the_array() -> None:
    array = load_board(COMMITTED).array
    assert "MACS_PER_DSP = 2;" in config_header(array)
    assert "MACS_PER_DSP = 1;" in config_header(replace(array, macs_per_dsp=1))


def test_ports_come_from_the_timing() -> None:
    board = load_board("kv260")
    assert "LOAD_PORT_BYTES = 16;" in config_header(board.array, board.timing)
    assert "LOAD_PORT_BYTES = 8;" in config_header(board.array)


def _compiles(folder: Path, text: str) -> str:
    (folder / "nm").mkdir(exist_ok=True)
    (folder / "nm" / "config.h").write_text(text)
    (folder / "use.cpp").write_text('#include "nm/types.h"\n')
    include = ["-I", str(folder), "-I", str(hls_dir() / "include")]
    command = [*compiler(), "-std=c++14", "-fsyntax-only", *include, str(folder / "use.cpp")]
    return subprocess.run(command, capture_output=True, text=True).stderr


@pytest.mark.gxx
@pytest.mark.parametrize("name", board_names())
def test_every_board_passes_the_static_assertions(name: str, tmp_path: Path) -> None:
    board = load_board(name)
    assert _compiles(tmp_path, config_header(board.array, board.timing, board.uram_buffers)) == ""


@pytest.mark.gxx
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"cols": 32}, "a row of results must be the next layer's word"),
        ({"wbuf_words": 8}, "a weight block must fit the weight buffer"),
        ({"line_words": 2}, "an input row must hold a window"),
        ({"ibuf_words": 1 << 17}, "instructions address 16 bits of words"),
        ({"pbuf_rows": 1 << 14}, "a LOAD addresses parameters by word"),
    ],
)
def test_a_bad_array_fails_with_a_sentence(
    change: dict[str, int], sentence: str, tmp_path: Path
) -> None:
    array = replace(load_board(COMMITTED).array, **change)
    assert sentence in _compiles(tmp_path, config_header(array))


@pytest.fixture(scope="module")
def accessors(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Wrap every getter and setter as a C function."""
    folder = tmp_path_factory.mktemp("accessors")
    lines = ['#include "nm/isa.h"', "using namespace nm;", 'extern "C" {']
    for opcode, slots in SLOTS.items():
        for name in slots:
            prefix = "insn_" if name in SLOTS[Opcode.END] else f"{opcode.name.lower()}_"
            lines.append(
                f"long get_{opcode.name}_{name}(const Insn* i) {{ return {prefix}{name}(*i); }}"
            )
            lines.append(
                f"void set_{opcode.name}_{name}(Insn* i, long v) {{ set_{prefix}{name}(*i, v); }}"
            )
    (folder / "use.cpp").write_text("\n".join([*lines, "}", ""]))
    library = folder / "use.so"
    flags = ["-std=c++14", "-O1", "-shared", "-fPIC", "-I", str(hls_dir() / "include")]
    command = [*compiler(), *flags, str(folder / "use.cpp"), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True)
    return ctypes.CDLL(str(library))


@pytest.mark.gxx
@pytest.mark.parametrize("opcode", Opcode)
def test_accessors_agree_with_encode(opcode: Opcode, accessors: ctypes.CDLL) -> None:
    rng = np.random.default_rng(opcode)
    fields = {name: slot.field for name, slot in SLOTS[opcode].items() if name != "opcode"}
    for pick in (lambda f: field_range(f)[0], lambda f: field_range(f)[1], None):
        draw = pick or (lambda f: int(rng.integers(field_range(f)[0], field_range(f)[1] + 1)))
        values = {name: draw(field) for name, field in fields.items()}
        words = np.array(encode(Instruction(opcode, values)), np.uint32)
        built = np.full(WORDS, 0, np.uint32)
        getattr(accessors, f"set_{opcode.name}_opcode")(
            ctypes.c_void_p(built.ctypes.data), ctypes.c_long(int(opcode))
        )
        for name, value in values.items():
            getter = getattr(accessors, f"get_{opcode.name}_{name}")
            getter.restype = ctypes.c_long
            assert getter(ctypes.c_void_p(words.ctypes.data)) == value, name
            setter = getattr(accessors, f"set_{opcode.name}_{name}")
            setter(ctypes.c_void_p(built.ctypes.data), ctypes.c_long(value))
        assert np.array_equal(built, words)
