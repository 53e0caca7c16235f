# SPDX-License-Identifier: Apache-2.0
"""Faults in the emulated board's registers: bad programs and injected faults.

In: small programs with one fault.  Out: fault bits, counters, kernels that never finish.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from neuralmatrix.hardware.isa import UNITS, Opcode
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.emulated_board.faults import Faults
from programs import copy_program, insn, make_program
from pynq_rig import emulate, noise, of_unit

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]


# ------------------------------------------------------------------------------ bad programs


def test_an_instruction_that_leaves_its_region(rig: Any) -> None:
    """The run ends there: LOAD sets its fault bit, and earlier instructions have run."""
    good = copy_program()
    words = good.instructions.copy()
    program = replace(good, instructions=words, arena_bytes=4096)
    rig.load(program)  # the STORE writes from byte 4096 on
    rig.run()
    assert rig.counters("fault") == {"load": 0, "compute": 0, "store": 1}
    assert rig.counters("retired") == {"load": 3, "compute": 2, "store": 0}


def test_a_computation_that_leaves_its_buffer(rig: Any) -> None:
    bad = insn(Opcode.COMPUTE, m1=1, m0=1, nb=1, cb=1, kh=1, kw=1, first=1, x_base=65535)
    rig.load(make_program([bad, insn(Opcode.END)]))
    rig.run()
    assert rig.counters("fault") == {"load": 0, "compute": 2, "store": 0}


def test_an_unknown_opcode_is_skipped(rig: Any) -> None:
    program = copy_program()
    unknown = np.full((1, 16), 9, np.uint32)
    words = np.concatenate([program.instructions[:2], unknown, program.instructions[2:]])
    rig.load(replace(program, instructions=words), noise(program))
    rig.run()
    assert rig.get("fetch", "fault") == 2
    assert np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_a_missing_end_is_supplied(rig: Any) -> None:
    program = copy_program()
    rig.load(replace(program, instructions=program.instructions[:-1]), noise(program))
    rig.run()
    assert np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_a_program_that_dead_locks_is_never_done(rig: Any) -> None:
    waits = insn(Opcode.EPILOGUE, wait_load=1)
    rig.load(make_program([waits, insn(Opcode.END)]))
    rig.start()
    assert rig.wait(0.1) == []


def test_addresses_outside_of_memory(rig: Any) -> None:
    """Reads give zeros, which are END; writes are lost; no fault is reported, as on the bus."""
    program = copy_program()
    rig.load(program, noise(program))
    rig.set("fetch", "code", 0x3000_0000)
    rig.run()
    assert rig.counters("retired") == dict.fromkeys(UNITS, 0) and rig.board.stray == 1
    rig.set("fetch", "code", rig.program.device_address)
    for kernel in ("load", "store"):
        rig.set(kernel, "arena_base", 0)
    rig.run()
    assert rig.counters("retired") == of_unit(program)
    assert np.array_equal(rig.result(), noise(program))


def test_two_arenas_are_refused(rig: Any) -> None:
    rig.load(copy_program())
    rig.set("store", "arena_bytes", 64)
    rig.run()
    assert rig.counters("fault") == {"load": 0, "compute": 0, "store": 1}


# ------------------------------------------------------------------------------ faults


def test_never_done(rig: Any) -> None:
    rig.load(copy_program())
    rig.board.faults = Faults(never_done=True, after=1, times=1)
    rig.run()
    rig.start()
    assert sorted(rig.wait(0.2)) == ["fetch", "load"]
    rig.overlay.download()
    rig.load(copy_program())
    rig.run()


def shortened(rig: Any, program: Program) -> None:
    """Check that fewer instructions ran than there are, and that output is missing."""
    rig.run()
    assert sum(rig.counters("retired").values()) < sum(of_unit(program).values())
    assert not np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_early_done(rig: Any) -> None:
    program = copy_program()
    rig.load(program, noise(program))
    rig.board.faults = Faults(early_done=True, times=1)
    shortened(rig, program)
    assert rig.counters("fault") == dict.fromkeys(UNITS, 0)
    rig.run()
    assert rig.counters("retired") == of_unit(program)


def test_refused_access(rig: Any) -> None:
    program = copy_program()
    rig.load(program, noise(program))
    rig.board.faults = Faults(refused_access=True, times=1)
    shortened(rig, program)
    assert rig.counters("fault") == {"load": 1, "compute": 0, "store": 0}
    rig.run()
    assert rig.counters("fault") == dict.fromkeys(UNITS, 0)


@pytest.mark.parametrize(
    ("port", "runs_all"),
    ((True, False), ("fetch", False), ("load", True), ("activations", True)),
)
def test_dma_error(rig: Any, port: Any, runs_all: bool) -> None:
    from neuralmatrix.runtime.pynq.kernels import job_of

    program = copy_program()
    rig.load(program, noise(program))
    rig.board.faults = Faults(dma_error=port)
    rig.run()
    assert rig.counters("fault") == dict.fromkeys(UNITS, 0)
    wanted = of_unit(program) if runs_all else dict.fromkeys(UNITS, 0)
    assert rig.counters("retired") == wanted
    read = job_of(program).read
    assert (rig.get("fetch", "checksum") == read["fetch"]) == runs_all
    assert (rig.get("load", "checksum") == read["load"]) == (port == "activations")
    assert not np.array_equal(rig.result(), emulate(program, noise(program))[0])


def test_wrong_fingerprint(rig: Any) -> None:
    rig.board.faults = Faults(wrong_fingerprint=True, times=1)
    wanted = int(rig.board.board.array.fingerprint, 16)
    rig.run()
    assert rig.get("fetch", "fingerprint") not in (0, wanted)
    rig.run()
    assert rig.get("fetch", "fingerprint") == wanted


def test_allocation_failure(rig: Any) -> None:
    import pynq

    rig.board.faults = Faults(allocation_failure=True, after=1, times=1)
    kept = pynq.allocate((4,), "u1")
    with pytest.raises(RuntimeError, match="BO allocation failed"):
        pynq.allocate((4,), "u1")
    assert pynq.allocate((4,), "u1").nbytes == kept.nbytes


def test_an_error_of_the_model_is_no_silent_hang(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.load(copy_program())
    monkeypatch.setattr(rig.board.device.array, "_timing", None)
    rig.start()
    with pytest.raises(RuntimeError, match="the emulated array failed"):
        rig.wait()
