# SPDX-License-Identifier: Apache-2.0
"""What a check says, and the machine that is checked.

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
    """``found`` is empty where there is nothing, ``problem`` where that is no trouble; ``remedy``
    says what to do otherwise."""

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
    """The version of an installed package, empty without it."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def importable(name: str) -> bool:
    """Whether a module is there; it is not loaded, only its parents are."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def user_id() -> int:
    """0 is root; systems without such numbers have no board's tools either."""
    return os.geteuid() if hasattr(os, "geteuid") else -1


@dataclass(frozen=True)
class Machine:
    """Where a check looks; every part can be replaced."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    installed: Callable[[str], str] = installed
    importable: Callable[[str], bool] = importable
    user_id: int = field(default_factory=user_id)

    def text(self, path: str) -> str:
        """A small file's text; empty if it cannot be read.  Device trees end strings with NUL."""
        try:
            data = (self.root / path).read_bytes()
        except OSError:
            return ""
        return data.decode(errors="replace").replace("\0", "\n").strip()


def numbers(text: str) -> tuple[int, ...]:
    """``"3.1.2rc1"`` to ``(3, 1, 2)``, to compare versions."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
