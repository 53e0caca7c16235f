# SPDX-License-Identifier: Apache-2.0
"""What every tensor of a MatGraph holds, in float.

In: a MatGraph and source-shaped arrays.  Out: every tensor as (N,H,W,C) float32 by name, or by
``Point`` together with the values in front of activations and Hadamard products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any

import numpy as np

from ...errors import BadInput
from .. import functions
from ..points import Point
from ..quantized_values import rounded
from ..types import Array, Function, QParams, Shape, ViewStep, arg_max
from .ops import Epilogue, Gemm, MatGraph, MatOp, Move, Port, RowMax, Window
from .verify import matgraph_text, verify_matgraph

__all__ = ["matgraph_text", "port_outputs", "run_float", "run_points", "verify_matgraph"]

Values = dict[str, Array]
PointValues = dict[Point, Array]

COLUMN_FLOATS = 1 << 20  # convolution columns made at a time: they stay in the cache
FLOAT32_MAX = np.finfo(np.float32).max
EXACT_IN_FLOAT32 = frozenset({"relu", "clip", "abs", "neg", "identity"})


def run_float(
    mg: MatGraph, feeds: Mapping[str, Array], keep: bool = True, prescribed: bool = True
) -> Values:
    """Evaluate ``mg``.  ``feeds``: port name -> array in the source shape, or any multiple of it
    along its leading axis (more images than the model's batch run side by side).

    The result holds every tensor; with ``keep=False`` only what the output ports show.
    ``prescribed``: tensors of ``mg.quant`` are rounded to their codes, as in the source model,
    whose saturation may well be its only ReLU.
    """
    quant = mg.quant if prescribed else {}
    values = _sources(mg, feeds, quant)
    last = {name: i for i, op in enumerate(mg.ops) for name in op.inputs}
    shown = {port.tensor for port in mg.outputs}
    for i, op in enumerate(mg.ops):
        values.update(evaluate(op, values, mg, quant))
        if not keep:
            done = {n for n in op.inputs if last[n] == i}
            done |= {n for n in op.outputs if n not in last}
            for name in done - shown:
                values.pop(name, None)
    return values


def run_points(mg: MatGraph, feeds: Mapping[str, Array]) -> PointValues:
    """What ``run_float`` returns, and what lies before activations and Hadamard products."""
    values = _sources(mg, feeds, mg.quant)
    found = {Point(name): value for name, value in values.items()}
    for op in mg.ops:
        made = _evaluate_points(op, values, mg, mg.quant)
        values.update(_outputs(made))
        found.update(made)
    return found


def _sources(mg: MatGraph, feeds: Mapping[str, Array], quant: Mapping[str, QParams]) -> Values:
    """Constants and inputs."""
    values: Values = {**mg.constants, **_inputs(mg, feeds, _batches(mg, feeds))}
    for name in quant.keys() & values.keys():
        values[name] = rounded(values[name], quant[name])
    return values


def _inputs(mg: MatGraph, feeds: Mapping[str, Array], batches: int) -> Values:
    arrays = ((port, np.asarray(feeds[port.name])) for port in mg.inputs)
    return {port.tensor: _port_input(port, array, batches) for port, array in arrays}


def evaluate(
    op: MatOp, values: Mapping[str, Array], mg: MatGraph, quant: Mapping[str, QParams]
) -> Values:
    """The tensors that one operation makes; its result rounded to the codes that ``quant`` gives
    it."""
    return _outputs(_evaluate_points(op, values, mg, quant))


def _outputs(found: PointValues) -> Values:
    return {point.tensor: value for point, value in found.items() if point.at == "output"}


def _evaluate_points(
    op: MatOp, values: Mapping[str, Array], mg: MatGraph, quant: Mapping[str, QParams]
) -> PointValues:
    found = _EVALUATE[type(op)](op, values, mg)
    out = Point(op.output)
    if op.output in quant:
        found[out] = rounded(found[out], quant[op.output])
    return {**found, **_row_statistics(op, found[out])}


def port_outputs(mg: MatGraph, values: Mapping[str, Array]) -> Values:
    """Network outputs in the source model's shapes, from the tensors that ``run_float`` returns."""
    found = {}
    for port in mg.outputs:
        array = values[port.tensor]
        tensor = mg.tensors[port.tensor].shape
        batches = array.shape[0] // tensor[0]
        y = _stepped(array.reshape(batches, *tensor), port.steps)
        if port.argmax:
            axis, keepdims, select_last = port.argmax
            y = arg_max(y, axis + 1, keepdims, select_last)  # the batches come first
        lead = (batches * port.shape[0], *port.shape[1:]) if port.shape else (batches,)
        found[port.name] = y.reshape(lead if port.shape or batches > 1 else ())
    return found


# ---------------------------------------------------------------- inputs


def _batches(mg: MatGraph, feeds: Mapping[str, Array]) -> int:
    """How many model batches the feeds hold."""
    wanted = {port.name for port in mg.inputs}
    if wanted != set(feeds):
        raise BadInput(f"feeds are named {sorted(feeds)}; the inputs are {sorted(wanted)}")
    return max((_feed_batches(p, np.shape(feeds[p.name])) for p in mg.inputs), default=1)


def _feed_batches(port: Port, shape: Shape) -> int:
    lead = port.shape[0] if port.shape else 1
    fits = len(shape) == len(port.shape) and shape[1:] == port.shape[1:]
    if not fits or (shape and (shape[0] == 0 or shape[0] % lead)):
        raise BadInput(
            f"feed {port.name!r} has shape {shape}; allowed is {port.shape}, or a multiple of it "
            "along the first axis"
        )
    return shape[0] // lead if shape else 1


def _port_input(port: Port, array: Array, batches: int) -> Array:
    own = _feed_batches(port, array.shape)
    if own not in (1, batches):
        raise BadInput(f"feed {port.name!r} has {own} batches, others {batches}; give equally many")
    array = gathered(port, array).reshape(own, *port.shape, *row_shape(port))
    y = _stepped(array, port.steps)
    y = np.broadcast_to(y, (batches, *y.shape[1:]))
    return np.ascontiguousarray(y).reshape(-1, *y.shape[2:])


def row_shape(port: Port) -> Shape:
    """What the look-up in a port's table adds to the source shape."""
    return () if port.table is None else port.table.shape[1:]


def gathered(port: Port, array: Array) -> Array:
    """The feed in float32, row numbers replaced by the rows of the port's table."""
    if port.table is None:
        return np.asarray(array, np.float32)
    ids, rows = array.astype(np.int64), len(port.table)
    if ids.size and not -rows <= ids.min() <= ids.max() < rows:
        raise BadInput(
            f"feed {port.name!r} holds row numbers {ids.min()}..{ids.max()}; "
            f"allowed are {-rows}..{rows - 1}, the rows of its table"
        )
    return np.asarray(port.table[ids], np.float32)


def _stepped(x: Array, steps: tuple[ViewStep, ...]) -> Array:
    """View steps on every item of a leading axis."""
    for step in steps:
        if step.kind == "reshape":
            x = x.reshape(x.shape[0], *step.arg)
        elif step.kind == "take":
            x = np.take(x, step.arg[1:], step.arg[0] + 1)
        else:
            x = x.transpose(0, *(axis + 1 for axis in step.arg))
    return x


# ---------------------------------------------------------------- operators


def _padded(x: Array, pads: tuple[int, int, int, int], value: float) -> Array:
    if not any(pads):
        return x
    top, left, bottom, right = pads
    n, h, w, c = x.shape
    full = np.full((n, h + top + bottom, w + left + right, c), value, np.float32)
    full[:, top : top + h, left : left + w] = x
    return full


def _positions(op: Gemm | Window, x: Array, kernel: Shape) -> tuple[int, int]:
    """Output height and width over a padded input."""
    high, wide = (
        (x.shape[1 + i] - op.dilations[i] * (kernel[i] - 1) - 1) // op.strides[i] + 1
        for i in range(2)
    )
    return high, wide


def _windows(op: Gemm | Window, x: Array, kernel: Shape) -> Array:
    """(N, OH, OW, KH, KW, C) view of a padded input."""
    n, h, w, c = x.strides
    (sh, sw), (dh, dw) = op.strides, op.dilations
    shape = (x.shape[0], *_positions(op, x, kernel), *kernel, x.shape[3])
    strides = (n, h * sh, w * sw, h * dh, w * dw, c)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def _gemm(op: Gemm, values: Mapping[str, Array], mg: MatGraph) -> PointValues:
    x = values[op.input]
    if op.rhs is not None:
        lin = _dynamic(op, x, values[op.rhs], mg)
    else:
        assert op.weight is not None
        lin = _convolution(op, x, op.weight)
    lin += op.bias
    return _finished(op, lin, values, mg)


def _dynamic(op: Gemm, x: Array, rhs: Array, mg: MatGraph) -> Array:
    """A right operand with fewer images serves consecutive groups of images of x."""
    assert op.rhs is not None
    own = (len(x) // mg.tensors[op.input].shape[0], len(rhs) // mg.tensors[op.rhs].shape[0])
    batches = max(own)  # a constant operand is the same for every model batch
    x = np.tile(x, (batches // own[0], 1, 1, 1)) if own[0] < batches else x
    rhs = np.tile(rhs, (batches // own[1], 1, 1, 1)) if own[1] < batches else rhs
    w = rhs[:, 0].swapaxes(1, 2) if op.rhs_transposed else rhs[:, 0]
    rows = np.matmul(x.reshape(len(w), -1, x.shape[3]), w) * np.float32(op.gain)
    return np.asarray(rows.reshape(*x.shape[:3], w.shape[2]))


def _convolution(op: Gemm, x: Array, weight: Array) -> Array:
    kernel, m = weight.shape[:2], weight.shape[3]
    if kernel == (1, 1) and op.strides == (1, 1) and op.groups == 1 and not any(op.pads):
        rows = np.matmul(x.reshape(-1, x.shape[3]), weight[0, 0])
        return np.asarray(rows.reshape(*x.shape[:3], m))
    windows = _windows(op, _padded(x, op.pads, 0.0), kernel)
    out = np.empty((*windows.shape[:3], m), np.float32)
    for part in _chunks(len(x), prod(windows.shape[1:])):
        out[part] = _products(op, windows[part], weight)
    return out


def _chunks(count: int, floats: int) -> Iterator[slice]:
    step = max(1, COLUMN_FLOATS // floats)
    return (slice(i, i + step) for i in range(0, count, step))


def _products(op: Gemm, windows: Array, weight: Array) -> Array:
    """(n, OH, OW, KH, KW, C) times (KH, KW, C/g, M)."""
    g, m = op.groups, weight.shape[3]
    taps = prod(weight.shape[:2])
    if g == 1:
        columns = windows.reshape(-1, taps * weight.shape[2])
        return np.asarray(columns.dot(weight.reshape(-1, m)).reshape(*windows.shape[:3], m))
    split = windows.reshape(-1, taps, g, weight.shape[2]).transpose(2, 0, 1, 3)
    matrices = weight.reshape(-1, g, m // g).swapaxes(0, 1)
    parts = np.matmul(split.reshape(g, split.shape[1], -1), matrices)
    return np.asarray(parts.swapaxes(0, 1).reshape(*windows.shape[:3], m))


def _window(op: Window, values: Mapping[str, Array], mg: MatGraph) -> PointValues:
    is_max = op.reduce == "max"
    x = values[op.input]
    if op.minus is not None:
        x = x - values[op.minus]
    kernel = op.weight.shape[:2]
    if kernel == (1, 1) and op.strides == (1, 1) and not any(op.pads) and not is_max:
        lin = x * op.weight[0, 0] if np.any(op.weight != 1) else x.copy()
    else:
        padded = _padded(x, op.pads, -np.inf if is_max else 0.0)
        windows = _windows(op, padded, kernel)
        lin = (_largest if is_max else _weighted)(windows, op.weight)
    return _finished(op, lin + op.bias, values, mg)


def _weighted(windows: Array, weight: Array) -> Array:
    """Sum over taps; whole-map kernels sum positions, small ones sum shifted maps."""
    n, oh, ow, kh, kw, c = windows.shape
    if kh * kw > oh * ow:
        w = np.broadcast_to(weight, (kh, kw, c))
        return np.asarray(np.einsum("nhwijc,ijc->nhwc", windows, w))
    out = windows[:, :, :, 0, 0] * weight[0, 0]
    buffer = np.empty_like(out)
    for i, j in list(np.ndindex(kh, kw))[1:]:
        out += np.multiply(windows[:, :, :, i, j], weight[i, j], out=buffer)
    return np.asarray(out)


def _largest(windows: Array, weight: Array) -> Array:
    n, oh, ow, kh, kw, c = windows.shape
    out = np.full((n, oh, ow, c), -np.inf, np.float32)
    for i, j in np.ndindex(kh, kw):
        tap = windows[:, :, :, i, j]
        used = weight[i, j] != 0
        np.maximum(out, tap if used.all() else np.where(used, tap, -np.inf), out=out)
    return out


def _rowmax(op: RowMax, values: Mapping[str, Array], mg: MatGraph) -> PointValues:
    return {Point(op.output): values[op.input].max(-1, keepdims=True)}


def _move(op: Move, values: Mapping[str, Array], mg: MatGraph) -> PointValues:
    """The index counts within one model batch."""
    sizes = [prod(mg.tensors[name].shape) for name in op.inputs]
    batches = max(values[n].size // s for n, s in zip(op.inputs, sizes, strict=True))
    parts = [
        np.broadcast_to(values[n].reshape(-1, s), (batches, s))
        for n, s in zip(op.inputs, sizes, strict=True)
    ]
    flat = np.concatenate([*parts, np.full((batches, 1), op.fill, np.float32)], 1)
    out = np.take(flat, op.index.reshape(-1), 1)  # index -1 reads the fill at the end
    return {Point(op.output): out.reshape(-1, *op.index.shape[1:])}


_EVALUATE: Mapping[type[MatOp], Callable[..., PointValues]] = {
    Gemm: _gemm,
    Window: _window,
    RowMax: _rowmax,
    Move: _move,
}


# ---------------------------------------------------------------- epilogue


def _finished(
    op: Gemm | Window, lin: Array, values: Mapping[str, Array], mg: MatGraph
) -> PointValues:
    """act(lin + gain * residual) * hadamard, and the values in between."""
    e: Epilogue = op.epilogue
    found: PointValues = {}
    if e.residual:
        lin = lin + _operand(e.residual, lin, values, mg) * np.float32(e.residual_gain)
    if e.activation:
        found[Point(op.output, "pre_activation")] = lin
        lin = _activated(e.activation, lin)
    if e.hadamard:
        # a factor of 0 takes out what a power overflowed to: masked attention scores
        lin = np.clip(lin, -FLOAT32_MAX, FLOAT32_MAX)
        found[Point(op.output, "pre_product")] = lin
        lin = lin * _operand(e.hadamard, lin, values, mg)
    return {**found, Point(op.output): lin}


def _row_statistics(op: MatOp, out: Array) -> PointValues:
    """Statistics over the channels of an op's result."""
    if not isinstance(op, Gemm | Window):
        return {}
    return {Point(row.tensor): _STATISTIC[row.kind](out) for row in op.epilogue.rows}


_STATISTIC: Mapping[str, Callable[[Array], Array]] = {
    "max": lambda x: np.asarray(x.max(-1, keepdims=True)),
    "sum": lambda x: np.asarray(x.sum(-1, keepdims=True)),
    "mean": lambda x: np.asarray(x.mean(-1, keepdims=True)),
    "square": lambda x: np.asarray(np.square(x).mean(-1, keepdims=True)),
}


def _operand(name: str, out: Array, values: Mapping[str, Array], mg: MatGraph) -> Array:
    """A second operand shaped to broadcast: its images repeat per model batch."""
    operand = values[name]
    if operand.shape[0] in (1, out.shape[0]):
        return operand
    batches = values[name].shape[0] // mg.tensors[name].shape[0]
    if batches == 1:
        return np.tile(operand, (out.shape[0] // operand.shape[0], 1, 1, 1))
    return np.repeat(operand, out.shape[0] // operand.shape[0], 0)


def _activated(function: Function, x: Array) -> Array:
    if function.name not in EXACT_IN_FLOAT32:
        with np.errstate(over="ignore"):
            return functions.evaluate(function, x).astype(np.float32)
    exact: Any = functions.FUNCTIONS[function.name]
    return np.asarray(exact(x, *function.params), np.float32)
