# SPDX-License-Identifier: Apache-2.0
"""The emulated board below the real pynq package, driven register by register.

In: small programs.  Out: the emulation's bytes and cycles; effects of missing cache calls.
"""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import numpy as np
import pytest
from neuralmatrix.hardware import overlay_folder
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.isa import UNITS
from neuralmatrix.hardware.registers import AP_DONE, AP_IDLE, AP_START, CTRL, GIE, IER, ISR
from neuralmatrix.runtime import selftest
from neuralmatrix.runtime.emulated_board.faults import Faults
from programs import copy_program, random_program
from pynq_rig import RigMaker, emulate, noise, of_unit

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]


# ------------------------------------------------------------------------------ pynq's view


@pytest.mark.parametrize("name", ("pynq-z2", "zcu104"))
def test_an_overlay_loads(make_board: RigMaker, name: str) -> None:
    import pynq

    board = make_board(name)
    overlay = pynq.Overlay(str(board.overlay / overlay_folder.BIT))
    assert overlay.is_loaded() and board.downloads == 1
    assert pynq.Device.active_device is board.device
    assert board.device.name == load_board(name).device_name
    for kernel in ("fetch", *UNITS):
        assert isinstance(getattr(overlay, f"{kernel}_0"), pynq.DefaultIP)
    assert overlay.store_0.register_map.CTRL.AP_IDLE == 1


def test_the_overlay_folder_is_complete(make_board: RigMaker) -> None:
    board = make_board("pynq-z1")
    found = overlay_folder.open_overlay(board.overlay)
    overlay_folder.check_files(found)
    assert found.info.origin == "emulated" and found.info.name == "pynq-z2"
    assert found.info.boards == ("pynq-z1", "pynq-z2")
    assert found.info.fingerprint == board.board.array.fingerprint
    assert selftest.read(board.overlay).program.array == board.board.array


@pytest.mark.parametrize(
    ("name", "mhz"), (("pynq-z2", 100.0), ("zcu104", 187.498125), ("kv260", 199.998))
)
def test_the_clock_reads_back(make_rig: RigMaker, name: str, mhz: float) -> None:
    """PLLs are multiples of the crystal that pynq assumes, 33.333 MHz on MPSoCs."""
    import pynq

    rig = make_rig(name)
    assert pynq.Clocks.fclk0_mhz == mhz
    rig.board.faults = Faults(clock_mhz=250.0)
    # Dividers make 1000 / 4 or 1500 / 6 exactly, but for the crystal.
    assert pynq.Clocks.fclk0_mhz == pytest.approx(250.0, rel=1e-4)


def test_port_widths_are_set(make_board: RigMaker) -> None:
    import pynq

    board = make_board("zcu104")
    ports = {number: 0xFD360000 + 0x10000 * number for number in (2, 3, 5)}  # HP0, HP1, HP3
    board.device.ps.words.update({at + half: 0b11 for at in ports.values() for half in (0, 0x14)})
    pynq.Overlay(str(board.overlay / overlay_folder.BIT))
    words = [board.device.ps.words[at + half] for at in ports.values() for half in (0, 0x14)]
    assert words == [0] * 6  # 128 bits


def test_a_bitstream_for_another_part_is_refused(make_board: RigMaker) -> None:
    import pynq

    other = make_board("zcu104")
    board = make_board("pynq-z2")
    with pytest.raises(OSError, match="refuses a bitstream for zu7ev-ffvc1156"):
        pynq.Overlay(str(other.overlay / overlay_folder.BIT))
    assert board.downloads == 0


def test_nothing_works_before_a_bitstream_is_loaded(make_board: RigMaker) -> None:
    import pynq

    make_board("pynq-z2")
    with pytest.raises(RuntimeError, match="Overlay is not downloaded"):
        pynq.allocate((4,), "u1")
    with pytest.raises(RuntimeError, match="bus error: no register answers at 0x40000000"):
        pynq.MMIO(0x40000000, 0x1000).read(0)


# ------------------------------------------------------------------------------ bytes and counters


@pytest.mark.parametrize(
    ("name", "interrupts"), (("pynq-z2", True), ("pynq-z2", False), ("zcu104", True))
)
def test_copy(make_rig: RigMaker, name: str, interrupts: bool) -> None:
    rig, program = make_rig(name, interrupts=interrupts), copy_program(name)
    rig.load(program, noise(program))
    rig.run()
    wanted, stats = emulate(program, noise(program))
    assert np.array_equal(rig.result(), wanted)
    began = rig.get("fetch", "began")
    assert max(rig.counters("ended").values()) - began == stats.cycles
    assert rig.counters("busy") == {unit: stats.busy[unit] for unit in UNITS}


