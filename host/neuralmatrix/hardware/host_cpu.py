# SPDX-License-Identifier: Apache-2.0
"""This machine's CPU, as Linux describes it.

In: /proc/cpuinfo.  Out: the features that compilers make use of.
"""

from __future__ import annotations

import platform
from pathlib import Path


def cpu_features() -> frozenset[str]:
    """Return the names of the CPU's features; none where the system does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    line = next((x for x in lines if x.lower().startswith(("flags", "features"))), "")
    return frozenset(line.partition(":")[2].split())


def cpu() -> str:
    """Describe what -march=native depends on, as several machines may share a cache."""
    names = " ".join(sorted(cpu_features()))
    return f"{platform.system()} {platform.machine()} {platform.processor()} {names}"
