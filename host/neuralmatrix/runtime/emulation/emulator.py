# SPDX-License-Identifier: Apache-2.0
"""The emulated device: the kernels' own C++, compiled for this CPU.

In: instructions, constants and an arena.  Out: the arena's bytes, bit for bit those of the array,
the cycles counted in the kernels' loops, and the watched bytes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import BadInput, BadProgram, DeviceTimeout, NeuralMatrixError, WrongOverlay
from ...hardware.isa import UNITS, WORDS
from ...hardware.target import ArrayConfig, Timing
from ..device import BEAT_BYTES
from .build import build, forget
from .schedule import Schedule, chosen

Array = npt.NDArray[Any]

TIMELINE = np.dtype(
    [
        ("unit", "<i4"),  # Unit, or -1 for END
        ("reason", "<i4"),  # index into events.WAITED_FOR
        ("push", "<i8"),  # cycle in which it entered its queue
        ("start", "<i8"),
        ("end", "<i8"),
        ("dram", "<i8"),  # cycles lost to the other port's traffic
    ]
)
_ERROR_BYTES = 2000
_BUSY = (*UNITS, "dram")


@dataclass(frozen=True)
class Watch:
    """Copy ``nbytes`` of the arena from ``offset`` on, right after instruction ``insn`` ran."""

    insn: int
    offset: int
    nbytes: int


@dataclass(frozen=True)
class RunStats:
    """One run.  ``busy`` is cycles of load, compute, store, dram; ``watched`` is per watch;
    ``checksum`` is of the constants that LOAD read (``checksums.py``)."""

    cycles: int
    busy: dict[str, int]
    dram_bytes: int
    checksum: int
    timeline: Array | None
    watched: list[Array]


class _Timing(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int32)
        for name in (
            "load_port_bytes",
            "store_port_bytes",
            "fetch_port_bytes",
            "ddr_bytes_per_256_cycles",
            "burst_beats",
            "dram_latency",
        )
    ]


class _Job(ctypes.Structure):
    _fields_ = [
        ("timing", _Timing),
        ("constants", ctypes.c_void_p),
        ("const_bytes", ctypes.c_int64),
        ("arena", ctypes.c_void_p),
        ("arena_bytes", ctypes.c_int64),
        ("program", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("watches", ctypes.c_void_p),
        ("watch_count", ctypes.c_int64),
        ("watched", ctypes.c_void_p),
        ("timeline", ctypes.c_void_p),
    ]


class _Totals(ctypes.Structure):
    _fields_ = [
        ("cycles", ctypes.c_int64),
        ("busy", ctypes.c_int64 * len(_BUSY)),
        ("dram_bytes", ctypes.c_int64),
        ("checksum", ctypes.c_int64),
    ]


def _open(array: ArrayConfig, schedule: Schedule) -> ctypes.CDLL:
    path = build(array, schedule)
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        forget(path)  # made by another system: build it again
    try:
        return ctypes.CDLL(str(build(array, schedule)))
    except OSError as error:
        raise NeuralMatrixError(f"the built emulation cannot be loaded: {error}") from None


def library(array: ArrayConfig, schedule: str | None = None) -> ctypes.CDLL:
    """Load the kernels compiled for an array; they are built on first use and cached on disk.

    ``schedule``: "cpu" or "device", else that of the environment.
    """
    return _library(array, chosen(schedule))


@lru_cache(maxsize=8)
def _library(array: ArrayConfig, schedule: Schedule) -> ctypes.CDLL:
    lib = _open(array, schedule)
    lib.nm_fingerprint.restype = ctypes.c_char_p
    lib.nm_create.restype = ctypes.c_void_p
    lib.nm_destroy.argtypes = [ctypes.c_void_p]
    lib.nm_destroy.restype = None
    job, totals = ctypes.POINTER(_Job), ctypes.POINTER(_Totals)
    lib.nm_run.argtypes = [ctypes.c_void_p, job, totals, ctypes.c_char_p, ctypes.c_int64]
    found = lib.nm_fingerprint().decode()
    if found != array.fingerprint:
        raise WrongOverlay(f"emulation built for {found}, allowed is {array.fingerprint}")
    return lib


_ERRORS: dict[int, type[NeuralMatrixError]] = {
    1: BadProgram,
    2: DeviceTimeout,
    3: NeuralMatrixError,
}


def _whole_beats(data: Array) -> Array:
    """Extend the bytes so that a port can read its last beat whole."""
    flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    if flat.nbytes and flat.nbytes % BEAT_BYTES == 0:
        return flat
    padded = np.zeros(flat.nbytes + BEAT_BYTES, np.uint8)
    padded[: flat.nbytes] = flat
    return padded


def _address(data: Array) -> int:
    return int(data.ctypes.data)


class Emulator:
    """One device with its own buffers and arena; use one per thread.

    ``arena``: memory to run on in place, ``arena_bytes`` rounded up to whole beats.
    ``schedule``: "cpu" or "device", else that of the environment.

    >>> emulator = Emulator(array, timing, const, instructions, arena_bytes)
    >>> emulator.arena[:n] = inputs
    >>> stats = emulator.run()
    """

    def __init__(
        self,
        array: ArrayConfig,
        timing: Timing,
        const: Array,
        instructions: Array,
        arena_bytes: int,
        arena: Array | None = None,
        schedule: str | None = None,
    ) -> None:
        self._lib = library(array, schedule)
        self._timing = _Timing(*(getattr(timing, str(field[0])) for field in _Timing._fields_))
        self._const_bytes = int(const.nbytes)
        self._const = _whole_beats(const)
        self._program = np.ascontiguousarray(instructions, np.uint32).reshape(-1, WORDS)
        self._memory = np.zeros(arena_bytes + BEAT_BYTES, np.uint8) if arena is None else arena
        self.arena = self._memory[:arena_bytes]
        self._device = self._lib.nm_create()
        if not self._device:
            raise NeuralMatrixError("the host has no memory left for the emulation")

    def __del__(self) -> None:
        if getattr(self, "_device", None):
            self._lib.nm_destroy(self._device)

    def records(self) -> Array:
        """Allocate a run's timeline; the unit of an instruction that has not run is -2."""
        records = np.zeros(len(self._program), TIMELINE)
        records["unit"] = -2
        return records

    def run(
        self, watches: Sequence[Watch] = (), timeline: bool = False, records: Array | None = None
    ) -> RunStats:
        """Run the program once on the arena.

        ``records`` receives the timeline, also of a run that fails.
        BadProgram: an address leaves its buffer.  DeviceTimeout: the units wait for each other.
        """
        if timeline and records is None:
            records = self.records()
        order, table, watched = self._watch_table(watches)
        job = _Job(
            timing=self._timing,
            constants=_address(self._const),
            const_bytes=self._const_bytes,
            arena=_address(self._memory),
            arena_bytes=self.arena.nbytes,
            program=_address(self._program),
            count=len(self._program),
            watches=_address(table),
            watch_count=len(table),
            watched=_address(watched),
            timeline=None if records is None else _address(records),
        )
        totals = self._call(job)
        parts = {i: watched[at : at + n] for i, (_, _, n, at) in zip(order, table, strict=True)}
        return RunStats(
            cycles=totals.cycles,
            busy=dict(zip(_BUSY, totals.busy, strict=True)),
            dram_bytes=totals.dram_bytes,
            checksum=totals.checksum,
            timeline=records,
            watched=[parts[i] for i in range(len(watches))],
        )

    def _call(self, job: _Job) -> _Totals:
        totals, text = _Totals(), ctypes.create_string_buffer(_ERROR_BYTES)
        status = self._lib.nm_run(
            self._device, ctypes.byref(job), ctypes.byref(totals), text, _ERROR_BYTES
        )
        if status:
            raise _ERRORS[status](text.value.decode())
        return totals

    def _watch_table(self, watches: Sequence[Watch]) -> tuple[list[int], Array, Array]:
        """Sort watches by instruction: their numbers, rows for the bridge, memory for bytes."""
        for w in watches:
            if w.offset < 0 or w.nbytes < 0 or w.offset + w.nbytes > self.arena.nbytes:
                raise BadInput(
                    f"{w}: allowed are bytes 0..{self.arena.nbytes} of the arena; correct the range"
                )
        order = sorted(range(len(watches)), key=lambda i: watches[i].insn)
        rows, at = [], 0
        for i in order:
            rows.append((watches[i].insn, watches[i].offset, watches[i].nbytes, at))
            at += watches[i].nbytes
        return order, np.array(rows, np.int64).reshape(-1, 4), np.zeros(at, np.uint8)
