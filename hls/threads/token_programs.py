# SPDX-License-Identifier: Apache-2.0
"""Programs whose instructions are tiny, so that their tokens alone decide whether they end.

In: a seed, or a count of tokens.  Out: a ``Program`` for PYNQ-Z2's array.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.isa import UNITS, Buffer, Instruction, Opcode, Region
from neuralmatrix.program.program import Program

BOARD = load_board("pynq-z2")
MOST_UNDER_WAY = 90  # of a pair of units: more than a stream holds
_ONE_WORD = {"n0": 1, "n1": 1, "n2": 1}
_FROM_ARENA = {"dest": int(Buffer.IBUF), "region": int(Region.ARENA), "lane_stride": 1}
_TINY = {
    "load": (Opcode.LOAD, {**_ONE_WORD, **_FROM_ARENA}),
    "compute": (Opcode.EPILOGUE, {"lo": -128, "hi": 127}),
    "store": (Opcode.STORE, _ONE_WORD),
}


def tiny(unit: str, waits: Collection[str] = (), signals: Collection[str] = ()) -> Instruction:
    """Return the smallest instruction of a unit that waits for and signals other units."""
    opcode, fields = _TINY[unit]
    flags = {f"wait_{other}": 1 for other in waits} | {f"signal_{other}": 1 for other in signals}
    return Instruction(opcode, {**fields, **flags})


def program_of(instructions: list[Instruction]) -> Program:
    """Return the program of these instructions and END."""
    words = as_words([*instructions, Instruction(Opcode.END, {})])
    return Program(
        board=BOARD.name,
        array=BOARD.array,
        timing=BOARD.timing,
        clock_mhz=BOARD.clock_mhz,
        instructions=words,
        insn_layer=np.zeros(len(words), np.int32),
        const=np.zeros(64, np.uint8),
        arena_bytes=4096,
        inputs=(),
        outputs=(),
        layers=(),
    )


def two_tokens_owed(before: int) -> Program:
    """Return a program in which COMPUTE owes a token to LOAD, then one to STORE.

    It has sent ``before`` tokens to LOAD, which takes them only after STORE's token.  If that many
    fill the stream, COMPUTE sends STORE nothing as long as it waits for room.
    """
    return program_of(
        [
            tiny("load", waits=["store"]),
            *(tiny("compute", signals=["load"]) for _ in range(before)),
            tiny("compute", signals=["load", "store"]),
            tiny("store", waits=["compute"], signals=["load"]),
            *(tiny("load", waits=["compute"]) for _ in range(before + 1)),
        ]
    )


def random_program(seed: int) -> Program:
    """Return 50 to 400 instructions whose tokens are all taken, in an order that may be bad."""
    rng = np.random.default_rng(seed)
    under_way = np.zeros((3, 3), int)
    sends = rng.random((3, 3)) * rng.choice([0.3, 1])
    takes = rng.random((3, 3)) * rng.choice([0.5, 1])
    shares = rng.dirichlet([1, 1, 1])
    found: list[Instruction] = []

    def add(u: int, waits: list[int], signals: list[int]) -> None:
        under_way[waits, u] -= 1
        under_way[u, signals] += 1
        found.append(tiny(UNITS[u], [UNITS[p] for p in waits], [UNITS[q] for q in signals]))

    for _ in range(int(rng.integers(50, 400))):
        u = int(rng.choice(3, p=shares))
        others = [v for v in range(3) if v != u]
        waits = [p for p in others if under_way[p, u] and rng.random() < takes[p, u]]
        signals = [
            q for q in others if under_way[u, q] < MOST_UNDER_WAY and rng.random() < sends[u, q]
        ]
        add(u, waits, signals)
    while under_way.any():
        u = int(np.argwhere(under_way)[0][1])
        add(u, [p for p in range(3) if under_way[p, u]], [])
    return program_of(found)
