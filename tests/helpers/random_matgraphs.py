# SPDX-License-Identifier: Apache-2.0
"""Random MatGraphs of names: readers are arbitrary, shapes and values do not fit.

In: hypothesis.  Out: strategies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from neuralmatrix.ir.matgraph.ops import (
    Epilogue,
    Gemm,
    MatGraph,
    MatOp,
    Move,
    Port,
    RowMax,
    RowStat,
    Tensor,
    Window,
)
from neuralmatrix.ir.types import QParams

ONE = np.ones((1, 1, 1))
SHAPE = (1, 1, 1, 1)


@dataclass
class _Names:
    """Draw from the tensors that exist so far."""

    draw: st.DrawFn
    known: list[str] = field(default_factory=lambda: ["x", "constant"])

    def any(self) -> str:
        return self.draw(st.sampled_from(self.known))

    def maybe(self) -> str | None:
        return self.draw(st.none() | st.sampled_from(self.known))


def _op(names: _Names, output: str) -> MatOp:
    kind = names.draw(st.sampled_from([Gemm, Window, RowMax, Move]))
    if kind is Move:
        parts = names.draw(st.lists(st.sampled_from(names.known), min_size=1, max_size=3))
        return Move(output, tuple(parts), np.zeros(SHAPE, np.int64))
    if kind is RowMax:
        return RowMax(output, names.any())
    kinds = names.draw(st.sampled_from([(), ("max",), ("mean", "square")]))
    rows = tuple(RowStat(kind, f"{output}:{kind}") for kind in kinds)
    epilogue = Epilogue(names.maybe(), hadamard=names.maybe(), rows=rows)
    if kind is Gemm:
        return Gemm(output, names.any(), None, ONE, rhs=names.maybe(), epilogue=epilogue)
    return Window(output, names.any(), ONE, ONE, minus=names.maybe(), epilogue=epilogue)


@st.composite
def random_matgraphs(draw: st.DrawFn) -> MatGraph:
    """Draw up to eight operations; a port may show any tensor, any tensor may have a scale."""
    names, ops = _Names(draw), []
    for number in range(draw(st.integers(0, 8))):
        ops.append(_op(names, f"t{number}"))
        names.known += ops[-1].outputs
    shown = draw(st.lists(st.sampled_from(names.known), max_size=3))
    scales = draw(st.sets(st.sampled_from(names.known), max_size=3))
    return MatGraph(
        inputs=(Port("x", SHAPE, "x", ()),),
        outputs=tuple(Port(f"y{i}", SHAPE, name, ()) for i, name in enumerate(shown)),
        ops=tuple(ops),
        tensors={name: Tensor(name, SHAPE) for name in names.known},
        constants={"constant": np.ones(SHAPE)},
        quant={name: QParams(1.0) for name in sorted(scales)},
    )
