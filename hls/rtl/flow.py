# SPDX-License-Identifier: Apache-2.0
"""The steps over many units and boards; what has been counted of the same text is taken over.

In: ``Job``.  Out: per unit and board one ``Found``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from neuralmatrix.hardware.board import Board, load_board

from . import sources, standins
from .delays import fabric_of
from .simulate import reference, simulate, verilated
from .synthesize import synthesize
from .translate import Translated, stand_in, translate
from .unit import StandIn, Unit

Numbers = dict[str, int]
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Known:
    """Results of an earlier run, by what they depend on."""

    cells: dict[tuple[str, str], Numbers] = field(default_factory=dict)  # (Verilog, family)
    vectors: dict[tuple[str, str], Numbers] = field(default_factory=dict)  # (Verilog, sources)


@dataclass(frozen=True)
class Job:
    """What to do: the units, on which families, where, and how many vectors."""

    units: tuple[Unit | StandIn, ...]
    families: tuple[str, ...]
    boards: tuple[str, ...]  # of those that a unit names
    build: Path
    vectors: int
    jobs: int
    known: Known = Known()
    say: Callable[[str], None] = print
    hls: Path = sources.HLS  # kernels that clang reads; tests read changed ones

    @cached_property
    def pairs(self) -> list[tuple[Unit | StandIn, Board]]:
        """The units with the boards they are counted for."""
        boards = {name: load_board(name) for name in self.boards}
        return [
            (unit, boards[name])
            for unit in self.units
            for name in unit.boards
            if name in boards and fabric_of(boards[name]).family in self.families
        ]

    def each(self, act: Callable[[T], R], items: Sequence[T]) -> list[R]:
        with ThreadPoolExecutor(self.jobs) as pool:
            return list(pool.map(act, items))


@dataclass
class Found:
    """What the steps found of one unit on one board."""

    translated: Translated
    sources: str  # hash
    simulated: Numbers = field(default_factory=dict)
    cells: Numbers = field(default_factory=dict)


def _sources(job: Job) -> list[tuple[str, Board]]:
    """Each pair of a source and a board once."""
    pairs = [(unit.source, board) for unit, board in job.pairs if isinstance(unit, Unit)]
    return list({(source, board.name): (source, board) for source, board in pairs}.values())


def ir(job: Job) -> dict[tuple[str, str], Path]:
    """LLVM IR by source and board."""
    pairs = _sources(job)
    found = job.each(lambda p: sources.llvm_ir(*p, job.build, job.hls), pairs)
    for path in found:
        job.say(f"{path.parent.name}/{path.name}: {path.read_text().count(chr(10))} lines")
    return {(source, board.name): path for (source, board), path in zip(pairs, found, strict=True)}


def verilog(job: Job) -> list[Found]:
    """Every unit in Verilog, with what is known of it."""
    texts = ir(job)
    found = []
    for unit, board in job.pairs:
        if isinstance(unit, Unit):
            made = translate(unit, board, texts[unit.source, board.name])
            digest = sources.digest(unit.source, board)
        else:
            made = stand_in(unit, board, sources.board_include(board, job.build).parent)
            bench = standins.bench_path(unit)
            digest = sources.digest_stand_in(bench, made.module.text, board)
        vectors = job.known.vectors.get((made.digest, digest), {})
        cells = job.known.cells.get((made.digest, made.family), {})
        found.append(Found(made, digest, dict(vectors), dict(cells)))
        job.say(f"{board.name}/{unit.name}: latency {made.latency}, {made.longest_ns} ns")
    return found


def _source(made: Translated) -> tuple[str, str]:
    """The source and the board of a unit; a stand-in has no source."""
    return getattr(made.unit, "source", ""), made.board.name


def _references(job: Job, found: list[Found]) -> dict[tuple[str, str], Path]:
    """The g++ builds of the wrappers, by source and board."""
    once = {_source(f.translated): f.translated.board for f in found}
    keys = [key for key in once if key[0]]
    built = job.each(lambda key: reference(key[0], once[key], job.build), keys)
    return dict(zip(keys, built, strict=True))


def simulated(job: Job, found: list[Found]) -> None:
    """Simulates what is not known yet."""
    rest = [each for each in found if each.simulated.get("vectors", 0) < job.vectors]
    if not rest:
        return
    objects = _references(job, rest)
    library = verilated(job.build)

    def one(each: Found) -> None:
        unit = each.translated
        own = [objects[key] for key in [_source(unit)] if key in objects]
        each.simulated = simulate(unit, job.build, [*own, *library], job.vectors)
        vectors, differing = each.simulated.values()
        job.say(f"{unit.board.name}/{unit.unit.name}: {vectors} vectors, {differing} differing")

    job.each(one, rest)


def synthesized(job: Job, found: list[Found]) -> None:
    """Counts what is not known yet; equal Verilog of one family is counted once."""
    groups: dict[tuple[str, str], list[Found]] = {}
    for each in found:
        if not each.cells:
            groups.setdefault((each.translated.digest, each.translated.family), []).append(each)

    def one(group: list[Found]) -> None:
        unit = group[0].translated
        cells = synthesize(*unit.counted, unit.family, unit.folder)
        job.say(f"{unit.board.name}/{unit.unit.name}: {cells['lut']} LUT, {cells['dsp']} DSP")
        for each in group:
            each.cells = dict(cells)

    job.each(one, list(groups.values()))
