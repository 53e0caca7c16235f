# SPDX-License-Identifier: Apache-2.0
"""The array inside the emulated board: four kernels that run the program at the given addresses.

In: register reads and writes, and the board's memory.  Out: bytes in memory, counters, interrupts.
The kernels' C++ runs on the array's side of the memory, in a separate thread.  Where hardware and
model differ, the model is stricter:

* An instruction that leaves its region or an on-chip buffer sets its unit's fault bit and ends the
  run; hardware skips such an access and goes on.
* A region outside the board's memory reads as zeros and ignores writes; no fault is
  set, as m_axi ports ignore the bus's error answers.
* LOAD and STORE that are given different arenas refuse to run.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadProgram, DeviceTimeout
from ...hardware.checksums import instruction_checksum
from ...hardware.isa import INSN_BYTES, UNIT_OF, WORDS, Opcode, Unit
from ...hardware.registers import FAULT_ADDRESS, FAULT_OPCODE, KERNELS
from ...hardware.target import ArrayConfig, Timing
from ..device import BEAT_BYTES
from ..emulation.emulator import TIMELINE, Emulator, library
from .faults import Faults, Injector
from .memory import BoardMemory
from .registers import HlsBlock, InterruptController, outputs

Array = npt.NDArray[Any]

POWER_UP_CYCLE = 0xFFFF_FC00
"""The cycle counter's start: close to the overflow of its low word, which tests that case."""
IDLE_CYCLES = 1000  # between two runs
_UNITS = {unit: unit.name.lower() for unit in Unit}
_NOTHING = np.zeros(0, TIMELINE)
_BLIND = {  # what a memory error replaces by zeros
    False: frozenset[str](),
    True: frozenset({"fetch", "const", "arena"}),
    "fetch": frozenset({"fetch"}),
    "load": frozenset({"const", "arena"}),
    "activations": frozenset({"arena"}),
}
_WRONG = 0x0123_4567_89AB_CDEF  # inverts bits of a fingerprint


@dataclass(frozen=True)
class Arguments:
    """The arguments of one run, as held by the kernels' registers at its start."""

    program: int
    count: int
    const: tuple[int, int]  # address, bytes
    arena: tuple[int, int]
    store_arena: tuple[int, int]

    @property
    def regions(self) -> tuple[tuple[int, int], ...]:
        """Return the memory that the array may access."""
        return ((self.program, self.count * INSN_BYTES), self.const, self.arena)


@dataclass(frozen=True)
class Outcome:
    """The values of the registers after a run: by kernel, cycles counted from its start."""

    ended: dict[str, int]
    busy: dict[str, int]
    retired: dict[str, int]
    fault: dict[str, int]
    checksum: dict[str, int]
    never: tuple[str, ...] = ()  # kernels that do not finish

    def value(self, kernel: str, name: str, began: int) -> int:
        """Return the value of one output register."""
        if name == "ended":
            return began + self.ended[kernel]
        return int(getattr(self, name)[kernel])


@dataclass
class Tally:
    """Counts over all bitstreams that a board loaded."""

    runs: int = 0  # runs begun, without those of no instructions
    stray: int = 0  # regions that an array could access while no buffer held them


def _latch(blocks: dict[str, HlsBlock]) -> Arguments:
    fetch, load, store = (blocks[name].argument for name in ("fetch", "load", "store"))
    return Arguments(
        program=fetch("code"),
        count=fetch("count"),
        const=(load("dram") + load("const_base"), load("const_bytes")),
        arena=(load("dram") + load("arena_base"), load("arena_bytes")),
        store_arena=(store("dram") + store("arena_base"), store("arena_bytes")),
    )


# ------------------------------------------------------------------------------ one run


def decoded(words: Array) -> tuple[Array, bool]:
    """Return the instructions FETCH hands out, END last, and whether it skipped an opcode."""
    opcodes = words[:, 0] & 0xF
    ends = np.flatnonzero(opcodes == Opcode.END)
    count = int(ends[0]) if ends.size else len(words)
    known = opcodes[:count] <= max(Opcode)
    end = np.zeros((1, WORDS), np.uint32)
    return np.concatenate([words[:count][known], end]), not known.all()


