# SPDX-License-Identifier: Apache-2.0
"""Converts floats of the source model to bytes in the arena, and back.

In: a program's ports, feeds by name.  Out: checked feeds, arena bytes, output arrays.
The host only quantises, dequantises, gathers rows of a table and computes arg-max.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import BadInput
from ..ir.quantized_values import dequantize_array, quantize_array, real_values, stored_values
from ..ir.types import Array, apply_steps, arg_max
from .data import ProgramPort, TensorSlot


def slot_bytes(slot: TensorSlot, arena: Array) -> Array:
    """Return the slot's part of an arena, as a view."""
    return arena[slot.offset : slot.offset + slot.layout.nbytes]


def read_slot(slot: TensorSlot, arena: Array) -> Array:
    """Read the (N, H, W, C) integers in a slot."""
    return slot.layout.unpack(slot_bytes(slot, arena))


def write_input(port: ProgramPort, x: Array, arena: Array) -> None:
    """Quantise one feed of the port's shape, or the rows that it gathers, into the arena."""
    if port.units is None:
        shaped = apply_steps(_quantized_values(port, x), port.steps)  # fewer bytes to permute
    else:
        stored = stored_values(apply_steps(np.asarray(x), port.steps), port.units)
        shaped = quantize_array(stored, port.slot.qparams)
    packed = port.slot.layout.pack(shaped, port.slot.fill)
    slot_bytes(port.slot, arena)[:] = packed.view(arena.dtype)


def _quantized_values(port: ProgramPort, x: Array) -> Array:
    if port.table is None:
        return quantize_array(x, port.slot.qparams)
    return np.asarray(port.table[np.asarray(x, np.int64)])


def read_output(port: ProgramPort, arena: Array) -> Array:
    """Read one output in the source model's shape and dtype."""
    y = dequantize_array(read_slot(port.slot, arena), port.slot.qparams)
    y = apply_steps(real_values(y, port.units), port.steps)
    if port.argmax is not None:
        y = arg_max(y, *port.argmax)
    return y.astype(port.dtype)


# ------------------------------------------------------------------------------ checking feeds


def _as_array(port: ProgramPort, feed: Any) -> Array:
    try:
        x = np.asarray(feed)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"input {port.name!r}: found no array ({error}); pass a numpy array"
        ) from None
    if x.dtype.kind not in "buif":
        raise BadInput(
            f"input {port.name!r}: found dtype {x.dtype}, allowed are bool, integer and float; "
            "convert it first"
        )
    return x


def _as_float(port: ProgramPort, feed: Any) -> Array:
    with np.errstate(over="ignore"):  # infinity is rejected below
        x = _as_array(port, feed).astype(np.float32)
    if not np.isfinite(x).all():
        raise BadInput(
            f"input {port.name!r}: found NaN, infinity or a value beyond float32, allowed are "
            "finite values; clean the data first"
        )
    return x


def _as_ids(port: ProgramPort, feed: Any) -> Array:
    """Convert a feed to indices of a port's table; negative ones count from its end."""
    assert port.table is not None
    x = _as_array(port, feed)
    with np.errstate(invalid="ignore"):  # values outside int64 are rejected below
        ids = x.astype(np.int64)
    rows = len(port.table)
    bad = np.flatnonzero((ids != x) | (ids < -rows) | (ids >= rows))
    if bad.size:
        raise BadInput(
            f"input {port.name!r}: found {x.flat[bad[0]]}, allowed are integers "
            f"{-rows}..{rows - 1}, the rows of its table; tokenise with the model's own vocabulary"
        )
    return ids


def _images(port: ProgramPort, x: Array) -> int:
    """Return a feed's number of runs: 1, or N where N replaces the leading dimension 1."""
    if x.shape == port.shape:
        return 1
    several = port.shape[:1] == (1,) and x.shape[1:] == port.shape[1:] and x.ndim > 0
    if several and len(x):
        return len(x)
    batch = f" or (N, {', '.join(map(str, port.shape[1:]))})" if port.shape[:1] == (1,) else ""
    raise BadInput(
        f"input {port.name!r}: found shape {x.shape}, allowed is {port.shape}{batch}; "
        "reshape the feed or compile for its shape"
    )


def check_feeds(
    ports: tuple[ProgramPort, ...], feeds: Mapping[str, Any]
) -> tuple[dict[str, Array], int]:
    """Check feeds by name, float32 values or int64 indices; return them and their number of runs.

    BadInput: a feed does not fit.
    """
    if not isinstance(feeds, Mapping):
        raise BadInput(f"feeds: found a {type(feeds).__name__}, allowed is {{input name: array}}")
    names = {port.name for port in ports}
    if set(feeds) != names:
        raise BadInput(
            f"feeds: found inputs {sorted(map(str, feeds))}, allowed is exactly {sorted(names)}; "
            "use the names of the source model"
        )
    arrays = {port.name: _as_float(port, feeds[port.name]) for port in ports}
    for port in ports:
        if port.table is not None:
            arrays[port.name] = _as_ids(port, feeds[port.name])
    runs = {port.name: _images(port, arrays[port.name]) for port in ports}
    if len(set(runs.values())) > 1:
        raise BadInput(f"feeds: found different numbers of images {runs}, allowed is one for all")
    return arrays, next(iter(runs.values()))


def zero_feeds(ports: tuple[ProgramPort, ...]) -> dict[str, Array]:
    """Make feeds of zeros for timing runs."""
    zeros = {port.name: np.zeros(port.shape, np.float32) for port in ports}
    tables = (port for port in ports if port.table is not None)
    return zeros | {port.name: np.zeros(port.shape, np.int64) for port in tables}
