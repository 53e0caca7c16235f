# SPDX-License-Identifier: Apache-2.0
"""A Gemm in lane vectors: its input grid, its weights and its kernel.

In: a quantised Gemm.  Out: ``Setup``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..hardware.tensor_layout import Rows
from ..ir.matgraph.ops import Gemm
from ..ir.types import Array
from ..quantization.qgraph import QEpilogue
from .context import Context, View, blocked_view
from .epilogue_operands import can_flatten
from .gemm_jobs import ConstWeights, Runs, TensorWeights, Weights, runs_of, shortest_gap

DENSE = 0.9  # share of nonzero blocks of weights above which all are computed


@dataclass(frozen=True)
class Setup:
    """A Gemm in lane vectors: the array's input grid and kernel.

    ``runs``: the input blocks that each output block needs.
    """

    view: View
    weight: (
        Array | None
    )  # (KH, KW, CB*lanes, NB*lanes) int8; None for an activation-activation matmul
    weights: Weights
    kernel: tuple[int, int]
    cb: int
    runs: Runs
    strides: tuple[int, int]
    dilations: tuple[int, int]
    out_h: int
    out_w: int
    flat: bool


def setup_of(ctx: Context, op: Gemm, weight: Array | None, e: QEpilogue) -> Setup:
    """Return the form in which the array computes a Gemm."""
    _, h, w, _ = ctx.tensors[op.output].shape
    if weight is None:
        return _product_setup(ctx, op, e)
    source = ctx.places[op.input].layout
    if isinstance(source, Rows):
        return _rows_setup(ctx, op, weight, source, h, w)
    grid = _pad_channels(weight, op, ctx.lanes, ctx.tensors[op.output].broadcast)
    pointwise = weight.shape[:2] == (1, 1) and not any(op.pads)
    if pointwise and op.strides == (1, 1) and can_flatten(ctx, e, h, w):
        view = blocked_view(ctx, op.input, True)
        return _const_setup(ctx, view, grid, (1, 1), (1, 1), 1, h * w, True)
    view = blocked_view(ctx, op.input)
    zero = ctx.qparams[op.input].zero_point
    if pointwise:
        view = replace(view, row=view.row * op.strides[0], column=view.column * op.strides[1],
                       height=h, width=w)  # fmt: skip
        return _const_setup(ctx, view, grid, (1, 1), (1, 1), h, w, False)
    view = replace(view, top=op.pads[0], left=op.pads[1], fill=(zero, 0))
    return _const_setup(ctx, view, grid, op.strides, op.dilations, h, w, False)


def _rows_setup(ctx: Context, op: Gemm, weight: Array, rows: Rows, h: int, w: int) -> Setup:
    """Set up Rows: a word spans kernel columns, so the kernel is KH x 1 over KW*C channels."""
    kh, kw, c, m = weight.shape
    place = ctx.places[op.input]
    flat = replace(op, groups=1)
    broadcast = ctx.tensors[op.output].broadcast
    grid = _pad_channels(weight.reshape(kh, 1, kw * c, m), flat, ctx.lanes, broadcast)
    view = View(place.region, place.offset, rows.image_bytes, ctx.lanes, 0, rows.row_bytes,
                op.strides[1] * c, rows.h, w, 1)  # fmt: skip
    strides, dilations = (op.strides[0], 1), (op.dilations[0], 1)
    return _const_setup(ctx, view, grid, strides, dilations, h, w, False)


def _product_setup(ctx: Context, op: Gemm, e: QEpilogue) -> Setup:
    """Set up an activation-activation matmul."""
    assert op.rhs is not None
    n, h, w, m = ctx.tensors[op.output].shape
    cb, nb = (-(-size // ctx.lanes) for size in (ctx.tensors[op.input].shape[3], m))
    weights = TensorWeights(ctx, blocked_view(ctx, op.rhs, True), op.rhs_transposed, n,
                            ctx.tensors[op.rhs].shape[0])  # fmt: skip
    flat = can_flatten(ctx, e, h, w)
    out_h, out_w = (1, h * w) if flat else (h, w)
    return Setup(blocked_view(ctx, op.input, flat), None, weights, (1, 1), cb, [[range(cb)]] * nb,
                 (1, 1), (1, 1), out_h, out_w, flat)  # fmt: skip


def _const_setup(
    ctx: Context, view: View, grid: Array, strides: tuple[int, int], dilations: tuple[int, int],
    out_h: int, out_w: int, flat: bool,
) -> Setup:  # fmt: skip
    """Set up constant weights; ``grid``: (KH, KW, CB*lanes, NB*lanes) int8."""
    kh, kw, c, m = grid.shape
    lanes = ctx.lanes
    blocks = grid.reshape(kh, kw, c // lanes, lanes, m // lanes, lanes)
    blocks = blocks.transpose(4, 0, 1, 2, 3, 5)  # nb, kh, kw, cb, row, column
    used = blocks.any(axis=(1, 2, 4, 5))
    steps = kh * kw * view.byte_planes * max(lanes, min(out_h * out_w, ctx.array.acc_rows))
    if used.mean() < DENSE:
        runs = [runs_of(row, shortest_gap(ctx.array, steps)) for row in used]
    else:
        runs = [[range(c // lanes)]] * len(used)
    depth = max(
        found[-1].stop for found in runs
    )  # blocks behind the last nonzero ones are not read
    return Setup(view, grid, ConstWeights(ctx, blocks), (kh, kw), depth, runs, strides,
                 dilations, out_h, out_w, flat)  # fmt: skip


def _pad_channels(weight: Array, op: Gemm, lanes: int, broadcast: bool) -> Array:
    """Make dense (KH, KW, CB*lanes, NB*lanes) int8: groups become diagonal blocks."""
    kh, kw, per_group, m = weight.shape
    c = per_group * op.groups
    if broadcast:
        weight, m = np.repeat(weight, lanes, -1), lanes
    out = np.zeros((kh, kw, -(-c // lanes) * lanes, -(-m // lanes) * lanes), np.int8)
    per_out = m // op.groups
    for g in range(op.groups):
        cs, ms = g * per_group, g * per_out
        out[:, :, cs : cs + per_group, ms : ms + per_out] = weight[..., ms : ms + per_out]
    return out
