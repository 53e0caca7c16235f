# SPDX-License-Identifier: Apache-2.0
"""Memory that a program needs against what a board has, and advice that can be followed.

In: boards with known DRAM and contiguous memory.  Out: nothing, or DoesNotFit.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from neuralmatrix.errors import BadInput, DoesNotFit
from neuralmatrix.hardware.board import Cma, board_names, load_board
from neuralmatrix.hardware.board_memory import (
    buffer_advice,
    check_least_memory,
    check_memory,
    with_cma,
)

MIB = 2**20
Z2 = load_board("pynq-z2")
LARGEST = max((load_board(name) for name in board_names()), key=lambda board: board.dram.mbytes)


def test_a_program_within_contiguous_memory_fits() -> None:
    check_memory(Z2, 100 * MIB, 27 * MIB, MIB)
    check_least_memory(Z2, 128 * MIB, "its weights")
    check_memory(replace(Z2, cma=Cma(None, "not known")), 400 * MIB, 100 * MIB, MIB)


def test_the_memory_that_is_short_is_named() -> None:
    text = (
        r"needs 129 MiB of contiguous memory \(weights and parameters 100, activations 28, "
        r"instructions 1\).*PYNQ-Z2 sets aside 128 MiB \(CMA\).*cma=129M.*--cma-mbytes 129.*"
        "choose a larger board or a smaller input"
    )
    with pytest.raises(DoesNotFit, match=text):
        check_memory(Z2, 100 * MIB, 28 * MIB, MIB)
    with pytest.raises(DoesNotFit, match="513 MiB of DRAM, PYNQ-Z2 has 512 MiB; choose a larger"):
        check_memory(Z2, 513 * MIB, 0, 0)
    with pytest.raises(DoesNotFit, match=r"129 MiB of contiguous memory for its weights alone"):
        check_least_memory(Z2, 129 * MIB, "its weights")
    with pytest.raises(DoesNotFit, match=r"over 513 MiB of DRAM \(its weights\), PYNQ-Z2 has"):
        check_least_memory(Z2, 513 * MIB, "its weights")


def test_memory_that_a_user_has_set_aside_counts() -> None:
    enlarged = with_cma(Z2, 256)
    check_memory(enlarged, 200 * MIB, 0, 0)
    with pytest.raises(DoesNotFit, match="sets aside 256 MiB"):
        check_memory(enlarged, 257 * MIB, 0, 0)
    assert with_cma(Z2, None) is Z2
    for wrong in (0, 513, "256", 1.5):
        with pytest.raises(BadInput, match="cma_mbytes: found .*, allowed are 1 to 512"):
            with_cma(Z2, wrong)  # type: ignore[arg-type]


def test_a_larger_board_is_advised_only_where_there_is_one() -> None:
    need = (LARGEST.dram.mbytes + 1) * MIB
    with pytest.raises(DoesNotFit, match="MiB; use a smaller input$"):
        check_memory(LARGEST, need, 0, 0)
    with pytest.raises(DoesNotFit, match="; use a smaller input$"):
        check_memory(Z2, need, 0, 0)
    assert buffer_advice(Z2.array) == "choose a larger board or a smaller layer"
    huge = replace(Z2.array, **dict.fromkeys(
        ("rows", "ibuf_words", "wbuf_words", "pbuf_rows", "line_words", "acc_rows", "obuf_rows"),
        1 << 20,
    ))  # fmt: skip
    assert buffer_advice(huge) == "use a smaller layer"
