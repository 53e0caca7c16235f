# SPDX-License-Identifier: Apache-2.0
"""The MatGraph under construction: tensors, operations, and the forms of values.

In: requests of the lowering rules.  Out: MatOps in execution order; layout changes become at most
one Move, made when a consumer needs the result.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from ...ir.axis_view import (
    Groups,
    Relabel,
    View,
    default_groups,
    dims_of,
    from_canonical,
    groups_of,
    reshape,
    to_array,
    to_canonical,
    transpose,
    view_of,
)
from ...ir.graph.nodes import Graph, Node
from ...ir.matgraph.ops import Epilogue, Gemm, MatOp, Move, Port, Tensor, Window
from ...ir.types import Array, QParams, Shape, apply_steps


class Refused(Exception):
    """One node cannot run on the array; the message is the reason."""


@dataclass(frozen=True)
class Direct:
    """A MatGraph tensor and the view of the logical tensor in it.

    ``via``: the last reshape or transpose that made the view, after which a Move is named.
    """

    tensor: str
    view: View
    via: str = field(default="", compare=False)

    @property
    def shape(self) -> Shape:
        return self.view.shape


@dataclass(frozen=True)
class Gathered:
    """Elements of ``sources`` (flattened one after the other) that no tensor holds yet.

    ``index`` has the logical shape; -1 is ``fill``.  ``groups``: the form that the sources suggest.
    """

    name: str
    sources: tuple[str, ...]
    index: Array
    fill: float = 0.0
    groups: Groups | None = None

    @property
    def shape(self) -> Shape:
        return self.index.shape


Value = Direct | Gathered


class Builder:
    """Collects tensors, constants and operations of one MatGraph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.tensors: dict[str, Tensor] = {}
        self.constants: dict[str, Array] = {}
        self.quant: dict[str, QParams] = {}
        self.ops: list[MatOp] = []
        self.values: dict[str, Value] = {}
        self.producers = {node.output: node for node in graph.nodes}
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.readers.setdefault(name, []).append(node)
        self.uses = Counter({name: len(nodes) for name, nodes in self.readers.items()})
        self.ports: list[Port] = []  # network inputs that rules declare: gathers
        self.shared: dict[tuple[object, ...], Direct] = {}  # tensors that several nodes share
        self._forms: dict[tuple[object, ...], Direct] = {}
        self._settled: dict[tuple[str, Shape], Direct] = {}  # the first form of each gather
        self._broadcast: dict[str, str] = {}

    def fresh(self, name: str) -> str:
        """Return ``name``, or ``name`` with the first free number."""
        taken, number = name, 1
        while taken in self.tensors:
            number += 1
            taken = f"{name}:{number}"
        return taken

    def declare(self, name: str, shape: Shape, broadcast: bool = False) -> str:
        """Register a new (N,H,W,C) tensor and return its final name."""
        name = self.fresh(name)
        n, h, w, c = shape
        self.tensors[name] = Tensor(name, (n, h, w, c), broadcast)
        if name in self.graph.quant:
            self.quant[name] = self.graph.quant[name]
        return name

    def emit(self, op: MatOp, view: View, broadcast: bool = False) -> Direct:
        """Append an operation whose result has the view ``view``."""
        name = self.declare(op.output, view.canonical, broadcast)
        self.ops.append(op if name == op.output else replace(op, output=name))
        return Direct(name, view)

    def constant(self, name: str, array: Array, broadcast: bool) -> str:
        """Register an (N,H,W,C) operand."""
        name = self.declare(name, array.shape, broadcast)
        self.constants[name] = np.asarray(array, np.float32)
        return name

    def value(self, name: str) -> Value:
        """Return the value of a Graph tensor; this makes a tensor of a constant."""
        if name not in self.values:
            array = self.graph.constants[name]
            view = view_of(array.shape, default_groups(array.ndim))
            steps = to_canonical(view)
            tensor = self.constant(name, apply_steps(array, steps), False)
            self.values[name] = Direct(tensor, view)
        return self.values[name]

    def form(self, value: Value, groups: Groups) -> Direct:
        """Return ``value`` with logical axes in N, H, W, C as ``groups`` says, by a Move if
        needed."""
        if isinstance(value, Gathered):
            return self._materialized(value, groups)
        dims = dims_of(value.view, groups)
        return value if dims == value.view.dims else self._relabeled(value, dims)

    def direct(self, value: Value) -> Direct:
        """Return ``value`` as a tensor in the cheapest form."""
        if isinstance(value, Direct):
            return value
        return self._materialized(value, value.groups or default_groups(len(value.shape)))

    def _relabeled(self, value: Direct, dims: Groups) -> Direct:
        view = View(value.view.shape, value.view.atoms, dims)
        place = {atom: i for i, atom in enumerate(value.view.order)}
        sizes = tuple(value.view.atoms[a] for a in value.view.order)
        key = ("relabel", value.tensor, sizes, tuple(tuple(place[a] for a in dim) for dim in dims))
        if key not in self._forms:
            index = to_array(
                tensor_index(self.tensors[value.tensor], value.view), to_canonical(view)
            )
            name = self.fresh(value.via or f"{value.tensor}:moved")
            relabel = Relabel(value.view, dims)
            source = self.origin(value.via or value.tensor)
            move = Move(name, (value.tensor,), index, source=source, relabel=relabel)
            done = self.emit(move, view)
            if value.tensor in self.quant:
                self.quant[done.tensor] = self.quant[value.tensor]
            self._forms[key] = done
        return Direct(self._forms[key].tensor, view)

    def settled(self, value: Value) -> Value:
        """Return ``value`` as the tensor that an earlier reader had made of it, if one had."""
        if isinstance(value, Direct):
            return value
        return self._settled.get((value.name, value.shape), value)

    def _materialized(self, value: Gathered, groups: Groups) -> Direct:
        view = view_of(value.shape, groups)
        key = ("gather", value.name, value.shape, view.dims)
        if key not in self._forms:
            self._forms[key] = made = self._move(value, view)
            self._settled.setdefault((value.name, value.shape), made)
        return self._forms[key]

    def _move(self, value: Gathered, view: View) -> Direct:
        index = to_array(value.index, to_canonical(view))
        if self._copies(value, index):
            return Direct(value.sources[0], view)
        known = {self.quant.get(s) for s in value.sources}
        name = self.fresh(value.name)
        q = self.graph.quant.get(value.name) or (known.pop() if len(known) == 1 else None)
        sources = tuple(self._requantized(s, q, name) for s in value.sources)
        move = Move(name, sources, index, value.fill, source=self.origin(value.name))
        done = self.emit(move, view)
        if q is not None:
            self.quant[done.tensor] = q
        return done

    def _copies(self, value: Gathered, index: Array) -> bool:
        """Return whether a Move would only copy its one source."""
        q = self.graph.quant.get(value.name)
        source = value.sources[0] if len(value.sources) == 1 else ""
        if not source or self.tensors[source].shape != index.shape:
            return False
        same = q is None or q == self.quant.get(source)
        return same and bool(np.array_equal(index.reshape(-1), np.arange(index.size)))

    def _requantized(self, source: str, q: QParams | None, name: str) -> str:
        """Return the source, requantised if it has another prescribed scale: a Move copies
        values."""
        if q is None or self.quant.get(source, q) == q:
            return source
        tensor = self.tensors[source]
        copy = self.identity(source, f"{source}:for:{name}", self.origin(name))
        self.quant[copy] = q
        return copy if tensor.shape == self.tensors[copy].shape else source

    def identity(self, tensor: str, name: str, source: str) -> str:
        """Copy a tensor through a 1x1 window of weight 1."""
        shape, broadcast = self.tensors[tensor].shape, self.tensors[tensor].broadcast
        name = self.declare(name, shape, broadcast)
        ones, zeros = np.ones((1, 1, 1), np.float32), np.zeros(shape[3], np.float32)
        self.ops.append(Window(name, tensor, ones, zeros, source=source))
        return name

    def window(
        self,
        x: Direct,
        name: str,
        source: str,
        *,
        weight: Array | float = 1.0,
        bias: Array | float = 0.0,
        epilogue: Epilogue | None = None,
        minus: str | None = None,
    ) -> Direct:
        """Emit the window act(weight * (x - minus) + bias + gain * residual) * hadamard."""
        channels = self.tensors[x.tensor].shape[3]
        w = np.asarray(weight, np.float32).reshape(1, 1, -1)
        b = np.broadcast_to(np.asarray(bias, np.float32), (channels,)).copy()
        epilogue = epilogue or Epilogue()
        op = Window(name, x.tensor, w, b, epilogue=epilogue, minus=minus, source=source)
        others = [t for t in (epilogue.residual, epilogue.hadamard) if t]
        alike = channels == 1 and len(b) == 1
        broadcast = alike and all(self.tensors[t].broadcast for t in (x.tensor, *others))
        return self.emit(op, x.view, broadcast)

    def broadcast_parameters(self, tensor: str, source: str) -> str:
        """Broadcast a one-channel tensor to every lane, by a product with a single 1."""
        if self.tensors[tensor].broadcast:
            return tensor
        if tensor in self.constants:
            self.tensors[tensor] = replace(self.tensors[tensor], broadcast=True)
            return tensor
        if tensor not in self._broadcast:
            one, zero = np.ones((1, 1, 1, 1), np.float32), np.zeros(1, np.float32)
            name = self.declare(f"{tensor}:lanes", self.tensors[tensor].shape, True)
            self.ops.append(Gemm(name, tensor, one, zero, source=source))
            if tensor in self.quant:
                self.quant[name] = self.quant[tensor]
            self._broadcast[tensor] = name
        return self._broadcast[tensor]

    def origin(self, tensor: str) -> str:
        """Return the source node name of a Graph tensor, for helper operations."""
        while tensor not in self.producers and ":" in tensor:
            tensor = tensor.rpartition(":")[0]
        node = self.producers.get(tensor)
        return node.source if node else ""

    def finish(self, node: Node, value: Value) -> None:
        """Bind a node's result; a prescribed scale needs a tensor with exactly that scale."""
        name = node.output
        q = self.graph.quant.get(name)
        if q is not None and not (isinstance(value, Direct) and value.tensor == name):
            value = self._annotated(node, value, q)
        self.values[name] = value

    def _annotated(self, node: Node, value: Value, q: QParams) -> Value:
        if isinstance(value, Gathered):
            same = all(self.quant.get(s) == q for s in value.sources)
            return value if same else self.direct(value)
        known = self.quant.get(value.tensor)
        if known is None and self._only_seen_as(node, value.tensor):
            self.quant[value.tensor] = q
        elif known != q:
            copy = self.identity(value.tensor, node.output, node.source)
            return Direct(copy, value.view)
        return value

    def _only_seen_as(self, node: Node, tensor: str) -> bool:
        """Return whether only ``node`` reads the tensor that its result is a view of."""
        names = {node.inputs[0], tensor}
        return all(self.uses[n] <= 1 and n not in self.graph.outputs for n in names)


