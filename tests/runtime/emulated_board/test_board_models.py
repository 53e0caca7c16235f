# SPDX-License-Identifier: Apache-2.0
"""The emulated board's parts, without pynq: memory, registers, interrupts, clocks, bitstreams.

In: accesses of a processor.  Out: the values that the manuals specify.
"""

from __future__ import annotations

import struct
import sys

import numpy as np
import pytest
from neuralmatrix.errors import ToolMissing
from neuralmatrix.hardware.board import board_names, family_of, load_board
from neuralmatrix.hardware.registers import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    CTRL,
    GIE,
    IER,
    ISR,
)
from neuralmatrix.hardware.registers import registers as registers_of
from neuralmatrix.runtime.emulated_board.bitfile import (
    Circuit,
    bitstream,
    circuit_of,
    part_of_header,
)
from neuralmatrix.runtime.emulated_board.faults import Faults, Injector
from neuralmatrix.runtime.emulated_board.memory import UNSET, BoardMemory
from neuralmatrix.runtime.emulated_board.registers import HlsBlock, InterruptController, PsRegisters

# ------------------------------------------------------------------------------ memory

BASE = 0x1000_0000


def memory(nbytes: int = 1 << 16, whole_sync: bool = True) -> BoardMemory:
    return BoardMemory(BASE, nbytes, whole_sync, least=8192 if whole_sync else 0)


def test_both_sides_of_a_cacheable_buffer() -> None:
    m = memory()
    buffer = m.take(100, cacheable=True)
    view = m.view(m.address(buffer), 100)
    assert view is not None and (view == UNSET).all() and (buffer.host[:100] == UNSET).all()
    buffer.host[:100] = 7
    assert (view == UNSET).all()
    m.flush(buffer, 0, 100)
    assert (view == 7).all()
    view[:] = 9
    assert (buffer.host[:100] == 7).all()
    m.invalidate(buffer, 0, 100)
    assert (buffer.host[:100] == 9).all()


def test_a_non_cacheable_buffer_has_one_side() -> None:
    m = memory()
    buffer = m.take(100, cacheable=False)
    view = m.view(m.address(buffer), 100)
    buffer.host[:] = 7
    assert view is not None and (view == 7).all()


@pytest.mark.parametrize(("whole_sync", "outside"), ((True, 7), (False, UNSET)))
def test_what_a_flush_of_a_part_reaches(whole_sync: bool, outside: int) -> None:
    m = memory(whole_sync=whole_sync)
    buffer = m.take(100, cacheable=True)
    buffer.host[:] = 7
    m.flush(buffer, 10, 20)
    view = m.view(m.address(buffer), 100)
    assert view is not None and (view[10:30] == 7).all()
    assert (view[:10] == outside).all() and (view[30:] == outside).all()


def test_sizes_and_reuse() -> None:
    m = memory()
    buffers = [m.take(n, True) for n in (1, 8192, 8193)]
    assert [b.size for b in buffers] == [8192, 8192, 12288]
    assert m.allocated == m.peak == 28672 and m.buffers == 3
    addresses = [m.address(b) for b in buffers]
    m.give(buffers[1])
    m.give(buffers[1])
    assert m.allocated == 20480 and not m.held(addresses[1], 1)
    assert m.address(m.take(8000, True)) == addresses[1]
    assert m.held(addresses[2] + 12000, 288) and not m.held(addresses[2] + 12000, 289)


@pytest.mark.parametrize("cacheable", (False, True))
def test_freed_memory_loses_its_values(cacheable: bool) -> None:
    m = memory()
    buffer = m.take(8192, cacheable)
    buffer.host[:] = 1
    view = m.view(m.address(buffer), 8192)
    m.give(buffer)
    assert view is not None and (view == UNSET).all() and (buffer.host == UNSET).all()


def test_exhaustion_and_holes() -> None:
    m = memory()
    buffers = [m.take(16384, True) for _ in range(4)]
    with pytest.raises(RuntimeError, match="BO allocation failed: 8192 bytes requested, 0 of"):
        m.take(1, True)
    m.give(buffers[0])
    m.give(buffers[2])
    with pytest.raises(RuntimeError, match="32768 of the emulated board's 65536 bytes"):
        m.take(16385, True)  # two separate gaps do not suffice
    assert m.address(m.take(16384, True)) == BASE


