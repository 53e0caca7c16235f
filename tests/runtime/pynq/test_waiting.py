# SPDX-License-Identifier: Apache-2.0
"""Waiting for kernels: by polling and by interrupt, with interrupts that come late or never.

In: kernels that are done after a number of reads.  Out: whether they were in time; no wait is
endless.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from neuralmatrix.runtime.pynq import board_thread, waiting
from neuralmatrix.runtime.pynq.waiting import by_interrupt, poll, uses_interrupt

LONG, SHORT = 60.0, 0.02


@dataclass
class Line:
    """An interrupt that arrives after ``seconds`` (None: never), before that ``early`` times too
    soon.
    """

    seconds: float | None = 0.0
    early: int = 0
    waits: int = 0

    async def wait(self) -> None:
        self.waits += 1
        if self.early:
            self.early -= 1
        elif self.seconds is None:
            await asyncio.Event().wait()
        else:
            await asyncio.sleep(self.seconds)


@dataclass
class FakeKernel:
    """A kernel that is done at read number ``looks``, never if that is None."""

    looks: int | None = 1
    interrupt: Line = field(default_factory=Line)
    wired: bool = True
    seen: int = 0
    cleared: int = 0

    @property
    def done(self) -> bool:
        self.seen += 1
        return self.looks is not None and self.seen >= self.looks

    def clear_interrupt(self) -> None:
        self.cleared += 1


def kernels(*looks: int | None) -> list[FakeKernel]:
    return [FakeKernel(n) for n in looks]


def by_interrupt_on_its_thread(made: list[FakeKernel], seconds: float) -> tuple[bool, bool]:
    return board_thread.run(by_interrupt, made, time.monotonic() + seconds)


def wait_by_interrupt(made: list[FakeKernel], seconds: float) -> bool:
    return by_interrupt_on_its_thread(made, seconds)[0]


WAYS: tuple[Callable[[Any, float], bool], ...] = (
    lambda made, seconds: poll(made, time.monotonic() + seconds),
    wait_by_interrupt,
)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("looks", ((1, 1, 1, 1), (9, 1, 1, 3), (1, 40, 1, 1), (2, 2, 2, 60)))
def test_all_done(way: Any, looks: tuple[int, ...]) -> None:
    made = kernels(*looks)
    assert way(made, LONG)
    assert all(kernel.seen >= n for kernel, n in zip(made, looks, strict=True))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("hanging", range(4))
def test_one_never_done(way: Any, hanging: int) -> None:
    made = kernels(*(None if i == hanging else 1 for i in range(4)))
    began = time.monotonic()
    assert not way(made, SHORT)
    assert time.monotonic() - began >= SHORT


def test_how_late_a_run_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause is at most a share of the time waited so far, or the shortest sleep."""
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds <= max(0.05 * now[0], 50e-6) and seconds <= 5e-3)
        now[0] += seconds

    def monotonic() -> float:
        now[0] += 1e-6
        return now[0]

    monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=monotonic, sleep=sleep))
    assert not poll(kernels(None), 0.5)
    assert len(pauses) > 100 and all(pauses) and now[0] == pytest.approx(0.5, abs=1e-3)


def test_a_last_look_after_the_deadline() -> None:
    """A process that was suspended for long finds the array done."""
    assert poll(kernels(1, 2, 1, 2), time.monotonic() - LONG)
    assert not poll(kernels(1, 2, 1, 3), time.monotonic() - LONG)


def test_done_kernels_are_not_asked_again() -> None:
    """Reading CTRL clears its done bit."""
    made = kernels(1, 500, 1, 1)
    assert poll(made, time.monotonic() + LONG)
    assert [kernel.seen for kernel in made] == [1, 500, 1, 1]


def test_an_interrupt_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The done bit is read nevertheless."""
    monkeypatch.setattr(waiting, "INTERRUPT_SLICE", 0.001)
    monkeypatch.setattr(waiting, "INTERRUPT_GRACE", 0.001)
    made = kernels(1, 1, 1, 4)
    made[-1].interrupt.seconds = None
    assert by_interrupt_on_its_thread(made, LONG) == (True, False)
    assert made[-1].interrupt.waits == 4 and not made[-1].cleared


def test_an_interrupt_that_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel is done when the time is over, but the interrupt arrives."""
    monkeypatch.setattr(waiting, "INTERRUPT_SLICE", 0.001)
    monkeypatch.setattr(waiting, "INTERRUPT_GRACE", LONG)
    made = kernels(1, 1, 1, 2)
    made[-1].interrupt.seconds = 0.01
    assert by_interrupt_on_its_thread(made, LONG) == (True, True)
    assert made[-1].cleared == 1


def test_a_run_that_hangs_says_nothing_of_interrupts() -> None:
    made = kernels(1, 1, 1, None)
    made[-1].interrupt.seconds = None
    assert by_interrupt_on_its_thread(made, SHORT) == (False, True)


def test_an_interrupt_of_an_earlier_run() -> None:
    made = kernels(1, 1, 1, 3)
    made[-1].interrupt.early = 2
    assert wait_by_interrupt(made, LONG)
    assert made[-1].interrupt.waits == made[-1].cleared == 2


@pytest.mark.parametrize(
    ("how", "wired", "seconds", "expected"),
    (
        ("auto", True, 1.0, True),
        ("auto", True, 1e-4, False),
        ("auto", False, 1.0, False),
        ("poll", True, 1.0, False),
        ("interrupt", True, 1e-4, True),
    ),
)
def test_which_way(how: Any, wired: bool, seconds: float, expected: bool) -> None:
    assert uses_interrupt(how, wired, seconds) == expected


def test_the_boards_thread_has_a_loop_of_its_own() -> None:
    """It works inside a caller's running loop, too."""

    async def caller() -> int:
        return board_thread.run(lambda: board_thread.complete(asyncio.sleep(0, 7)))

    assert asyncio.run(caller()) == 7


def test_calls_run_one_at_a_time_in_order() -> None:
    seen: list[int] = []
    futures = [board_thread.submit(seen.append, i) for i in range(20)]
    for future in futures:
        future.result()
    assert seen == list(range(20))


def test_an_error_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        board_thread.run(lambda: 1 // 0)
    assert board_thread.run(lambda: 5) == 5
