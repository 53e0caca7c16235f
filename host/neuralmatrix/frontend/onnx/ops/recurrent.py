# SPDX-License-Identifier: Apache-2.0
"""ONNX RNN, GRU and LSTM unrolled over their fixed number of steps.

In: one ``Call``.  Out: per gate one MatMul of all steps' inputs; per step and gate one MatMul of
the state, whose sum and activation an epilogue can take; element-wise nodes for the new state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import Binary, Concat, MatMul, Reshape, Slice, Transpose, Unary
from ....ir.graph.operators import BINARY
from ....ir.types import Array, Function, Shape
from ..context import Call, Context, Refused, Versions
from .linear import ACTIVATIONS

GATES: Mapping[str, int] = {"RNN": 1, "GRU": 3, "LSTM": 4}
_DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "RNN": ("Tanh",),
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
}


@dataclass
class Cell:
    """One direction of one layer while it is unrolled.  Tensors of a step are (batch, hidden)."""

    ctx: Context
    call: Call
    inputs: list[str]  # per gate (steps, batch, hidden): what the inputs and biases add
    weights: list[str]  # per gate (hidden, hidden)
    apart: str  # the recurrent bias of a GRU's last gate where it is not in ``inputs``
    peepholes: list[str]  # per gate i, o, f of an LSTM, or none
    functions: list[Function]
    state: str = ""  # "" is zero
    memory: str = ""
    steps: dict[int, str] = field(default_factory=dict)

    def name(self, part: str) -> str:
        return self.ctx.fresh(f"{self.call.output}.{part}")

    def op(self, kind: str, a: str, b: str) -> str:
        assert kind in BINARY
        node = Binary((a, b), self.name(kind), self.call.name, kind=kind)  # type: ignore[arg-type]
        return self.ctx.emit(node)

    def apply(self, x: str, function: Function) -> str:
        return self.ctx.emit(Unary((x,), self.name("gate"), self.call.name, function=function))

    def input_of(self, gate: int, step: int) -> str:
        """Return the (batch, hidden) input of one step."""
        steps, batch, hidden = self.ctx.shapes[self.inputs[gate]]
        parts = ((step, step + 1, 1), (0, batch, 1), (0, hidden, 1))
        x = self.ctx.emit(
            Slice((self.inputs[gate],), self.name("step"), self.call.name, slices=parts)
        )
        return self.ctx.emit(Reshape((x,), self.name("row"), self.call.name, shape=(batch, hidden)))

    def recurrent(self, gate: int, state: str) -> str:
        operands = (state, self.weights[gate])
        return self.ctx.emit(MatMul(operands, self.name("product"), self.call.name))

    def sum_of(self, gate: int, step: int) -> str:
        """Return inputs + state @ weights of a gate, before its activation."""
        x = self.input_of(gate, step)
        return self.op("add", self.recurrent(gate, self.state), x) if self.state else x


def _rnn_step(cell: Cell, step: int) -> None:
    cell.state = cell.apply(cell.sum_of(0, step), cell.functions[0])


def _gru_candidate(cell: Cell, step: int, reset: str) -> str:
    """Return the last gate's sum; the reset gate scales the state, or with ``apart`` its
    product."""
    x = cell.input_of(2, step)
    if not cell.apart:
        if not cell.state:
            return x
        return cell.op("add", cell.recurrent(2, cell.op("mul", reset, cell.state)), x)
    product = cell.apart
    if cell.state:
        product = cell.op("add", cell.recurrent(2, cell.state), cell.apart)
    return cell.op("add", cell.op("mul", product, reset), x)


def _gru_step(cell: Cell, step: int) -> None:
    """Set (1 - z) * candidate + z * state, as candidate + z * (state - candidate)."""
    gate, last = cell.functions
    z = cell.apply(cell.sum_of(0, step), gate)
    reset = cell.apply(cell.sum_of(1, step), gate) if cell.state or cell.apart else ""
    new = cell.apply(_gru_candidate(cell, step, reset), last)
    if cell.state:
        part = cell.op("mul", cell.op("sub", cell.state, new), z)
        cell.state = cell.op("add", part, new)
    else:
        cell.state = cell.op("sub", new, cell.op("mul", new, z))


def _lstm_gate(cell: Cell, gate: int, step: int, peep: int, memory: str) -> str:
    x = cell.sum_of(gate, step)
    if cell.peepholes and memory:
        x = cell.op("add", x, cell.op("mul", memory, cell.peepholes[peep]))
    return cell.apply(x, cell.functions[0])


def _lstm_step(cell: Cell, step: int) -> None:
    """Set memory = f * memory + i * candidate, state = o * h(memory); gates in order i, o, f, c."""
    admit = _lstm_gate(cell, 0, step, 0, cell.memory)
    new = cell.op("mul", cell.apply(cell.sum_of(3, step), cell.functions[1]), admit)
    if cell.memory:
        kept = cell.op("mul", _lstm_gate(cell, 2, step, 2, cell.memory), cell.memory)
        new = cell.op("add", kept, new)
    show = _lstm_gate(cell, 1, step, 1, new)
    cell.memory = new
    cell.state = cell.op("mul", cell.apply(new, cell.functions[2]), show)


_STEPS: Mapping[str, Callable[[Cell, int], None]] = {
    "RNN": _rnn_step,
    "GRU": _gru_step,
    "LSTM": _lstm_step,
}

# ---------------------------------------------------------------- operands


def _refuse_rest(ctx: Context, call: Call, steps: int) -> None:
    lengths = ctx.fixed(call, 4, "sequence_lens")
    if lengths is not None and not (np.asarray(lengths) == steps).all():
        raise Refused(
            f"sequence_lens {np.asarray(lengths).tolist()}; all {steps} steps of every sequence "
            "are supported: leave it out"
        )
    for key in ("clip", "input_forget"):
        if call.attrs.get(key, 0):
            raise Refused(f"{key} is {call.attrs[key]}; layers without it are supported")


def _functions(call: Call, direction: int, count: int) -> list[Function]:
    """Return the activations of one direction, with their parameters in order of appearance."""
    names = list(call.attrs.get("activations", _DEFAULTS[call.op] * count))
    names = [n.decode() if isinstance(n, bytes) else str(n) for n in names]
    alphas, betas = (iter(call.attrs.get(f"activation_{k}", ())) for k in ("alpha", "beta"))
    found = []
    for name in names:
        if name not in ACTIVATIONS or name == "Clip":
            allowed = ", ".join(n for n in ACTIVATIONS if n != "Clip")
            raise Refused(f"activation {name!r}; supported are {allowed}")
        function, defaults = ACTIVATIONS[name]
        given = zip(defaults, (alphas, betas), strict=False)
        found.append(Function(function, tuple(float(next(it, d)) for d, it in given)))
    each = len(_DEFAULTS[call.op])
    return found[direction * each : (direction + 1) * each]


def _constants(ctx: Context, call: Call) -> tuple[Array, Array, Array, Array | None]:
    """Return W, R, B (zeros where left out) and an LSTM's P."""
    w, r = (np.asarray(ctx.fixed(call, i, what), np.float32)
            for i, what in ((1, "the weight"), (2, "the recurrent weight")))  # fmt: skip
    count, width, hidden = r.shape
    if w.ndim != 3 or w.shape[:2] != (count, width) or width != GATES[call.op] * hidden:
        raise BadModel(
            f"node {call.name!r} ({call.op}): weights {w.shape} and {r.shape} do not fit each "
            "other; correct the model"
        )
    given = ctx.fixed(call, 3, "the bias")
    bias = np.zeros((count, 2 * width), np.float32) if given is None else given
    peep = ctx.fixed(call, 7, "the peephole") if call.op == "LSTM" else None
    return w, r, np.asarray(bias, np.float32), peep


