# SPDX-License-Identifier: Apache-2.0
"""The float reference of a MatGraph: the value of every tensor.

In: a MatGraph and source-shaped arrays.  Out: every tensor as (N,H,W,C) float32 by name, or by
``Point`` together with the values in front of activations and Hadamard products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...errors import BadInput
from ..points import Point
from ..quantized_values import real_values, rounded, stored_values
from ..types import Array, QParams, Shape, ViewStep, arg_max
from .ops import MatGraph, MatOp, Port
from .reference_ops import EVALUATE, Adjust, PointValues, as_it_is, row_statistics
from .verify import matgraph_text, verify_matgraph

__all__ = [
    "matgraph_text",
    "port_outputs",
    "port_values",
    "run_float",
    "run_points",
    "verify_matgraph",
]

Values = dict[str, Array]


def run_float(
    mg: MatGraph, feeds: Mapping[str, Array], keep: bool = True, prescribed: bool = True
) -> Values:
    """Evaluate ``mg`` in float.  ``feeds``: port name -> array in the source shape, or any multiple
    of it along its leading axis (more images than the model's batch run side by side).

    The result holds every tensor; with ``keep=False`` only what the output ports show.
    ``prescribed``: tensors of ``mg.quant`` are rounded to their quantised values, as in the
    source model, whose saturation may be its only ReLU.
    """
    quant = mg.quant if prescribed else {}
    values = sources(mg, feeds, quant)
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


def run_points(mg: MatGraph, feeds: Mapping[str, Array], adjust: Adjust = as_it_is) -> PointValues:
    """Return what ``run_float`` returns, and the values before activations and Hadamard
    products.  ``adjust`` replaces the values of a point, with which all later ones are computed."""
    values = sources(mg, feeds, mg.quant)
    values = {name: adjust(Point(name), value) for name, value in values.items()}
    found = {Point(name): value for name, value in values.items()}
    for op in mg.ops:
        made = _evaluate_points(op, values, mg, mg.quant, adjust)
        values.update(_outputs(made))
        found.update(made)
    return found


def sources(mg: MatGraph, feeds: Mapping[str, Array], quant: Mapping[str, QParams]) -> Values:
    """Return the values of constants and inputs."""
    values: Values = {**mg.constants, **port_values(mg.inputs, feeds)}
    for name in quant.keys() & values.keys():
        values[name] = rounded(values[name], quant[name])
    return values


def port_values(inputs: Sequence[Port], feeds: Mapping[str, Array]) -> Values:
    """Return the real values of the input tensors, model batches side by side, (N,H,W,C) float32.

    BadInput: names or shapes do not fit the inputs.
    """
    batches = _batches(inputs, feeds)
    arrays = ((port, np.asarray(feeds[port.name])) for port in inputs)
    return {port.tensor: _port_input(port, array, batches) for port, array in arrays}


def evaluate(
    op: MatOp, values: Mapping[str, Array], mg: MatGraph, quant: Mapping[str, QParams]
) -> Values:
    """Return the tensors that one operation makes, its result rounded to the quantised values of
    ``quant``."""
    return _outputs(_evaluate_points(op, values, mg, quant))


def _outputs(found: PointValues) -> Values:
    return {point.tensor: value for point, value in found.items() if point.at == "output"}


def _evaluate_points(
    op: MatOp,
    values: Mapping[str, Array],
    mg: MatGraph,
    quant: Mapping[str, QParams],
    adjust: Adjust = as_it_is,
) -> PointValues:
    found = EVALUATE[type(op)](op, values, mg, adjust)
    out = Point(op.output)
    if op.output in quant:
        found[out] = rounded(found[out], quant[op.output])
    found[out] = adjust(out, found[out])
    rows = row_statistics(op, found[out])
    return {**found, **{point: adjust(point, value) for point, value in rows.items()}}


def port_outputs(mg: MatGraph, values: Mapping[str, Array]) -> Values:
    """Return the network outputs in the source model's shapes, from the result of ``run_float``."""
    found = {}
    for port in mg.outputs:
        array = values[port.tensor]
        tensor = mg.tensors[port.tensor].shape
        batches = array.shape[0] // tensor[0]
        real = real_values(array.reshape(batches, *tensor), port.units)
        y = _stepped(real, port.steps)
        if port.argmax:
            axis, keepdims, select_last = port.argmax
            y = arg_max(y, axis + 1, keepdims, select_last)  # axis 0 is the batches
        lead = (batches * port.shape[0], *port.shape[1:]) if port.shape else (batches,)
        found[port.name] = y.reshape(lead if port.shape or batches > 1 else ())
    return found


# ---------------------------------------------------------------- inputs


def _batches(inputs: Sequence[Port], feeds: Mapping[str, Array]) -> int:
    """Return how many model batches the feeds hold."""
    wanted = {port.name for port in inputs}
    if wanted != set(feeds):
        raise BadInput(f"feeds are named {sorted(feeds)}; the inputs are {sorted(wanted)}")
    return max((_feed_batches(p, np.shape(feeds[p.name])) for p in inputs), default=1)


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
    y = stored_values(_stepped(array, port.steps), port.units)
    y = np.broadcast_to(y, (batches, *y.shape[1:]))
    return np.ascontiguousarray(y).reshape(-1, *y.shape[2:])


def row_shape(port: Port) -> Shape:
    """Return the axes that the gather from a port's table adds to the source shape."""
    return () if port.table is None else port.table.shape[1:]


def gathered(port: Port, array: Array) -> Array:
    """Return the feed in float32, indices replaced by the rows of the port's table."""
    if port.table is None:
        return np.asarray(array, np.float32)
    ids, rows = array.astype(np.int64), len(port.table)
    if ids.size and not -rows <= ids.min() <= ids.max() < rows:
        raise BadInput(
            f"feed {port.name!r} holds indices {ids.min()}..{ids.max()}; "
            f"allowed are {-rows}..{rows - 1}, the rows of its table"
        )
    return np.asarray(port.table[ids], np.float32)


def _stepped(x: Array, steps: tuple[ViewStep, ...]) -> Array:
    """Apply view steps to every item of a leading axis."""
    for step in steps:
        if step.kind == "reshape":
            x = x.reshape(x.shape[0], *step.arg)
        elif step.kind == "take":
            x = np.take(x, step.arg[1:], step.arg[0] + 1)
        else:
            x = x.transpose(0, *(axis + 1 for axis in step.arg))
    return x
