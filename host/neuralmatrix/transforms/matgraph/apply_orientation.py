# SPDX-License-Identifier: Apache-2.0
"""The rewrite of a MatGraph to chosen orientations of its matrices.

In: a MatGraph without its transposing Moves, and which tensors lie transposed.  Out: an equal
MatGraph: operations with swapped operands, and Moves where an operand has the other orientation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...ir.matgraph.ops import Epilogue, Gemm, Linear, MatGraph, MatOp, Move, Port, Tensor
from ...ir.matgraph.predicates import is_transposition
from ...ir.matgraph.uses import Uses
from ...ir.types import Array, ViewStep

SWAP = ViewStep("transpose", (0, 1, 3, 2))

Bits = Mapping[str, bool]  # whether a tensor is stored transposed


@dataclass(frozen=True)
class Untransposed:
    """Operations without the transposing Moves; ``alias``: what those would have made."""

    mg: MatGraph
    ops: tuple[MatOp, ...]
    alias: Mapping[str, tuple[str, bool]]

    def root(self, name: str) -> tuple[str, bool]:
        """Return the tensor behind ``name``, and whether ``name`` is its transpose."""
        return self.alias.get(name, (name, False))


def without_transpositions(mg: MatGraph) -> Untransposed:
    """Return ``mg`` with its transposing Moves as aliases of their inputs."""
    alias: dict[str, tuple[str, bool]] = {}
    for op in mg.ops:
        if is_transposition(op, mg.tensors):
            root, flipped = alias.get(op.parts[0], (op.parts[0], False))
            alias[op.output] = (root, not flipped)
    return Untransposed(mg, tuple(op for op in mg.ops if op.output not in alias), alias)


def apply_orientation(net: Untransposed, bits: Bits) -> MatGraph:
    """Return the MatGraph with the orientations ``bits``."""
    return _Rebuilt(net, bits).graph()


class _Rebuilt:
    """Emits the operations in the chosen orientations."""

    def __init__(self, net: Untransposed, bits: Bits) -> None:
        self.net, self.bits = net, bits
        self.tensors = {name: t for name, t in net.mg.tensors.items() if name not in net.alias}
        self.constants = dict(net.mg.constants)
        self.ops: list[MatOp] = []
        self.uses = Uses.of(net.mg)
        for name, flipped in bits.items():
            if flipped:
                self.tensors[name] = _swapped(self.tensors[name])

    def graph(self) -> MatGraph:
        for op in self.net.ops:
            flip = self.bits.get(op.output, False)
            self.ops.append(self._flipped(op) if flip else self._plain(op))
        mg = self.net.mg
        inputs = tuple(self._input(port) for port in mg.inputs)
        outputs = tuple(self._output(port) for port in mg.outputs)
        return MatGraph(inputs, outputs, tuple(self.ops), self.tensors, self.constants, mg.quant)

    def stored(self, name: str) -> tuple[str, bool]:
        """Return the tensor that holds ``name``, and whether it is transposed."""
        root, flipped = self.net.root(name)
        return root, self.bits.get(root, False) ^ flipped

    def need(self, name: str, transposed: bool) -> str:
        """Return a tensor that holds ``name`` or its transpose; add a Move if there is none."""
        root, is_transposed = self.stored(name)
        if is_transposed == transposed:
            return root
        copy = f"{root}:transposed"
        if copy in self.tensors:
            return copy
        self.tensors[copy] = replace(_swapped(self.tensors[root]), name=copy)
        if root in self.constants:
            self.constants[copy] = self.constants[root].transpose(0, 1, 3, 2)
            return copy
        rows, cols = self.tensors[root].shape[2:]
        index = np.ascontiguousarray(np.arange(rows * cols).reshape(rows, cols).T)[None, None]
        maker = self.uses.maker(root)
        self.ops.append(Move(copy, (root,), index, source=maker.source if maker else ""))
        return copy

    def constant(self, name: str, array: Array) -> str:
        self.constants[name] = np.asarray(array, np.float32)
        n, h, w, c = array.shape
        self.tensors[name] = Tensor(name, (n, h, w, c), c == 1)
        return name

    def _input(self, port: Port) -> Port:
        flip = self.bits.get(port.tensor, False)
        return replace(port, steps=(*port.steps, SWAP)) if flip else port

    def _output(self, port: Port) -> Port:
        root, transposed = self.stored(port.tensor)
        steps = (SWAP, *port.steps) if transposed else port.steps
        return replace(port, tensor=root, steps=steps)

    def _plain(self, op: MatOp) -> MatOp:
        """Return the operation as declared; a right operand may have either orientation."""
        main = (op.input,) if isinstance(op, Gemm) else op.inputs
        names = (op.epilogue.residual, op.epilogue.hadamard, *main)
        op = op.renamed({name: self.need(name, False) for name in names if name})
        if not isinstance(op, Gemm) or op.rhs is None:
            return op
        rhs, transposed = self.stored(op.rhs)
        return replace(op, rhs=rhs, rhs_transposed=op.rhs_transposed ^ transposed)

    def _flipped(self, op: MatOp) -> MatOp:
        """Return the operation whose result is the transpose of ``op``'s."""
        assert isinstance(op, Linear)
        bias, epilogue = self._flipped_epilogue(op)
        if not isinstance(op, Gemm):
            return replace(op, input=self.need(op.input, True), bias=bias, epilogue=epilogue)
        rhs, transposed = self.stored(op.input)
        if op.rhs is not None:
            x = self.need(op.rhs, not op.rhs_transposed)
        else:
            assert op.weight is not None
            x = self.constant(f"{op.output}:weight", op.weight.transpose(0, 1, 3, 2))
            self.tensors[x] = replace(self.tensors[x], broadcast=False)
        return replace(op, input=x, weight=None, rhs=rhs, rhs_transposed=not transposed, bias=bias,
                       epilogue=epilogue)  # fmt: skip

    def _flipped_epilogue(self, op: Linear) -> tuple[Array, Epilogue]:
        """Return bias and epilogue of a transposed result: a bias per old channel is an operand."""
        e, rows = op.epilogue, self.net.mg.tensors[op.output].shape[2]
        hadamard = e.hadamard and self._flipped_operand(op.output, e.hadamard)
        bias = np.full(rows, op.bias[0], np.float32)
        if np.ptp(op.bias):
            bias = np.zeros(rows, np.float32)
            term = op.bias.reshape(1, 1, -1, 1)
            if e.residual:
                term = term + e.residual_gain * self.constants[e.residual].transpose(0, 1, 3, 2)
            residual = self.constant(f"{op.output}:bias", term)
            return bias, replace(e, residual=residual, residual_gain=1.0, hadamard=hadamard)
        operand = e.residual and self._flipped_operand(op.output, e.residual)
        return bias, replace(e, residual=operand, hadamard=hadamard)

    def _flipped_operand(self, output: str, name: str) -> str:
        if name not in self.net.mg.constants:
            return self.need(name, True)
        copy = f"{output}:{name}"
        return self.constant(copy, self.net.mg.constants[name].transpose(0, 1, 3, 2))


def _swapped(t: Tensor) -> Tensor:
    n, h, rows, cols = t.shape
    return replace(t, shape=(n, h, cols, rows))
