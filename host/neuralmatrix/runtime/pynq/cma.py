# SPDX-License-Identifier: Apache-2.0
"""Contiguous memory (CMA), in which a board's buffers lie.

In: the text of /proc/meminfo.  Out: its total and free bytes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MORE = "cma=256M"  # argument of the kernel's command line


@dataclass(frozen=True)
class Cma:
    """Total and free bytes of CMA."""

    total: int
    free: int


def cma_of(meminfo: str) -> Cma | None:
    """Parse /proc/meminfo; None if the kernel names no CMA.

    >>> cma_of("CmaTotal:  131072 kB\\nCmaFree:  512 kB\\n")
    Cma(total=134217728, free=524288)
    """
    rows = re.findall(r"^(CmaTotal|CmaFree):\s+(\d+) kB", meminfo, re.MULTILINE)
    kbytes = {name: int(count) for name, count in rows}
    if not kbytes.get("CmaTotal") or "CmaFree" not in kbytes:
        return None
    return Cma(kbytes["CmaTotal"] << 10, kbytes["CmaFree"] << 10)
