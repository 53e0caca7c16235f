# SPDX-License-Identifier: Apache-2.0
"""docs/boards.md: it is fresh and complete, and its evidence exists."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.board_evidence import VERIFIED, Verification
from neuralmatrix.hardware.board_page import boards_markdown

PAGE = boards_markdown()


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def test_page_is_fresh() -> None:
    written = (ROOT / "docs" / "boards.md").read_text(encoding="utf-8")
    assert written == PAGE, "stale: run 'make generated'"


@pytest.mark.parametrize("name", board_names())
def test_every_board_has_its_facts(name: str) -> None:
    board = load_board(name)
    text = section(board.title)
    facts = [board.device_name, board.part.name, board.board_part, board.array.fingerprint]
    facts += [board.dram.basis, f"{board.clock_mhz:g} MHz", *board.notes]
    facts += [port.name for port in vars(board.ports).values()]
    facts += [image.name for image in board.images] + [rail.scope for rail in board.power]
    assert [fact for fact in facts if fact not in text] == []
    assert "estimated" in text and board.images


@pytest.mark.parametrize("check", VERIFIED, ids=lambda check: check.what)
def test_evidence_exists(check: Verification) -> None:
    assert (ROOT / check.test).is_file()


@pytest.mark.parametrize("name", ("pynq-z1", "pynq-z2"))
def test_no_zynq_7000_board_claims_pynq_4(name: str) -> None:
    usable = {image.pynq for image in load_board(name).images if image.usable}
    assert usable == {"3.0.1", "3.1.2"}


def test_page_says_that_nothing_was_built() -> None:
    assert "No overlay has been built" in PAGE and "Not verified yet" in PAGE
