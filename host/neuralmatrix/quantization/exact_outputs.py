# SPDX-License-Identifier: Apache-2.0
"""Outputs that hold sums of products of prescribed integers.

In: a MatGraph without calibration.  Out: units with which a stored value is the sum alone: the host
multiplies by the channel's scale and adds its bias.  Sums that fit int16 are not rounded at all.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, Port, Window
from ..ir.matgraph.uses import Uses
from ..ir.recipe import Recipe, TensorUnits
from ..ir.types import Array, QParams
from .exact_biases import prescribed_source
from .integer_weights import int_weight
from .tensor_units import as_units

MOST = 32639  # the largest int16 value


def exact_recipe(mg: MatGraph, precision: str) -> Recipe:
    """Return the recipe of a model that prescribes its scales: which outputs are exact sums."""
    uses = Uses.of(mg)
    found = {op.output: op for port in mg.outputs if (op := _sum_at(port, mg, uses)) is not None}
    exact = (name for name, op in found.items() if _fits(op, mg, uses))
    return Recipe(precision, units=_units(found), exact=tuple(exact))


def exact_outputs(mg: MatGraph, target: Target) -> MatGraph:
    """Return ``mg`` with one accumulator step as the scale of the outputs that its recipe names."""
    if not mg.recipe.exact:
        return mg
    quant = dict(mg.quant)
    for op in mg.ops:
        if op.output in mg.recipe.exact:
            assert isinstance(op, Linear) and op.weight_scale is not None
            source = prescribed_source(mg, Uses.of(mg), op.input)
            assert source is not None
            step = np.float32(source.scale) * np.float32(np.max(op.weight_scale))
            quant[op.output] = QParams(float(step), 0, True)
    return replace(mg, quant=quant)


def _sum_at(port: Port, mg: MatGraph, uses: Uses) -> Linear | None:
    """Return the operation that makes an output if it is a sum of prescribed products, and nothing
    else reads it."""
    op = uses.maker(port.tensor)
    alone = uses.count(port.tensor) == 1 and port.tensor not in mg.quant
    if not isinstance(op, Gemm | Window) or not alone or op.epilogue != Epilogue():
        return None
    source = prescribed_source(mg, uses, op.input)
    if op.weight_scale is None or source is None or not np.all(np.asarray(op.weight_scale) > 0):
        return None
    return op


def _fits(op: Linear, mg: MatGraph, uses: Uses) -> bool:
    source = prescribed_source(mg, uses, op.input)
    assert source is not None and isinstance(op, Gemm | Window)
    return _largest_sum(op, source) <= MOST


def _largest_sum(op: Gemm | Window, source: QParams) -> int:
    """Return the largest |sum of products| of any input."""
    values = int_weight(op).values.astype(np.int64)
    flat = values.reshape(-1, values.shape[-1])
    low, high = min(source.qmin - source.zero_point, 0), max(source.qmax - source.zero_point, 0)
    up, down = np.maximum(flat, 0).sum(0), np.minimum(flat, 0).sum(0)
    return int(max((up * high + down * low).max(), -(up * low + down * high).min()))


def _units(found: dict[str, Linear]) -> TensorUnits:
    """Return the scale of every channel beside the largest one, and its bias."""
    divisors: dict[str, Array] = {}
    offsets: dict[str, Array] = {}
    for name, op in found.items():
        scale = np.broadcast_to(np.asarray(op.weight_scale, np.float64), op.bias.shape)
        divisors[name] = (scale / scale.max()).reshape(1, 1, 1, -1)
        offsets[name] = np.asarray(op.bias, np.float64).reshape(1, 1, 1, -1)
    return as_units(divisors, offsets)
