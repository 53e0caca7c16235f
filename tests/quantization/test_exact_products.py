# SPDX-License-Identifier: Apache-2.0
"""Accumulators in floats against sums in int64, at the largest values that can occur.

In: operations with random integer weights and operands at their ends.  Out: equal sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from neuralmatrix.ir.matgraph.ops import Gemm, Window
from neuralmatrix.ir.types import Array, QParams
from neuralmatrix.quantization.exact_products import Sums, convolved, float_weights, windowed
from neuralmatrix.quantization.qgraph import QOp
from plain_integers import plain_sums

PEAK = {False: 128, True: 32640}  # by int16


def operand(shape: tuple[int, ...], peak: int) -> Array:
    """Values of which every second one is at an end of the range."""
    rng = np.random.default_rng(0)
    x = rng.integers(-peak, peak, shape)
    return np.where(rng.random(shape) < 0.5, np.where(x < 0, -peak, peak - 1), x)


def joined(sums: Sums) -> Array:
    parts = [acc for _, acc in sums.blocks]
    return np.concatenate(parts).reshape(*sums.shape, -1)


def check(op: Gemm | Window, weight: Array, x: Array, int16: bool) -> tuple[Array, Sums]:
    """Compare with the plain sums; return the weights as floats too."""
    source = QParams(1.0, 0 if int16 else -3, int16)
    weights = float_weights(op, weight, PEAK[int16])
    real = x.astype(np.float32)
    if isinstance(op, Gemm):
        found = convolved(op, real, weights, source.zero_point)
    else:
        fill = source.qmin if op.reduce == "max" else source.zero_point
        found = windowed(op, real, None, weights, fill)
    wanted = plain_sums(QOp(op, weight), {"x": x}, source)
    np.testing.assert_array_equal(np.broadcast_to(joined(found), wanted.shape), wanted)
    assert found.reach >= np.abs(wanted).max()
    return weights.parts, found


def weight_of(shape: tuple[int, ...], lowest: int = -127) -> Array:
    return np.random.default_rng(1).integers(lowest, 128, shape).astype(np.int8)


# the sums of 1500 products of all but the largest values pass 2^24, those of halves do not
@pytest.mark.parametrize(
    "k, int16, parts, dtype",
    [
        (700, False, 1, np.float32),
        (1500, False, 2, np.float32),
        (5000, False, 1, np.float64),
        (40, True, 1, np.float64),
    ],
)
def test_matrix_products_are_exact(k: int, int16: bool, parts: int, dtype: type) -> None:
    w = weight_of((1, 1, k, 9), lowest=100)
    op = Gemm("y", "x", w.astype(np.float32), np.zeros(9))
    found, _ = check(op, w, operand((2, 3, 5, k), PEAK[int16]), int16)
    assert len(found) == parts and found[0].dtype == dtype


@pytest.mark.parametrize("int16", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {"pads": (1, 1, 1, 1)},
        {"strides": (2, 2), "pads": (0, 1, 2, 1)},
        {"dilations": (2, 3), "pads": (2, 3, 2, 3)},
        {"groups": 4},
        {"groups": 2, "strides": (1, 3), "pads": (1, 0, 0, 2)},
    ],
)
def test_convolutions(fields: dict[str, Any], int16: bool) -> None:
    w = weight_of((3, 3, 8 // fields.get("groups", 1), 12))
    op = Gemm("y", "x", w.astype(np.float32), np.zeros(12), **fields)
    check(op, w, operand((3, 11, 13, 8), PEAK[int16]), int16)


@pytest.mark.parametrize("int16", [False, True])
@pytest.mark.parametrize("reduce", ["add", "max"])
@pytest.mark.parametrize("channels", [(6, 6), (6, 1), (1, 6)])
@pytest.mark.parametrize(
    "kernel, fields",
    [
        ((1, 1), {}),
        ((1, 1), {"strides": (2, 2)}),
        ((3, 3), {"pads": (1, 1, 1, 1)}),
        ((3, 2), {"strides": (2, 3), "pads": (1, 0, 1, 2)}),
        ((2, 3), {"dilations": (3, 2), "strides": (1, 2)}),
        ((9, 10), {}),
    ],
)
def test_windows(
    kernel: tuple[int, int], fields: dict[str, Any], channels: tuple[int, int], reduce: Any,
    int16: bool,
) -> None:  # fmt: skip
    of_x, of_w = channels
    w = weight_of((*kernel, of_w))
    w[0, 0, 0] = 0 if reduce == "max" and kernel != (1, 1) else 1
    op = Window("y", "x", w.astype(np.float32), np.zeros(6), reduce=reduce, **fields)
    check(op, w, operand((2, 9, 10, of_x), PEAK[int16]), int16)


def test_large_maps_are_cut_into_blocks() -> None:
    w = weight_of((3, 3, 16, 24))
    op = Gemm("y", "x", w.astype(np.float32), np.zeros(24), pads=(1, 1, 1, 1))
    x = operand((2, 70, 90, 16), 128)
    _, sums = check(op, w, x, False)
    weights = float_weights(op, w, 128)
    blocks = [part for part, _ in convolved(op, x.astype(np.float32), weights, 0).blocks]
    assert len(blocks) > 2 and blocks[0].start == 0 and blocks[-1].stop == np.prod(sums.shape)
    assert all(a.stop == b.start for a, b in zip(blocks, blocks[1:], strict=False))