def _half(instructions: Array) -> Array:
    """Return the first half, with an END."""
    kept = (len(instructions) - 1) // 2
    return np.concatenate([instructions[:kept], instructions[-1:]])


def _unit_of_message(error: BadProgram, instructions: Array) -> str:
    """Return the unit whose instruction the kernels' checks refused."""
    found = re.match(r"instruction (\d+) ", str(error))
    index = int(found[1]) if found else 0
    return _UNITS[UNIT_OF[Opcode(int(instructions[index, 0]) & 0xF)]]


def outcome_of(records: Array) -> Outcome:
    """Counters of the instructions that ran."""
    kernels = dict.fromkeys(KERNELS, 0)
    ended, busy, retired, checksum = (dict(kernels) for _ in range(4))
    last_push = int(records["push"].max(initial=0))
    ended["fetch"] = last_push + 1
    for unit, name in _UNITS.items():
        own = records[records["unit"] == unit]
        ended[name] = max(int(own["end"].max(initial=0)), last_push + 2)
        busy[name] = int((own["end"] - own["start"] - own["dram"]).sum())
        retired[name] = len(own)
    return Outcome(ended, busy, retired, dict(kernels), checksum)


class EmulatedArray:
    """The kernels and the interrupt controller of one downloaded bitstream.

    ``injector()`` gives the active faults.  ``spacing_s`` lies between two kernels' ends,
    ``run_s`` is the least time of a run.  Call ``stop()`` before loading another bitstream.
    """

    def __init__(
        self,
        array: ArrayConfig,
        timing: Timing,
        memory: BoardMemory,
        injector: Callable[[], Injector],
        irq: Callable[[bool], None],
        tally: Tally,
        spacing_s: float = 0.0,
        run_s: float = 0.0,
    ) -> None:
        library(array)  # compile before a driver waits
        self._array, self._timing, self._memory = array, timing, memory
        self._injector, self._spacing_s, self._run_s = injector, spacing_s, run_s
        self.controller = InterruptController(irq)
        self.blocks = {
            kernel: HlsBlock(kernel, self._started, self._line(number))
            for number, kernel in enumerate(KERNELS)
        }
        self.lock = threading.RLock()  # lock of all registers
        self._thread = ThreadPoolExecutor(1, "emulated-array")
        self._running: Future[None] | None = None
        self._stopped = threading.Event()
        self._regions: tuple[tuple[int, int], ...] = ()  # outcome of a run that has not finished
        self._cycle = POWER_UP_CYCLE
        self._tally = tally

    def _line(self, number: int) -> Callable[[bool], None]:
        return lambda level: self.controller.set_line(number, level)

    @contextmanager
    def registers(self) -> Iterator[None]:
        """Return a kernel's registers; an error of the model itself is raised here."""
        with self.lock:
            done = self._running
            if done is not None and done.done() and done.exception() is not None:
                raise RuntimeError("the emulated array failed") from done.exception()
            yield

    def stop(self) -> None:
        """Hold the kernels in reset: once this returns, nothing is written to memory."""
        self._stopped.set()
        self._thread.shutdown(wait=True)
        self._check_held()
        self._regions = ()

    # -------------------------------------------------------------------- running

    def _started(self) -> None:
        if all(block.running for block in self.blocks.values()) and not self._stopped.is_set():
            self._running = self._thread.submit(self._run, _latch(self.blocks))

    def _run(self, given: Arguments) -> None:
        began, faults = self._cycle, self._strike(given)
        self._regions = given.regions if given.count else ()
        self._check_held()
        if self._stopped.wait(self._run_s if given.count else 0.0):
            return
        outcome = self._compute(given, faults) if given.count else outcome_of(_NOTHING)
        self._check_held()
        if not outcome.never:
            self._regions = ()
        self._cycle = began + max(outcome.ended.values()) + IDLE_CYCLES
        self._report(outcome, began, faults)

    def _strike(self, given: Arguments) -> Faults:
        self._tally.runs += given.count > 0
        return self._injector().strike("run" if given.count else "fingerprint")

    def _check_held(self) -> None:
        """Count regions without a buffer, each once per run."""
        held = [r for r in self._regions if r[1] == 0 or self._memory.held(*r)]
        self._tally.stray += len(self._regions) - len(held)
        self._regions = tuple(held)

    def _report(self, outcome: Outcome, began: int, faults: Faults) -> None:
        """Finish the kernels one after another, in the order of their cycles."""
        fingerprint = int(self._array.fingerprint, 16) ^ _WRONG * faults.wrong_fingerprint
        fetch = {"began": began, "fingerprint": fingerprint}
        waiting = sorted(set(KERNELS) - set(outcome.never), key=lambda k: outcome.ended[k])
        for kernel in waiting:
            if self._stopped.wait(self._spacing_s):
                return
            with self.lock:
                block = self.blocks[kernel]
                for name in outputs(kernel):
                    own = fetch[name] if name in fetch else outcome.value(kernel, name, began)
                    block.put(name, own)
                block.finish()

    # -------------------------------------------------------------------- computing

    def _compute(self, given: Arguments, faults: Faults) -> Outcome:
        if given.arena != given.store_arena:
            return self._faulty(outcome_of(_NOTHING), "store", FAULT_ADDRESS)
        blind = _BLIND[faults.dma_error]
        code = self._read(given.program, given.count * INSN_BYTES, "fetch" in blind)
        words = code.view(np.uint32).reshape(-1, WORDS)
        instructions, skipped = decoded(words)
        if faults.never_done or faults.early_done or faults.refused_access:
            instructions = _half(instructions)
        outcome = self._execute(given, instructions, blind)
        read = {**outcome.checksum, "fetch": instruction_checksum(words)}
        outcome = replace(outcome, checksum=read)
        if skipped:
            outcome = self._faulty(outcome, "fetch", FAULT_OPCODE)
        if faults.refused_access:
            outcome = self._faulty(outcome, "load", FAULT_ADDRESS)
        if faults.never_done:
            return replace(outcome, never=("compute", "store"))
        cut_short = faults.early_done or faults.refused_access
        return replace(outcome, never=()) if cut_short else outcome

    def _read(self, address: int, nbytes: int, blind: bool) -> Array:
        """Return a copy of memory as a port reads it."""
        view = None if blind else self._memory.view(address, nbytes)
        return np.zeros(nbytes, np.uint8) if view is None else view.copy()

    def _execute(self, given: Arguments, instructions: Array, blind: frozenset[str]) -> Outcome:
        """Run the kernels in place; ``blind`` regions are read as zeros."""
        (address, nbytes), whole = given.arena, -(-given.arena[1] // BEAT_BYTES) * BEAT_BYTES
        arena = self._memory.view(address, whole)
        if arena is None:
            arena = np.zeros(whole, np.uint8)
        if "arena" in blind:
            arena[:nbytes] = 0
        const = self._constants(given, "const" in blind)
        emulator = Emulator(self._array, self._timing, const, instructions, nbytes, arena)
        records = emulator.records()
        try:
            stats = emulator.run(records=records)
        except DeviceTimeout:
            return replace(outcome_of(records), never=tuple(KERNELS))
        except BadProgram as error:
            unit = _unit_of_message(error, instructions)
            bit = FAULT_OPCODE if unit == "compute" else FAULT_ADDRESS
            return self._faulty(outcome_of(records), unit, bit)
        outcome = outcome_of(records)
        last = max(outcome.ended, key=lambda kernel: outcome.ended[kernel])
        ended = {**outcome.ended, last: max(outcome.ended[last], stats.cycles)}
        busy = {kernel: stats.busy.get(kernel, 0) for kernel in KERNELS}
        read = {**outcome.checksum, "load": stats.checksum}
        return replace(outcome, ended=ended, busy=busy, checksum=read)

    def _constants(self, given: Arguments, blind: bool) -> Array:
        address, nbytes = given.const
        view = None if blind else self._memory.view(address, nbytes)
        return np.zeros(nbytes, np.uint8) if view is None else view

    @staticmethod
    def _faulty(outcome: Outcome, kernel: str, bit: int) -> Outcome:
        fault = {**outcome.fault, kernel: outcome.fault[kernel] | bit}
        return replace(outcome, fault=fault)
