# SPDX-License-Identifier: Apache-2.0
"""Which matrices lie transposed, so that as few as possible are transposed by copying.

In: a MatGraph in which Moves transpose matrices (1, 1, R, C).  Out: an equal one with less work:
a product whose transposed result is wanted runs with its operands swapped, W^T x^T for (x W)^T.

Every tensor has one orientation in memory, as declared or transposed; an operation offers one or
both for its result, and says which it needs of its operands.  Moves remain where they differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from ...hardware.target import Target
from ...ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    Tensor,
    Window,
)
from ...ir.types import Array, ViewStep
from .fuse_epilogues import fuse_epilogues

LANES = 16  # of every supported array; only costs are ranked with it
LOAD_CYCLES = 2  # of a word
GATHER_CYCLES = 4  # of a byte that is moved alone
ALL_COMBINATIONS = 10  # tensors up to which every combination of orientations is tried
PAIRS = 24  # tensors up to which pairs are flipped together
SWAP = ViewStep("transpose", (0, 1, 3, 2))

Needs = tuple[tuple[str, bool | None], ...]  # operand, transposed or not (None: either)
Bits = Mapping[str, bool]


@dataclass(frozen=True)
class Choice:
    """One way to run an operation."""

    needs: Needs
    cycles: float


@dataclass
class _Net:
    """Operations without the transposing Moves; ``alias`` tells what those would have made."""

    mg: MatGraph
    ops: tuple[MatOp, ...]
    alias: Mapping[str, tuple[str, bool]]
    choices: Mapping[str, Mapping[bool, Choice]] = field(default_factory=dict)
    free: tuple[str, ...] = ()  # tensors that may lie transposed

    def root(self, name: str) -> tuple[str, bool]:
        """The tensor behind ``name``, and whether ``name`` is its transpose."""
        return self.alias.get(name, (name, False))


def choose_orientation(mg: MatGraph, target: Target) -> MatGraph:
    """``mg`` with the orientations that cost least; itself where nothing is to be gained."""
    moves = {op.output for op in mg.ops if is_transposition(op, mg.tensors)}
    if not moves or mg.quant:  # scales that a model prescribes stay with its own tensors
        return mg
    mg = _with_settled_biases(mg)
    net = _net(mg, moves)
    bits = _search(net)
    return fuse_epilogues(_Rebuilt(net, bits).graph(), target) if any(bits.values()) else mg


def is_transposition(op: MatOp, tensors: Mapping[str, Tensor]) -> bool:
    """A Move of one matrix to its transpose."""
    if not isinstance(op, Move) or len(op.inputs) > 1:
        return False
    x, out = tensors[op.inputs[0]], tensors[op.output]
    rows, cols = x.shape[2:]
    if x.shape[:2] != (1, 1) or out.shape != (1, 1, cols, rows) or x.replicated or out.replicated:
        return False
    return bool(np.array_equal(op.index[0, 0].T.reshape(-1), np.arange(rows * cols)))


def _net(mg: MatGraph, moves: set[str]) -> _Net:
    alias: dict[str, tuple[str, bool]] = {}
    for op in mg.ops:
        if isinstance(op, Move) and op.output in moves:
            root, flipped = alias.get(op.inputs[0], (op.inputs[0], False))
            alias[op.output] = (root, not flipped)
    net = _Net(mg, tuple(op for op in mg.ops if op.output not in moves), alias)
    net.choices = {op.output: dict(_choices(op, net)) for op in net.ops}
    made = [name for name, choices in net.choices.items() if True in choices]
    inputs = [p.tensor for p in mg.inputs if _is_matrix(mg.tensors[p.tensor])]
    net.free = tuple(dict.fromkeys((*inputs, *made)))
    return net


def _is_matrix(t: Tensor) -> bool:
    return t.shape[:2] == (1, 1) and not t.replicated


# ---------------------------------------------------------------- what an operation offers


def _choices(op: MatOp, net: _Net) -> Iterator[tuple[bool, Choice]]:
    """The orientations an operation can give its result in: as declared, and perhaps transposed."""
    yield False, Choice(_plain_needs(op), _plain_cycles(op, net.mg.tensors))
    if not isinstance(op, Gemm | Window) or not _may_swap(op, net):
        return
    extra = tuple((n, True) for n in _run_time_operands(op.epilogue, net.mg))
    if isinstance(op, Window):
        yield True, Choice(((op.input, True), *extra), 0)
        return
    main: Needs = ((op.input, None),)
    if op.rhs is not None:
        main = ((op.rhs, not op.rhs_transposed), (op.input, None))
    rows, channels = net.mg.tensors[op.output].shape[2:]
    depth = net.mg.tensors[op.input].shape[3]
    yield True, Choice((*main, *extra), _product_cycles(channels, depth, rows))


def _plain_needs(op: MatOp) -> Needs:
    either = {op.rhs} if isinstance(op, Gemm) and op.rhs != op.input else set()
    return tuple((name, None if name in either else False) for name in op.inputs)


def _plain_cycles(op: MatOp, tensors: Mapping[str, Tensor]) -> float:
    """Only what changes with the orientation: products."""
    if not isinstance(op, Gemm):
        return 0
    n, h, w, channels = tensors[op.output].shape
    blocks = None if op.weight is None else nonzero_blocks(op.weight)
    return _product_cycles(n * h * w, tensors[op.input].shape[3], channels, blocks)


def nonzero_blocks(weight: Array) -> int:
    """Blocks of LANES x LANES weights that are not all zero."""
    kh, kw, c, m = weight.shape
    pads = ((0, 0), (0, 0), (0, -c % LANES), (0, -m % LANES))
    cells = np.pad(weight != 0, pads).reshape(kh, kw, -1, LANES, -(-m // LANES), LANES)
    return int(cells.any(axis=(3, 5)).sum())


def _product_cycles(rows: int, depth: int, channels: int, blocks: int | None = None) -> float:
    """The longer of passes and loads of ``rows`` positions times depth x channels weights."""
    k = -(-depth // LANES)
    if blocks is None:
        blocks = k * -(-channels // LANES)
    return max(blocks * max(rows, LANES), LOAD_CYCLES * (blocks * LANES + rows * k))


def _may_swap(op: Gemm | Window, net: _Net) -> bool:
    """Can the transposed result be computed from operands that exist?"""
    mg, e = net.mg, op.epilogue
    out, x = mg.tensors[op.output], mg.tensors[op.input]
    if e.rows or op.weight_scale is not None or not (_is_matrix(out) and _is_matrix(x)):
        return False
    plain = (op.strides, op.pads) == ((1, 1), (0, 0, 0, 0))
    kernel = op.weight is None or op.weight.shape[:2] == (1, 1)
    operands = [mg.tensors[net.root(n)[0]] for n in _run_time_operands(e, mg)]
    fits = all(math.prod(t.shape) == math.prod(out.shape) for t in operands)
    if not (plain and kernel and fits and all(map(_is_matrix, operands)) and _bias_fits(op, mg)):
        return False
    if isinstance(op, Gemm):
        return op.groups == 1 and (op.rhs is None or _is_matrix(mg.tensors[op.rhs]))
    uniform = op.weight.size == 1 and op.reduce == "add" and op.minus is None
    return uniform and x.shape == out.shape


def _run_time_operands(e: Epilogue, mg: MatGraph) -> tuple[str, ...]:
    return tuple(n for n in (e.residual, e.hadamard) if n and n not in mg.constants)


def _bias_fits(op: Gemm | Window, mg: MatGraph) -> bool:
    """A bias per position has to enter as the residual."""
    return not np.ptp(op.bias) or not op.epilogue.residual or op.epilogue.residual in mg.constants


def _with_settled_biases(mg: MatGraph) -> MatGraph:
    """Biases beside a run-time residual move into what makes that residual, where only that is
    read there."""
    uses = Counter(t for op in mg.ops for t in op.inputs)
    uses.update(port.tensor for port in mg.outputs)
    ops = {op.output: op for op in mg.ops}
    constants, tensors = dict(mg.constants), dict(mg.tensors)
    for name, op in ops.items():
        residual = op.epilogue.residual if isinstance(op, Gemm | Window) else None
        if not isinstance(op, Gemm | Window) or residual not in ops or not np.ptp(op.bias):
            continue
        source, transposed, uses_once = ops[residual], False, uses[residual] == 1
        if is_transposition(source, mg.tensors) and isinstance(source, Move):
            uses_once &= uses[source.inputs[0]] == 1
            source, transposed = ops.get(source.inputs[0], source), True
        if not isinstance(source, Gemm | Window) or source.epilogue != Epilogue() or not uses_once:
            continue
        term = np.asarray(op.bias / op.epilogue.residual_gain, np.float32)
        if transposed:
            extra = f"{source.output}:bias"
            constants[extra] = term.reshape(1, 1, -1, 1)
            tensors[extra] = Tensor(extra, (1, 1, len(term), 1), True)
            ops[source.output] = replace(source, epilogue=Epilogue(residual=extra))
        else:
            ops[source.output] = replace(source, bias=source.bias + term)
        ops[name] = replace(op, bias=np.zeros_like(op.bias))
    return replace(mg, ops=tuple(ops.values()), constants=constants, tensors=tensors)


# ---------------------------------------------------------------- the choice


def _search(net: _Net) -> Bits:
    """The cheapest orientations: of all where they are few, else by flips that gain something."""
    bits = dict.fromkeys(net.free, False)
    best = _cost(net, bits)
    if len(net.free) <= ALL_COMBINATIONS:
        for count in range(1, len(net.free) + 1):
            for flipped in combinations(net.free, count):
                trial = {name: name in flipped for name in net.free}
                cost = _cost(net, trial)
                if cost < best:
                    best, bits = cost, trial
        return bits
    groups: list[tuple[str, ...]] = [(name,) for name in net.free]
    if len(net.free) <= PAIRS:
        groups += list(combinations(net.free, 2))
    improved = True
    while improved:
        improved = False
        for group in groups:
            trial = {name: bit ^ (name in group) for name, bit in bits.items()}
            cost = _cost(net, trial)
            if cost < best:
                best, bits, improved = cost, trial, True
    return bits


def _cost(net: _Net, bits: Bits) -> float:
    """Cycles of the products and of the Moves that remain."""
    total, copied = 0.0, set()
    for op in net.ops:
        choice = net.choices[op.output].get(bits.get(op.output, False))
        if choice is None:
            return math.inf
        total += choice.cycles
        for name, wanted in choice.needs:
            root, flipped = net.root(name)
            is_fixed = root not in net.mg.constants and wanted is not None
            if is_fixed and bits.get(root, False) ^ flipped != wanted:
                copied.add(root)
    return total + sum(GATHER_CYCLES * math.prod(net.mg.tensors[root].shape) for root in copied)


# ---------------------------------------------------------------- the new graph


class _Rebuilt:
    """Emits the operations in the chosen orientations."""

    def __init__(self, net: _Net, bits: Bits) -> None:
        self.net, self.bits = net, bits
        self.tensors = {name: t for name, t in net.mg.tensors.items() if name not in net.alias}
        self.constants = dict(net.mg.constants)
        self.ops: list[MatOp] = []
        self.sources = {name: op.source for op in net.mg.ops for name in op.outputs}
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
        """The tensor that holds ``name``, and whether transposed."""
        root, flipped = self.net.root(name)
        return root, self.bits.get(root, False) ^ flipped

    def need(self, name: str, transposed: bool) -> str:
        """A tensor that holds ``name`` or its transpose, copied where there is none."""
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
        self.ops.append(Move(copy, (root,), index, source=self.sources.get(root, "")))
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
        if isinstance(op, Move):
            return replace(op, parts=tuple(self.need(name, False) for name in op.inputs))
        if isinstance(op, RowMax):
            return replace(op, input=self.need(op.input, False))
        assert isinstance(op, Gemm | Window)
        e = op.epilogue
        residual = e.residual and self.need(e.residual, False)
        hadamard = e.hadamard and self.need(e.hadamard, False)
        epilogue = replace(e, residual=residual, hadamard=hadamard)
        x = self.need(op.input, False)
        if isinstance(op, Window):
            minus = op.minus and self.need(op.minus, False)
            return replace(op, input=x, minus=minus, epilogue=epilogue)
        if op.rhs is None:
            return replace(op, input=x, epilogue=epilogue)
        rhs, transposed = self.stored(op.rhs)
        flag = op.rhs_transposed ^ transposed
        return replace(op, input=x, rhs=rhs, rhs_transposed=flag, epilogue=epilogue)

    def _flipped(self, op: MatOp) -> MatOp:
        """The operation whose result is the transpose of ``op``'s."""
        assert isinstance(op, Gemm | Window)
        bias, epilogue = self._flipped_epilogue(op)
        if isinstance(op, Window):
            return replace(op, input=self.need(op.input, True), bias=bias, epilogue=epilogue)
        rhs, transposed = self.stored(op.input)
        if op.rhs is not None:
            x = self.need(op.rhs, not op.rhs_transposed)
        else:
            assert op.weight is not None
            x = self.constant(f"{op.output}:weight", op.weight.transpose(0, 1, 3, 2))
            self.tensors[x] = replace(self.tensors[x], replicated=False)
        return replace(op, input=x, weight=None, rhs=rhs, rhs_transposed=not transposed, bias=bias,
                       epilogue=epilogue)  # fmt: skip

    def _flipped_epilogue(self, op: Gemm | Window) -> tuple[Array, Epilogue]:
        """Channels were positions: what differs among the old channels becomes an operand."""
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