@pytest.mark.parametrize("cacheable", (0, 1))
@pytest.mark.parametrize("seed", range(3))
def test_random_programs(rig: Any, seed: int, cacheable: int) -> None:
    program = random_program(seed + 40, 120)
    before = noise(program, seed)
    rig.load(program, before, cacheable)
    rig.run()
    wanted, stats = emulate(program, before)
    assert np.array_equal(rig.result(), wanted)
    assert rig.counters("retired") == of_unit(program)
    assert rig.counters("fault") == dict.fromkeys(UNITS, 0)
    assert max(rig.counters("ended").values()) - rig.get("fetch", "began") == stats.cycles
    assert rig.board.runs == 1 and rig.board.stray == 0


def test_dram_above_32_bits(make_rig: RigMaker) -> None:
    rig, program = make_rig("kv260"), copy_program("kv260")
    rig.load(program, noise(program))
    assert rig.arena.device_address >> 32 == 8
    rig.run()
    assert np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_counters_go_on_between_runs(rig: Any) -> None:
    program = copy_program()
    rig.load(program)
    ends = []
    for _ in range(3):
        rig.run()
        ends += [rig.get("fetch", "began"), max(rig.counters("ended").values())]
    assert ends == sorted(ends) and len(set(ends)) == 6 and ends[0] > 0
    assert ends[-1] >> 32  # the low word has overflown


def test_a_run_without_instructions(rig: Any) -> None:
    """It accesses no memory: all pointers are 0."""
    assert rig.get("fetch", "fingerprint") == 0
    rig.run()
    assert f"{rig.get('fetch', 'fingerprint'):016x}" == rig.board.board.array.fingerprint
    assert rig.counters("retired") == dict.fromkeys(UNITS, 0)
    assert rig.board.runs == 0 and rig.board.stray == 0 and rig.get("fetch", "began") > 0


def test_nothing_runs_until_all_four_are_started(rig: Any) -> None:
    rig.load(copy_program())
    for kernel in UNITS:
        rig.ips[kernel].write(CTRL, AP_START)
    assert rig.wait(0.05) == [] and rig.board.runs == 0
    assert rig.ips["load"].read(CTRL) & (AP_START | AP_IDLE) == AP_START
    rig.ips["fetch"].write(CTRL, AP_START)
    assert set(rig.wait()) == set(rig.ips)


def test_kernels_are_done_one_after_another(make_rig: RigMaker) -> None:
    rig, program = make_rig("pynq-z2", spacing_s=0.02), copy_program()
    rig.load(program)
    rig.start()
    assert rig.wait() == ["fetch", "load", "compute", "store"]


# ------------------------------------------------------------------------------ caches and memory


def test_a_missing_flush_gives_wrong_data(rig: Any) -> None:
    program = copy_program()
    rig.load(program)
    rig.arena[:] = noise(program)
    rig.run()
    assert not np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_a_missing_invalidate_gives_stale_data(rig: Any) -> None:
    program, before = copy_program(), noise(copy_program())
    rig.load(program, before)
    rig.run()
    assert np.array_equal(np.array(rig.arena), before)
    assert not np.array_equal(rig.result(), before)


def test_views_of_a_buffer_sync(rig: Any) -> None:
    program, before = copy_program(), noise(copy_program())
    rig.load(program)
    rig.arena[:] = before
    rig.arena[:4096].flush()
    rig.arena[4096:].flush()
    rig.run()
    assert np.array_equal(rig.result(), emulate(program, before)[0])


def test_memory_runs_out_and_comes_back(make_rig: RigMaker) -> None:
    import pynq

    rig = make_rig("pynq-z2", cma_bytes=1 << 20)
    kept = pynq.allocate((1 << 19,), "u1")
    with pytest.raises(RuntimeError, match="BO allocation failed"):
        pynq.allocate((1 << 20,), "u1")
    kept.freebuffer()
    kept.freebuffer()
    assert rig.board.allocated == 0
    again = pynq.allocate((1 << 18,), "u4")
    assert rig.board.allocated == 1 << 20 and again.device_address == 511 << 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # pynq's own way to free fails off a board
        del again
        gc.collect()
    assert rig.board.allocated == 0


def test_everything_freed(rig: Any) -> None:
    rig.load(copy_program())
    assert rig.board.memory.buffers == 3
    rig.free()
    assert rig.board.allocated == 0


