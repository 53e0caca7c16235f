# SPDX-License-Identifier: Apache-2.0
"""The verifier of a MatGraph, and its text.

In: a MatGraph.  Out: the same MatGraph, checked (BadModel names the operation and the rule); text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

import numpy as np

from ...errors import BadModel
from ..types import Array, Shape, Units, ViewStep
from .ops import Gemm, Linear, MatGraph, MatOp, Move, Port, RowMax, Tensor, Window

Tensors = Mapping[str, Tensor]


def verify_matgraph(mg: MatGraph) -> MatGraph:
    """Return ``mg`` if its names, shapes and constants are consistent; otherwise BadModel."""
    defined = {port.tensor for port in mg.inputs} | set(mg.constants)
    for name, array in mg.constants.items():
        _need(mg.tensors[name].shape == array.shape, f"constant {name!r} is {array.shape}")
        _finite(array, f"constant {name!r}")
    for op in mg.ops:
        where = f"{type(op).__name__} {op.output!r} (source {op.source!r})"
        for name in op.inputs:
            _need(name in defined, f"{where} reads {name!r} before anything defines it")
        made = op.outputs
        for name in made:
            _need(name not in defined, f"{where} defines a name that exists already: {name!r}")
            _need(name in mg.tensors, f"{where} makes {name!r}, a tensor that is not declared")
        _need(len(set(made)) == len(made), f"{where} makes one tensor twice: {made}")
        _check_op(op, mg.tensors, where)
        defined.update(made)
    for port in (*mg.inputs, *mg.outputs):
        _need(port.tensor in defined, f"port {port.name!r} shows {port.tensor!r}, which is missing")
        _check_port(port, mg, port in mg.outputs)
    return mg


def _check_op(op: MatOp, tensors: Tensors, where: str) -> None:
    """Check an operation beside its tensors, once: most passes leave most operations as they are.

    What it was found to fit lies beside its fields, so that neither == nor replace() knows it.
    """
    fits = tuple(tensors[name] for name in (*op.inputs, *op.outputs))
    if op.__dict__.get(_FITS) != fits:
        CHECKS[type(op)](op, tensors, where)
        object.__setattr__(op, _FITS, fits)


_FITS = "_fits"


def _need(condition: bool, message: str) -> None:
    if not condition:
        raise BadModel(message)


def _finite(array: Array, where: str) -> None:
    bad = array.size - int(np.count_nonzero(np.isfinite(array)))
    _need(
        not bad,
        f"{where}: {bad} of {array.size} values are NaN or infinite; allowed are "
        "finite numbers; correct the weights and export the model again",
    )


def _same(found: object, wanted: object, where: str) -> None:
    _need(found == wanted, f"{where} is {found}, not {wanted}")


def _positions(op: Linear, x: Shape, kernel: Shape) -> Shape:
    top, left, bottom, right = op.pads
    full = (x[1] + top + bottom, x[2] + left + right)
    return tuple(
        (full[i] - op.dilations[i] * (kernel[i] - 1) - 1) // op.strides[i] + 1 for i in range(2)
    )


def _check_gemm(op: Gemm, tensors: Tensors, where: str) -> None:
    x, out = tensors[op.input], tensors[op.output]
    _finite(op.bias, f"{where} bias")
    _same(op.bias.shape, (out.shape[3],), f"{where} bias")
    if op.rhs is not None:
        _check_product(op, x, out, tensors[op.rhs], where)
    else:
        _need(op.weight is not None, f"{where} has neither weights nor a right operand")
        assert op.weight is not None
        _need(op.gain == 1.0, f"{where} has a gain; only an activation-activation matmul takes one")
        _finite(op.weight, f"{where} weight")
        kernel = op.weight.shape[:2]
        _same(op.weight.shape[2] * op.groups, x.shape[3], f"{where} input channels")
        _same(op.weight.shape[3] % op.groups, 0, f"{where} output channels modulo groups")
        _same(out.shape, (x.shape[0], *_positions(op, x.shape, kernel), op.weight.shape[3]), where)
    _check_epilogue(op, tensors, where)


def _check_product(op: Gemm, x: Tensor, out: Tensor, rhs: Tensor, where: str) -> None:
    k, m = x.shape[3], out.shape[3]
    wanted = (1, m, k) if op.rhs_transposed else (1, k, m)
    _same(rhs.shape[1:], wanted, f"{where} right operand")
    _need(
        x.shape[0] % rhs.shape[0] == 0,
        f"{where}: {x.shape[0]} images are not a multiple of the right operand's {rhs.shape[0]}",
    )
    _need(op.weight is None, f"{where} has weights and a right operand; allowed is one of them")
    _need(not rhs.broadcast or m == 1, f"{where} right operand is broadcast")
    _need(bool(np.isfinite(op.gain)) and op.gain != 0, f"{where} gain is {op.gain}")
    plain = (op.strides, op.pads, op.dilations, op.groups) == ((1, 1), (0,) * 4, (1, 1), 1)
    _need(plain, f"{where} has a right operand and strides, pads, dilations or groups")
    _same(out.shape[:3], x.shape[:3], f"{where} rows")


def _check_window(op: Window, tensors: Tensors, where: str) -> None:
    x, out = tensors[op.input], tensors[op.output]
    _finite(op.weight, f"{where} weight")
    _finite(op.bias, f"{where} bias")
    channels = out.shape[3]
    _need(channels == x.shape[3] or x.broadcast, f"{where} has {channels} channels")
    _need(op.weight.shape[2] in (1, channels), f"{where} weight is {op.weight.shape}")
    _same(op.bias.shape, (channels,), f"{where} bias")
    _same(out.shape[:3], (x.shape[0], *_positions(op, x.shape, op.weight.shape[:2])), where)
    if op.minus is not None:
        _check_minus(op, x, tensors[op.minus], where)
    _check_epilogue(op, tensors, where)


def _check_minus(op: Window, x: Tensor, minus: Tensor, where: str) -> None:
    """Check that the subtracted tensor is one value per position."""
    wanted = ((*x.shape[:3], 1), True)
    _same((minus.shape, minus.broadcast), wanted, f"{where} minus {minus.name!r}")
    plain = (op.reduce, op.strides, op.pads) == ("add", (1, 1), (0,) * 4)
    _need(
        plain and op.weight.shape[:2] == (1, 1),
        f"{where} subtracts {minus.name!r}; allowed in 1x1 windows that add, without strides",
    )


def _check_epilogue(op: Linear, tensors: Tensors, where: str) -> None:
    out = tensors[op.output]
    _need(not out.broadcast or out.shape[3] == 1, f"{where} is broadcast but has channels")
    factor = op.epilogue.factor
    allowed = bool(np.isfinite(factor)) and factor > 0
    _need(allowed, f"{where} factor is {factor}; allowed is above 0")
    scale = op.weight_scale
    _need(scale is None or bool(np.all(np.asarray(scale) > 0)), f"{where} has a scale of 0 or less")
    _check_rows(op, tensors, where)
    for name in (op.epilogue.residual, op.epilogue.hadamard):
        if name is None:
            continue
        t = tensors[name]
        fits = all(a in (1, b) for a, b in zip(t.shape[:3], out.shape[:3], strict=True))
        lanes = t.shape[3] == out.shape[3] or (t.broadcast and t.shape[3] == 1)
        _need(fits and lanes, f"{where}: operand {name!r} {t.shape} does not fit {out.shape}")


ROWS = ({"max"}, {"sum"}, {"mean"}, {"square"}, {"mean", "square"})


def _check_rows(op: Linear, tensors: Tensors, where: str) -> None:
    rows = op.epilogue.rows
    kinds = {row.kind for row in rows}
    _need(
        not rows or (kinds in ROWS and len(kinds) == len(rows)),
        f"{where} has the row statistics {[row.kind for row in rows]}; allowed are max, or sum, or "
        "mean and square together or alone",
    )
    _need(
        "square" not in kinds or op.epilogue.hadamard is None,
        f"{where} has the mean of squares and a Hadamard operand; take them in two operations",
    )
    wanted = ((*tensors[op.output].shape[:3], 1), True)
    for row in rows:
        t = tensors[row.tensor]
        _same((t.shape, t.broadcast), wanted, f"{where} row statistic {row.tensor!r}")


def _check_rowmax(op: RowMax, tensors: Tensors, where: str) -> None:
    out = tensors[op.output]
    _same((out.shape, out.broadcast), ((*tensors[op.input].shape[:3], 1), True), where)


def _check_move(op: Move, tensors: Tensors, where: str) -> None:
    total = sum(prod(tensors[name].shape) for name in op.inputs)
    _same(op.index.shape, tensors[op.output].shape, f"{where} index")
    _same(op.index.dtype, np.dtype(np.int64), f"{where} index type")
    inside = op.index.min() >= -1 and op.index.max() < total
    _need(bool(inside), f"{where} has an index outside -1..{total - 1}")


CHECKS: Mapping[type[MatOp], Callable[..., None]] = {
    Gemm: _check_gemm,
    Window: _check_window,
    RowMax: _check_rowmax,
    Move: _check_move,
}


def _stepped(shape: Shape, steps: tuple[ViewStep, ...]) -> Shape:
    for step in steps:
        if step.kind == "reshape":
            _same(prod(step.arg), prod(shape), "elements of a view step")
            shape = step.arg
        elif step.kind == "take":
            _same(sorted(step.arg[1:]), list(range(shape[step.arg[0]])), "order of a view step")
        else:
            shape = tuple(shape[a] for a in step.arg)
    return shape


def _check_units(units: Units, tensor: Shape, where: str) -> None:
    fits = all(size in (1, whole) for size, whole in zip(units.shape, tensor, strict=True))
    _need(fits, f"{where} has units of shape {units.shape} for a tensor {tensor}")
    _same(len(units.divisor), prod(units.shape), f"{where} divisors")
    _same(len(units.offset) or prod(units.shape), prod(units.shape), f"{where} offsets")
    _finite(np.asarray([*units.divisor, *units.offset]), f"{where} units")
    _need(min(units.divisor) > 0, f"{where} has a divisor of 0 or less")


def _check_port(port: Port, mg: MatGraph, is_output: bool) -> None:
    where = f"port {port.name!r}"
    tensor = mg.tensors[port.tensor].shape
    if port.units is not None:
        _check_units(port.units, tensor, where)
        _need(port.table is None, f"{where} has units and a table; its rows take the units")
    if not is_output:
        rows = () if port.table is None else port.table.shape[1:]
        _same(len(rows), 0 if port.table is None else 1, f"{where} axes of its table's rows")
        _same(_stepped((*port.shape, *rows), port.steps), tensor, where)
        if port.table is not None:
            _finite(port.table, f"{where} table")
        return
    shape = _stepped(tensor, port.steps)
    if port.argmax:
        axis, keepdims, _ = port.argmax
        shape = (*shape[:axis], *((1,) if keepdims else ()), *shape[axis + 1 :])
    _same(shape, port.shape, where)


# ---------------------------------------------------------------- text


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _steps(steps: tuple[ViewStep, ...]) -> str:
    return " ".join(map(_step, steps)) or "as is"


def _step(step: ViewStep) -> str:
    """Return the text of a view step; a long order is shortened."""
    arg = step.arg[:1] if step.kind == "take" else step.arg
    return f"{step.kind}({','.join(map(str, arg))})"


def _units(units: Units | None) -> str:
    """Return the text of a port's units: which axes they differ along, and their extremes."""
    if units is None:
        return ""
    shift = f" offset {min(units.offset):g}..{max(units.offset):g}" if units.offset else ""
    return f" units {_size(units.shape)} {min(units.divisor):g}..{max(units.divisor):g}{shift}"


