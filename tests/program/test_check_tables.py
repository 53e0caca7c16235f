# SPDX-License-Identifier: Apache-2.0
"""The tables of a program: consistent ports and gather tables.

In: programs.  Out: nothing, or the problem.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from neuralmatrix.ir.types import Units
from neuralmatrix.program.check_tables import form_problem
from neuralmatrix.program.program import Program
from table_programs import with_table


@pytest.mark.parametrize(
    ("table", "text"),
    (
        (np.zeros((3, 5), np.int16), "table: found int16 (3, 5), allowed is int8 (V, D)"),
        (np.zeros((3, 4), np.int8), "steps: found shape None"),
        (np.zeros((0, 5), np.int8), "table: found int8 (0, 5)"),
        (np.zeros(5, np.int8), "table: found int8 (5,)"),
    ),
)
def test_tables_that_fit_no_input(program: Program, table: Any, text: str) -> None:
    port = replace(with_table(program).inputs[0], table=table)
    assert text in form_problem(replace(program, inputs=(port,)))


def test_inputs_may_share_a_name_and_then_a_shape(program: Program) -> None:
    one = with_table(program).inputs[0]
    assert not form_problem(replace(program, inputs=(one, one)))
    other = replace(one, shape=(1, 16))
    assert "each name once" in form_problem(replace(program, inputs=(one, other)))


BAD_UNITS = {
    "shape": (Units((1, 1, 1, 2), (1.0, 1.0)), "units.shape: found (1, 1, 1, 2)"),
    "few": (Units((1, 1, 1, 1), ()), "units.divisor: found 0, allowed is 1"),
    "many": (Units((1, 1, 1, 1), (1.0, 1.0)), "units.divisor: found 2, allowed is 1"),
    "offsets": (Units((1, 1, 1, 1), (1.0,), (1.0, 2.0)), "units.offset: found 2, allowed is 1"),
    "zero": (Units((1, 1, 1, 1), (0.0,)), "units.divisor: found 0.0"),
    "negative": (Units((1, 1, 1, 1), (-1.0,)), "units.divisor: found -1.0"),
    "nan": (Units((1, 1, 1, 1), (float("nan"),)), "units.divisor: found nan"),
    "infinite": (Units((1, 1, 1, 1), (1.0,), (float("inf"),)), "units.offset: found inf"),
}


@pytest.mark.parametrize("case", BAD_UNITS)
@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_units_that_fit_no_port(program: Program, kind: str, case: str) -> None:
    units, text = BAD_UNITS[case]
    (port,) = getattr(program, kind)
    assert text in form_problem(replace(program, **{kind: (replace(port, units=units),)}))
    fine = Units((1, 1, 1, 1), (2.0,), (3.0,))
    assert not form_problem(replace(program, **{kind: (replace(port, units=fine),)}))


def test_rows_of_a_table_take_no_units(program: Program) -> None:
    port = replace(with_table(program).inputs[0], units=Units((1, 1, 1, 1), (2.0,)))
    assert "allowed is null where a table" in form_problem(replace(program, inputs=(port,)))