def tensor_index(tensor: Tensor, view: View) -> Array:
    """Return for every logical element its flat index in the tensor."""
    flat = np.arange(prod(tensor.shape), dtype=np.int64).reshape(tensor.shape)
    return apply_steps(flat, from_canonical(view))


def gathered(b: Builder, value: Value, name: str) -> Gathered:
    """Return any value as an index into tensors."""
    if isinstance(value, Gathered):
        return replace(value, name=name)
    index = tensor_index(b.tensors[value.tensor], value.view)
    return Gathered(name, (value.tensor,), index, groups=groups_of(value.view))


def reshaped(b: Builder, value: Value, shape: Shape, name: str) -> Value:
    """Return ``value`` reshaped; it is free where no data move."""
    if shape == value.shape:
        return value
    if isinstance(value, Direct):
        view = reshape(value.view, shape)
        if view is not None:
            return Direct(value.tensor, view, name)
    whole = gathered(b, value, name)
    return replace(whole, index=whole.index.reshape(shape), groups=None)


def transposed(value: Value, perm: tuple[int, ...], name: str) -> Value:
    """Return ``value`` with its logical axes permuted, which is free."""
    if isinstance(value, Direct):
        return Direct(value.tensor, transpose(value.view, perm), name)
    place = {axis: i for i, axis in enumerate(perm)}
    groups = value.groups and tuple(tuple(place[a] for a in g) for g in value.groups)
    return replace(value, name=name, index=value.index.transpose(perm), groups=groups)


def broadcast_value(b: Builder, value: Value, shape: Shape, name: str) -> Value:
    """Return ``value`` repeated to ``shape``; leading axes may be new."""
    lead = (1,) * (len(shape) - len(value.shape))
    value = reshaped(b, value, (*lead, *value.shape), name)
    if value.shape == shape:
        return value
    whole = gathered(b, value, name)
    # the form of a value without channels does not matter
    hints = isinstance(value, Gathered) or value.view.canonical[3] > 1
    return replace(
        whole,
        index=np.broadcast_to(whole.index, shape),
        groups=whole.groups if hints else None,
    )
