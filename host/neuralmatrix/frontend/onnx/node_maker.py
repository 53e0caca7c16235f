# SPDX-License-Identifier: Apache-2.0
"""Builds the nodes of composite operators: reshapes, products, heads split and merged.

In: the ``Context``, one ``Call`` and names of tensors.  Out: Graph nodes in the ``Context``, the
names of their results.
"""

from __future__ import annotations

import numpy as np

from ...errors import BadModel
from ...ir.graph.nodes import Binary, MatMul, Reshape, Take, Transpose
from ...ir.types import Array, Shape
from .context import Call, Context, Refused

HEADS_FIRST = (0, 2, 1, 3)


class NodeMaker:
    """Appends nodes with names that begin with one node's output."""

    def __init__(self, ctx: Context, call: Call) -> None:
        self.ctx, self.call = ctx, call

    def name(self, label: str) -> str:
        return self.ctx.fresh(f"{self.call.output}.{label}")

    def shape(self, tensor: str) -> Shape:
        return self.ctx.shapes[tensor]

    def constant(self, label: str, array: Array) -> str:
        return self.ctx.constant(f"{self.call.output}.{label}", np.asarray(array, np.float32))

    def reshape(self, x: str, shape: Shape, out: str = "") -> str:
        out = out or self.name("reshaped")
        return self.ctx.emit(Reshape((x,), out, self.call.name, shape=shape))

    def transpose(self, x: str, perm: tuple[int, ...]) -> str:
        return self.ctx.emit(Transpose((x,), self.name("turned"), self.call.name, perm=perm))

    def matmul(self, x: str, y: str, out: str = "") -> str:
        return self.ctx.emit(MatMul((x, y), out or self.name("product"), self.call.name))

    def binary(self, kind: str, x: str, y: str, out: str = "") -> str:
        node = Binary((x, y), out or self.name(kind), self.call.name, kind=kind)  # type: ignore[arg-type]
        return self.ctx.emit(node)

    def scaled(self, x: str, factor: float) -> str:
        return self.binary("mul", x, self.constant("factor", np.asarray(factor)))

    def split_heads(self, x: str, heads: int) -> str:
        """Reshape and transpose (B, S, heads * D) to (B, heads, S, D)."""
        batch, length, width = self.shape(x)
        if not heads or width % heads:
            raise BadModel(
                f"node {self.call.name!r} ({self.call.op}): {width} channels for {heads} heads; "
                "the heads must divide them; correct the model"
            )
        parts = self.reshape(x, (batch, length, heads, width // heads))
        return self.transpose(parts, HEADS_FIRST)

    def merge_heads(self, x: str, out: str) -> None:
        batch, heads, length, size = self.shape(x)
        self.reshape(self.transpose(x, HEADS_FIRST), (batch, length, heads * size), out)

    def repeated(self, x: str, heads: int) -> str:
        """Repeat every head of keys or values once for each of its heads of queries."""
        own = self.shape(x)[1]
        if own == heads:
            return x
        if heads % own:
            raise Refused(f"{heads} heads of queries for {own} of keys; a multiple is supported")
        indices = tuple(int(i) for i in np.repeat(np.arange(own), heads // own))
        node = Take((x,), self.name("repeated"), self.call.name, axis=1, indices=indices)
        return self.ctx.emit(node)