@pytest.mark.parametrize("address", (BASE - 1, BASE + 65536 - 9, 0, 1 << 40))
def test_views_outside(address: int) -> None:
    assert memory().view(address, 10) is None


# ------------------------------------------------------------------------------ a kernel


class Kernel:
    """A block whose starts and interrupt levels are recorded."""

    def __init__(self, name: str = "load") -> None:
        self.starts = 0
        self.levels: list[bool] = []
        self.block = HlsBlock(name, self.started, self.levels.append)
        self.at = {register.name: register.offset for register in registers_of(name)}

    def started(self) -> None:
        self.starts += 1


def test_start_and_done() -> None:
    kernel = Kernel()
    block = kernel.block
    assert block.read(CTRL) == AP_IDLE
    block.write(CTRL, AP_START)
    block.write(CTRL, AP_START)
    assert kernel.starts == 1 and block.read(CTRL) == AP_START
    block.finish()
    assert block.read(CTRL) == AP_DONE | AP_READY | AP_IDLE
    assert block.read(CTRL) == AP_IDLE


def test_auto_restart() -> None:
    kernel = Kernel()
    kernel.block.write(CTRL, AP_START | 0x80)
    kernel.block.finish()
    assert kernel.starts == 2 and kernel.block.read(CTRL) & (AP_DONE | AP_START | AP_IDLE) == 3


def test_arguments_are_words_of_32_bits() -> None:
    kernel = Kernel()
    kernel.block.write(kernel.at["dram_1"], 0x1_2345_6789)
    kernel.block.write(kernel.at["dram_2"], 0xA)
    kernel.block.write(kernel.at["const_bytes"], 12)
    assert kernel.block.argument("dram") == 0xA_2345_6789
    assert kernel.block.argument("const_bytes") == 12 == kernel.block.read(kernel.at["const_bytes"])


def test_outputs_are_read_only_and_their_valid_bits_clear() -> None:
    kernel = Kernel()
    low, high, valid = (kernel.at[f"ended_{end}"] for end in ("1", "2", "ctrl"))
    kernel.block.write(low, 5)
    assert [kernel.block.read(at) for at in (low, high, valid)] == [0, 0, 0]
    kernel.block.put("ended", 3 << 32 | 4)
    kernel.block.put("retired", 6)
    assert [kernel.block.read(at) for at in (low, high, valid, valid)] == [4, 3, 1, 0]
    assert kernel.block.read(kernel.at["retired"]) == 6


def test_interrupt_toggles() -> None:
    kernel = Kernel()
    block = kernel.block
    block.write(IER, 3)
    block.finish()
    assert block.read(ISR) == 3 and True not in kernel.levels
    block.write(GIE, 1)
    assert kernel.levels[-1] is True and block.read(CTRL) & 0x200
    block.write(ISR, 1)
    assert block.read(ISR) == 2 and kernel.levels[-1] is True
    block.write(ISR, 2)
    assert block.read(ISR) == 0 and kernel.levels[-1] is False
    block.write(ISR, 1)
    assert block.read(ISR) == 1 and [block.read(at) for at in (GIE, IER)] == [1, 3]


# ------------------------------------------------------------------------------ axi_intc


def controller() -> tuple[InterruptController, list[bool]]:
    levels: list[bool] = []
    return InterruptController(levels.append), levels


def test_an_interrupt_passes_only_when_all_is_enabled() -> None:
    intc, levels = controller()
    intc.set_line(2, True)
    assert intc.read(intc.ISR) == 0  # hardware inputs are off
    intc.write(intc.MER, 3)
    assert intc.read(intc.ISR) == 4 and intc.read(intc.IPR) == 0 and not levels[-1]
    assert intc.read(intc.IVR) == 0xFFFFFFFF
    intc.write(intc.SIE, 6)
    assert intc.read(intc.IPR) == 4 and intc.read(intc.IVR) == 2 and levels[-1]
    intc.write(intc.CIE, 4)
    assert intc.read(intc.IER) == 2 and not levels[-1]


