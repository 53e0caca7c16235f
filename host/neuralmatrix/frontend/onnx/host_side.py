# SPDX-License-Identifier: Apache-2.0
"""What of a model the host computes: integers in front of the array, and what the array cannot do
where nothing behind it needs the array.

In: nodes in execution order.  Out: the nodes for the array in the ``Context``, and the operations
of the host.  In the middle of a network nothing runs on the host: a node whose result the array
needs is blocked.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import prod

import numpy as np

from ...ir.host.operators import OPERATORS, SHAPED_BY, evaluate
from ...ir.host.run import FAULTS
from ...ir.host.types import ELEMENT_TYPES, HostOp
from ...ir.types import Array
from .context import Call, Context, Refused, RowIndices
from .control_flow import CONTROL
from .host_forms import Form, host_form
from .host_rows import is_pick, pick_rows
from .import_onnx import INTEGRAL_INPUTS, Source, run_node
from .ops.gather import selects

MOST_REALS = 1  # of a constant of reals with which the host makes integers
_SIZES = ("Shape", "Size")
_INDEXED = ("Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND")
_BIND = (
    "indices of computed tensors (edges of a graph) must be constants: bind that input "
    "(constants=, --constant)"
)
_EXTREMES = ("ArgMax", "ArgMin")


class HostSide:
    """Shares nodes between host and array while the importer walks over them.

    ``reasons``: why the array alone refuses a node, by its name.  ``barred``: results that the host
    may not compute behind the array, and why.  ``blocked`` receives such results: the node that
    needs the array behind them.
    """

    def __init__(
        self, source: Source, reasons: Mapping[str, str], barred: Mapping[str, str]
    ) -> None:
        self.source, self.reasons, self.barred = source, reasons, barred
        self.blocked: dict[str, Call] = {}
        self.before: list[HostOp] = []
        self.after: list[HostOp] = []
        self.constants: dict[str, Array] = {}
        self.delivered: dict[str, None] = {}  # values in front that the array reads, in order
        self.shown: dict[str, None] = {}  # values of the array that the host reads
        self.reals: dict[str, Array] = {}  # in front, and on the array too
        self.behind: dict[str, frozenset[str]] = {}  # value -> the first results behind the array
        self.examples: dict[str, Array | None] = {}  # of values behind; None: of any size
        self._makers = {name: call for call in source.calls for name in call.outputs if name}
        self._reach: dict[str, bool] = {}
        self.bits: set[str] = set()  # integers that are 0 or 1
        self._inside = 0  # depth of subgraphs

    def start(self, ctx: Context) -> None:
        """Take the inputs of integer types."""
        for value in self.source.inputs:
            kind = value.type.tensor_type.elem_type
            if kind in INTEGRAL_INPUTS:
                for table in (ctx.rows, ctx.values, ctx.integral):
                    table.pop(value.name, None)
                ctx.integers.discard(value.name)
                shape = self.source.shapes[value.name]
                ctx.examples[value.name] = np.zeros(shape, ELEMENT_TYPES[kind])

    def run(self, ctx: Context, call: Call) -> None:
        """Handle one node on the host or on the array."""
        read = [name for name in call.reads if name and name not in ctx.known]
        if any(name in self.behind for name in read):
            self._follow(ctx, call, read)
        elif not self._lead(ctx, call, read):
            self._on_array(ctx, self._with_inputs(ctx, call), read)

    # ------------------------------------------------------------ in front of the array

    def _lead(self, ctx: Context, call: Call, read: list[str]) -> bool:
        """Compute a node in front of the array; return whether the array need not."""
        known = {**ctx.examples, **self.reals}
        if not read or not all(name in known for name in read) or self._inside:
            return False
        form = None if call.op in _SIZES else host_form(ctx, call)
        if form is None or OPERATORS[call.op].any_size or _shaped_by_data(form):
            return False
        if any(a.dtype.kind == "f" and a.size > MOST_REALS for a in form[1].values()):
            return False  # a table, whose rows the array gets
        try:
            made = evaluate(form[0], {**known, **form[1]})
        except FAULTS:
            return False
        kinds = {array.dtype.kind == "f" for array in made.values()}
        if len(kinds) > 1:
            return False
        self._record(self.before, form)
        table = self.reals if True in kinds else ctx.examples
        table.update(made)
        return table is ctx.examples

    def _with_inputs(self, ctx: Context, call: Call) -> Call:
        """Give the array what a node reads of the host; indices of a table under another name."""
        names = dict.fromkeys(call.inputs)
        for name in call.reads:
            if name not in ctx.examples:
                continue
            example = ctx.examples[name]
            if selects(call, name):
                if call.op != "Gather" or call.input(0) in ctx.known:
                    names[name] = self._as_rows(ctx, name, example)
            elif name not in ctx.values:
                self._deliver(ctx, name)
        return replace(call, inputs=tuple(names.get(n) or n for n in call.inputs))

    def _deliver(self, ctx: Context, name: str) -> None:
        example = ctx.examples[name]
        ctx.values[name] = name
        ctx.shapes[name] = example.shape
        if example.dtype.kind != "f":
            ctx.integral[name] = example.dtype.kind == "b" or name in self.bits
            ctx.integers.add(name)
        self.delivered[name] = None

    def _front(self, ctx: Context) -> Callable[[HostOp, dict[str, Array]], None]:
        """Return what records an operation in front of the array that is no node of the model."""

        def record(op: HostOp, constants: dict[str, Array]) -> None:
            ctx.examples.update(evaluate(op, {**ctx.examples, **constants}))
            self._record(self.before, (op, constants))
            self.bits.update(op.outputs if op.op == "OneHot" else ())

        return record

    def _as_rows(self, ctx: Context, name: str, example: Array) -> str:
        key = f"{name}\0rows"
        ctx.shapes[name] = example.shape
        index = np.arange(prod(example.shape), dtype=np.int64).reshape(example.shape)
        ctx.rows[key] = RowIndices(name, index)
        self.delivered[name] = None
        return key

    # ------------------------------------------------------------ on the array

    def _on_array(self, ctx: Context, call: Call, read: list[str]) -> None:
        count = len(ctx.nodes)
        self._inside += call.op in CONTROL
        try:
            if call.op in _EXTREMES and ctx.users.get(call.output):
                raise Refused("its result is used inside the network; it is supported at an output")
            run_node(ctx, call, self.run)
        except Refused as reason:
            del ctx.nodes[count:]
            self._send(ctx, call, read, reason)
        finally:
            self._inside -= call.op in CONTROL

    def _send(self, ctx: Context, call: Call, read: list[str], reason: Refused) -> None:
        """Have the host compute what the array refuses, in front of it or behind it."""
        if call.outputs and all(name in self.reals for name in call.outputs if name):
            ctx.examples.update((name, self.reals.pop(name)) for name in call.outputs if name)
            return
        first = self.reasons.get(call.name, str(reason))
        if call.op in _INDEXED and call.input(1) in ctx.examples:
            first = f"the indices {call.input(1)!r} are those of an input; {_BIND}"
        if call.output in self.barred and not self._inside and is_pick(ctx, call):
            pick_rows(ctx, call, self._front(ctx), lambda name: self._deliver(ctx, name))
            return
        if call.output in self.barred:
            raise Refused(f"{first}; {self.barred[call.output]}")
        form = None if self._inside else host_form(ctx, call)
        if form is None or not all(self._reaches_host(ctx, name) for name in read):
            raise Refused(first)
        self._record_behind(ctx, form, read, frozenset({call.output}))

    # ------------------------------------------------------------ behind the array

    def _follow(self, ctx: Context, call: Call, read: list[str]) -> None:
        """Compute a node that reads results behind the array, or note that it cannot be."""
        roots = frozenset().union(*(self.behind.get(name, frozenset()) for name in read))
        example = self.examples.get(read[0])
        if call.op in _SIZES and example is not None:
            sizes = HostOp(call.op, call.inputs, call.outputs,
                           tuple((k, int(v)) for k, v in call.attrs.items()))  # fmt: skip
            ctx.known.update(evaluate(sizes, {read[0]: example}))
            return
        form = host_form(ctx, call)
        if form is not None and all(self._reaches_host(ctx, name) for name in read):
            self._record_behind(ctx, form, read, roots)
            return
        for root in roots:
            self.blocked.setdefault(root, call)
        for name in filter(None, call.outputs):
            self.behind[name], self.examples[name] = roots, None

    def take_outputs(self, ctx: Context) -> None:
        """Compute outputs of integers behind the array, as far as the host can."""
        for name in self.source.outputs:
            if name in ctx.integers and not self._has(ctx, name) and self._reaches_host(ctx, name):
                self._pull(ctx, name, frozenset({name}))

    def _has(self, ctx: Context, name: str) -> bool:
        return any(name in table for table in (self.behind, ctx.examples, self.reals, ctx.known))

    def _reaches_host(self, ctx: Context, name: str) -> bool:
        """Return whether the host has a value, or the array can show it or all of which it is
        made: integers and bits come from the array as reals alone."""
        if self._has(ctx, name) or _is_shown(ctx, name):
            return True
        if name not in self._reach:
            maker = self._makers.get(name)
            self._reach[name] = (
                maker is not None
                and host_form(ctx, maker) is not None
                and all(self._reaches_host(ctx, one) for one in maker.reads if one)
            )
        return self._reach[name]

    def _pull(self, ctx: Context, name: str, roots: frozenset[str]) -> None:
        """Have the host compute what a value of the array is made of, and the value."""
        if self._has(ctx, name) or _is_shown(ctx, name):
            return
        maker = self._makers[name]
        form = host_form(ctx, maker)
        assert form is not None
        read = [one for one in maker.reads if one and one not in ctx.known]
        self._record_behind(ctx, form, read, roots)

    def _record_behind(self, ctx: Context, form: Form, read: Sequence[str],
                       roots: frozenset[str]) -> None:  # fmt: skip
        for name in read:
            self._pull(ctx, name, roots)
        op, constants = form
        self._record(self.after, form)
        examples: dict[str, Array | None] = dict(constants)
        for name in read:
            examples[name] = self._example(ctx, name)
        made: Mapping[str, Array] = {}
        known = {name: array for name, array in examples.items() if array is not None}
        if len(known) == len(examples) and not OPERATORS[op.op].any_size:
            try:
                made = evaluate(op, known)
            except FAULTS:
                made = {}
        for name in filter(None, op.outputs):
            self.behind[name], self.examples[name] = roots, made.get(name)

    def _example(self, ctx: Context, name: str) -> Array | None:
        if name in self.behind:
            return self.examples[name]
        for table in (ctx.examples, self.reals):
            if name in table:
                return table[name]
        if name not in {value.name for value in self.source.inputs}:
            self.shown[name] = None
        return np.zeros(ctx.shape(name), np.float32)

    def _record(self, ops: list[HostOp], form: Form) -> None:
        ops.append(form[0])
        self.constants.update(form[1])


def _is_shown(ctx: Context, name: str) -> bool:
    """Return whether the array has a value as reals."""
    return name in ctx.values and name not in ctx.integers and name not in ctx.quantized


def _shaped_by_data(form: Form) -> bool:
    """Return whether values that are no constants decide a shape."""
    op, constants = form
    places = SHAPED_BY.get(op.op, ())
    return any(op.inputs[i] and op.inputs[i] not in constants
               for i in places if i < len(op.inputs))  # fmt: skip
