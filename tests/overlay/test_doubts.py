# SPDX-License-Identifier: Apache-2.0
"""A build says beforehand where the counts leave a design too little room."""

from __future__ import annotations

import pytest
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.resources import resources

from overlay.build import doubts


@pytest.mark.parametrize("name", board_names())
def test_a_build_names_what_is_over_its_limit(name: str) -> None:
    board = load_board(name)
    used, said = resources(board), "\n".join(doubts(board))
    assert (said == "") == (used.fits == "yes")
    assert ("LUT" in said) == (used.share("lut") > used.limits["lut"])
