# SPDX-License-Identifier: Apache-2.0
"""What a number is called, by where the program ran.

In: a session's origin.  Out: the basis of its times, cycles and watts, in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Origin = Literal["emulation", "emulated board", "board"]

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
