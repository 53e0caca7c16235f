# SPDX-License-Identifier: Apache-2.0
"""The two schedules of the emulated kernels: the CPU's own and the device's.

In: the name of a schedule, an argument or ``NEURALMATRIX_SCHEDULE``.  Out: the compiler's options
and the ``config.h`` that a build with it takes.
"cpu" processes runs of rows at once, which vector units of a CPU like.  "device" compiles what is
synthesized: one step of the array per iteration, the board's packing of products, the beats of its
LOAD port, one row of the lanes at once, a copy of the tables for every lane.  Bytes, cycles and
counters are the same; "cpu" is several times faster.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

from ...errors import BadInput
from ...hardware.board import board_names, load_board
from ...hardware.cpp_headers import config_header
from ...hardware.target import ArrayConfig

SCHEDULE_VARIABLE = "NEURALMATRIX_SCHEDULE"
Schedule = Literal["cpu", "device"]
SCHEDULES: tuple[Schedule, ...] = ("cpu", "device")
ABOUT: Mapping[Schedule, str] = {
    "cpu": "runs of rows, the faster form on a CPU",
    "device": "the kernels' loops as they are synthesized",
}
FLAGS: Mapping[Schedule, tuple[str, ...]] = {"cpu": (), "device": ("-DNM_DEVICE_LOOPS",)}


def chosen(named: str | None = None) -> Schedule:
    """Return the schedule of an argument, else of the environment, else "cpu".

    BadInput: there is no schedule of that name.
    """
    where, found = "schedule", named
    if found is None:
        where, found = SCHEDULE_VARIABLE, os.environ.get(SCHEDULE_VARIABLE) or "cpu"
    for schedule in SCHEDULES:
        if found == schedule:
            return schedule
    allowed = ", ".join(map(repr, SCHEDULES))
    raise BadInput(f"{where}: found {found!r}, allowed are {allowed}")


def config(array: ArrayConfig, schedule: Schedule) -> str:
    """Return the text of ``nm/config.h``: of the first board with this array for "device".

    Boards with one array have ports of one width and one packing of products; an array that no
    board has is built with the defaults.
    """
    for name in board_names() if schedule == "device" else ():
        board = load_board(name)
        if board.array == array:
            return config_header(array, board.timing, board.uram_buffers)
    return config_header(array)
