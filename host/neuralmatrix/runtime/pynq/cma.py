# SPDX-License-Identifier: Apache-2.0
"""Contiguous memory (CMA), which a board's buffers are made of.

In: the text of /proc/meminfo.  Out: how much there is, how much of it is free.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MORE = "cma=256M"  # on the kernel's command line


@dataclass(frozen=True)
class Cma:
    """Bytes."""

    total: int
    free: int


def cma_of(meminfo: str) -> Cma | None:
    """None where the kernel names none.

    >>> cma_of("CmaTotal:  131072 kB\\nCmaFree:  512 kB\\n")
    Cma(total=134217728, free=524288)
    """
    rows = re.findall(r"^(CmaTotal|CmaFree):\s+(\d+) kB", meminfo, re.MULTILINE)
    kbytes = {name: int(count) for name, count in rows}
    if not kbytes.get("CmaTotal") or "CmaFree" not in kbytes:
        return None
    return Cma(kbytes["CmaTotal"] << 10, kbytes["CmaFree"] << 10)
