# SPDX-License-Identifier: Apache-2.0
"""Cycles and DRAM bytes of every single instruction.

In: instruction words, array and timing.  Out: one integer per instruction for each cost.
The constants are read from hls/include/nm/cost.h, which the kernels are compiled with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..paths import hls_dir
from .instruction_columns import Columns, columns, opcodes
from .isa import UNIT_OF, Mode, Opcode, Reduce, Stat
from .target import ArrayConfig, Target, Timing

Array = npt.NDArray[Any]


@lru_cache(maxsize=1)
def constants() -> Mapping[str, int]:
    """Read the cost constants by name."""
    text = (hls_dir() / "include" / "nm" / "cost.h").read_text(encoding="utf-8")
    return {n: int(v) for n, v in re.findall(r"constexpr int (\w+) = (\d+);", text)}


@dataclass(frozen=True)
class Costs:
    """Arrays with one entry per instruction; ``unit`` is -1 for END."""

    unit: Array
    cycles: Array  # of the unit, DRAM contention left out
    passes: Array  # COMPUTE: cycles in which weights or activations stream through the array
    dram_bytes: Array
    dram_cycles: Array  # of the DRAM, at its effective bandwidth
    latency: Array  # set-up and DRAM latency, which follow the DRAM's own time
    waits: Array  # bit p: pops a token of unit p
    signals: Array  # bit q: sends a token to unit q


def cdiv(a: Array, b: int | Array) -> Array:
    """Divide and round up."""
    return -(-a // b)


@dataclass(frozen=True)
class _Transfer:
    cycles: Array
    bytes: Array


def _bursts(c: Columns, unpadded: Array, lanes: int, port: int, burst: int) -> _Transfer:
    """Count contiguous and strided words; rows without gaps merge into one run."""
    k = constants()
    n0, n1, n2 = c["n0"], c["n1"], c["n2"]
    merged = unpadded & (c["s1"] == n0 * lanes)
    run = np.where(merged, n1 * n0, n0) * lanes
    runs = np.where(merged, n2, n2 * n1)
    beats = cdiv(run, port)
    contiguous_cycles = runs * (beats + cdiv(beats, burst) * k["BURST_GAP"])
    word = -(-lanes // port) + k["STRIDED_EXTRA"]
    strided_cycles = n2 * n1 * n0 * word
    contiguous = (c["s0"] == lanes) | (n0 == 1)
    return _Transfer(
        np.where(contiguous, contiguous_cycles, strided_cycles),
        np.where(contiguous, runs * run, strided_cycles * port),
    )


def _load(c: Columns, array: ArrayConfig, timing: Timing) -> _Transfer:
    k, lanes, port = constants(), array.rows, timing.load_port_bytes
    data = c["n2"] * c["n1"] * c["n0"]
    rows = c["pad_top"] + c["n1"] + c["pad_bottom"]
    words = c["n2"] * rows * (c["pad_left"] + c["n0"] + c["pad_right"])
    unpadded = (c["pad_left"] == 0) & (c["pad_right"] == 0)
    plain = _bursts(c, unpadded, lanes, port, timing.burst_beats)
    gather = c["lane_stride"] != 1
    read = np.where(gather, data * lanes * k["GATHER_CYCLES"], plain.cycles)
    cycles = k["LOAD_SETUP"] + timing.dram_latency + read + (words - data)
    return _Transfer(cycles, np.where(gather, data * lanes * port, plain.bytes))


def _store(c: Columns, array: ArrayConfig, timing: Timing) -> _Transfer:
    everywhere = np.ones(len(c.index), bool)
    plain = _bursts(c, everywhere, array.cols, timing.store_port_bytes, timing.burst_beats)
    setup = constants()["STORE_SETUP"] + timing.dram_latency
    return _Transfer(setup + plain.cycles, plain.bytes)


def raster_steps(
    array: ArrayConfig, rows: Array | int, columns: Array | int, win_h: Array | int
) -> Array:
    """Return the steps that read a window's raster.

    The line buffers need win + 1 steps from a row to the next; a window of one row needs none.
    """
    return np.asarray(
        rows * np.where(np.asarray(win_h) > 1, np.maximum(columns, array.win + 1), columns)
    )


def second_beats(
    array: ArrayConfig, rows: Array | int, maximum: Array | bool, taps: Array | bool
) -> Array:
    """Return the steps of second beats for ``rows`` rows of results.

    ``taps``: a WINDOW with more than one tap, or with a stride; another one is a matrix product.
    """
    return np.asarray(rows * (maximum | (taps & (array.macs_per_dsp == 2))))


def _compute_passes(c: Columns, array: ArrayConfig) -> Array:
    window, maximum = c["mode"] == Mode.WINDOW, c["reduce"] == Reduce.MAX
    raster_h = (c["m1"] - 1) * c["stride_h"] + c["win_h"]
    raster_w = (c["m0"] - 1) * c["stride_w"] + c["win_w"]
    rows = c["m1"] * c["m0"]
    words = np.where(window, raster_steps(array, raster_h, raster_w, c["win_h"]), rows)
    taps = window & (c["win_h"] * c["win_w"] * c["stride_h"] * c["stride_w"] != 1)
    both_byte_planes = 1 + (c["x_wide"] & maximum)
    steps = words * both_byte_planes + second_beats(array, rows, maximum, taps)
    byte_planes = np.where(maximum, 1, (1 + c["x_wide"]) * (1 + c["w_wide"]))
    passes = c["nb"] * c["kh"] * c["kw"] * c["cb"] * byte_planes
    return np.asarray(passes * np.maximum(steps, array.rows))


def compute_overhead(array: ArrayConfig) -> int:
    """Return the cycles of a COMPUTE in addition to its passes."""
    k = constants()
    return k["COMPUTE_SETUP"] + k["COMPUTE_DEPTH"] + array.rows


def _statistic_rows(c: Columns, epilogue: Columns) -> Array:
    """Count written rows of row statistics; MOMENTS are two per row."""
    if not len(epilogue.index):
        return np.zeros(len(c.index), np.int64)
    latest = np.searchsorted(epilogue.index, c.index) - 1
    stat = np.where(latest >= 0, epilogue["stat"][np.maximum(latest, 0)], 0)
    written = np.select([stat == Stat.NONE, stat == Stat.MOMENTS], [0, 2], 1)
    return np.asarray(c["last"] * c["stat_last"] * written * c["m1"] * c["m0"])


def _flags(words: Array, shift: int) -> Array:
    return (words[:, 0].astype(np.int64) >> shift) & 7


def costs(words: Array, array: ArrayConfig, timing: Timing) -> Costs:
    """Return the costs of every instruction."""
    k, n = constants(), len(words)
    unit_table = np.full(16, -1)
    for opcode, owner in UNIT_OF.items():
        unit_table[opcode] = owner
    cycles, passes, dram, latency = (np.zeros(n, np.int64) for _ in range(4))
    load, store = columns(words, Opcode.LOAD), columns(words, Opcode.STORE)
    for c, transfer, setup in (
        (load, _load(load, array, timing), k["LOAD_SETUP"]),
        (store, _store(store, array, timing), k["STORE_SETUP"]),
    ):
        cycles[c.index], dram[c.index] = transfer.cycles, transfer.bytes
        latency[c.index] = setup + timing.dram_latency
    compute, epilogue = columns(words, Opcode.COMPUTE), columns(words, Opcode.EPILOGUE)
    passes[compute.index] = _compute_passes(compute, array)
    cycles[compute.index] = compute_overhead(array) + passes[compute.index]
    cycles[compute.index] += k["STAT_BEATS"] * _statistic_rows(compute, epilogue)
    table = epilogue["seg_count"] + cdiv(epilogue["seg_cells"], 8)
    cycles[epilogue.index] = k["EPILOGUE_SETUP"] + table
    dram_cycles = cdiv(dram * 256, timing.ddr_bytes_per_256_cycles)
    unit = unit_table[opcodes(words)]
    waits, signals = _flags(words, 4), _flags(words, 7)
    return Costs(unit, cycles, passes, dram, dram_cycles, latency, waits, signals)


# ------------------------------------------------------------------ costs by which passes rank

# Cycles of a word, gaps between bursts included, through a port of half its width.  Ports as wide
# as a word need 1 + 1/16, but ranked by that most networks become slower on the boards that have
# them (aup-zu3, ultra96-v2: -10 to +6.8 % of estimated cycles): strided words take twice as long.
WORD_CYCLES = 2 + 1 / 8
# Of a word of a product's operands, however wide the port: a right operand that lies transposed is
# read one strided word at a time.  With 1, graph networks on ultra96-v2 take up to 43 % more.
LEAST_WORD_CYCLES = 2


@dataclass(frozen=True)
class Work:
    """The work of the units for one operation: words through the ports, and instructions."""

    passes: float  # cycles in which words stream through the array
    computes: float
    loaded: float
    loads: float
    stored: float
    stores: float


def transfer_overhead(timing: Timing) -> int:
    """Return the cycles of a LOAD in addition to its words; a STORE has a few less."""
    return constants()["LOAD_SETUP"] + timing.dram_latency


def compute_cycles(target: Target, work: Work) -> float:
    """Return the cycles of the array."""
    return work.passes + compute_overhead(target.array) * work.computes


def overlapped_cycles(target: Target, work: Work) -> float:
    """Return the cycles of the slowest unit, where all of them run in parallel."""
    overhead = transfer_overhead(target.timing)
    load = WORD_CYCLES * work.loaded + overhead * work.loads
    store = WORD_CYCLES * work.stored + overhead * work.stores
    return max(compute_cycles(target, work), load, store)


def edge_cycles(target: Target, loaded: int, stored: int) -> float:
    """Return the cycles of an operation's first LOAD and last STORE, sizes in words."""
    return WORD_CYCLES * (loaded + stored) + 2 * transfer_overhead(target.timing)


def product_cycles(
    target: Target, rows: int, depth: int, channels: int, blocks: int | None = None
) -> float:
    """Return the larger cycles of passes and loads: ``rows`` positions times depth x channels.

    ``blocks``: how many blocks of weights are not all zero; all of them if None.
    """
    lanes, words = target.lanes, -(-depth // target.word_bytes)
    if blocks is None:
        blocks = words * -(-channels // lanes)
    load = max(LEAST_WORD_CYCLES, target.word_bytes / target.timing.load_port_bytes)
    return max(blocks * max(rows, lanes), load * (blocks * lanes + rows * words))


def gather_cycles(values: int) -> float:
    """Return the cycles of copying ``values`` bytes one by one."""
    return constants()["GATHER_CYCLES"] * values


def rough_cycles(target: Target, values: int, macs: int) -> int:
    """Return cycles of moving ``values`` bytes and ``macs`` multiply-adds in full lanes."""
    return values // target.timing.load_port_bytes + macs // (target.lanes * target.word_bytes)