def test_a_level_that_stays_is_pending_again() -> None:
    intc, levels = controller()
    intc.write(intc.MER, 3)
    intc.write(intc.IER, 1)
    intc.set_line(0, True)
    intc.write(intc.IAR, 1)
    assert intc.read(intc.IPR) == 1 and levels[-1]
    intc.set_line(0, False)
    assert intc.read(intc.IPR) == 1  # latched until it is acknowledged
    intc.write(intc.IAR, 1)
    assert intc.read(intc.IPR) == 0 and not levels[-1]


def test_the_controllers_switches() -> None:
    intc, levels = controller()
    intc.write(intc.ISR, 5)
    intc.write(intc.IER, 4)
    intc.write(intc.MER, 1)
    assert intc.read(intc.IPR) == 4 and levels[-1]  # by software
    intc.write(intc.MER, 2)
    assert intc.read(intc.MER) == 2 and not levels[-1]
    intc.write(intc.MER, 1)
    assert intc.read(intc.MER) == 3  # hardware inputs cannot be switched off again
    intc.write(intc.ISR, 0)
    assert intc.read(intc.ISR) == 5


# ------------------------------------------------------------------------------ clocks, bitstreams


def test_a_stuck_clock() -> None:
    board, stuck = load_board("pynq-z2"), [None, 125.0]
    ps = PsRegisters(family_of(board), board.pll_mhz, lambda: stuck[0])
    ps.write(0xF8000170, 10 << 8 | 1 << 20)
    assert ps.read(0xF8000170) == 10 << 8 | 1 << 20
    stuck.reverse()
    word = ps.read(0xF8000170)
    assert (word >> 8 & 63) * (word >> 20 & 63) == 8
    assert ps.read(0xF8000108) >> 12 == 20  # 1000 MHz of 50


@pytest.mark.parametrize("name", board_names())
def test_a_bitstream_stands_for_its_array(name: str) -> None:
    board = load_board(name)
    data = bitstream(board)
    at = data.index(b"e", data.index(b"00:00:00"))
    (length,) = struct.unpack(">I", data[at + 1 : at + 5])
    assert len(data) == at + 5 + length and length % 4 == 0
    assert circuit_of(data[at + 5 :]) == Circuit(board.array, board.timing)
    assert part_of_header(board.part.name).encode() + b"\0" in data
    assert circuit_of(data[at + 9 :]) is None and circuit_of(data[at + 5 : -40]) is None


def test_parts_in_headers() -> None:
    found = [part_of_header(part) for part in ("xc7z020clg400-1", "xczu7ev-ffvc1156-2-e")]
    assert found == ["7z020clg400", "zu7ev-ffvc1156"]


# ------------------------------------------------------------------------------ faults


@pytest.mark.parametrize(
    ("faults", "wanted"),
    (
        (Faults(never_done=True), [True] * 5),
        (Faults(never_done=True, after=2), [False, False, True, True, True]),
        (Faults(never_done=True, after=1, times=2), [False, True, True, False, False]),
        (Faults(never_done=True, times=0), [False] * 5),
        (Faults(), [False] * 5),
    ),
)
def test_when_faults_strike(faults: Faults, wanted: list[bool]) -> None:
    injector = Injector(faults)
    assert [injector.strike("run").never_done for _ in range(5)] == wanted
    assert injector.strike("allocation") == (faults if wanted[0] else Faults())


def test_what_fetch_hands_out() -> None:
    from neuralmatrix.runtime.emulated_board.array import decoded

    words = np.zeros((6, 16), np.uint32)
    words[:, 0] = [1, 4, 9, 2, 0, 1]
    instructions, skipped = decoded(words)
    assert instructions[:, 0].tolist() == [1, 4, 2, 0] and skipped
    instructions, skipped = decoded(words[:2])
    assert instructions[:, 0].tolist() == [1, 4, 0] and not skipped


def test_without_pynq(monkeypatch: pytest.MonkeyPatch) -> None:
    from neuralmatrix.runtime.emulated_board.board import EmulatedBoard

    monkeypatch.setitem(
        sys.modules, "neuralmatrix.runtime.emulated_board.processing_system", None
    )  # cannot be imported
    with pytest.raises(ToolMissing, match=r"needs pynq.*pip install 'neuralmatrix\[pynq\]'"):
        EmulatedBoard("pynq-z2")