def _initial(ctx: Context, call: Call, index: int, direction: int) -> str:
    """Return one direction's (batch, hidden) state before the first step; "" where it is zero."""
    name = call.input(index)
    if not name or (name in ctx.known and not np.any(ctx.known[name])):
        return ""
    x, shape = ctx.tensor(name), ctx.shape(name)
    axis = 1 if call.attrs.get("layout", 0) else 0
    parts = tuple(
        (direction, direction + 1, 1) if i == axis else (0, n, 1) for i, n in enumerate(shape)
    )
    out = ctx.fresh(f"{call.output}.initial")
    x = ctx.emit(Slice((x,), out, call.name, slices=parts))
    whole = (shape[1 - axis], shape[2])
    return ctx.emit(Reshape((x,), ctx.fresh(f"{out}.row"), call.name, shape=whole))


def _projected(ctx: Context, call: Call, x: str, w: Array, bias: Array) -> str:
    """Return x @ w + bias for all steps."""
    weight = ctx.constant(f"{call.output}.weight", np.ascontiguousarray(w.T))
    term = ctx.constant(f"{call.output}.bias", bias)
    product = ctx.emit(MatMul((x, weight), ctx.fresh(f"{call.output}.all"), call.name))
    return ctx.emit(Binary((product, term), ctx.fresh(f"{call.output}.inputs"), call.name))


