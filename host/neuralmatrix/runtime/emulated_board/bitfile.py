# SPDX-License-Identifier: Apache-2.0
"""Bitstream files of the emulated board: a .bit header that pynq accepts, and in place of a
circuit the description of an array.

In: a board.  Out: the file's bytes, and from these the array.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass

from ...hardware.block_design import NAME
from ...hardware.board import Board
from ...hardware.target import ArrayConfig, Timing
from ...jsonform import FormError, from_json, to_json

_MAGIC = b"NeuralMatrix emulated bitstream\0"
_SYNC = bytes.fromhex("0ff00ff00ff00ff000")  # prefix of Vivado's files
_WORD = 4  # pynq turns the data into 32-bit words


@dataclass(frozen=True)
class Circuit:
    """The array that an emulated bitstream describes."""

    array: ArrayConfig
    timing: Timing


def part_of_header(part: str) -> str:
    """Return a part's name in bitstreams: without "xc" and speed grade.

    >>> part_of_header("xc7z020clg400-1"), part_of_header("xck26-sfvc784-2LV-c")
    ('7z020clg400', 'k26-sfvc784')
    """
    name, _, rest = part.removeprefix("xc").partition("-")
    package = rest.partition("-")[0]
    return f"{name}-{package}" if "-" in rest else name


def _field(tag: bytes, text: str) -> bytes:
    data = text.encode("ascii") + b"\0"
    return tag + struct.pack(">H", len(data)) + data


def bitstream(board: Board) -> bytes:
    """Make the bytes of ``neuralmatrix.bit`` for an emulated board."""
    circuit = Circuit(board.array, board.timing)
    data = _MAGIC + json.dumps(to_json(circuit)).encode()
    data += b"\0" * (-len(data) % _WORD)
    head = struct.pack(">H", len(_SYNC)) + _SYNC + struct.pack(">H", 1)
    head += _field(b"a", f"{NAME};UserID=0XFFFFFFFF;Version=emulated")
    head += _field(b"b", part_of_header(board.part.name))
    head += _field(b"c", "2000/01/01") + _field(b"d", "00:00:00")
    return head + b"e" + struct.pack(">I", len(data)) + data


def circuit_of(data: bytes) -> Circuit | None:
    """Parse the data behind the header; None for a real circuit or damaged data."""
    if not data.startswith(_MAGIC):
        return None
    try:
        return from_json(Circuit, json.loads(data[len(_MAGIC) :].rstrip(b"\0")), "bitstream")
    except (FormError, ValueError):
        return None