def _geometry(op: Linear) -> str:
    words = [f"k{op.weight.shape[0]}x{op.weight.shape[1]}" if op.weight is not None else ""]
    words += [f"s{op.strides[0]}x{op.strides[1]}"] if op.strides != (1, 1) else []
    words += [f"p{','.join(map(str, op.pads))}"] if any(op.pads) else []
    words += [f"d{op.dilations[0]}x{op.dilations[1]}"] if op.dilations != (1, 1) else []
    if isinstance(op, Gemm):
        words += [f"g{op.groups}"] if op.groups > 1 else []
        words += [f"rhs={op.rhs}{'^T' if op.rhs_transposed else ''}"] if op.rhs else []
        words += [f"x{op.gain:g}"] if op.gain != 1.0 else []
    elif isinstance(op, Window):
        words.append(op.reduce)
        words += [f"minus={op.minus}"] if op.minus else []
    return " ".join(filter(None, words))


def _epilogue(op: Linear) -> str:
    e = op.epilogue
    words = [f"{e.residual_gain:+g}*{e.residual}"] if e.residual else []
    if e.activation:
        parameters = ",".join(f"{p:g}" for p in e.activation.params)
        words.append(f"{e.activation.name}({parameters})" if parameters else e.activation.name)
    words += [f"*{e.hadamard}"] if e.hadamard else []
    words += [f"*{e.factor:g}"] if e.factor != 1.0 else []
    words += [f"{row.kind}->{row.tensor}" for row in e.rows]
    return " ".join(words)


