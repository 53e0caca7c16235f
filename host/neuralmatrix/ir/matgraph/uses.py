# SPDX-License-Identifier: Apache-2.0
"""The def-use index of a MatGraph.

In: the operations of a graph, the tensors of its output ports, and those with a prescribed scale.
Out: the maker and the readers of each tensor.

A pass makes the index once, of its input; the index does not follow later changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable

from .ops import MatGraph, MatOp


class Uses:
    """The maker and the readers of each tensor.

    ``shown``: the tensors of the output ports, once per port.  ``prescribed``: tensors whose scale
    the model gives.
    """

    def __init__(
        self, ops: Iterable[MatOp], shown: Iterable[str] = (), prescribed: Container[str] = ()
    ) -> None:
        self._makers: dict[str, MatOp] = {}
        self._readers: dict[str, list[MatOp]] = {}
        self._counts: Counter[str] = Counter()
        for op in ops:
            self._makers.update(dict.fromkeys(op.outputs, op))
            self._counts.update(op.inputs)
            for name in dict.fromkeys(op.inputs):
                self._readers.setdefault(name, []).append(op)
        self.shown = frozenset(ports := tuple(shown))
        self._counts.update(ports)
        self._prescribed = prescribed

    @classmethod
    def of(cls, mg: MatGraph) -> Uses:
        """Return the index of a whole MatGraph."""
        return cls(mg.ops, (port.tensor for port in mg.outputs), mg.quant)

    def maker(self, name: str) -> MatOp | None:
        """Return the operation that writes a tensor; None for inputs and constants of the graph."""
        return self._makers.get(name)

    def readers(self, name: str) -> tuple[MatOp, ...]:
        """Return the operations that read a tensor, each once, in execution order."""
        return tuple(self._readers.get(name, ()))

    def count(self, name: str) -> int:
        """Return the number of operands and output ports that a tensor is; one op may read it
        twice."""
        return self._counts[name]

    def prescribed(self, name: str) -> bool:
        """Return whether the model gives the scale of a tensor."""
        return name in self._prescribed

    def fixed(self, name: str) -> bool:
        """Return whether a tensor may not change: a port shows it, or the model gives its scale."""
        return name in self.shown or self.prescribed(name)

    def private(self, name: str) -> bool:
        """Return whether a tensor is one operand of one operation, and nothing fixes it."""
        return self.count(name) == 1 and not self.fixed(name)

    def only_reader(self, name: str) -> MatOp | None:
        """Return the one reader of a private tensor."""
        return self._readers[name][0] if self.private(name) else None


__all__ = ["Uses"]
