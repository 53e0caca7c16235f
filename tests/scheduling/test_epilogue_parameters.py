# SPDX-License-Identifier: Apache-2.0
"""Parameters of an epilogue in memory.

In: a table.  Out: 64-bit words.
"""

from __future__ import annotations

import numpy as np
from neuralmatrix.hardware.isa import SegKind
from neuralmatrix.quantization.pwl.table import PwlTable
from neuralmatrix.quantization.qgraph import QEpilogue
from neuralmatrix.scheduling.epilogue_parameters import pack_table


def test_a_map_follows_its_segments() -> None:
    """An entry has eight cells, from the first row after the segments on."""
    cells = np.arange(130, dtype=np.uint8) % 20
    table = PwlTable(SegKind.MAPPED, 0, 4, np.arange(20, dtype=np.int16), np.zeros(20, np.int32),
                     np.zeros(20, np.uint8), 1.0, 1.0, 0.0, 0.0, cells)  # fmt: skip
    e = QEpilogue(np.zeros(1), np.zeros(1), np.zeros(1), 0, 0, 0, 0, 0, 0, 0, 0, table)
    packed = pack_table(e, 16)
    assert packed.size == 32 + 32
    assert packed[:20].tolist() == [k << 32 for k in range(20)] and not packed[20:32].any()
    found = [int(packed[32 + j // 8]) >> (8 * (j % 8)) & 0xFF for j in range(130)]
    assert found == cells.tolist()
