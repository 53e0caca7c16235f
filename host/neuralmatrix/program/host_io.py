# SPDX-License-Identifier: Apache-2.0
"""Converts floats of the source model to bytes in the arena, and back.

In: a program's ports, feeds by name.  Out: checked feeds, arena bytes, output arrays.
Here the host quantises, dequantises, gathers rows of a table and computes arg-max;
``host_edges.py`` has what it does besides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import BadInput
from ..ir.host.types import HostValue
from ..ir.quantized_values import dequantize_array, quantize_array, real_values, stored_values
from ..ir.types import Array, apply_steps, arg_max
from .data import ProgramPort, TensorSlot

Shown = ProgramPort | HostValue


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


def covered(port: ProgramPort) -> Array:
    """Return the least and the greatest real value that a port's integers stand for: (2, values of
    one batch in the source order), or (2, 1) if they are alike."""
    q = port.slot.qparams
    stored = np.array([q.qmin - q.zero_point, q.qmax - q.zero_point]) * q.scale
    if port.units is None:
        return stored[:, None]
    parts = real_values(stored.reshape(2, 1, 1, 1, 1), port.units).astype(np.float64)
    if parts[0].size == 1:
        return parts.reshape(2, 1)
    places = apply_steps(np.arange(prod(port.shape)).reshape(port.shape), port.steps)
    found = np.empty((2, places.size))
    found[:, places.reshape(-1)] = np.broadcast_to(parts, (2, *places.shape)).reshape(2, -1)
    return found


# ------------------------------------------------------------------------------ checking feeds


def _as_array(port: Shown, feed: Any) -> Array:
    if isinstance(feed, np.ma.MaskedArray):
        raise BadInput(
            f"input {port.name!r}: found a masked array, whose mask has no meaning here; fill it "
            "first (filled)"
        )
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


def _as_float(port: Shown, feed: Any) -> Array:
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


def _as_integers(value: HostValue, feed: Any) -> Array:
    """Convert a feed to the integers that the host computes with."""
    x, dtype = _as_array(value, feed), np.dtype(value.dtype)
    with np.errstate(invalid="ignore", over="ignore"):  # what does not fit is rejected below
        found = x.astype(dtype)
    bad = np.flatnonzero(found != x)
    if bad.size:
        allowed = "true and false" if dtype.kind == "b" else f"integers that {dtype} holds"
        raise BadInput(
            f"input {value.name!r}: found {x.flat[bad[0]]}, allowed are {allowed}; convert it first"
        )
    return found


def _as_fed(port: Shown, feed: Any) -> Array:
    """Convert a feed to float32 values, indices of a table or the host's integers."""
    if isinstance(port, HostValue):
        is_float = np.dtype(port.dtype).kind == "f"
        return _as_float(port, feed) if is_float else _as_integers(port, feed)
    values = _as_float(port, feed)
    return values if port.table is None else _as_ids(port, feed)


def _images(port: Shown, x: Array, batch: bool) -> int:
    """Return a feed's number of runs: 1, or N where N replaces the leading dimension 1."""
    shape = port.shape or ()
    if x.shape == shape:
        return 1
    several = shape[:1] == (1,) and x.shape[1:] == shape[1:] and x.ndim > 0
    if several and len(x) and batch:
        return len(x)
    many = f" or (N, {', '.join(map(str, shape[1:]))})" if batch and shape[:1] == (1,) else ""
    raise BadInput(
        f"input {port.name!r}: found shape {x.shape}, allowed is {shape}{many}; "
        "reshape the feed or compile for its shape"
    )


def check_feeds(
    ports: Sequence[Shown], feeds: Mapping[str, Any], batch: bool = True
) -> tuple[dict[str, Array], int]:
    """Check feeds by name: float32 values, int64 indices of tables or integers for the host; return
    them and their number of runs, which is 1 without ``batch``.

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
    arrays = {port.name: _as_fed(port, feeds[port.name]) for port in _tables_last(ports)}
    runs = {port.name: _images(port, arrays[port.name], batch) for port in ports}
    if len(set(runs.values())) > 1:
        raise BadInput(f"feeds: found different numbers of images {runs}, allowed is one for all")
    return arrays, next(iter(runs.values()))


def _tables_last(ports: Sequence[Shown]) -> list[Shown]:
    """Return the ports; of one that is read as values and as indices the indices count."""
    return sorted(ports, key=lambda port: getattr(port, "table", None) is not None)


def zero_feeds(ports: tuple[ProgramPort, ...]) -> dict[str, Array]:
    """Make feeds of zeros for timing runs."""
    zeros = {port.name: np.zeros(port.shape, np.float32) for port in ports}
    tables = (port for port in ports if port.table is not None)
    return zeros | {port.name: np.zeros(port.shape, np.int64) for port in tables}
