# SPDX-License-Identifier: Apache-2.0
"""The program verifier: proves that a program stays inside its own memory and ends.

In: a ``Program`` of any origin.  Out: nothing, or ``BadProgram`` naming instruction and field.
A DMA engine on a Zynq reaches all physical memory, so that only verified programs run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import BadProgram
from ..hardware.instruction_columns import Columns, columns, opcodes, used_bits
from ..hardware.instruction_costs import cdiv, costs
from ..hardware.isa import MAP_CELLS, UNIT_OF, Buffer, Mode, Opcode, Region, SegKind, Stat, Unit
from ..hardware.target import ArrayConfig
from ..hardware.timeline import Deadlock, simulate
from ..ir.types import Array
from .data import ProgramData

_MOST_CYCLES = 1 << 36
AGAIN = "the program is corrupted, compile it again"


@dataclass(frozen=True)
class _Rule:
    """``low <= value <= high`` for every instruction of a column set where ``when`` holds."""

    field: str
    value: Array
    low: int | Array
    high: int | Array
    when: Array | bool = True


def _enforce(c: Columns, rule: _Rule) -> None:
    bad = np.asarray(((rule.value < rule.low) | (rule.value > rule.high)) & rule.when)
    if not bad.any():
        return
    i = int(np.flatnonzero(bad)[0])
    low, high = (int(np.broadcast_to(limit, bad.shape)[i]) for limit in (rule.low, rule.high))
    raise BadProgram(
        f"instruction {int(c.index[i])} ({c.opcode.name}): {rule.field}: found "
        f"{int(rule.value[i])}, allowed is {low}..{high}; {AGAIN}",
        int(c.index[i]),
    )


# ------------------------------------------------------------------------------ encoding


def _encoding(words: Array) -> None:
    if not len(words):
        raise BadProgram(f"instructions: found none, allowed is at least END; {AGAIN}")
    numbers = opcodes(words)
    unknown = np.flatnonzero(numbers > max(Opcode))
    if len(unknown):
        i = int(unknown[0])
        raise BadProgram(
            f"instruction {i}: opcode: found {int(numbers[i])}, allowed is 0..{int(max(Opcode))}; "
            f"{AGAIN}"
        )
    for opcode in Opcode:
        index = np.flatnonzero(numbers == opcode)
        stray = (words[index] & ~used_bits(opcode)).any(1)
        if stray.any():
            i = int(index[np.flatnonzero(stray)[0]])
            raise BadProgram(
                f"instruction {i} ({opcode.name}): reserved bits: found a 1, allowed is 0; {AGAIN}"
            )
    ends = np.flatnonzero(numbers == Opcode.END)
    if len(ends) != 1 or ends[0] != len(words) - 1:
        raise BadProgram(
            f"END: found at {ends[:4].tolist()}, allowed is once, at {len(words) - 1} (the last); "
            f"{AGAIN}"
        )


def _no_tokens(c: Columns, units: tuple[Unit, ...]) -> Iterator[_Rule]:
    for unit in units:
        for flag in (f"wait_{unit.name.lower()}", f"signal_{unit.name.lower()}"):
            yield _Rule(flag, c[flag], 0, 0)


# ------------------------------------------------------------------------------ transfers


def _span(c: Columns, steps: tuple[tuple[str, str], ...]) -> tuple[Array, Array]:
    """Return lowest and highest address of a loop nest over (count, step) field pairs."""
    low = high = c["addr"]
    for count, step in steps:
        reach = (c[count] - 1) * c[step]
        low, high = low + np.minimum(reach, 0), high + np.maximum(reach, 0)
    return low, high


_DMA_STEPS = (("n2", "s2"), ("n1", "s1"), ("n0", "s0"))


def _load_words(c: Columns) -> Array:
    rows = c["pad_top"] + c["n1"] + c["pad_bottom"]
    return np.asarray(c["n2"] * rows * (c["pad_left"] + c["n0"] + c["pad_right"]))


def buffer_words(array: ArrayConfig) -> dict[Buffer, int]:
    """Return the size of each LOAD destination in words of ROWS bytes."""
    return {
        Buffer.IBUF: array.ibuf_words,
        Buffer.WBUF: array.wbuf_words,
        Buffer.PBUF: array.pbuf_rows * 8,
        Buffer.T_LO: array.tbuf_rows,
        Buffer.T_HI: array.tbuf_rows,
        Buffer.U_LO: array.ubuf_rows,
        Buffer.U_HI: array.ubuf_rows,
    }


def _load(c: Columns, program: ProgramData) -> Iterator[_Rule]:
    array = program.array
    yield from _no_tokens(c, (Unit.LOAD,))
    yield _Rule("dest", c["dest"], 0, int(max(Buffer)))
    for count in ("n2", "n1", "n0"):
        yield _Rule(count, c[count], 1, 0xFFFF)
    sizes = np.zeros(8, np.int64)
    for buffer, words in buffer_words(array).items():
        sizes[buffer] = words
    yield _Rule("last word written", c["dst"] + _load_words(c) - 1, 0, sizes[c["dest"]] - 1)
    low, high = _span(c, _DMA_STEPS)
    lanes = (array.rows - 1) * c["lane_stride"]
    low, high = low + np.minimum(lanes, 0), high + np.maximum(lanes, 0)
    limit = np.where(c["region"] == Region.CONST, len(program.const), program.arena_bytes)
    yield _Rule("lowest byte read", low, 0, limit - 1)
    yield _Rule("highest byte read", high, 0, limit - 1)


def _store(c: Columns, program: ProgramData) -> Iterator[_Rule]:
    yield from _no_tokens(c, (Unit.STORE,))
    for count in ("n2", "n1", "n0"):
        yield _Rule(count, c[count], 1, 0xFFFF)
    rows = c["n2"] * c["n1"] * c["n0"]
    yield _Rule("last row read", c["src"] + rows - 1, 0, program.array.obuf_rows - 1)
    low, high = _span(c, _DMA_STEPS)
    for name, count in (("addr", ""), ("s2", "n2"), ("s1", "n1"), ("s0", "n0")):
        steps = c[count] > 1 if count else True
        rest = f"{name} modulo {program.array.cols}"
        yield _Rule(rest, c[name] % program.array.cols, 0, 0, steps)
    limit = program.arena_bytes - 1
    yield _Rule("lowest byte written", low, 0, limit)
    yield _Rule("highest byte written", high + program.array.cols - 1, 0, limit)


# ------------------------------------------------------------------------------ compute


def _epilogue(c: Columns, program: ProgramData) -> Iterator[_Rule]:
    array, int16 = program.array, c["out_wide"] == 1
    yield from _no_tokens(c, (Unit.COMPUTE,))
    yield _Rule("seg_kind", c["seg_kind"], 0, int(max(SegKind)))
    yield _Rule("stat", c["stat"], 0, int(max(Stat)))
    low, high = np.where(int16, -32640, -128), np.where(int16, 32639, 127)
    yield _Rule("lo", c["lo"], low, high)
    yield _Rule("hi", c["hi"], c["lo"], high)
    segmented = c["seg_kind"] != SegKind.NONE
    yield _Rule("seg_count", c["seg_count"], np.where(segmented, 1, 0), array.seg_entries)
    map_row = c["seg_base"] + cdiv(c["seg_count"], array.cols)
    yield _Rule("last segment row", map_row - 1, 0, array.pbuf_rows - 1, c["seg_count"] > 0)
    yield _Rule("seg_cells", c["seg_cells"], c["seg_kind"] == SegKind.MAPPED, MAP_CELLS)
    last_map_row = map_row + cdiv(c["seg_cells"], 8 * array.cols) - 1
    yield _Rule("last map row", last_map_row, 0, array.pbuf_rows - 1, c["seg_cells"] > 0)
    yield _Rule("u_en (with MOMENTS)", c["u_en"], 0, 0, c["stat"] == Stat.MOMENTS)
    yield _Rule("stat_lanes", c["stat_lanes"], 0, array.cols)


def _state_of(compute: Columns, epilogue: Columns) -> dict[str, Array]:
    """Return the active EPILOGUE fields at each COMPUTE; "set" is 0 before the first."""
    which = np.searchsorted(epilogue.index, compute.index) - 1
    if not len(epilogue.index):
        return {name: np.zeros(len(which), np.int64) for name in ("set", *epilogue.fields)}
    state = {name: values[np.maximum(which, 0)] for name, values in epilogue.fields.items()}
    return state | {"set": (which >= 0).astype(np.int64)}


def _shape(c: Columns, array: ArrayConfig) -> Iterator[_Rule]:
    yield from _no_tokens(c, (Unit.COMPUTE,))
    for count in ("m1", "m0", "nb", "cb", "kh", "kw"):
        yield _Rule(count, c[count], 1, 0xFFFF)
    window = c["mode"] == Mode.WINDOW
    for name in ("win_h", "win_w"):
        yield _Rule(name, c[name], 1, array.win, window)
    for name in ("stride_h", "stride_w"):
        yield _Rule(name, c[name], 1, 0xFF, window)
    raster_w = (c["m0"] - 1) * c["stride_w"] + c["win_w"]
    yield _Rule("words in an input row", raster_w, 1, array.line_words, window)
    several = c["nb"] > 1
    yield _Rule("first (with nb > 1)", c["first"], 1, 1, several)
    yield _Rule("last (with nb > 1)", c["last"], 1, 1, several)


def _operands(c: Columns, array: ArrayConfig) -> Iterator[_Rule]:
    window = c["mode"] == Mode.WINDOW
    rows = np.where(window, (c["m1"] - 1) * c["stride_h"] + c["win_h"], c["m1"])
    columns_ = np.where(window, (c["m0"] - 1) * c["stride_w"] + c["win_w"], c["m0"])
    x = c["x_base"] + (rows - 1) * c["x_m1"] + (columns_ - 1) * c["x_m0"]
    x = x + (c["nb"] - 1) * c["x_nb"] + (c["cb"] - 1) * c["x_cb"] + c["x_wide"] * c["x_half"]
    x = x + (c["kh"] - 1) * c["x_kh"] + (c["kw"] - 1) * c["x_kw"]
    yield _Rule("last word of x", x, 0, array.ibuf_words - 1)
    blocks = c["kh"] * c["kw"] * c["cb"] * (1 + c["w_wide"])
    w = c["w_base"] + (c["nb"] - 1) * c["w_nb"] + blocks * array.rows - 1
    yield _Rule("last weight word", w, 0, array.wbuf_words - 1)


def _results(c: Columns, state: dict[str, Array], array: ArrayConfig) -> Iterator[_Rule]:
    m, last = c["m1"] * c["m0"], c["last"] == 1
    yield _Rule("last accumulator row", c["acc_base"] + m - 1, 0, array.acc_rows - 1)
    yield _Rule("EPILOGUE before this", state["set"], 1, 1, last)
    p = c["p_base"] + (c["nb"] - 1) * c["p_nb"]
    # The lanes fetch their parameters with the weights, even if no epilogue follows.
    yield _Rule("last parameter row", p, 0, array.pbuf_rows - 1)
    o = c["o_base"] + (c["nb"] - 1) * c["o_nb"] + m - 1
    yield _Rule("last output row", o, 0, array.obuf_rows - 1, last)
    yield from _statistic(c, state["stat"], array)
    for name, rows in (("t", array.tbuf_rows), ("u", array.ubuf_rows)):
        end = c[f"{name}_base"] + (c["nb"] - 1) * state[f"{name}_nb"]
        end = end + (c["m1"] - 1) * state[f"{name}_m1"] + (c["m0"] - 1) * state[f"{name}_m0"]
        enabled = last & (state[f"{name}_en"] == 1)
        yield _Rule(f"last row of {name}", end, 0, rows - 1, enabled)


def _statistic(c: Columns, kind: Array, array: ArrayConfig) -> Iterator[_Rule]:
    """Check a row statistic's rows; without stat_first it continues an open statistic."""
    rows, used = c["m1"] * c["m0"], (c["last"] == 1) & (kind != Stat.NONE)
    end = c["r_base"] + rows * np.where(kind == Stat.MOMENTS, 2, 1) - 1
    yield _Rule("last statistic row", end, 0, array.obuf_rows - 1, used & (c["stat_last"] == 1))
    order = np.cumsum(used) - used  # number of statistics before each
    before = np.flatnonzero(used)[np.maximum(order - 1, 0)] if used.any() else order
    begun = (order > 0) & (c["stat_last"][before] == 0)
    goes_on = used & (c["stat_first"] == 0)
    allowed = np.where(begun, rows[before], 0)
    yield _Rule("rows (with stat_first 0)", rows, allowed, allowed, goes_on)
    yield _Rule("stat (with stat_first 0)", kind, kind[before], kind[before], goes_on)


