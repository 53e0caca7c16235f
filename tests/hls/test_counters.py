# SPDX-License-Identifier: Apache-2.0
"""The kernels' registers, with a clock that runs while they work.

In: hls/src, built so that every cycle of the cost model advances the clock and every read of a
queue adds a wait.  Out: registers equal to the cost model's sums, without waiting.
"""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from kernel_randoms import compute_case, gemm, random_epilogue, window
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.checksums import constant_checksum, instruction_checksum
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.instruction_costs import costs
from neuralmatrix.hardware.isa import Instruction, Opcode
from neuralmatrix.hardware.registers import KERNELS
from neuralmatrix.paths import hls_dir
from neuralmatrix.runtime.emulation.compilers import compiler

pytestmark = pytest.mark.gxx
HLS = hls_dir()
BOARD = load_board("pynq-z2")
CLOCK = '\nextern "C" volatile uint64_t nm_clock;\n'
WAIT = 1_000_000  # cycles that each read of a queue takes
START = 77
END = Instruction(Opcode.END, {})

DRIVER = """
#include "nm/kernels.h"

extern "C" {
volatile uint64_t nm_clock = 0;

// Registers in the order of registers.py, outputs alone, 64 bits each.
void run_all(const uint8_t* program, uint32_t count, uint8_t* dram, uint64_t const_base,
             uint32_t const_bytes, uint64_t arena_base, uint32_t arena_bytes, uint64_t begin,
             uint64_t* out) {
    using namespace nm;
    static int8_t ibuf[IBUF_WORDS][ROWS], wbuf[WBUF_WORDS][ROWS], pbuf[PBUF_WORDS][ROWS];
    static int8_t t_lo[TBUF_ROWS][ROWS], t_hi[TBUF_ROWS][ROWS];
    static int8_t u_lo[UBUF_ROWS][ROWS], u_hi[UBUF_ROWS][ROWS];
    static int8_t o_lo[OBUF_ROWS][COLS], o_hi[OBUF_ROWS][COLS];
    InsnQueue to_load, to_compute, to_store;
    TokenQueue lc, ls, cl, cs, sl, sc;
    uint32_t retired[3], fault[4], sums[2];
    nm_clock = begin;
    fetch((const FetchBeat*)program, count, &nm_clock, &out[0], &out[1], &fault[0],
          &sums[0], to_load,
          to_compute, to_store);
    out[2] = fault[0], out[3] = sums[0];
    load((const LoadBeat*)dram, const_base, const_bytes, arena_base, arena_bytes, &nm_clock,
         &out[4], &out[5], &retired[0], &fault[1], &sums[1], to_load, cl, sl,
         lc, ls, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
    compute(&nm_clock, &out[9], &out[10], &retired[1], &fault[2], to_compute, lc, sc, cl, cs, ibuf,
            wbuf, pbuf, t_lo, t_hi, u_lo, u_hi, o_lo, o_hi);
    store((StoreBeat*)dram, arena_base, arena_bytes, &nm_clock, &out[13], &out[14], &retired[2],
          &fault[3], to_store, ls, cs, sl, sc, o_lo, o_hi);
    out[8] = sums[1];
    for (int u = 0; u < 3; ++u) {
        const int at = 6 + 4 * u + (u > 0); // LOAD has a checksum besides
        out[at] = retired[u], out[at + 1] = fault[u + 1];
    }
}
}
"""


