# SPDX-License-Identifier: Apache-2.0
"""The result of a check, and the machine that is checked.

In: a root folder, an environment, versions of installed packages.  Out: ``Machine``, ``Check``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Check:
    """One diagnostic: ``found`` is empty if nothing was found, ``problem`` if that is fine;
    ``remedy`` says what to do otherwise."""

    name: str
    found: str
    needed_for: str
    remedy: str
    required: bool = False
    problem: str = ""
    board: bool = False  # about the board, not about this machine's software

    @property
    def ok(self) -> bool:
        return bool(self.found) and not self.problem


def installed(name: str) -> str:
    """Return the version of an installed package; empty without it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def importable(name: str) -> bool:
    """Return whether a module exists; only its parents are loaded."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def user_id() -> int:
    """Return the user's number, 0 for root; -1 where the system has none."""
    return os.geteuid() if hasattr(os, "geteuid") else -1


@dataclass(frozen=True)
class Machine:
    """What a check reads; tests replace each part."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    installed: Callable[[str], str] = installed
    importable: Callable[[str], bool] = importable
    user_id: int = field(default_factory=user_id)

    def text(self, path: str) -> str:
        """Read a small file's text; empty if unreadable.  Device trees end strings with NUL."""
        try:
            data = (self.root / path).read_bytes()
        except OSError:
            return ""
        return data.decode(errors="replace").replace("\0", "\n").strip()


def numbers(text: str) -> tuple[int, ...]:
    """Convert ``"3.1.2rc1"`` to ``(3, 1, 2)``, to compare versions."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