def _compute(c: Columns, program: ProgramData) -> Iterator[_Rule]:
    yield from _shape(c, program.array)
    yield from _operands(c, program.array)
    state = _state_of(c, columns(program.instructions, Opcode.EPILOGUE))
    yield from _results(c, state, program.array)


def _end(c: Columns, program: ProgramData) -> Iterator[_Rule]:
    yield from _no_tokens(c, tuple(Unit))


_RULES: dict[Opcode, Callable[[Columns, ProgramData], Iterator[_Rule]]] = {
    Opcode.END: _end,
    Opcode.LOAD: _load,
    Opcode.STORE: _store,
    Opcode.EPILOGUE: _epilogue,
    Opcode.COMPUTE: _compute,
}


# ------------------------------------------------------------------------------ tokens


def _tokens(words: Array) -> None:
    """Check that each pair of units sends as many tokens as it waits for."""
    sent = np.zeros((len(Unit), len(Unit)), np.int64)
    for opcode, unit in UNIT_OF.items():
        c = columns(words, opcode)
        for other in Unit:
            sent[unit, other] += c[f"signal_{other.name.lower()}"].sum()
            sent[other, unit] -= c[f"wait_{other.name.lower()}"].sum()
    for p, q in np.argwhere(sent != 0):
        raise BadProgram(
            f"tokens from {Unit(p).name} to {Unit(q).name}: found {int(sent[p, q]):+d} sent beyond "
            f"those waited for, allowed is 0; {AGAIN}"
        )


def _terminates(program: ProgramData) -> None:
    cost = costs(program.instructions, program.array, program.timing)
    try:
        cycles = simulate(cost, program.array, program.timing).cycles
    except Deadlock as error:
        raise BadProgram(f"{error}; allowed are programs that end; compile it again") from None
    if cycles > _MOST_CYCLES:
        raise BadProgram(
            f"cycles: found {cycles}, allowed is at most {_MOST_CYCLES} (minutes on any board); "
            f"{AGAIN}"
        )


def verify_program(program: ProgramData) -> None:
    """Verify every access and the end of the program.  BadProgram: it must not be run."""
    words = program.instructions
    _encoding(words)
    for opcode, rules in _RULES.items():
        c = columns(words, opcode)
        if len(c.index):
            for rule in rules(c, program):
                _enforce(c, rule)
    _tokens(words)
    _terminates(program)
