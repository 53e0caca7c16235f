# SPDX-License-Identifier: Apache-2.0
"""The resources that an array takes: DSPs, block RAM, UltraRAM, LUTs, flip-flops.

In: a ``Board``.  Out: a ``Resources`` table, one line per piece with its basis in words.
DSPs and memories are counted from the kernels' shapes; LUTs and flip-flops are estimates per
piece, not yet compared with a synthesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from .board import Board
from .isa import MAP_CELLS
from .registers import KERNELS

KINDS = ("lut", "ff", "dsp", "bram36", "uram")

# DSPs and memories lie in columns with their own routing and may be filled, memories not quite:
# deep ones should lie together.  LUTs and flip-flops need room for placement and routing.
LIMITS = {"lut": 0.85, "ff": 0.85, "dsp": 0.97, "bram36": 0.9, "uram": 0.9}
# Up to here the tools may still place the design and meet timing; only running them shows it.
MOST = {"lut": 0.92, "ff": 0.92, "dsp": 1.0, "bram36": 0.97, "uram": 0.97}

# Width and depth of the shapes of half a BRAM36 (RAMB18E1/E2, UG473 and UG573), and of an URAM288.
_RAMB18_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
# With two ports that each may write single bytes: no parity bits, half the width.
_SHARED_SHAPES = ((16, 1024), (8, 2048))
_URAM_WIDTH, _URAM_DEPTH = 72, 4096

# Pieces within the kernels, which can be compared with the kernels' synthesis.
IN_KERNELS = (
    "array", "column trees", "epilogue lanes", "segment tables", "m_axi ports", "control",
    "acc", "row statistics", "line",
)  # fmt: skip

_PRODUCT_BITS = 18  # average width inside an adder tree over 16-bit products
_ACC_BITS = 32
_SEGMENT_BITS = 53  # b 32, k 16, sh 5; the rest of an entry is never read
_LANE_LUTS = (
    ("bias", 32),
    ("shift by s, 48 bits", 144),
    ("sum with t", 48),
    ("shift by F and sat16", 124),
    ("segment index", 134),
    ("shift by sh and sat16", 123),
    ("shift after the Hadamard product", 99),
    ("zero point and clamp", 64),
    ("row statistic: sum and maximum", 44),
    ("lanes that it leaves out", 16),
    ("squares: choice of factor 8, tree of adders 23", 31),
)


@dataclass(frozen=True)
class Piece:
    """Resources of one piece of the design and their basis."""

    name: str
    basis: str
    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram36: float = 0
    uram: int = 0


@dataclass(frozen=True)
class Resources:
    """All pieces of a board's design."""

    board: str
    pieces: tuple[Piece, ...]
    available: dict[str, int]

    def used(self, kind: str) -> float:
        """Return the total of one kind ("lut", "ff", "dsp", "bram36", "uram")."""
        return float(sum(getattr(piece, kind) for piece in self.pieces))

    def share(self, kind: str) -> float:
        """Used share of what the device holds; 0 where it holds and needs none."""
        used = self.used(kind)
        return used / self.available[kind] if used else 0.0

    @property
    def fits(self) -> Literal["yes", "tight", "no"]:
        """Say whether every kind is within ``LIMITS`` or ``MOST``, or some kind exceeds both."""
        if all(self.share(kind) <= LIMITS[kind] for kind in KINDS):
            return "yes"
        return "tight" if all(self.share(kind) <= MOST[kind] for kind in KINDS) else "no"


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def bram36(width_bits: int, depth: int, shared: bool = False) -> float:
    """Return the block RAMs of 36 Kb for one memory, in halves, in the best shape.

    ``shared``: two kernels each own a port with byte writes.
    """
    shapes = _SHARED_SHAPES if shared else _RAMB18_SHAPES
    halves = min(_cdiv(width_bits, w) * _cdiv(depth, d) for w, d in shapes)
    return halves / 2


def uram(width_bits: int, depth: int) -> int:
    """Return the UltraRAMs for one memory."""
    return _cdiv(width_bits, _URAM_WIDTH) * _cdiv(depth, _URAM_DEPTH)


def _memories(board: Board) -> Iterator[tuple[str, int, int, int]]:
    """List (name, copies, width in bits, depth) of every buffer."""
    a = board.array
    word = 8 * a.cols
    yield "ibuf", 1, word, a.ibuf_words
    yield "wbuf", 1, word, a.wbuf_words
    yield "pbuf", 1, word, 8 * a.pbuf_rows
    yield "acc", 1, a.cols * _ACC_BITS, a.acc_rows
    yield "row statistics", 2, _ACC_BITS, a.acc_rows
    yield "obuf", 2, word, a.obuf_rows
    yield "tbuf", 2, word, a.tbuf_rows
    yield "ubuf", 2, word, a.ubuf_rows
    yield "line", a.win - 1, 2 * word, a.line_words


def _memory_pieces(board: Board) -> Iterator[Piece]:
    for name, copies, width, depth in _memories(board):
        if name in board.uram_buffers:
            basis = f"{copies * width} x {depth} bits in URAM of 72 x 4096"
            yield Piece(name, basis, uram=uram(copies * width, depth))
        else:
            shared = name not in IN_KERNELS
            shape = "RAMB18 with two ports and byte writes" if shared else "best RAMB18 shape"
            basis = f"{copies} memories of {width} x {depth} bits, {shape}"
            yield Piece(name, basis, bram36=copies * bram36(width, depth, shared))


