# SPDX-License-Identifier: Apache-2.0
"""The resources that a design takes: LUTs, flip-flops, DSPs, block RAM, UltraRAM.

In: a ``Board``.  Out: a ``Resources`` table, one line per piece, which is *counted* by open tools
(``bill.py`` says how often a unit occurs, ``counts.json`` what it takes), follows from *shapes* of
memories and registers, or is *estimated*, with its basis in words.

LUTs have a low and a high end.  The high end of what is counted is the count itself; the low end
is ``FROM_COUNT`` of it, assumed: Vivado maps smaller than yosys, and how much so for this design
nobody has measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .bill import BILL, ESTIMATES, Estimate, Position, state_bits
from .board import Board
from .unit_counts import Counted, counted, title

KINDS = ("lut", "ff", "dsp", "bram36", "uram")
How = Literal["counted", "counted (stand-in)", "shape", "estimated"]

FROM_COUNT = 0.8  # of yosys's LUTs to the fewest that Vivado may need: assumed

# Shares of a part up to which a design fits, by its high end.  DSPs and memories lie in columns
# with their own routing and may be filled, memories not quite: deep ones should lie together.  LUTs
# and flip-flops need room for placement and routing, more of it at the faster clock of Zynq MPSoC.
LIMITS: dict[str, dict[str, float]] = {
    "zynq7000": {"lut": 0.85, "ff": 0.85, "dsp": 0.95, "bram36": 0.9, "uram": 0.9},
    "zynqmp": {"lut": 0.8, "ff": 0.85, "dsp": 0.97, "bram36": 0.9, "uram": 0.9},
}
# Up to here the tools may still place the design and meet timing; only running them shows it.
MOST = {"lut": 0.92, "ff": 0.92, "dsp": 1.0, "bram36": 0.97, "uram": 0.97}

# Width and depth of the shapes of half a BRAM36 (RAMB18E1/E2, UG473 and UG573), and of an URAM288.
_RAMB18_SHAPES = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
# With two ports that each may write single bytes: no parity bits, half the width.
_SHARED_SHAPES = ((16, 1024), (8, 2048))
_URAM_WIDTH, _URAM_DEPTH = 72, 4096
_ACC_BITS = 32


@dataclass(frozen=True)
class Piece:
    """Resources of one piece of the design and their basis; ``lut`` is the high end."""

    name: str
    kernel: str  # or "" for what lies between the kernels
    how: How
    basis: str
    lut: int = 0
    lut_low: int = 0
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
    limits: dict[str, float]

    def used(self, kind: str) -> float:
        """Return the total of one kind ("lut", "ff", "dsp", "bram36", "uram"), the high end."""
        return float(sum(getattr(piece, kind) for piece in self.pieces))

    def low(self, kind: str) -> float:
        """Return the low end of a total; only LUTs have one of their own."""
        return float(sum(p.lut_low for p in self.pieces)) if kind == "lut" else self.used(kind)

    def share(self, kind: str) -> float:
        """Used share of what the device holds; 0 where it holds and needs none."""
        used = self.used(kind)
        return used / self.available[kind] if used else 0.0

    def low_share(self, kind: str) -> float:
        """The share by the low end."""
        return self.low(kind) / self.available[kind] if self.used(kind) else 0.0

    @property
    def counted_share(self) -> float:
        """The share of the design's LUTs that is counted, not estimated."""
        counts = sum(p.lut for p in self.pieces if p.how.startswith("counted"))
        return counts / self.used("lut")

    @property
    def fits(self) -> Literal["yes", "tight", "no"]:
        """Say whether every kind is within its limit or ``MOST``, or some kind exceeds both."""
        if all(self.share(kind) <= self.limits[kind] for kind in KINDS):
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


# ------------------------------------------------------------------------------ memories


def _memories(board: Board) -> Iterator[tuple[str, str, int, int, int]]:
    """List (name, kernel, copies, width in bits, depth) of every buffer."""
    a = board.array
    word = 8 * a.cols
    yield "ibuf", "", 1, word, a.ibuf_words
    yield "wbuf", "", 1, word, a.wbuf_words
    yield "pbuf", "", 1, word, 8 * a.pbuf_rows
    yield "acc", "compute", 1, a.cols * _ACC_BITS, a.acc_rows
    yield "row statistics", "compute", 2, _ACC_BITS, a.acc_rows
    yield "obuf", "", 2, word, a.obuf_rows
    yield "tbuf", "", 2, word, a.tbuf_rows
    yield "ubuf", "", 2, word, a.ubuf_rows
    yield "line", "compute", a.win - 1, 2 * word, a.line_words


def _memory_pieces(board: Board) -> Iterator[Piece]:
    for name, kernel, copies, width, depth in _memories(board):
        if name in board.uram_buffers:
            basis = f"{copies * width} x {depth} bits in URAM of 72 x 4096"
            yield Piece(name, kernel, "shape", basis, uram=uram(copies * width, depth))
        else:
            shared = not kernel
            shape = "RAMB18 with two ports and byte writes" if shared else "best RAMB18 shape"
            basis = f"{copies} memories of {width} x {depth} bits, {shape}"
            halves = bram36(width, depth, shared)
            yield Piece(name, kernel, "shape", basis, bram36=copies * halves)


# ------------------------------------------------------------------------------ logic


def _basis(times: int, unit: str) -> str:
    return f"{times} x {title(unit)}" if times > 1 else title(unit)


def _counted_piece(place: Position, how: How, found: list[tuple[str, int, Counted]]) -> Piece:
    lut = sum(times * each.lut for _, times, each in found)
    return Piece(
        place.name,
        place.kernel,
        how,
        "; ".join(_basis(times, unit) for unit, times, _ in found),
        lut=lut,
        lut_low=round(FROM_COUNT * lut),
        ff=sum(times * each.ff for _, times, each in found),
        dsp=sum(times * each.dsp for _, times, each in found),
        bram36=sum(times * each.bram36 for _, times, each in found),
    )


def _counted_pieces(board: Board, place: Position) -> Iterator[Piece]:
    """Add up a position: the kernels' own units, and what stands in for the tool's, apart."""
    units = [(unit, n, counted(unit, board)) for unit, n in place.times(board).items()]
    own = [each for each in units if not each[2].stand_in]
    stand_ins = [each for each in units if each[2].stand_in]
    if own:
        yield _counted_piece(place, "counted", own)
    if stand_ins:
        yield _counted_piece(place, "counted (stand-in)", stand_ins)


def _estimated_piece(each: Estimate) -> Piece:
    low, high = each.lut
    return Piece(each.name, each.kernel, "estimated", each.basis, high, low, each.ff)


def _registers(board: Board) -> Piece:
    bits = state_bits(board)
    basis = ", ".join(f"{name} {count:,}" for name, count in bits.items())
    return Piece("registers of COMPUTE", "compute", "shape", basis, ff=sum(bits.values()))


def resources(board: Board) -> Resources:
    """Add up the resources of one board's design."""
    pieces = [piece for place in BILL for piece in _counted_pieces(board, place)]
    pieces += map(_estimated_piece, ESTIMATES)
    pieces += [_registers(board), *_memory_pieces(board)]
    available = {kind: int(getattr(board.part, kind)) for kind in KINDS}
    return Resources(board.name, tuple(pieces), available, LIMITS[board.family])
