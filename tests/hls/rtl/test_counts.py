# SPDX-License-Identifier: Apache-2.0
"""The committed counts are of the sources as they are, of every unit, and of vectors that agree.

In: counts.json and the sources.  Out: what has to be counted again (make rtl).
"""

from __future__ import annotations

import pytest
from neuralmatrix.hardware.board import load_board
from rtl import counts, sources, standins
from rtl.__main__ import VECTORS
from rtl.catalog import ALL
from rtl.synthesize import cells
from rtl.unit import StandIn, Unit

DATA = counts.read(counts.COMMITTED) or {"units": {}, "boards": []}
# The boards that are counted: all units of theirs have to be.
BOARDS = set(DATA["boards"])
PAIRS = [(unit, board) for unit in ALL for board in unit.boards if board in BOARDS]


def name_of(value: object) -> str:
    return value.name if isinstance(value, Unit | StandIn) else str(value)


@pytest.mark.parametrize(("unit", "board"), PAIRS, ids=name_of)
def test_counts_are_of_the_sources_as_they_are(unit: Unit | StandIn, board: str) -> None:
    entry = DATA["units"][unit.name]["boards"][board]
    loaded = load_board(board)
    if isinstance(unit, Unit):
        found = sources.digest(unit.source, loaded)
    else:
        found = sources.digest_stand_in(
            standins.bench_path(unit), standins.verilog(unit, loaded), loaded
        )
    assert entry["sources"] == found, "the sources changed: run make rtl"
    assert entry["vectors"] >= VECTORS
    assert entry["differing"] == 0
    assert entry["lut"] >= 0


def test_a_board_is_counted() -> None:
    assert {"pynq-z2"} <= BOARDS


def test_nothing_is_counted_that_is_no_unit() -> None:
    assert {name: set(unit["boards"]) for name, unit in DATA["units"].items()} == {
        unit.name: set(unit.boards) & BOARDS for unit in ALL
    }


def test_comments_and_blanks_do_not_count() -> None:
    text = "int a;  // one\n\n/* two\nlines */ int   b;\n"
    assert sources._plain(text) == "int a;\nint b;"


def test_a_changed_header_changes_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    board = load_board("pynq-z2")
    before = sources.digest("walk", board)
    assert before == sources.digest("walk", board)
    assert before != sources.digest("walk", load_board("kv260"))
    plain = sources._plain

    def changed(text: str) -> str:
        return plain(text).replace("line += step1", "line -= step1")

    monkeypatch.setattr(sources, "_plain", changed)
    assert before != sources.digest("walk", board)


REPORT = """
   Number of cells:               4674
     CARRY4                         20
     DSP48E1                         2
     FDRE                           30
     FDSE                            3
     LUT2                            4
     LUT6                            8
     RAM64M                          2
     RAM32X1D                        1
     SRL16E                          5

   Estimated number of LCs:         10
"""


def test_a_report_becomes_counts() -> None:
    found = cells(REPORT)
    assert (found["lut_primitives"], found["ff"], found["dsp"], found["carry"]) == (12, 33, 2, 20)
    assert (found["srl"], found["lutram"]) == (5, 10)
    assert found["lut"] == 10 + 5 + 10
    newer = "\n".join(
        f"     {words[1]:>8}   {words[0]}" if len(words := line.split()) == 2 else line
        for line in REPORT.split("\n")
    )
    assert cells(newer) == found


def test_a_table_has_a_row_for_each_unit_and_board() -> None:
    rows = counts.table(DATA).split("\n")[2:]
    assert len(rows) == sum(len(unit["boards"]) for unit in DATA["units"].values())
