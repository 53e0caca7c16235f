# SPDX-License-Identifier: Apache-2.0
"""Checks the operations that a program has the host compute.

In: ``HostEdges`` of any origin, and the names of the array's ports.  Out: the first problem in
words, or an empty string.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod

from ..ir.host.limits import MOST_ELEMENTS
from ..ir.host.operators import OPERATORS
from ..ir.host.types import ANY, DTYPES, ELEMENT_TYPES, HostEdges, HostOp, HostValue

MOST_OPS = 8192
_MOST_AXES = 32


def host_problem(edges: HostEdges | None, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """Describe what is wrong; an empty string if nothing is.  ``inputs`` and ``outputs``: the names
    of the array's ports."""
    if edges is None:
        return ""
    return next(filter(None, _problems(edges, inputs, outputs)), "")


def _problems(edges: HostEdges, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[str]:
    count = len(edges.before) + len(edges.after)
    if count > MOST_OPS:
        yield f"host: found {count} operations, allowed are {MOST_OPS}"
    for kind, values in (("inputs", edges.inputs), ("outputs", edges.outputs)):
        yield from (_value_problem(f"host.{kind} {v.name}", v, kind) for v in values)
        yield _once(f"host.{kind}", [v.name for v in values])
        yield "" if values else f"host.{kind}: found none, allowed is at least one"
    for constant in edges.constants:
        where = f"host.constants {constant.name}"
        if constant.values is None:
            yield f"{where}: found no values"
        elif constant.values.dtype.name not in DTYPES:
            yield f"{where}: found {constant.values.dtype}, allowed are {', '.join(sorted(DTYPES))}"
    for where, op in _numbered(edges):
        yield _op_problem(where, op)
    yield _flow_problem(edges, inputs, outputs)


def _numbered(edges: HostEdges) -> Iterator[tuple[str, HostOp]]:
    for side, ops in (("before", edges.before), ("after", edges.after)):
        yield from ((f"host.{side}[{i}]", op) for i, op in enumerate(ops))


def _value_problem(where: str, value: HostValue, kind: str) -> str:
    if value.dtype not in DTYPES and (value.dtype or kind == "inputs"):
        return f"{where}.dtype: found {value.dtype!r}, allowed are {', '.join(sorted(DTYPES))}"
    if value.shape is None:
        return "" if kind == "outputs" else f"{where}.shape: found null, allowed are sizes"
    least = 0 if kind == "inputs" else ANY
    if len(value.shape) > _MOST_AXES or any(size < least for size in value.shape):
        return f"{where}.shape: found {value.shape}, allowed is at least {least} on every axis"
    if kind == "inputs" and prod(value.shape) > MOST_ELEMENTS:
        return f"{where}.shape: found {value.shape}, allowed are {MOST_ELEMENTS} elements"
    return ""


def _op_problem(where: str, op: HostOp) -> str:
    known = OPERATORS.get(op.op)
    if known is None:
        return f"{where}.op: found {op.op!r}, allowed are {', '.join(sorted(OPERATORS))}"
    for what, names, (low, high) in (
        ("inputs", op.inputs, known.inputs), ("outputs", op.outputs, known.outputs),
    ):  # fmt: skip
        if not low <= len(names) <= high or not any(names):
            return f"{where}.{what}: found {len(names)} of {op.op}, allowed are {low} to {high}"
    if not all(op.inputs[: known.inputs[0]]):
        return f"{where}.inputs: found one left out, needed are the first {known.inputs[0]}"
    given = dict(op.attributes)
    if not known.required <= set(given) or len(given) < len(op.attributes):
        needed = ", ".join(sorted(known.required))
        return f"{where}.attributes: found {sorted(given)}, needed is {needed} once"
    for name, value in given.items():
        low, high = known.attributes.get(name, (0, -1))
        if not low <= value <= high or (op.op == "Cast" and value not in ELEMENT_TYPES):
            return f"{where}.{name}: found {value}, which {op.op} does not allow"
    return ""


def _flow_problem(edges: HostEdges, inputs: Sequence[str], outputs: Sequence[str]) -> str:
    """Check that every value is made once, before it is read."""
    made: set[str] = set()
    given = (*(v.name for v in edges.inputs), *(c.name for c in edges.constants))
    problem = _make(made, given, "host")
    for i, op in enumerate(edges.before):
        problem = problem or _step(made, op, f"host.before[{i}]")
    problem = problem or _lacks(made, inputs, "inputs of the array")
    fresh = [name for name in outputs if name not in made]
    problem = problem or _make(made, fresh, "outputs of the array")
    for i, op in enumerate(edges.after):
        problem = problem or _step(made, op, f"host.after[{i}]")
    return problem or _lacks(made, [v.name for v in edges.outputs], "host.outputs")


def _step(made: set[str], op: HostOp, where: str) -> str:
    return _lacks(made, filter(None, op.inputs), where) or _make(
        made, filter(None, op.outputs), where
    )


def _make(made: set[str], names: Iterable[str], where: str) -> str:
    found = list(names)
    twice = [name for name in found if name in made] or _repeated(found)
    made.update(found)
    return f"{where}: found {twice[0]!r} again, allowed is once" if twice else ""


def _lacks(made: set[str], names: Iterable[str], where: str) -> str:
    missing = [name for name in names if name not in made]
    return f"{where}: found {missing[0]!r}, which nothing gives" if missing else ""


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for i, name in enumerate(names) if name in names[:i]]


def _once(where: str, names: Sequence[str]) -> str:
    twice = _repeated(names)
    return f"{where}: found {twice[0]!r} twice, allowed is once" if twice else ""
