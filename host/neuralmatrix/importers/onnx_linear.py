# SPDX-License-Identifier: Apache-2.0
"""ONNX operators with weights or windows: convolutions, matrix products, normalisation, pooling.

In: one ``Call``.  Out: Graph nodes in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import BadModel
from ..ir import (
    Array,
    Binary,
    Conv,
    ConvTranspose,
    MatMul,
    Node,
    Pad,
    Pool,
    Reduce,
    Shape,
    Transpose,
)
from ..ops_window import reach
from .onnx_context import Call, Context, Refused, Versions, as_float, ints, only_first_output


def _spatial(call: Call, shape: Shape) -> Shape:
    """The spatial sizes of (N, C, *spatial)."""
    if len(shape) not in (3, 4):
        raise Refused(f"input of rank {len(shape)}; one or two spatial axes are supported")
    return shape[2:]


def _attribute(call: Call, name: str, default: int, rank: int) -> Shape:
    expected = 2 * rank if name == "pads" else rank
    values = ints(call.attrs.get(name, (default,) * expected))
    if len(values) != expected:
        raise BadModel(
            f"node {call.name!r} ({call.op}): {name} has {len(values)} entries for {rank} spatial "
            f"axes; allowed are {expected}; correct the model"
        )
    return values


def _split_pads(total: Shape, lower: bool) -> Shape:
    small, large = tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    return (*large, *small) if lower else (*small, *large)


def _pads(call: Call, size: Shape, span: Shape, strides: Shape) -> Shape:
    """Explicit pads of a convolution or a pool, from ``pads`` or ``auto_pad``."""
    mode = call.attrs.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return _attribute(call, "pads", 0, len(size))
    if mode == "VALID":
        return (0,) * 2 * len(size)
    needed = (
        max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, span, strides, strict=True)
    )
    return _split_pads(tuple(needed), mode == "SAME_LOWER")


def _operands(ctx: Context, call: Call) -> tuple[str, ...]:
    if call.input(1) not in ctx.known:
        raise Refused("the weight is computed at run time; a constant weight is supported")
    ctx.fixed(call, 2, "the bias")
    bias = (ctx.tensor(call.input(2)),) if call.input(2) else ()
    return (ctx.tensor(call.input(0)), ctx.weight(call.input(1)), *bias)


def _kernel(ctx: Context, call: Call, rank: int) -> Shape:
    shape = ctx.shape(call.input(1))
    kernel = shape[2:]
    if len(kernel) != rank or ints(call.attrs.get("kernel_shape", kernel)) != kernel:
        raise BadModel(
            f"node {call.name!r} ({call.op}): weight {shape} and kernel_shape "
            f"{call.attrs.get('kernel_shape')} for {rank} spatial axes disagree; correct the model"
        )
    return kernel


def _conv(ctx: Context, call: Call) -> None:
    size = _spatial(call, ctx.shape(call.input(0)))
    rank = len(size)
    strides = _attribute(call, "strides", 1, rank)
    dilations = _attribute(call, "dilations", 1, rank)
    span = reach(_kernel(ctx, call, rank), dilations)
    pads = _pads(call, size, span, strides)
    ctx.emit(
        Conv(
            _operands(ctx, call),
            call.output,
            call.name,
            strides=strides,
            pads=pads,
            dilations=dilations,
            groups=int(call.attrs.get("group", 1)),
        )
    )


def _transposed_pads(call: Call, full: Shape, size: Shape, strides: Shape) -> Shape:
    """Pads of a ConvTranspose whose output without pads (with output_padding) is ``full``."""
    mode = call.attrs.get("auto_pad", "NOTSET")
    wanted = call.attrs.get("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        return _attribute(call, "pads", 0, len(size))
    same = tuple(n * s for n, s in zip(size, strides, strict=True))
    target = same if wanted is None else ints(wanted)[-len(size) :]
    total = tuple(f - t for f, t in zip(full, target, strict=True))
    if min(total) < 0:
        raise Refused(f"output shape {target} is larger than {full}; up to that is supported")
    return _split_pads(total, mode != "SAME_UPPER")


def _conv_transpose(ctx: Context, call: Call) -> None:
    size = _spatial(call, ctx.shape(call.input(0)))
    rank = len(size)
    strides = _attribute(call, "strides", 1, rank)
    dilations = _attribute(call, "dilations", 1, rank)
    extra = _attribute(call, "output_padding", 0, rank)
    span = reach(_kernel(ctx, call, rank), dilations)
    full = tuple((n - 1) * s + k + e for n, s, k, e in zip(size, strides, span, extra, strict=True))
    ctx.emit(
        ConvTranspose(
            _operands(ctx, call),
            call.output,
            call.name,
            strides=strides,
            pads=_transposed_pads(call, full, size, strides),
            dilations=dilations,
            groups=int(call.attrs.get("group", 1)),
            output_padding=extra,
        )
    )


def _matmul(ctx: Context, call: Call) -> None:
    operands = (ctx.weight(call.input(0)), ctx.weight(call.input(1)))
    ctx.emit(MatMul(operands, call.output, call.name))


def _gemm_operand(ctx: Context, call: Call, index: int, gain: float, swap: bool) -> str:
    """A or B of a Gemm, transposed if asked; constants also take the factor alpha."""
    name = call.input(index)
    if len(ctx.shape(name)) != 2:
        raise BadModel(
            f"node {call.name!r} (Gemm): {name!r} has shape {ctx.shape(name)}, not rank 2"
        )
    if name not in ctx.known:
        if not swap:
            return ctx.tensor(name)
        out = ctx.fresh(f"{call.output}.transposed")
        return ctx.emit(Transpose((ctx.tensor(name),), out, call.name, perm=(1, 0)))
    plain = ctx.weight(name)
    if gain == 1 and not swap:
        return plain
    array, scale = ctx.constants[plain], ctx.scales.get(name)
    turned = array.T if swap else array
    if scale is not None:
        scale = np.asarray((scale.T if swap else scale) * np.float32(abs(gain)))
    # a view as long as it can be: the weights may be larger than memory
    return ctx.constant(
        f"{call.output}.{name}", turned if gain == 1 else turned * np.float32(gain), scale
    )


def _gemm(ctx: Context, call: Call) -> None:
    alpha, beta = float(call.attrs.get("alpha", 1.0)), float(call.attrs.get("beta", 1.0))
    constant_b = call.input(1) in ctx.known
    a = _gemm_operand(ctx, call, 0, 1.0, bool(call.attrs.get("transA", 0)))
    b = _gemm_operand(ctx, call, 1, alpha if constant_b else 1.0, bool(call.attrs.get("transB", 0)))
    added = bool(call.input(2)) and beta != 0
    scaled = alpha != 1 and not constant_b
    product = ctx.fresh(f"{call.output}.product") if added or scaled else call.output
    ctx.emit(MatMul((a, b), product, call.name))
    if scaled:
        out = ctx.fresh(f"{call.output}.scaled") if added else call.output
        product = _times(ctx, call, product, alpha, out)
    if added:
        c = ctx.tensor(call.input(2))
        if beta != 1:
            c = _times(ctx, call, c, beta, ctx.fresh(f"{call.output}.beta"))
        ctx.emit(Binary((product, c), call.output, call.name, kind="add"))


def _times(ctx: Context, call: Call, x: str, factor: float, out: str) -> str:
    gain = ctx.constant(f"{out}.factor", np.asarray(factor, np.float32))
    return ctx.emit(Binary((x, gain), out, call.name, kind="mul"))


def _batch_norm(ctx: Context, call: Call) -> None:
    if call.attrs.get("training_mode", 0):
        raise Refused("training_mode is 1; inference (training_mode 0) is supported")
    if any(call.has_output(i) for i in range(1, len(call.outputs))):
        raise Refused("running statistics are outputs; only the first output is supported")
    if not call.attrs.get("spatial", 1):
        raise Refused("spatial is 0 (statistics per position); spatial 1 is supported")
    names = ("the scale", "the bias", "the mean", "the variance")
    parts = [ctx.fixed(call, i + 1, what) for i, what in enumerate(names)]
    scale, bias, mean, var = (np.asarray(p, np.float64) for p in parts)
    gain = scale / np.sqrt(var + float(call.attrs.get("epsilon", 1e-5)))
    rank = len(ctx.shape(call.input(0)))

    def per_channel(tag: str, values: Array) -> str:
        shaped = values.reshape(-1, *[1] * (rank - 2))
        return ctx.constant(f"{call.output}.{tag}", as_float(shaped))

    scaled = ctx.fresh(f"{call.output}.scaled")
    operands = (ctx.tensor(call.input(0)), per_channel("gain", gain))
    ctx.emit(Binary(operands, scaled, call.name, kind="mul"))
    shift = per_channel("shift", bias - mean * gain)
    ctx.emit(Binary((scaled, shift), call.output, call.name, kind="add"))


def _ceil_extra(size: Shape, span: Shape, strides: Shape, pads: Shape) -> Shape:
    """End padding that makes floor division give the ceil_mode output.

    A last window that would begin past the input and its begin padding is not made.
    """
    rank, extra = len(size), []
    for i, (n, k, s) in enumerate(zip(size, span, strides, strict=True)):
        room = n + pads[i] + pads[rank + i] - k
        steps = -(-room // s)
        steps -= steps * s >= n + pads[i]
        extra.append(max(0, steps * s - room))
    return tuple(extra)


def _pool(ctx: Context, call: Call) -> None:
    size = _spatial(call, ctx.shape(call.input(0)))
    rank = len(size)
    kernel = _attribute(call, "kernel_shape", 1, rank)
    strides = _attribute(call, "strides", 1, rank)
    dilations = _attribute(call, "dilations", 1, rank)
    only_first_output(call, "Indices")
    span = reach(kernel, dilations)
    pads = _pads(call, size, span, strides)
    x = ctx.tensor(call.input(0))
    average = call.op == "AveragePool"
    counted = average and bool(call.attrs.get("count_include_pad", 0))
    ceil = call.attrs.get("ceil_mode", 0) and call.attrs.get("auto_pad", "NOTSET") == "NOTSET"
    extra = _ceil_extra(size, span, strides, pads) if ceil else (0,) * rank
    if counted and any(extra):
        # the divisor counts the model's pads but not ceil_mode's: make the former real zeros
        x = _zero_padded(ctx, call, x, pads)
        counted, pads = False, (0,) * 2 * rank
    ends = (e + more for e, more in zip(pads[rank:], extra, strict=True))
    ctx.emit(
        Pool(
            (x,),
            call.output,
            call.name,
            kind="average" if average else "max",
            kernel=kernel,
            strides=strides,
            pads=(*pads[:rank], *ends),
            dilations=dilations,
            count_include_pad=counted,
        )
    )


def _zero_padded(ctx: Context, call: Call, x: str, pads: Shape) -> str:
    if not any(pads):
        return x
    rank = len(pads) // 2
    pairs = ((0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True))
    return ctx.emit(Pad((x,), ctx.fresh(f"{call.output}.padded"), call.name, pads=pairs))


def _global_pool(ctx: Context, call: Call) -> None:
    rank = len(ctx.shape(call.input(0)))
    if rank < 3:
        raise BadModel(f"node {call.name!r} ({call.op}): an input of rank {rank}; 3 or more needed")
    node: Node = Reduce(
        (ctx.tensor(call.input(0)),),
        call.output,
        call.name,
        kind="mean" if call.op == "GlobalAveragePool" else "max",
        axes=tuple(range(2, rank)),
    )
    ctx.emit(node)


HANDLERS: Mapping[str, Versions] = {
    "Conv": {1: _conv},
    "ConvTranspose": {1: _conv_transpose},
    "MatMul": {1: _matmul},
    "Gemm": {1: _gemm},
    "BatchNormalization": {1: _batch_norm},
    "MaxPool": {1: _pool},
    "AveragePool": {1: _pool},
    "GlobalAveragePool": {1: _global_pool},
    "GlobalMaxPool": {1: _global_pool},
}