def _op_text(op: MatOp, mg: MatGraph) -> str:
    tensor, q = mg.tensors[op.output], mg.quant.get(op.output)
    head = f"{op.output}: {_size(tensor.shape)}{' broadcast' if tensor.broadcast else ''}"
    if q:
        head += f" [scale {q.scale:.6g} zero {q.zero_point}{' int16' if q.int16 else ''}]"
    if isinstance(op, Linear):
        detail = f"({op.input}) {_geometry(op)} {_epilogue(op)}"
    else:
        detail = f"({', '.join(op.inputs)})"
    note = f"  # {op.source}" if op.source else ""
    return f"{head} = {type(op).__name__}{detail.rstrip()}{note}"


def matgraph_text(mg: MatGraph) -> str:
    """Return one line per port, constant and operation, for people and for comparing stages."""
    lines = [
        f"input {p.name}: {_size(p.shape)} -> {p.tensor} {_size(mg.tensors[p.tensor].shape)}"
        f" by {_steps(p.steps)}"
        f"{f' rows of {_size(p.table.shape)}' if p.table is not None else ''}{_units(p.units)}"
        for p in mg.inputs
    ]
    lines += [f"constant {name}: {_size(a.shape)}" for name, a in mg.constants.items()]
    lines += [_op_text(op, mg) for op in mg.ops]
    for p in mg.outputs:
        pick = f" argmax {p.argmax[0]}" if p.argmax else ""
        steps = f"{_steps(p.steps)}{_units(p.units)}"
        lines.append(f"output {p.name}: {_size(p.shape)} <- {p.tensor} by {steps}{pick}")
    return "\n".join([*lines, ""])
