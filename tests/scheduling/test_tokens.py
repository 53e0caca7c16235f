# SPDX-License-Identifier: Apache-2.0
"""Dependencies between instructions: tokens, rings, reordered LOADs.

In: hand-made and random instructions.  Out: flags that keep every hazard in order and fit the
queues.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_costs import costs
from neuralmatrix.hardware.isa import UNIT_OF, Opcode, Unit, decode
from neuralmatrix.hardware.timeline import simulate
from neuralmatrix.ir.types import Array
from neuralmatrix.scheduling.emitter import RING_TAKES, Emitter, Finished, Range, Ring, arena_range
from neuralmatrix.scheduling.prefetch import Task, prefetched
from neuralmatrix.scheduling.tokens import Token, thinned

ARRAY = load_board("pynq-z2").array


def emitter() -> Emitter:
    return Emitter(ARRAY, 4096)


def flags(program: Emitter) -> list[set[str]]:
    """Return the names of the token flags of every instruction but END."""
    words = program.finish().words
    found = [decode(tuple(int(w) for w in row)) for row in words[:-1]]
    return [{n for n in i.values if n.startswith(("wait", "signal"))} for i in found]


def test_a_reader_waits_for_its_writer() -> None:
    e = emitter()
    e.emit(Opcode.LOAD, {"n2": 1}, (), (Range("ibuf", 0, 8),))
    e.emit(Opcode.LOAD, {"n2": 1}, (), (Range("ibuf", 8, 16),))
    e.emit(Opcode.COMPUTE, {}, (Range("ibuf", 0, 8),), (Range("obuf", 0, 4),))
    assert flags(e) == [{"signal_compute"}, set(), {"wait_load"}]


def test_a_writer_waits_for_the_reader_of_what_it_overwrites() -> None:
    e = emitter()
    e.emit(Opcode.LOAD, {}, (), (Range("ibuf", 0, 8),))
    e.emit(Opcode.COMPUTE, {}, (Range("ibuf", 0, 8),), ())
    e.emit(Opcode.LOAD, {}, (), (Range("ibuf", 4, 6),))
    assert flags(e)[1:] == [{"wait_load", "signal_load"}, {"wait_compute"}]


def test_a_dependency_that_follows_from_another_costs_no_token() -> None:
    """STORE needs COMPUTE, which already waited for the LOAD whose arena range STORE writes."""
    e = emitter()
    e.emit(Opcode.LOAD, {}, (Range("arena", 0, 4),), (Range("ibuf", 0, 8),))
    e.emit(Opcode.COMPUTE, {}, (Range("ibuf", 0, 8),), (Range("obuf", 0, 4),))
    e.emit(Opcode.STORE, {}, (Range("obuf", 0, 4),), (Range("arena", 0, 4),))
    assert flags(e) == [{"signal_compute"}, {"wait_load", "signal_store"}, {"wait_compute"}]


def test_one_token_covers_all_earlier_instructions_of_a_unit() -> None:
    e = emitter()
    for i in range(3):
        e.emit(Opcode.LOAD, {}, (), (Range("ibuf", i, i + 1),))
    e.emit(Opcode.COMPUTE, {}, (Range("ibuf", 0, 3),), ())
    e.emit(Opcode.COMPUTE, {}, (Range("ibuf", 1, 2),), ())
    assert flags(e) == [set(), set(), {"signal_compute"}, {"wait_load"}, set()]


def test_a_gather_that_begins_before_the_arena_waits_for_the_bytes_it_reads() -> None:
    e = emitter()
    e.emit(Opcode.STORE, {}, (), (arena_range(32, 63),))
    e.emit(Opcode.LOAD, {}, (arena_range(-200, 40),), (Range("ibuf", 0, 8),))
    assert flags(e) == [{"signal_load"}, {"wait_store"}]


def test_a_ring_never_hands_out_overlapping_live_ranges() -> None:
    ring = Ring(100)
    taken = [(ring.take(30), 30) for _ in range(3)]
    assert [start for start, _ in taken] == [0, 30, 60]
    assert ring.take(30) == 0  # 10 cells are left at the end: too few


def test_a_ring_wraps_before_tokens_pile_up() -> None:
    ring = Ring(10_000)
    starts = [ring.take(1) for _ in range(RING_TAKES + 1)]
    assert starts[-1] == 0 and len(set(starts[:-1])) == RING_TAKES


def token_run(steps: list[tuple[int, int]]) -> list[Token]:
    """Make tokens whose ends ascend, writers at even places and readers at odd ones.

    ``steps``: how far each writer is from the last one, and its reader from it.
    """
    tokens: list[Token] = []
    for gap, length in steps:
        signal = 2 * gap + (tokens[-1].signal if tokens else 0)
        last = tokens[-1].wait if tokens else 1
        tokens.append(Token(signal, max(last + 2, signal + 2 * length + 1)))
    return tokens


TOKENS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 40)), min_size=1, max_size=30).map(
    token_run
)


def most_under_way(tokens: list[Token]) -> int:
    return max(sum(t.signal <= place < t.wait for t in tokens) for place in range(300))


@given(TOKENS, st.integers(1, 5))
def test_merged_tokens_fit_their_queue_and_make_everyone_wait_at_least_as_long(
    tokens: list[Token], depth: int
) -> None:
    merged = thinned(list(tokens), depth)
    assert most_under_way(merged) <= depth
    for ends in ([t.signal for t in merged], [t.wait for t in merged]):
        assert ends == sorted(set(ends))
    assert all(t.signal < t.wait for t in merged)
    for token in tokens:
        assert any(t.signal >= token.signal and t.wait <= token.wait for t in merged)
    if most_under_way(tokens) <= depth:
        assert merged == tokens


def test_the_least_urgent_tokens_are_merged() -> None:
    """The second reader comes long after the third writer."""
    tokens = [Token(0, 5), Token(1, 90), Token(2, 100)]
    assert thinned(tokens, 2) == [Token(0, 5), Token(2, 90)]


RUNS = st.lists(
    st.tuples(
        st.sampled_from((Opcode.LOAD, Opcode.COMPUTE, Opcode.STORE)),
        st.integers(0, 7), st.integers(0, 7), st.integers(1, 8),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


def surely_finished(words: Array) -> list[dict[Unit, int]]:
    """Return per instruction the last one of each unit that surely has finished; of its own,
    itself.
    """
    sent: dict[tuple[Unit, Unit], list[dict[Unit, int]]] = {(p, c): [] for p in Unit for c in Unit}
    known: dict[Unit, dict[Unit, int]] = {unit: dict.fromkeys(Unit, -1) for unit in Unit}
    found = []
    for place, header in enumerate(words[:-1, 0].tolist()):
        unit = UNIT_OF[Opcode(header & 15)]
        waits, signals = ([u for u in Unit if header >> at + u & 1] for at in (4, 7))
        tokens = [sent[other, unit].pop(0) for other in waits]
        clock = {u: max(clock[u] for clock in (known[unit], *tokens)) for u in Unit}
        known[unit] = {**clock, unit: place}
        found.append(known[unit])
        for other in signals:
            sent[unit, other].append(known[unit])
    return found


def check_order(finished: Finished, touched: dict[int, tuple[Unit, Range, Range]]) -> None:
    """Check that an instruction waits for earlier ones that conflict with it in a cell."""
    known, places = surely_finished(finished.words), finished.places.tolist()
    for (i, (unit, *before)), (j, (_, *after)) in combinations(touched.items(), 2):
        if before[1] in after or before[0] == after[1]:
            assert known[places[j]][unit] >= places[i], (i, j)


@pytest.mark.slow
@given(RUNS, st.integers(1, 3))
@settings(deadline=None)
def test_the_shortest_queues_dead_lock_no_program(
    runs: list[tuple[Opcode, int, int, int]], depth: int
) -> None:
    """Random runs of instructions per unit, each on the next cells, with queues of one entry.

    Merged tokens keep every order that the cells require.
    """
    spaces = {Opcode.LOAD: ("arena", "ibuf"), Opcode.COMPUTE: ("ibuf", "obuf"),
              Opcode.STORE: ("obuf", "arena")}  # fmt: skip
    work = {Opcode.LOAD: dict(n2=1, n1=1, n0=8, s0=16, lane_stride=1),
            Opcode.COMPUTE: dict(first=1, last=1, m1=1, m0=8, nb=1, cb=1, kh=1, kw=1),
            Opcode.STORE: dict(n2=1, n1=1, n0=8, s0=16)}  # fmt: skip
    board = load_board("pynq-z2")
    array = replace(ARRAY, queue_depth=1, token_depth=depth)
    e = Emitter(array, 4096)
    e.emit(Opcode.EPILOGUE, {})
    touched = {}
    for opcode, read, write, count in runs:
        for i in range(count):
            cells = ((read + i) % 8, (write + i) % 8)
            reads, writes = (Range(space, at, at + 1)
                             for space, at in zip(spaces[opcode], cells, strict=True))  # fmt: skip
            number = e.emit(opcode, dict(work[opcode]), (reads,), (writes,))
            touched[number] = (UNIT_OF[opcode], reads, writes)
    for finished in (e.finish(), e.finish(board.timing)):
        cost = costs(finished.words, array, board.timing)
        assert simulate(cost, array, board.timing).cycles > 0
        check_order(finished, touched)


def waiting_program() -> Emitter:
    """The second LOAD waits for a STORE; the third could begin at once."""
    e = emitter()
    load = dict(n2=1, n1=1, n0=8, s0=16, lane_stride=1)
    e.emit(Opcode.LOAD, dict(load), (), (Range("ibuf", 0, 8),))
    e.emit(Opcode.EPILOGUE, {})
    work = dict(first=1, last=1, m1=1, m0=500, nb=1, cb=1, kh=1, kw=1)
    e.emit(Opcode.COMPUTE, dict(work), (Range("ibuf", 0, 8),), (Range("obuf", 0, 8),))
    e.emit(Opcode.STORE, dict(n2=1, n1=1, n0=8, s0=16), (Range("obuf", 0, 8),),
           (arena_range(0, 127),))  # fmt: skip
    e.emit(Opcode.LOAD, dict(load), (arena_range(0, 127),), (Range("ibuf", 8, 16),))
    e.emit(Opcode.LOAD, dict(load), (), (Range("wbuf", 0, 8),))
    e.emit(Opcode.COMPUTE, dict(work), (Range("ibuf", 8, 16), Range("wbuf", 0, 8)),
           (Range("obuf", 8, 16),))  # fmt: skip
    return e


def test_a_load_passes_one_that_waits() -> None:
    board = load_board("pynq-z2")
    plain, moved = waiting_program().finish(), waiting_program().finish(board.timing)
    assert plain.places.tolist() == list(range(7))
    assert moved.places[5] < moved.places[4] < moved.places[6]
    before, after = (
        simulate(costs(f.words, board.array, board.timing), board.array, board.timing).cycles
        for f in (plain, moved)
    )
    assert after < before


@pytest.mark.parametrize("seed", range(5))
def test_prefetching_obeys_every_wait(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tasks: list[Task] = []
    for i in range(200):
        after = rng.choice(i, min(i, int(rng.integers(0, 4))), replace=False) if i else ()
        unit = Unit(int(rng.integers(0, 3)))
        tasks.append(Task(unit, int(rng.integers(1, 100)), tuple(int(a) for a in after)))
    order = prefetched(tasks)
    assert sorted(order) == list(range(200))
    place = {task: i for i, task in enumerate(order)}
    assert all(place[a] < place[i] for i, task in enumerate(tasks) for a in task.after)
    for unit in (Unit.COMPUTE, Unit.STORE):
        mine = [i for i in order if tasks[i].unit == unit]
        assert mine == sorted(mine)
