# SPDX-License-Identifier: Apache-2.0
"""A line on standard error about work that a user has to wait for.

In: the line.  Out: the line at once on a terminal, elsewhere once the work has taken long.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

PATIENCE_S = 10.0
_silent = False


def be_silent(silent: bool) -> None:
    """Print no notices from now on, or print them again."""
    global _silent
    _silent = silent


@contextmanager
def notice(text: str) -> Iterator[None]:
    """Say what is going on while the body runs."""
    timer = threading.Timer(PATIENCE_S, _print, (text,))
    timer.daemon = True
    if sys.stderr is not None and sys.stderr.isatty():
        _print(text)
    else:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _print(text: str) -> None:
    if sys.stderr is not None and not _silent:
        print(f"neuralmatrix: {text}", file=sys.stderr, flush=True)
