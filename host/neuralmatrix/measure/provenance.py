# SPDX-License-Identifier: Apache-2.0
"""Provenance labels of results, by where the program ran (``provenance_label()``).

In: a session's origin.  Out: the basis of its outputs, times, cycles and watts, in words.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..runtime.device import Origin

ESTIMATED = "estimated by the cycle model, without the host's work and most of DRAM's latency"

WALL: Mapping[str, str] = {
    "emulation": "measured on this machine: the emulation's speed, not a board's",
    "emulated board": "measured on this machine: the driver with an emulated board, not a board",
    "board": "measured on the board",
}
LATENCY_PARTS: Mapping[str, str] = {
    "emulation": "host: all but the array; array: its emulation",
    "emulated board": "host: all but the other two, on this machine; transfer: copies and cache "
    "maintenance, emulated; array: its emulation",
    "board": "host: all but the other two; transfer: copies and cache maintenance; array: waiting "
    "for it",
}
CYCLES: Mapping[str, str] = {
    "emulation": "emulated: counted by the kernels' cost model",
    "emulated board": "emulated: counters of the emulated board",
    "board": "measured: counters in the hardware",
}
SHORT: Mapping[str, str] = {
    "emulation": "emulated",
    "emulated board": "emulated",
    "board": "measured",
}
_HOST = "host_seconds and seconds: measured on this machine"
_DRAM = "dram_bytes: counted from the program's instructions"
RUN: Mapping[str, str] = {
    "emulation": f"{_HOST}; cycles, busy and dram_bytes: counted in emulation, for one run of the "
    "program",
    "emulated board": f"{_HOST}, whose CPU emulates the board: not a board's times; cycles and "
    "busy: counted in emulation, for one run of the program, as the board's counters would report "
    f"them; {_DRAM}",
    "board": f"{_HOST}; cycles and busy: measured by the hardware's counters, in the median run of "
    f"the program; {_DRAM}",
}
_WHERE: Mapping[str, str] = {
    "emulation": "emulated",
    "emulated board": "emulated board",
    "board": "measured on {board}",
}


def provenance_label(origin: Origin, board: str) -> str:
    """Return the label of outputs: where they come from, in short."""
    return _WHERE[origin].format(board=board)
