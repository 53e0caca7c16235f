# SPDX-License-Identifier: Apache-2.0
"""Programs whose input is an index into a table.

In: a program that copies.  Out: the same with indices as its input.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from neuralmatrix.ir.types import ViewStep
from neuralmatrix.program.program import Program


def with_table(program: Program, dtype: Any = np.int8, rows: int = 9) -> Program:
    """Return the program with indices (1, 4, 4) as its input, of rows with 5 values."""
    table = np.arange(rows * 5).reshape(rows, 5).astype(dtype)
    steps = (ViewStep("reshape", (1, 4, 4, 5)),)
    port = replace(program.inputs[0], shape=(1, 4, 4), dtype="int64", steps=steps, table=table)
    return replace(program, inputs=(port,))
