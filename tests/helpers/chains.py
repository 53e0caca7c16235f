# SPDX-License-Identifier: Apache-2.0
"""Chains of operations on one input, and their ranges.

In: operations.  Out: a MatGraph on "x" whose last result is the output "y".
"""

from __future__ import annotations

import numpy as np
from neuralmatrix.ir.matgraph.ops import Gemm, MatGraph, MatOp, Port, RowMax, Tensor
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.points import Ranges
from neuralmatrix.ir.types import Array, QParams
from quantized import observed

RNG = np.random.default_rng(3)


def chain(shape: tuple[int, ...], *ops: MatOp, quant: dict[str, QParams] | None = None) -> MatGraph:
    """Return a chain of operations on "x"; its evaluation gives the shapes of the outputs."""
    tensors = {"x": Tensor("x", shape)}  # type: ignore[arg-type]
    draft = MatGraph((Port("x", shape, "x", ()),), (), ops, tensors, {}, {})
    for op in ops:
        partial = MatGraph(draft.inputs, (), ops[: ops.index(op) + 1], tensors, {}, {})
        values = run_float(partial, {"x": np.zeros(shape, np.float32)})
        made = values[op.output].shape
        tensors[op.output] = Tensor(op.output, made, isinstance(op, RowMax))
    last = tensors[ops[-1].output]
    outputs = (Port("y", last.shape, last.name, ()),)
    return MatGraph(draft.inputs, outputs, ops, tensors, {}, quant or {})


def bounds(mg: MatGraph, x: Array) -> Ranges:
    return observed(mg, {"x": x})


def dense(c: int, m: int, scale: float = 0.2, **fields: object) -> Gemm:
    weight = RNG.standard_normal((1, 1, c, m)) * scale
    return Gemm("y", "x", weight, RNG.standard_normal(m), **fields)  # type: ignore[arg-type]


def feed(*shape: int) -> Array:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)
