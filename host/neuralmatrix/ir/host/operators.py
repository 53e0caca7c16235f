# SPDX-License-Identifier: Apache-2.0
"""The table of operations that the host computes: their meaning, operands and attributes.

In: a ``HostOp`` and arrays by name.  Out: its results.  Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..types import Array
from . import arrangement as a
from . import elementwise as e
from . import selection as s
from .types import DTYPES, ELEMENT_TYPES, HostOp, host_array

MANY = 4096  # operands or results at most
_FLAG = (0, 1)
_AXIS = (-64, 63)
_NUMBER = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True)
class Operator:
    """``inputs`` and ``outputs``: the fewest and the most; ``attributes``: their ranges.

    ``any_size``: the shape of a result depends on data.
    """

    evaluate: Callable[..., Any]
    inputs: tuple[int, int]
    outputs: tuple[int, int] = (1, 1)
    attributes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    any_size: bool = False


def _elementwise() -> dict[str, Operator]:
    one = {name: Operator(e.unary(f), (1, 1)) for name, f in e.UNARY.items()}
    two = {
        name: Operator(e.binary(f), (1, MANY) if name in e.VARIADIC else (2, 2))
        for name, f in e.BINARY.items()
    }
    return {**one, **two}


_REDUCTIONS: dict[str, Callable[..., Any]] = {
    "ReduceMax": np.max,
    "ReduceMean": np.mean,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceSum": np.sum,
}
_REDUCED = {"keepdims": _FLAG, "noop_with_empty_axes": _FLAG}
_ARG = {"axis": _AXIS, "keepdims": _FLAG, "select_last_index": _FLAG}
_WITH_AXIS = {"axis": _AXIS}
_TYPES = (min(ELEMENT_TYPES), max(ELEMENT_TYPES))

OPERATORS: Mapping[str, Operator] = {
    **_elementwise(),
    **{name: Operator(a.reduced(f), (1, 2), attributes=_REDUCED) for name, f in
       _REDUCTIONS.items()},  # fmt: skip
    "ArgMax": Operator(a.arg_extreme(1), (1, 1), attributes=_ARG),
    "ArgMin": Operator(a.arg_extreme(-1), (1, 1), attributes=_ARG),
    "Cast": Operator(e.cast, (1, 1), attributes={"to": _TYPES}, required=frozenset({"to"})),
    "Clip": Operator(e.clip, (1, 3)),
    "Compress": Operator(s.compress, (2, 2), attributes=_WITH_AXIS, any_size=True),
    "Concat": Operator(a.concat, (1, MANY), attributes=_WITH_AXIS, required=frozenset({"axis"})),
    "ConstantOfShape": Operator(a.constant_of_shape, (2, 2)),
    "CumSum": Operator(a.cumsum, (2, 2), attributes={"exclusive": _FLAG, "reverse": _FLAG}),
    "Expand": Operator(a.expand, (2, 2)),
    "Flatten": Operator(a.flatten, (1, 1), attributes=_WITH_AXIS),
    "Gather": Operator(s.gather, (2, 2), attributes=_WITH_AXIS),
    "GatherElements": Operator(s.gather_elements, (2, 2), attributes=_WITH_AXIS),
    "GatherND": Operator(s.gather_nd, (2, 2), attributes={"batch_dims": (0, 63)}),
    "Mod": Operator(e.modulo, (2, 2), attributes={"fmod": _FLAG}),
    "NonMaxSuppression": Operator(s.non_max_suppression, (2, 5),
                                  attributes={"center_point_box": _FLAG}, any_size=True),
    "NonZero": Operator(s.nonzero, (1, 1), any_size=True),
    "OneHot": Operator(a.one_hot, (3, 3), attributes=_WITH_AXIS),
    "Range": Operator(a.range_, (3, 3)),
    "Reshape": Operator(a.reshape, (2, 2), attributes={"allowzero": _FLAG}),
    "ScatterND": Operator(s.scatter_nd, (3, 3)),
    "Shape": Operator(a.shape, (1, 1), attributes={"start": _NUMBER, "end": _NUMBER}),
    "Size": Operator(a.size, (1, 1)),
    "Slice": Operator(a.slice_, (3, 5)),
    "Split": Operator(a.split, (1, 2), (1, MANY), {"axis": _AXIS, "num_outputs": (1, MANY)}),
    "Squeeze": Operator(a.squeeze, (1, 2)),
    "Tile": Operator(a.tile, (2, 2)),
    "TopK": Operator(s.top_k, (2, 2), (1, 2),
                     {"axis": _AXIS, "largest": _FLAG, "sorted": _FLAG}),
    "Transpose": Operator(a.transpose, (1, 2)),
    "Trilu": Operator(a.trilu, (1, 2), attributes={"upper": _FLAG}),
    "Unsqueeze": Operator(a.unsqueeze, (2, 2)),
    "Where": Operator(e.where, (3, 3)),
}  # fmt: skip

# Operations whose result has a shape that values of these operands decide.
SHAPED_BY: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Range": (0, 1, 2), "Reshape": (1,),
    "Slice": (1, 2, 3, 4), "Split": (1,), "Tile": (1,), "TopK": (1,), "Squeeze": (1,),
    "Unsqueeze": (1,),
}  # fmt: skip


def evaluate(op: HostOp, values: Mapping[str, Array]) -> dict[str, Array]:
    """Return the results of one operation by name; left-out ones are dropped."""
    operands = [values[name] if name else None for name in op.inputs]
    with np.errstate(all="ignore"):
        found = OPERATORS[op.op].evaluate(dict(op.attributes), *operands)
    results = found if isinstance(found, tuple) else (found,)
    if len(results) < len(op.outputs):
        raise ValueError(f"{len(results)} results for {len(op.outputs)} names")
    named = {n: host_array(np.asarray(r)) for n, r in zip(op.outputs, results, strict=False) if n}
    for array in named.values():
        if array.dtype.name not in DTYPES:
            raise TypeError(f"a result of {array.dtype}")
    return named
