# SPDX-License-Identifier: Apache-2.0
"""ONNX operators with weights: convolutions and matrix products.

In: one ``Call``.  Out: Graph nodes in the ``Context``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ....errors import BadModel
from ....ir.graph.nodes import Binary, Conv, ConvTranspose, MatMul, Transpose, Unary
from ....ir.graph.operators_window import reach
from ....ir.types import Function, Shape
from ..context import Call, Context, Handler, Refused, Versions, ints
from .volumes import conv_3d, conv_transpose_3d
from .wide_weights import conv_operands, matmul_operands


def spatial(call: Call, shape: Shape) -> Shape:
    """Return the spatial sizes of (N, C, *spatial)."""
    if len(shape) not in (3, 4, 5):
        raise Refused(f"input of rank {len(shape)}; one to three spatial axes are supported")
    return shape[2:]


def attribute(call: Call, name: str, default: int, rank: int) -> Shape:
    """Return a list attribute with one entry per spatial axis, pads with two."""
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


def pads_of(call: Call, size: Shape, span: Shape, strides: Shape) -> Shape:
    """Return the explicit pads of a convolution or a pool, from ``pads`` or ``auto_pad``."""
    mode = call.attrs.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return attribute(call, "pads", 0, len(size))
    if mode == "VALID":
        return (0,) * 2 * len(size)
    needed = (
        max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, span, strides, strict=True)
    )
    return _split_pads(tuple(needed), mode == "SAME_LOWER")


def _operands(ctx: Context, call: Call, parts: int) -> tuple[str, ...]:
    """Return input, weight and bias; ``parts``: of how many int8 ones a weight may be the sum."""
    if call.input(1) not in ctx.known:
        raise Refused("the weight is computed at run time; a constant weight is supported")
    ctx.fixed(call, 2, "the bias")
    bias = (ctx.tensor(call.input(2)),) if call.input(2) else ()
    return (ctx.tensor(call.input(0)), ctx.weight(call.input(1), parts), *bias)


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
    size = spatial(call, ctx.shape(call.input(0)))
    rank = len(size)
    strides = attribute(call, "strides", 1, rank)
    dilations = attribute(call, "dilations", 1, rank)
    span = reach(_kernel(ctx, call, rank), dilations)
    pads = pads_of(call, size, span, strides)
    groups = int(call.attrs.get("group", 1))
    x, weight, *bias = _operands(ctx, call, 2)
    node = Conv(
        (*conv_operands(ctx, call, x, weight, groups), *bias),
        call.output,
        call.name,
        strides=strides,
        pads=pads,
        dilations=dilations,
        groups=groups,
    )
    if rank == 3:
        conv_3d(ctx, call, node)
    else:
        ctx.emit(node)


def _transposed_pads(call: Call, full: Shape, size: Shape, strides: Shape) -> Shape:
    """Return the pads of a ConvTranspose whose output without pads (with output_padding) is
    ``full``."""
    mode = call.attrs.get("auto_pad", "NOTSET")
    wanted = call.attrs.get("output_shape")
    if wanted is None and mode in ("NOTSET", "VALID"):
        return attribute(call, "pads", 0, len(size))
    same = tuple(n * s for n, s in zip(size, strides, strict=True))
    target = same if wanted is None else ints(wanted)[-len(size) :]
    total = tuple(f - t for f, t in zip(full, target, strict=True))
    if min(total) < 0:
        raise Refused(f"output shape {target} is larger than {full}; up to that is supported")
    return _split_pads(total, mode != "SAME_UPPER")


def _conv_transpose(ctx: Context, call: Call) -> None:
    size = spatial(call, ctx.shape(call.input(0)))
    rank = len(size)
    strides = attribute(call, "strides", 1, rank)
    dilations = attribute(call, "dilations", 1, rank)
    extra = attribute(call, "output_padding", 0, rank)
    span = reach(_kernel(ctx, call, rank), dilations)
    full = tuple((n - 1) * s + k + e for n, s, k, e in zip(size, strides, span, extra, strict=True))
    node = ConvTranspose(
        _operands(ctx, call, 1),
        call.output,
        call.name,
        strides=strides,
        pads=_transposed_pads(call, full, size, strides),
        dilations=dilations,
        groups=int(call.attrs.get("group", 1)),
        output_padding=extra,
    )
    if rank == 3:
        conv_transpose_3d(ctx, call, node)
    else:
        ctx.emit(node)


def _matmul(ctx: Context, call: Call) -> None:
    a, b = ctx.weight(call.input(0)), ctx.weight(call.input(1), 2)
    ctx.emit(MatMul(matmul_operands(ctx, call, a, b), call.output, call.name))


def _gemm_operand(ctx: Context, call: Call, index: int, gain: float, swap: bool) -> str:
    """Return A or B of a Gemm, transposed if asked; constants also take the factor alpha."""
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
    plain = ctx.weight(name, 1 + index)
    if gain == 1 and not swap:
        return plain
    array, scale = ctx.constants[plain], ctx.scales.get(name)
    turned = array.T if swap else array
    if scale is not None:
        scale = np.asarray((scale.T if swap else scale) * np.float32(abs(gain)))
    # a view as long as possible: the weights may be larger than memory
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
    ctx.emit(MatMul(matmul_operands(ctx, call, a, b), product, call.name))
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


# ---------------------------------------------------------------- forms of com.microsoft


def _transposed(ctx: Context, call: Call, name: str, swap: bool) -> str:
    """Return an operand, its last two axes exchanged if asked."""
    x = ctx.weight(name)
    if not swap or len(ctx.shapes[x]) < 2:
        return x
    rank = len(ctx.shapes[x])
    perm = (*range(rank - 2), rank - 1, rank - 2)
    return ctx.emit(Transpose((x,), ctx.fresh(f"{call.output}.swapped"), call.name, perm=perm))


def _fused_matmul(ctx: Context, call: Call) -> None:
    if call.attrs.get("transBatchA", 0) or call.attrs.get("transBatchB", 0):
        raise Refused("transBatchA or transBatchB is 1; transA and transB are supported")
    operands = tuple(
        _transposed(ctx, call, call.input(i), bool(call.attrs.get(key, 0)))
        for i, key in enumerate(("transA", "transB"))
    )
    alpha = float(call.attrs.get("alpha", 1.0))
    product = call.output if alpha == 1 else ctx.fresh(f"{call.output}.product")
    ctx.emit(MatMul(operands, product, call.name))
    if alpha != 1:
        _times(ctx, call, product, alpha, call.output)


# ONNX activation -> (function, its parameters' defaults)
ACTIVATIONS: Mapping[str, tuple[str, tuple[float, ...]]] = {
    "Relu": ("relu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "LeakyRelu": ("leaky_relu", (0.01,)),
    "HardSigmoid": ("hard_sigmoid", (0.2, 0.5)),
    "Clip": ("clip", (-3e38, 3e38)),
    "Elu": ("elu", (1.0,)),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "ThresholdedRelu": ("thresholded_relu", (1.0,)),
    "Gelu": ("gelu", ()),
    "HardSwish": ("hard_swish", ()),
}


def _with_activation(base: Handler) -> Handler:
    """Return a handler of ``base`` followed by the function that ``activation`` names."""

    def handler(ctx: Context, call: Call) -> None:
        name = str(call.attrs.get("activation", ""))
        if name not in ACTIVATIONS:
            raise Refused(f"activation {name!r}; supported are {', '.join(ACTIVATIONS)}")
        function, params = ACTIVATIONS[name]
        keys = ("activation_alpha", "activation_beta")
        given = [call.attrs[key] for key in keys if key in call.attrs]
        given = list(call.attrs.get("activation_params", given))
        params = (*map(float, given[: len(params)]), *params[len(given) :])
        plain = ctx.fresh(f"{call.output}.plain")
        base(ctx, replace(call, outputs=(plain,)))
        ctx.emit(Unary((plain,), call.output, call.name, function=Function(function, params)))

    return handler


def _conv_with_sum(ctx: Context, call: Call) -> None:
    """Append a convolution plus an optional fourth input."""
    if not call.input(3):
        _conv(ctx, call)
        return
    product = ctx.fresh(f"{call.output}.product")
    _conv(ctx, replace(call, inputs=call.inputs[:3], outputs=(product,)))
    ctx.emit(Binary((product, ctx.tensor(call.input(3))), call.output, call.name, kind="add"))


MICROSOFT: Mapping[str, Handler] = {
    "FusedMatMul": _fused_matmul,
    "FusedGemm": _with_activation(_gemm),
    "FusedConv": _with_activation(_conv_with_sum),
}

HANDLERS: Mapping[str, Versions] = {
    "Conv": {1: _conv},
    "ConvTranspose": {1: _conv_transpose},
    "MatMul": {1: _matmul},
    "Gemm": {1: _gemm},
}