def _array(board: Board) -> Piece:
    count = board.array.rows * board.array.cols
    packed = board.array.macs_per_dsp == 2
    basis = (
        "GEMM and WINDOW choose x before one set of products: two products per DSP, WINDOW's in "
        "two beats; per PE 8 LUTs choose x, 8 unpack, 56 flip-flops"
        if packed
        else "GEMM and WINDOW choose x before one set of products, one per DSP; per PE 8 LUTs "
        "choose x, 56 flip-flops"
    )
    lut = count * (16 if packed else 8)
    return Piece("array", basis, lut, 56 * count, count // board.array.macs_per_dsp)


def _columns(board: Board) -> Piece:
    rows, cols = board.array.rows, board.array.cols
    adders = rows // 2 * _PRODUCT_BITS
    maxima = 20 * (rows - 1)
    basis = (
        f"per column: adder tree of three-input adders {adders} LUTs, maximum tree {maxima} LUTs, "
        "accumulate and choose 96 LUTs; a flip-flop for every second LUT"
    )
    lut = cols * (adders + maxima + 96)
    return Piece("column trees", basis, lut, lut // 2)


def _lanes(board: Board) -> Piece:
    lut, cols = sum(count for _, count in _LANE_LUTS), board.array.cols
    parts = ", ".join(f"{name} {count}" for name, count in _LANE_LUTS)
    basis = (
        "per lane 5 DSPs (acc*m 2, t*mt 1, x*k 1, y*u 1), 1,100 flip-flops and these LUTs: " + parts
    )
    return Piece("epilogue lanes", basis, cols * lut, cols * 1100, cols * 5)


def _tables(board: Board) -> Piece:
    segments = _cdiv(_SEGMENT_BITS, 3) * 4 * _cdiv(board.array.seg_entries, 64)
    banks = 8 * 4 * _cdiv(MAP_CELLS // 8, 32) + 12
    basis = (
        f"{_SEGMENT_BITS} bits a segment in LUT RAM (4 LUTs hold 64 x 3 bits): {segments} LUTs per "
        f"lane; map of {MAP_CELLS} cells in 8 banks (4 LUTs hold 32 x 6 bits) and their choice: "
        f"{banks}"
    )
    return Piece("segment tables", basis, board.array.cols * (segments + banks))


def _queues(board: Board) -> Piece:
    depth = board.array.queue_depth
    bits = 6 if depth <= 32 else 3  # per word of the RAM that four LUTs make, 32 or 64 deep
    lut = 3 * _cdiv(512, bits) * 4 * _cdiv(depth, 64)
    basis = f"three queues of {depth} 512-bit instructions in LUT RAM, output registers"
    return Piece("instruction queues", basis, lut, 3 * 512)


def _ports(board: Board) -> Piece:
    widths = [p.bytes_per_cycle for p in (board.ports.load, board.ports.store, board.ports.fetch)]
    lut = sum(300 + 20 * width for width in widths)
    fifos = sum(bram36(8 * width, 256) for width in widths)
    basis = (
        "per m_axi adapter, which only reads or only writes, 300 LUTs and 20 per byte of width "
        "(Vitis HLS counts 580 for 4 bytes both ways), twice as many flip-flops, and a FIFO of 16 "
        "bursts of 16 beats"
    )
    return Piece("m_axi ports", basis, lut, 2 * lut, bram36=fifos)


def _control(board: Board) -> Piece:
    bits = sum(argument.bits for arguments in KERNELS.values() for argument in arguments)
    registers = bits // 2 + 60 * len(KERNELS)
    sums = 32 * (board.array.rows // 4 + board.ports.fetch.bytes_per_cycle // 4)
    lut = 600 + 3 * 450 + registers + 3 * 128 + sums + 2000
    basis = (
        f"fetch and decode 600, three address generators of 450, {bits} bits of s_axilite "
        f"registers {registers}, three sums of cycles of 128, checksums of what is read {sums}, "
        "multipliers of FETCH, LOAD and STORE in fabric 2,000 LUTs; twice as many flip-flops; in "
        "COMPUTE 4 DSPs for start addresses, 5 for counts of rows and the statistic's scale"
    )
    return Piece("control", basis, lut, 2 * lut, 9)


def _surroundings(board: Board) -> Piece:
    basis = (
        "interconnect to the PS 1,500, interrupt controller 150, resets 100, six token queues of "
        "40, cycle counter 64 LUTs; twice as many flip-flops"
    )
    return Piece("block design", basis, 2054, 4108)


_PIECES: tuple[Callable[[Board], Piece], ...] = (
    _array, _columns, _lanes, _tables, _queues, _ports, _control, _surroundings,
)  # fmt: skip


def resources(board: Board) -> Resources:
    """Estimate the resources of one board's design."""
    pieces = (*(piece(board) for piece in _PIECES), *_memory_pieces(board))
    return Resources(board.name, pieces, {kind: getattr(board.part, kind) for kind in KINDS})
