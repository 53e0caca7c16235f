# SPDX-License-Identifier: Apache-2.0
"""Converts dependencies of instructions into tokens between the units.

In: instructions in program order, how many instructions of each unit must have finished before
each.  Out: their wait and signal flags, as few as suffice, and never more tokens under way than a
queue holds.

That bound excludes deadlocks: if every token has room when the instructions run one by
one in program order, then that order completes, and queues that block (first in, first out) let
every other order complete as well.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware.isa import UNIT_OF, Opcode, Unit

Clock = dict[Unit, int]  # per unit: instructions known to have finished


@dataclass
class Ready:
    """An instruction at its place; ``needs``: how many of each unit must have finished."""

    opcode: Opcode
    values: dict[str, int]
    needs: dict[Unit, int]


@dataclass
class Token:
    """From the instruction at place ``signal`` to the later one at place ``wait``."""

    signal: int
    wait: int


def place_tokens(items: list[Ready], depth: int) -> None:
    """Set the flags; at most ``depth`` tokens are under way from one unit to another."""
    for (producer, consumer), tokens in _tokens(items).items():
        for token in thinned(tokens, depth):
            items[token.signal].values[f"signal_{consumer.name.lower()}"] = 1
            items[token.wait].values[f"wait_{producer.name.lower()}"] = 1


def thinned(tokens: list[Token], depth: int) -> list[Token]:
    """Merge neighbours until at most ``depth`` tokens are between their two ends anywhere.

    ``tokens``: of one pair of units, both ends ascending.  Then the earlier reader waits for
    the later writer, which covers both.  Of all neighbours under way, those are merged first whose
    earlier reader comes longest after the later writer, so that it hardly waits longer.
    """
    done: list[Token] = []
    under_way: list[Token] = []
    for token in tokens:
        arrived = [t for t in under_way if t.wait < token.signal]
        done += arrived
        under_way = [*under_way[len(arrived) :], token]
        if len(under_way) > depth:
            slack = [a.wait - b.signal for a, b in zip(under_way, under_way[1:], strict=False)]
            i = slack.index(max(slack))
            under_way[i : i + 2] = [Token(under_way[i + 1].signal, under_way[i].wait)]
    return done + under_way


def _tokens(items: list[Ready]) -> dict[tuple[Unit, Unit], list[Token]]:
    """Return the tokens per producer and consumer, without those that follow from others.

    Units finish in order, so a wait for instruction i of a unit covers all before it, and all
    that those had waited for.
    """
    places: dict[Unit, list[int]] = {unit: [] for unit in Unit}
    clocks: dict[Unit, list[Clock]] = {unit: [] for unit in Unit}
    found: dict[tuple[Unit, Unit], list[Token]] = {}
    for place, item in enumerate(items):
        unit = UNIT_OF[item.opcode]
        known = dict(clocks[unit][-1]) if clocks[unit] else dict.fromkeys(Unit, 0)
        for producer, count in _essential(item.needs, known, clocks):
            token = Token(places[producer][count - 1], place)
            found.setdefault((producer, unit), []).append(token)
            known = _later(known, clocks[producer][count - 1])
        places[unit].append(place)
        known[unit] = len(places[unit])
        clocks[unit].append(known)
    return found


def _essential(
    needs: dict[Unit, int], known: Clock, clocks: dict[Unit, list[Clock]]
) -> list[tuple[Unit, int]]:
    """Return the dependencies that neither ``known`` nor another dependency covers."""
    open_ = [(unit, count) for unit, count in needs.items() if count > known[unit]]
    return [
        (unit, count)
        for unit, count in open_
        if not any(clocks[u][c - 1][unit] >= count for u, c in open_ if u != unit)
    ]


def _later(a: Clock, b: Clock) -> Clock:
    return {unit: max(a[unit], b[unit]) for unit in Unit}
