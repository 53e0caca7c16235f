# SPDX-License-Identifier: Apache-2.0
"""Shows on standard error which stage a compilation is in.

In: the calls of ``compile_model`` to ``progress``.  Out: with ``verbose`` one line per stage and
its time; on a terminal, in a long compilation, a line with the running stage, erased at the end.
"""

from __future__ import annotations

import time
from threading import Lock, Timer
from types import TracebackType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

APPEARS = 2.0  # seconds after which the line is shown


class StageLine:
    """A ``progress`` of ``compile_model``, and a context in which its line is shown.

    With ``line`` False it is never shown, as with --json or if ``screen`` is not a terminal.
    """

    def __init__(self, verbose: bool, line: bool = True, screen: Console | None = None) -> None:
        screen = screen or Console(stderr=True)
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._bar = Progress(*columns, console=screen, transient=True)
        self._task = self._bar.add_task("compiling", total=None)
        self._verbose, self._line = verbose, line and screen.is_terminal
        self._lock, self._closed = Lock(), False  # the timer's thread against the end
        self._timer = Timer(APPEARS, self._show)
        self._timer.daemon = True
        self._start = self._began = time.perf_counter()
        self._stage = ""

    def __call__(self, what: str) -> None:
        """Take the name of a stage that begins, or "stage: step"."""
        stage, _, detail = what.partition(": ")
        if not detail:
            self._end_stage()
            self._stage = stage
        self._bar.update(self._task, description=what)

    def __enter__(self) -> StageLine:
        if self._line:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._bar.live.is_started:
                self._bar.stop()
        if kind is None:
            self._end_stage()
            self._print("in all", self._start)

    def _show(self) -> None:
        with self._lock:
            if not self._closed:
                self._bar.start()

    def _end_stage(self) -> None:
        if self._stage:
            self._print(self._stage, self._began)
        self._began = time.perf_counter()

    def _print(self, what: str, since: float) -> None:
        if self._verbose:
            text = f"{time.perf_counter() - since:8.3f} s  {what}"
            self._bar.console.print(text, highlight=False, markup=False)
