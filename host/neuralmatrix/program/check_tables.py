# SPDX-License-Identifier: Apache-2.0
"""Checks that a program's tables are consistent: shapes, slots, ports, watchpoints.

In: a ``Program`` of any origin.  Out: the first problem in words, or an empty string.
``verify.py`` checks the instructions.
"""

from __future__ import annotations

from dataclasses import fields
from math import prod

import numpy as np

from ..hardware.isa import WORDS
from ..hardware.tensor_layout import Blocked, Layout
from ..ir.types import QParams, Units, ViewStep
from .check_host import host_problem
from .data import ProgramData, ProgramPort, TensorSlot

_ARENA_LIMIT = 1 << 32
_LANES_LIMIT = 128
_LEAST_UNIT, _LARGEST_UNIT = 1e-30, 1e30  # their quotients with scales stay within float32
_LEAST = {False: -128, True: -32640}  # of int8 and int16; the largest is its complement
_DTYPES = (
    "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool",
)  # fmt: skip


def _range(where: str, value: float, low: float, high: float) -> str:
    return "" if low <= value <= high else f"{where}: found {value}, allowed is {low}..{high}"


def _layout_problem(where: str, layout: Layout, lanes: int) -> str:
    sizes = {f.name: int(getattr(layout, f.name)) for f in fields(layout)}
    low = {"n": 1, "h": 1, "w": 1, "c": 1, "lanes": lanes, "data_h": 1, "data_w": 1}
    high = {"lanes": lanes}
    for name, value in sizes.items():
        problem = _range(f"{where}.{name}", value, low.get(name, 0), high.get(name, 1 << 24))
        if problem:
            return problem
    if isinstance(layout, Blocked):
        return _range(f"{where}.c", layout.c, 1, 1) if layout.broadcast else ""
    return _range(f"{where}.data_h", layout.top + layout.data_h, 1, layout.h) or _range(
        f"{where}.data_w", layout.left + layout.data_w, 1, layout.w
    )


def slot_problem(where: str, slot: TensorSlot, program: ProgramData) -> str:
    """Describe what is wrong with a slot; an empty string if nothing is."""
    problem = _layout_problem(f"{where}.layout", slot.layout, program.array.rows)
    q: QParams = slot.qparams
    return (
        problem
        or _range(f"{where}.offset", slot.offset, 0, program.arena_bytes - slot.layout.nbytes)
        or _range(f"{where}.scale", q.scale, 1e-38, 1e38)
        or _range(f"{where}.ends", q.qmin, _LEAST[q.int16], q.qmax)
        or _range(f"{where}.zero_point", q.zero_point, _LEAST[q.int16], -1 - _LEAST[q.int16])
        or _range(f"{where}.fill", slot.fill, _LEAST[q.int16], -1 - _LEAST[q.int16])
    )


def _stepped(shape: tuple[int, ...], steps: tuple[ViewStep, ...]) -> tuple[int, ...] | None:
    """Return the shape after view steps, or None if a step is impossible."""
    for step in steps:
        if step.kind == "transpose":
            if sorted(step.arg) != list(range(len(shape))):
                return None
            shape = tuple(shape[axis] for axis in step.arg)
        elif step.kind == "take":
            axis, order = step.arg[0] if step.arg else -1, step.arg[1:]
            if not 0 <= axis < len(shape) or sorted(order) != list(range(shape[axis])):
                return None
        elif min(step.arg, default=1) < 1 or prod(step.arg) != prod(shape):
            return None
        else:
            shape = step.arg
    return shape


def tensor_shape(layout: Layout) -> tuple[int, int, int, int]:
    """Return (N, H, W, C) of the data that a layout holds."""
    if isinstance(layout, Blocked):
        return layout.n, layout.h, layout.w, layout.c
    return layout.n, layout.data_h, layout.data_w, layout.c


def _reduced(shape: tuple[int, ...], argmax: tuple[int, bool, bool]) -> tuple[int, ...] | None:
    axis, keepdims, _ = argmax
    if not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    return (*shape[:axis], *((1,) if keepdims else ()), *shape[axis + 1 :])


def _rows_problem(where: str, port: ProgramPort) -> str:
    """Describe what is wrong with an input's table of rows."""
    table, q = port.table, port.slot.qparams
    if table is None:
        return ""
    wanted = "int16" if q.int16 else "int8"
    if table.ndim != 2 or not table.size or table.dtype != np.dtype(wanted):
        return f"{where}.table: found {table.dtype} {table.shape}, allowed is {wanted} (V, D)"
    return _range(f"{where}.table", int(table.min()), q.qmin, q.qmax) or _range(
        f"{where}.table", int(table.max()), q.qmin, q.qmax
    )


