# SPDX-License-Identifier: Apache-2.0
"""ONNX nodes as operations of the host.

In: one ``Call`` of any opset.  Out: a ``HostOp`` in the newest form, and its constant operands;
None where the host has no such operation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...ir.host.operators import OPERATORS
from ...ir.host.types import DTYPES, ELEMENT_TYPES, HostOp, host_array
from ...ir.types import Array
from .context import Call, Context

Form = tuple[HostOp, dict[str, Array]]

# Attributes of older opsets that are operands of newer ones: name -> (place, type).
_OPERANDS: Mapping[str, Mapping[str, tuple[int, Any]]] = {
    **dict.fromkeys(
        ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Squeeze",
         "Unsqueeze"), {"axes": (1, np.int64)},
    ),
    "Clip": {"min": (1, np.float32), "max": (2, np.float32)},
    "ConstantOfShape": {"value": (1, None)},
    "Slice": {"starts": (1, np.int64), "ends": (2, np.int64), "axes": (3, np.int64)},
    "Split": {"split": (1, np.int64)},
    "TopK": {"k": (1, np.int64)},
    "Transpose": {"perm": (1, np.int64)},
}  # fmt: skip
_WITHOUT_EFFECT = frozenset({"saturate", "round_mode"})  # of casts to 8-bit floats


def _split_evenly(call: Call) -> dict[str, Any]:
    given = call.input(1) or "split" in call.attrs or "num_outputs" in call.attrs
    return {} if given else {"num_outputs": len(call.outputs)}


def _zero(call: Call) -> dict[str, Any]:
    return {} if "value" in call.attrs else {"value": np.zeros(1, np.float32)}


_DEFAULT: Mapping[str, Callable[[Call], dict[str, Any]]] = {
    "ConstantOfShape": _zero,
    "Split": _split_evenly,
}


def _defaults(call: Call) -> dict[str, Any]:
    return _DEFAULT[call.op](call) if call.op in _DEFAULT else {}


def host_form(ctx: Context, call: Call) -> Form | None:
    """Return a node as an operation of the host, with its constants by name."""
    if call.domain or call.op not in OPERATORS or call.captures:
        return None
    attrs = {**call.attrs, **_defaults(call)}
    constants: dict[str, Array] = {}
    inputs = list(call.inputs)
    for name, (place, dtype) in _OPERANDS.get(call.op, {}).items():
        if name in attrs:
            value = np.asarray(attrs.pop(name), dtype)
            inputs += [""] * (place + 1 - len(inputs))
            inputs[place] = f"{call.output}.{name}"
            constants[inputs[place]] = value
    while inputs and not inputs[-1]:
        inputs.pop()
    constants |= {name: ctx.known[name] for name in inputs if name in ctx.known}
    constants = {name: host_array(value) for name, value in constants.items()}
    op = HostOp(call.op, tuple(inputs), call.outputs, _attributes(attrs))
    fits = _fits(op, attrs) and all(a.dtype.name in DTYPES for a in constants.values())
    return (op, constants) if fits else None


def _attributes(attrs: Mapping[str, Any]) -> tuple[tuple[str, int], ...]:
    kept = {name: value for name, value in attrs.items() if name not in _WITHOUT_EFFECT}
    return tuple((n, int(v)) for n, v in sorted(kept.items()) if isinstance(v, int | np.integer))


def _fits(op: HostOp, attrs: Mapping[str, Any]) -> bool:
    """Return whether the host knows all attributes and the number of operands."""
    known, given = OPERATORS[op.op], dict(op.attributes)
    if set(attrs) - _WITHOUT_EFFECT != set(given) or not known.required <= set(given):
        return False
    if op.op == "Cast" and given["to"] not in ELEMENT_TYPES:
        return False
    if any(n not in known.attributes or not known.attributes[n][0] <= v <= known.attributes[n][1]
           for n, v in given.items()):  # fmt: skip
        return False
    counts = (len(op.inputs), known.inputs), (len(op.outputs), known.outputs)
    return all(low <= count <= high for count, (low, high) in counts)