def ticking_headers(folder: Path) -> None:
    """Make variants of cost.h and stream.h that are found before those of hls/include."""
    folder.mkdir()
    cost = (HLS / "include" / "nm" / "cost.h").read_text(encoding="utf-8")
    cost, places = re.subn(
        r"^( +(?:void tick\(int64_t n\) \{ )?)cycles \+= (.*?);",
        r"\1const int64_t more = \2; cycles += more, nm_clock = nm_clock + uint64_t(more);",
        cost,
        flags=re.M,
    )
    assert places == 4  # tick, burst, strided, gather
    stream = (HLS / "include" / "nm" / "stream.h").read_text(encoding="utf-8")
    stream, places = re.subn(r"    T read\(\) \{", rf"\g<0> nm_clock = nm_clock + {WAIT};", stream)
    assert places == 1
    for name, text in (("cost.h", cost), ("stream.h", stream)):
        text = text.replace("\nnamespace nm {", f"#include <stdint.h>\n{CLOCK}\nnamespace nm {{", 1)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("counters")
    ticking_headers(folder / "nm")
    (folder / "driver.cpp").write_text(DRIVER, encoding="utf-8")
    sources = [folder / "driver.cpp", *sorted((HLS / "src").glob("*.cpp"))]
    flags = ["-std=c++14", "-O1", "-fwrapv", "-shared", "-fPIC"]
    include = ["-I", str(folder), "-I", str(HLS / "include")]
    target = folder / "counters.so"
    command = [*compiler(), *flags, *include, *map(str, sources), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return ctypes.CDLL(str(target))


def names() -> list[str]:
    return [
        f"{kernel}.{argument.name}"
        for kernel, arguments in KERNELS.items()
        for argument in arguments
        if argument.output
    ]


def run(library: ctypes.CDLL, program: list[Instruction], const, arena, **changed: int):
    """Return the registers by name, and the arena afterwards."""
    words = as_words(program)
    const_base, arena_base = 4096, 4096 + (const.nbytes + 4095) // 4096 * 4096
    dram = np.zeros(arena_base + arena.nbytes + 64, np.uint8)
    dram[const_base:][: const.nbytes] = const
    dram[arena_base:][: arena.nbytes] = arena
    out = np.full(len(names()), 0x5555, np.uint64)
    library.run_all(
        ctypes.c_void_p(words.ctypes.data),
        ctypes.c_uint32(changed.get("count", len(words))),
        ctypes.c_void_p(dram.ctypes.data),
        ctypes.c_uint64(const_base),
        ctypes.c_uint32(const.nbytes),
        ctypes.c_uint64(arena_base),
        ctypes.c_uint32(changed.get("arena_bytes", arena.nbytes)),
        ctypes.c_uint64(changed.get("begin", START)),
        ctypes.c_void_p(out.ctypes.data),
    )
    registers = dict(zip(names(), map(int, out), strict=True))
    return registers, dram[arena_base:][: arena.nbytes]


def case_of(seed: int):
    rng = np.random.default_rng(seed)
    return compute_case(rng, [random_epilogue(rng), gemm(rng), window(rng, o_base=200)])


@pytest.mark.parametrize("seed", range(4))
def test_busy_is_the_work_and_no_waiting(seed: int, library: ctypes.CDLL) -> None:
    case = case_of(seed)
    program = [*case.program, END]
    found, arena = run(library, program, case.const, case.arena)
    wanted = costs(as_words(program), case.array, BOARD.timing)
    assert found["fetch.began"] == START
    before = START
    for unit, name in enumerate(("load", "compute", "store")):
        own = wanted.unit == unit
        # The kernels' meters leave out the DRAM latency, which a board's counter includes.
        latency = 0 if name == "compute" else BOARD.timing.dram_latency * own.sum()
        assert found[f"{name}.busy"] == wanted.cycles[own].sum() - latency
        assert found[f"{name}.retired"] == own.sum()
        assert found[f"{name}.fault"] == 0
        # Its reads of the queue, END's among them, lie outside its busy time.
        assert found[f"{name}.ended"] - before == found[f"{name}.busy"] + WAIT * (own.sum() + 1)
        before = found[f"{name}.ended"]
    assert found["fetch.checksum"] == instruction_checksum(as_words(program))
    wanted_sum = constant_checksum(as_words(program), case.const, case.array.rows)
    assert found["load.checksum"] == wanted_sum != 0
    assert not np.array_equal(arena, case.arena)


def test_a_program_of_no_instructions(library: ctypes.CDLL) -> None:
    case = case_of(9)
    found, arena = run(library, case.program, case.const, case.arena, count=0)
    assert f"{found['fetch.fingerprint']:016x}" == case.array.fingerprint
    assert np.array_equal(arena, case.arena)
    for name in ("load", "compute", "store"):
        assert found[f"{name}.retired"] == found[f"{name}.busy"] == found[f"{name}.fault"] == 0


def test_what_is_refused_is_not_retired(library: ctypes.CDLL) -> None:
    case = case_of(3)
    program = [*case.program, END]
    stores = sum(insn.opcode == Opcode.STORE for insn in program)
    found, arena = run(library, program, case.const, case.arena, arena_bytes=16)
    assert found["store.fault"] == 1 and found["store.retired"] < stores
    assert np.array_equal(arena[16:], case.arena[16:])


@pytest.mark.parametrize("begin", [1, (1 << 32) - 5, 1 << 50])
def test_times_are_wider_than_a_word(begin: int, library: ctypes.CDLL) -> None:
    case = case_of(5)
    first, _ = run(library, [*case.program, END], case.const, case.arena, begin=0)
    found, _ = run(library, [*case.program, END], case.const, case.arena, begin=begin)
    assert found["fetch.began"] == begin
    for name in ("load", "compute", "store"):
        assert found[f"{name}.busy"] == first[f"{name}.busy"]
        assert found[f"{name}.ended"] == first[f"{name}.ended"] + begin
