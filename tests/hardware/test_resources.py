# SPDX-License-Identifier: Apache-2.0
"""The resource table: made of counted units, complete, and within the boards' limits.

In: bill.py, counts.json, the board files.  Out: what is missing, unused, stale or too large.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware import unit_counts
from neuralmatrix.hardware.bill import BILL, PARTS
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.board_page_resources import span
from neuralmatrix.hardware.registers import KERNELS
from neuralmatrix.hardware.resources import FROM_COUNT, KINDS, LIMITS, resources
from neuralmatrix.hardware.unit_counts import counted, counted_board, counted_units

# Shares of the part that the design may take at most, by the high end of the count.
BARS = {
    "pynq-z1": {"lut": 0.85, "dsp": 0.95, "bram36": 0.9},
    "pynq-z2": {"lut": 0.85, "dsp": 0.95, "bram36": 0.9},
    **dict.fromkeys(("ultra96-v2", "aup-zu3", "zcu104", "rfsoc4x2"), {"lut": 0.8}),
    **dict.fromkeys(("kr260", "kv260"), {"lut": 0.8, "dsp": 0.95, "bram36": 0.9}),
}
COUNTED_AT_LEAST = 0.85
NAMES = board_names()


def billed() -> set[str]:
    return {
        unit for name in NAMES for place in BILL for unit in place.times(load_board(name))
    }  # fmt: skip


def test_every_board_has_a_bar() -> None:
    assert set(BARS) == set(NAMES)


@pytest.mark.parametrize("name", BARS)
def test_the_design_is_within_its_bars(name: str) -> None:
    used = resources(load_board(name))
    for kind, most in BARS[name].items():
        assert used.share(kind) <= most, (kind, used.share(kind))
        assert used.limits[kind] <= most or kind != "lut"
    assert used.fits == "yes"


@pytest.mark.parametrize("name", NAMES)
def test_most_of_the_design_is_counted(name: str) -> None:
    used = resources(load_board(name))
    assert used.counted_share >= COUNTED_AT_LEAST
    assert {piece.kernel for piece in used.pieces} == {*KERNELS, ""}
    assert all(piece.basis and piece.lut_low <= piece.lut for piece in used.pieces)


def test_every_unit_of_the_bill_is_counted_and_every_counted_unit_is_used() -> None:
    assert set(counted_units()) == billed() | set(PARTS)
    assert not billed() & set(PARTS)
    assert set(PARTS.values()) <= billed()


def test_a_table_is_the_sum_of_its_units() -> None:
    board = load_board("pynq-z2")
    used = resources(board)
    for kind in ("lut", "dsp"):
        total = sum(
            times * getattr(counted(unit, board), kind)
            for place in BILL
            for unit, times in place.times(board).items()
        )
        estimated = sum(getattr(p, kind) for p in used.pieces if p.how == "estimated")
        assert used.used(kind) == total + estimated
    counts = [p for p in used.pieces if p.how.startswith("counted")]
    assert all(p.lut_low == round(FROM_COUNT * p.lut) for p in counts)
    low = sum(p.lut_low for p in used.pieces)
    assert used.low("lut") == low < used.used("lut") and used.low("dsp") == used.used("dsp")


def test_boards_of_one_design_share_its_counts() -> None:
    owners = {name: counted_board(load_board(name)) for name in NAMES}
    assert owners["pynq-z1"] == owners["pynq-z2"] == "pynq-z2"
    assert owners["aup-zu3"] == owners["ultra96-v2"] == "ultra96-v2"
    kinds = {owners[name] for name in ("kv260", "kr260", "zcu104", "rfsoc4x2")}
    assert kinds == {"kv260"}


def test_an_array_that_was_not_counted_is_refused() -> None:
    board = load_board("pynq-z2")
    other = replace(board, array=replace(board.array, rows=8, cols=8), array_name="8x8")
    with pytest.raises(BadInput, match=r"no units were counted for its array \(8x8\).*make rtl"):
        resources(other)


def test_a_unit_that_was_not_counted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"nothing is not in counts.json; run make rtl"):
        counted("nothing", load_board("pynq-z2"))


@pytest.mark.parametrize("change", ({"lut": 1 << 20}, {"dsp": 1 << 14}))
def test_what_does_not_fit_is_said(monkeypatch: pytest.MonkeyPatch, change: dict[str, int]) -> None:
    real = unit_counts.counted
    monkeypatch.setattr(
        "neuralmatrix.hardware.resources.counted",
        lambda unit, board: replace(real(unit, board), **change),
    )
    assert resources(load_board("pynq-z2")).fits == "no"


def test_limits_are_stated_for_every_kind_and_family() -> None:
    families = {load_board(name).family for name in NAMES}
    assert set(LIMITS) == families
    assert all(set(limits) == set(KINDS) for limits in LIMITS.values())


def test_a_range_has_one_number_where_its_ends_agree() -> None:
    assert span(3, 3) == "3" and span(2.5, 3) == "2.5 to 3" and span(8e3, 1e4) == "8,000 to 10,000"
