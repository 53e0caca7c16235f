# SPDX-License-Identifier: Apache-2.0
"""Lets one process at a time use a board, and detect that others have used it.

In: a lock file that all processes share.  Out: turns, and whether the board is unchanged
since the last one.  pynq remembers in each process what that process loaded: a second process may
replace overlay, program and addresses, and the first would read the other's results, or none.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import DeviceTimeout

LOCK = Path("/run/neuralmatrix.lock")  # as root, which pynq needs; gone after a restart
PATIENCE_S = 120.0
_PAUSE_S = 1e-3
_BORN = uuid.uuid4().hex


def _own() -> bytes:
    return f"{os.getpid()} {_BORN}".encode()


def _lock(file: int, path: Path, seconds: float) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                holder = os.pread(file, 100, 0).decode(errors="replace").partition(" ")[0]
                raise DeviceTimeout(
                    f"the board was busy for {seconds:g} s with process {holder or 'unknown'}, "
                    f"which holds {path}; wait for it, or end it"
                ) from None
            time.sleep(_PAUSE_S)


@contextmanager
def turn(path: Path | None, seconds: float = PATIENCE_S) -> Iterator[bool]:
    """Use the board exclusively; True: no other process used it since this one's last turn.

    None: no other process shares it.  DeviceTimeout: another process does not release it.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600) if path else -1
    except OSError:  # not root: pynq reports that itself
        file = -1
    if path is None or file < 0:
        yield True
        return
    try:
        _lock(file, path, seconds)
        undisturbed = os.pread(file, 100, 0) == _own()
        if not undisturbed:
            os.ftruncate(file, 0)
            os.pwrite(file, _own(), 0)
        yield undisturbed
    finally:
        os.close(file)