def _cell(ctx: Context, call: Call, x: str, direction: int, functions: list[Function]) -> Cell:
    w, r, b, peep = _constants(ctx, call)
    count, hidden = GATES[call.op], r.shape[2]
    own, back = b[direction].reshape(2, count, hidden)
    apart = ""
    if call.op == "GRU" and call.attrs.get("linear_before_reset", 0):
        apart = ctx.constant(f"{call.output}.apart", back[2].copy())
        back = back * np.asarray([[1], [1], [0]], np.float32)
    kernels = w[direction].reshape(count, hidden, -1)
    inputs = [_projected(ctx, call, x, kernels[g], own[g] + back[g]) for g in range(count)]
    weights = [
        ctx.constant(f"{call.output}.recurrent", np.ascontiguousarray(part.T))
        for part in r[direction].reshape(count, hidden, hidden)
    ]
    holes = [] if peep is None else list(np.asarray(peep, np.float32)[direction].reshape(3, -1))
    peepholes = [ctx.constant(f"{call.output}.peephole", p) for p in holes if np.any(holes)]
    cell = Cell(ctx, call, inputs, weights, apart, peepholes, functions)
    cell.state = _initial(ctx, call, 5, direction)
    cell.memory = _initial(ctx, call, 6, direction) if call.op == "LSTM" else ""
    return cell


# ---------------------------------------------------------------- the whole layer


def _unroll(ctx: Context, call: Call) -> None:
    shape = ctx.shape(call.input(0))
    if len(shape) != 3:
        raise BadModel(f"node {call.name!r} ({call.op}): an input {shape}; rank 3 is needed")
    batch_first = bool(call.attrs.get("layout", 0))
    steps = shape[1] if batch_first else shape[0]
    _refuse_rest(ctx, call, steps)
    x = ctx.tensor(call.input(0))
    if batch_first:
        turned = ctx.fresh(f"{call.output}.steps")
        x = ctx.emit(Transpose((x,), turned, call.name, perm=(1, 0, 2)))
    way = str(call.attrs.get("direction", "forward"))
    count = 2 if way == "bidirectional" else 1
    cells = []
    for direction in range(count):
        cell = _cell(ctx, call, x, direction, _functions(call, direction, count))
        backward = way == "reverse" or direction == 1
        for step in reversed(range(steps)) if backward else range(steps):
            _STEPS[call.op](cell, step)
            cell.steps[step] = cell.state
        cells.append(cell)
    _outputs(ctx, call, cells, steps, batch_first)


def _outputs(ctx: Context, call: Call, cells: list[Cell], steps: int, batch_first: bool) -> None:
    if call.has_output(0):
        rows = [cell.steps[step] for step in range(steps) for cell in cells]
        whole = (steps, len(cells), *ctx.shapes[rows[0]])
        _stacked(ctx, call, rows, whole, (2, 0, 1, 3) if batch_first else None, call.outputs[0])
    for i, rows in enumerate(([c.state for c in cells], [c.memory for c in cells]), 1):
        if call.has_output(i):
            whole = (len(cells), *ctx.shapes[rows[0]])
            perm = (1, 0, 2) if batch_first else None
            _stacked(ctx, call, rows, whole, perm, call.outputs[i])


def _stacked(
    ctx: Context, call: Call, rows: list[str], whole: Shape, perm: Shape | None, out: str
) -> None:
    """Stack the rows along the first axis, under the name ``out``."""
    joined = ctx.emit(Concat(tuple(rows), ctx.fresh(f"{out}.joined"), call.name, axis=0))
    name = ctx.fresh(f"{out}.whole") if perm else out
    x = ctx.emit(Reshape((joined,), name, call.name, shape=whole))
    if perm:
        ctx.emit(Transpose((x,), out, call.name, perm=perm))


HANDLERS: Mapping[str, Versions] = {op: {7: _unroll} for op in GATES}
