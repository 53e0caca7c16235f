# SPDX-License-Identifier: Apache-2.0
"""Weights rounded so that their errors cancel on the samples, layer by layer.

In: a ScaledGraph and samples, or the roundings stored in a program.  Out: a ScaledGraph with other
integer weights, each at most 1 from the nearest, and biases that cancel the mean error.

Every layer sees its inputs as the integers before it make them.  Its errors are weighed by the
inputs' covariance; a layer keeps its new weights if they lose clearly less than the nearest
integers on rows that the covariance has not seen.  Layers of the same weights (steps of a
recurrence) stay equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from math import prod
from typing import TypeGuard

import numpy as np

from ..errors import BadModel
from ..hardware.target import Target
from ..ir.matgraph.facts import low_digits
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Window
from ..ir.matgraph.reference import evaluate, sources
from ..ir.recipe import Rounding, packed, unpacked
from ..ir.types import Array
from .calibrated_graph import ScaledGraph
from .integer_weights import IntWeight, bias_too_large, fitting_weight, is_weighted, reach_of
from .layer_inputs import from_matrices, groups_of, input_matrices, weight_matrices
from .least_error import PEAK, least_error
from .samples import Run, floats_of, spread, stacked, stacks
from .scales import most_reach

MOST_IMAGES = 256
FEWEST_IMAGES = 4
MOST_FLOATS = 1 << 27  # of all tensors of all images
MOST_MACS = 1 << 36  # of the float reference on all images
MOST_INPUTS = 2304  # whose errors cancel each other; a layer with more is cut into parts
FEWEST_ROWS = 16
WORTH = 0.95  # of the squared loss of the nearest integers; a rounding that leaves more is dropped
JUDGES = 4  # one row in so many judges the result


def with_roundings(
    scaled: ScaledGraph, target: Target, *, roundings: tuple[Rounding, ...]
) -> ScaledGraph:
    """Return ``scaled`` with these roundings.  BadModel: they are those of other weights."""
    if not roundings:
        return scaled
    mg = scaled.graph
    ops, weights = {op.output: op for op in mg.ops}, dict(scaled.weights)
    for rounding in roundings:
        for name in rounding.names:
            op = ops.get(name)
            if op is None or not _may_round(op, scaled):
                raise BadModel(f"no weights of {name!r} can be rounded")
            ops[name], weights[name] = _rounded(op, scaled, rounding)
    recipe = replace(mg.recipe, roundings=roundings)
    graph = replace(mg, ops=tuple(ops[op.output] for op in mg.ops), recipe=recipe)
    kept = replace(scaled.recipe, roundings=roundings)
    return replace(scaled, graph=graph, weights=weights, recipe=kept)


def _rounded(
    op: Gemm | Window, scaled: ScaledGraph, rounding: Rounding
) -> tuple[Gemm | Window, IntWeight]:
    """Return the operation with its shifted bias, and its integer weights."""
    plain = _nearest(op, scaled)
    packed_steps, shift = rounding.steps, np.asarray(rounding.shift, np.float32)
    sizes = (rounding.weights, shift.shape)
    if packed_steps is None or sizes != (plain.values.size, op.bias.shape):
        raise BadModel(f"the rounding of {op.output!r} is one of {rounding.weights} weights")
    steps = unpacked(packed_steps, rounding.weights).reshape(plain.values.shape)
    values = plain.values + steps
    weight = IntWeight(np.asarray(values, np.int32), plain.scale, reach_of(values))
    shifted = replace(op, bias=np.asarray(op.bias + shift, np.float32))
    source = scaled.qparams[op.input]
    whole = np.abs(steps).max() <= 1 and np.abs(values).max() <= PEAK
    if not whole or weight.reach > most_reach(source) or bias_too_large(shifted, weight, source):
        raise BadModel(f"the rounding of {op.output!r} does not fit its weights")
    return shifted, weight


def _may_round(op: MatOp, scaled: ScaledGraph) -> TypeGuard[Gemm | Window]:
    """Return whether the channels of an operation have weights of their own, with free scales."""
    if not is_weighted(op) or op.weight_scale is not None:
        return False
    if isinstance(op, Window) and (op.reduce == "max" or op.minus is not None):
        return False
    weight = _nearest(op, scaled)
    own = weight.values.shape[-1] == len(op.bias)
    return own and not bias_too_large(op, weight, scaled.qparams[op.input])


def _nearest(op: Gemm | Window, scaled: ScaledGraph) -> IntWeight:
    """Return the integer weights without a rounding, as ``quantize`` takes them."""
    return fitting_weight(op, scaled.weights[op.output], scaled.qparams[op.input])


# ---------------------------------------------------------------- choice on samples


@dataclass
class _Layer:
    """Operations with the same weights, and the inputs of those that have been evaluated."""

    ops: list[Gemm | Window] = field(default_factory=list)
    inputs: list[Array] = field(default_factory=list)

    def add(self, op: Gemm | Window, x: Array) -> bool:
        """Keep rows of an input; return whether they are the last."""
        self.inputs.append(input_matrices(op, x, share=len(self.ops)))
        return len(self.inputs) == len(self.ops)

    def rows(self) -> Array:
        """Return (G, rows, K) of all inputs, and forget them."""
        whole = np.concatenate(self.inputs, axis=1)
        self.inputs.clear()
        return whole


def roundings_of(scaled: ScaledGraph, runs: list[Run]) -> tuple[Rounding, ...]:
    """Return the roundings that lose less than the nearest integers, in execution order."""
    mg, quant = scaled.graph, scaled.qparams
    layers, found = _layers(scaled), []
    values = sources(mg, stacked(_spread(mg, runs)), quant)
    last = {name: i for i, op in enumerate(mg.ops) for name in op.inputs}
    chosen: dict[str, Rounding] = {}
    for i, op in enumerate(mg.ops):
        layer = layers.get(op.output)
        if layer is not None and is_weighted(op) and layer.add(op, values[op.input]):
            rounding = _rounding(layer, scaled)
            if rounding is not None:
                found.append(rounding)
                chosen.update(dict.fromkeys(rounding.names, rounding))
        values.update(evaluate(_in_reals(op, scaled, chosen), values, mg, quant))
        for name in {*op.inputs, *op.outputs}:
            if last.get(name, -1) <= i:
                values.pop(name, None)
    return tuple(found)


def _layers(scaled: ScaledGraph) -> dict[str, _Layer]:
    """Return the layer of every operation whose weights can be rounded, by its output."""
    same: dict[object, _Layer] = {}
    found = {}
    low = low_digits(scaled.graph)  # their rounding error is small already
    for op in scaled.graph.ops:
        if _may_round(op, scaled) and op.output not in low:
            weight = np.ascontiguousarray(op.weight)
            groups = groups_of(op)
            key = (type(op), weight.shape, groups, blake2b(weight.tobytes()).digest())
            found[op.output] = same.setdefault(key, _Layer())
            found[op.output].ops.append(op)
    return found


def _spread(mg: MatGraph, runs: list[Run]) -> list[Run]:
    """Return as many runs as memory and time allow, spread evenly over all."""
    macs = sum(prod(mg.tensors[op.output].shape) * prod(np.asarray(op.weight).shape[:3])
               for op in mg.ops if is_weighted(op))  # fmt: skip
    most = min(MOST_IMAGES, MOST_FLOATS // max(1, floats_of(mg)), MOST_MACS // max(1, macs))
    return spread(runs, max(FEWEST_IMAGES, most) if stacks(mg) else 1)


def _in_reals(op: MatOp, scaled: ScaledGraph, chosen: Mapping[str, Rounding]) -> MatOp:
    """Return an operation with the reals of its integer weights."""
    if not is_weighted(op) or (isinstance(op, Window) and op.reduce == "max"):
        return op
    weight = _nearest(op, scaled)
    if op.output in chosen:
        op, weight = _rounded(op, scaled, chosen[op.output])
    return replace(op, weight=np.asarray(weight.values * weight.scale, np.float32))


def _rounding(layer: _Layer, scaled: ScaledGraph) -> Rounding | None:
    """Return the rounding of the weights of a layer, if it loses less than the nearest."""
    op, inputs = layer.ops[0], layer.rows()
    judged = inputs.shape[1] // JUDGES
    if inputs.shape[1] < FEWEST_ROWS or not np.isfinite(inputs).all():
        return None
    plain = _nearest(op, scaled)
    real = weight_matrices(op, np.asarray(op.weight, np.float64) / plain.scale)
    nearest = weight_matrices(op, plain.values)
    scale = plain.scale.reshape(len(real), 1, -1)
    fitted, held = inputs[:, :-judged], inputs[:, -judged:]
    mean = fitted.mean(1, keepdims=True)
    integers = _solved(real, fitted - mean)
    least = min(most_reach(scaled.qparams[other.input]) for other in layer.ops)
    integers = np.where(np.abs(integers).sum(1, keepdims=True) > least, nearest, integers)
    losses = [_loss(held - mean, (real - found) * scale) for found in (integers, nearest)]
    if losses[0] >= WORTH * losses[1]:
        return None
    corrected = any(name == other.output for other in layer.ops
                    for name, _ in scaled.graph.recipe.shifts)  # fmt: skip
    error = (nearest if corrected else real) - integers
    shift = (inputs.mean(1, keepdims=True, dtype=np.float64) @ error) * scale
    rounding = Rounding(
        tuple(other.output for other in layer.ops), plain.values.size,
        tuple(map(float, shift.astype(np.float32).reshape(-1))),
        packed(from_matrices(op, integers - nearest)),
    )  # fmt: skip
    return rounding if all(_fits(other, scaled, rounding) for other in layer.ops) else None


def _fits(op: Gemm | Window, scaled: ScaledGraph, rounding: Rounding) -> bool:
    try:
        _rounded(op, scaled, rounding)
    except BadModel:  # a shifted bias beyond the accumulator's room
        return False
    return True


def _solved(real: Array, inputs: Array) -> Array:
    """Return the integers of each part of at most ``MOST_INPUTS`` inputs."""
    count = real.shape[1]
    inputs = inputs / max(float(np.abs(inputs).max()), 1e-30)  # squares stay within float32
    parts = -(-count // MOST_INPUTS)
    ends = [count * i // parts for i in range(parts + 1)]
    found = []
    for start, end in zip(ends, ends[1:], strict=False):
        x = inputs[:, :, start:end]
        moments = np.matmul(x.swapaxes(1, 2), x).astype(np.float64)
        found.append(least_error(real[:, start:end], moments))
    return np.concatenate(found, axis=1)


def _loss(inputs: Array, error: Array) -> float:
    """Return the squared error of the results."""
    return float(np.square(inputs @ error.astype(np.float32), dtype=np.float64).sum())