def _names_problem(kind: str, ports: tuple[ProgramPort, ...]) -> str:
    """Check the names; inputs of the same name must have the same shape."""
    names = [port.name for port in ports]
    once = len({(p.name, p.shape) if kind == "inputs" else p.name for p in ports})
    different = len(set(names)) if kind == "inputs" else len(names)
    if not ports or once != different:
        return f"{kind}: found {names}, allowed is at least one, each name once or of one shape"
    return ""


def units_problem(where: str, units: Units | None, shape: tuple[int, ...]) -> str:
    """Describe what is wrong with the units of a tensor's parts; an empty string if nothing is."""
    if units is None:
        return ""
    if any(size not in (1, whole) for size, whole in zip(units.shape, shape, strict=True)):
        return f"{where}.units.shape: found {units.shape}, allowed is 1 or the size in {shape}"
    for name, values in (("divisor", units.divisor), ("offset", units.offset)):
        if len(values) != prod(units.shape) and (values or name == "divisor"):
            return f"{where}.units.{name}: found {len(values)}, allowed is {prod(units.shape)}"
    for value in units.divisor:
        if problem := _range(f"{where}.units.divisor", value, _LEAST_UNIT, _LARGEST_UNIT):
            return problem
    for value in units.offset:
        if problem := _range(f"{where}.units.offset", value, -_LARGEST_UNIT, _LARGEST_UNIT):
            return problem
    return ""


def _port_problem(where: str, port: ProgramPort, program: ProgramData, is_input: bool) -> str:
    problem = slot_problem(where, port.slot, program)
    if problem:
        return problem
    tensor = tensor_shape(port.slot.layout)
    problem = _rows_problem(where, port)
    if problem:
        return problem
    source = port.shape if port.table is None else (*port.shape, port.table.shape[1])
    found = _stepped(source if is_input else tensor, port.steps)
    if found is not None and port.argmax is not None:
        found = _reduced(found, port.argmax)
    wanted = tensor if is_input else port.shape
    if found != wanted:
        return f"{where}.steps: found shape {found}, allowed is {wanted}"
    if is_input and port.argmax is not None:
        return f"{where}.argmax: found {port.argmax}, allowed is null for an input"
    if port.units is not None and port.table is not None:
        return f"{where}.units: found some, allowed is null where a table gives the values"
    problem = units_problem(where, port.units, tensor)
    if problem:
        return problem
    if port.dtype not in _DTYPES:
        return f"{where}.dtype: found {port.dtype!r}, allowed is one of {', '.join(_DTYPES)}"
    return ""


def _table_problem(program: ProgramData) -> str:
    n, words = len(program.instructions), program.instructions.shape
    if words != (n, WORDS) or program.insn_layer.shape != (n,) or program.const.ndim != 1:
        return f"arrays: found instructions {words} and insn_layer {program.insn_layer.shape}"
    rows, cols = program.array.rows, program.array.cols
    if rows != cols or rows > _LANES_LIMIT:
        return f"array: found {rows} x {cols}, allowed is square, at most {_LANES_LIMIT}"
    layer = program.insn_layer
    bad = np.flatnonzero((layer < -1) | (layer >= len(program.layers)))
    if len(bad):
        return (
            f"insn_layer[{bad[0]}]: found {layer[bad[0]]}, allowed is -1..{len(program.layers) - 1}"
        )
    numbers = {**vars(program.array), **vars(program.timing), "clock_mhz": program.clock_mhz}
    for name, value in numbers.items():
        problem = _range(name, value, 1e-3, 1 << 24)
        if problem:
            return problem
    return _range("arena_bytes", program.arena_bytes, 0, _ARENA_LIMIT) or _range(
        "bytes of constants", len(program.const), 0, _ARENA_LIMIT
    )


def form_problem(program: ProgramData) -> str:
    """Describe what is wrong with tables, ports and slots; an empty string if nothing is."""
    problem = _table_problem(program)
    for kind, ports in (("inputs", program.inputs), ("outputs", program.outputs)):
        problem = problem or _names_problem(kind, ports)
        for port in ports:
            problem = problem or _port_problem(
                f"{kind} {port.name}", port, program, kind == "inputs"
            )
    for i, watch in enumerate(program.watchpoints):
        where = f"watchpoints[{i}]"
        problem = (
            problem
            or slot_problem(where, watch.tensor, program)
            or _range(f"{where}.layer", watch.layer, 0, len(program.layers) - 1)
            or _range(f"{where}.insn", watch.insn, 0, len(program.instructions) - 1)
        )
    return problem or host_problem(
        program.host, [p.name for p in program.inputs], [p.name for p in program.outputs]
    )
