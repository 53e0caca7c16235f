# SPDX-License-Identifier: Apache-2.0
"""Lets one process of a machine at a time make a file.

In: the path of a lock file.  Out: a turn.  The kernel holds the lock and not the file's existence:
the lock of a process that was killed is free at once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .notice import notice


@contextmanager
def turn(path: Path, waiting: str) -> Iterator[None]:
    """Run the body while no other process has the lock; ``waiting`` tells a user why it waits.

    The lock file is gone afterwards.  OSError: it cannot be written.
    """
    file = _locked(path, waiting)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the lock is free, or another's file would go
        os.close(file)


def _locked(path: Path, waiting: str) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(file, waiting)
            if _is_at(file, path):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # its former holder has removed it meanwhile


def _lock(file: int, waiting: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        with notice(waiting):
            fcntl.flock(file, fcntl.LOCK_EX)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False
