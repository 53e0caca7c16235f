# SPDX-License-Identifier: Apache-2.0
"""Long windows become short ones and one over their results.

In: windows over maps of some hundred positions, and small limits.  Out: the same real values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from blocks import Maker
from golden_passes import BOARD, PASSES, same_values
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Window
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.types import Function
from neuralmatrix.transforms.matgraph.split_windows import split_windows
from schedule_rig import once, program_of

WIN = BOARD.array.win


def pool(shape: tuple[int, int], kernel: tuple[int, int], **fields: Any) -> MatGraph:
    b = Maker()
    b.tensor("x", (2, *shape, 5))
    strides, pads = fields.get("strides", (1, 1)), fields.get("pads", (0, 0, 0, 0))
    out = [(shape[i] + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i in range(2)]
    b.tensor("y", (2, *out, 5))
    weight = np.full((*kernel, 1), 1 / np.prod(kernel))
    bias = np.zeros(5) if fields.get("reduce") == "max" else b.rng.standard_normal(5)
    b.ops.append(Window("y", "x", **{"weight": weight, "bias": bias, **fields}))
    return b.graph()


CASES: dict[str, Callable[[], MatGraph]] = {
    "whole line": lambda: pool((1, 331), (1, 331)),
    "whole column": lambda: pool((331, 2), (331, 2)),
    "whole map": lambda: pool((67, 71), (67, 71), epilogue=Epilogue(activation=Function("tanh"))),
    "largest of a line": lambda: pool((1, 331), (1, 331), reduce="max"),
    "largest of a map": lambda: pool((67, 71), (67, 71), reduce="max"),
    "strided": lambda: pool((1, 600), (1, 120), strides=(1, 60)),
    "strided, padded": lambda: pool((1, 590), (1, 120), strides=(1, 60), pads=(0, 12, 0, 18)),
    "largest of padded ones": lambda: pool(
        (1, 590), (1, 120), strides=(1, 60), pads=(0, 12, 0, 18), reduce="max"
    ),
}


def split(mg: MatGraph, loop: int = 10) -> MatGraph:
    return verify_matgraph(split_windows(mg, BOARD.target, loop))


@pytest.mark.parametrize("case", CASES)
def test_real_values_stay_the_same(case: str) -> None:
    mg = CASES[case]()
    found = split(mg)
    assert len(found.ops) > len(mg.ops)
    same_values(mg, found)
    windows = [op for op in found.ops if isinstance(op, Window)]
    assert all(max(op.weight.shape[:2]) <= 10 * WIN for op in windows)
    assert once(program_of(found), "y")


def test_a_window_within_the_limit_stays() -> None:
    mg = CASES["whole map"]()
    assert split_windows(mg, BOARD.target, 18) is mg
    assert PASSES["split_windows"](mg, BOARD.target) is mg


def test_what_no_short_windows_add_up_to_stays() -> None:
    """Different taps; a stride without a divisor in common; a row subtracted."""
    taps = np.random.default_rng(2).standard_normal((1, 331, 5))
    for mg in (pool((1, 331), (1, 331), weight=taps), pool((1, 600), (1, 121), strides=(1, 60))):
        assert split_windows(mg, BOARD.target, 10) is mg


def test_a_global_pool_takes_windows_until_one_is_left() -> None:
    """2,000 positions of a line, 8 at a time: 250, 32."""
    found = split(pool((1, 2000), (1, 2000)))
    assert [found.tensors[op.output].shape[2] for op in found.ops] == [250, 32, 1]
    assert replace(found.ops[-1], source="") == found.ops[-1]