def test_buffers_freed_under_a_run_are_noticed(make_rig: RigMaker) -> None:
    rig = make_rig("pynq-z2", run_s=0.1)
    rig.load(copy_program())
    rig.start()
    rig.free()
    assert set(rig.wait()) == set(rig.ips) and rig.board.stray == 3


@pytest.mark.parametrize("free_first", (False, True))
def test_a_bitstream_stops_a_hung_run(rig: Any, free_first: bool) -> None:
    rig.load(copy_program())
    rig.board.faults = Faults(never_done=True)
    rig.start()
    rig.wait(0.05)
    steps = (rig.free, rig.overlay.download)
    for step in steps if free_first else reversed(steps):
        step()
    assert rig.board.stray == (3 if free_first else 0)
    assert rig.ips["store"].read(CTRL) == AP_IDLE and rig.board.downloads == 2


# ------------------------------------------------------------------------------ interrupts


async def interrupted(rig: Any) -> list[str]:
    """One run, awaited kernel by kernel."""
    rig.start()
    woken = []
    for kernel, ip in rig.ips.items():
        while not ip.read(CTRL) & AP_DONE:
            await asyncio.wait_for(ip.interrupt.wait(), 20)
            woken.append(kernel)
        ip.write(ISR, ip.read(ISR))
    return woken


def enable(rig: Any) -> None:
    for ip in rig.ips.values():
        ip.write(IER, 1)
        ip.write(GIE, 1)


def test_interrupts(make_rig: RigMaker) -> None:
    rig, program = make_rig("pynq-z2", spacing_s=0.01), copy_program()
    rig.load(program, noise(program))
    enable(rig)

    async def runs() -> None:
        for _ in range(3):
            assert "store" in await interrupted(rig)

    asyncio.run(runs())
    assert np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_no_interrupt_unless_it_is_enabled(rig: Any) -> None:
    rig.load(copy_program())

    async def run() -> None:
        rig.start()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(rig.ips["store"].interrupt.wait(), 0.1)

    asyncio.run(run())
    assert set(rig.wait()) == set(rig.ips)


@pytest.mark.parametrize(("interrupts", "wakes"), ((True, True), ("bound", False)))
def test_interrupts_belong_to_the_loop_that_opened_them(
    make_rig: RigMaker, interrupts: Any, wakes: bool
) -> None:
    """On a board the UIO device wakes the event loop in which pynq opened it, and no other."""
    first = asyncio.new_event_loop()
    asyncio.set_event_loop(first)
    rig = make_rig("pynq-z2", interrupts=interrupts, spacing_s=0.01)
    enable(rig)

    async def woken() -> bool:
        rig.start()
        try:
            await asyncio.wait_for(rig.ips["store"].interrupt.wait(), 0.3)
        except asyncio.TimeoutError:
            return False
        return True

    try:
        assert asyncio.run(woken()) == wakes
    finally:
        first.close()
        asyncio.set_event_loop(None)


def test_bound_interrupts_work_in_their_loop(make_rig: RigMaker) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        rig = make_rig("pynq-z2", interrupts="bound", spacing_s=0.01)
        rig.load(copy_program())
        enable(rig)
        assert "store" in loop.run_until_complete(interrupted(rig))
    finally:
        loop.close()
        asyncio.set_event_loop(None)


# ------------------------------------------------------------------------------ the board's life


def test_boards_one_after_another(make_rig: RigMaker) -> None:
    import pynq

    for name in ("pynq-z2", "zcu104", "pynq-z2"):
        rig = make_rig(name)
        assert pynq.Device.active_device is rig.board.device
        rig.run()
        assert rig.get("fetch", "fingerprint") == int(rig.board.board.array.fingerprint, 16)


def test_closing_leaves_nothing(make_board: RigMaker) -> None:
    import pynq

    board = make_board("pynq-z2")
    board.close()
    board.close()
    assert not board.overlay.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no devices found
        with pytest.raises(RuntimeError, match="No Devices Found"):
            _ = pynq.Device.active_device


def test_the_environment_names_a_board(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynq
    from neuralmatrix.runtime.emulated_board.board import from_environment

    monkeypatch.delenv(overlay_folder.EMULATED_VARIABLE, raising=False)
    assert from_environment() is None
    monkeypatch.setenv(overlay_folder.EMULATED_VARIABLE, "pynq-z1")
    board = from_environment()
    assert board is not None and from_environment() is board
    assert pynq.Device.active_device is board.device and board.board.name == "pynq-z1"
    board.close()
    again = from_environment()
    assert again is not None and again is not board
    again.close()
