# SPDX-License-Identifier: Apache-2.0
"""Rewrites that passes share."""

from __future__ import annotations

from hypothesis import given
from neuralmatrix.ir.matgraph.ops import MatGraph, RowMax, Tensor, Window
from neuralmatrix.ir.matgraph.rewrite import pruned, renamed, with_ops
from random_matgraphs import ONE, SHAPE, random_matgraphs


@given(random_matgraphs())
def test_pruning_keeps_exactly_what_outputs_depend_on(mg: MatGraph) -> None:
    wanted = {port.tensor for port in mg.outputs}
    for _ in mg.ops:  # as often as the longest chain is long
        for op in mg.ops:
            if wanted & set(op.outputs):
                wanted |= {*op.inputs, *op.outputs}
    small = pruned(mg)
    assert [op.output for op in small.ops] == [
        op.output for op in mg.ops if wanted & set(op.outputs)
    ]
    assert set(small.tensors) == set(mg.tensors) & (wanted | {"x"})
    assert set(small.constants) == set(mg.constants) & wanted
    assert set(small.quant) == set(mg.quant) & (wanted | {"x"})
    assert (small.inputs, small.outputs) == (mg.inputs, mg.outputs)


def test_operations_are_replaced_where_they_stand() -> None:
    first, last = RowMax("a", "x"), RowMax("b", "a")
    tensors = {name: Tensor(name, SHAPE) for name in "xab"}
    mg = MatGraph((), (), (first, last), tensors, {})
    window = Window("w", "x", ONE, ONE)
    grown = with_ops(mg, {"a": [window, RowMax("a", "w")]}, {**tensors, "w": Tensor("w", SHAPE)})
    assert grown.ops == (window, RowMax("a", "w"), last)
    assert list(grown.tensors) == ["x", "a", "b", "w"]
    assert with_ops(mg, {"a": []}, tensors).ops == (last,)
    assert with_ops(mg, {}, tensors) is mg


def test_renaming_changes_readers_and_makers() -> None:
    ops = (RowMax("a", "x"), RowMax("b", "a"))
    assert renamed(ops, {"a": "c"}) == (RowMax("c", "x"), RowMax("b", "c"))
    assert renamed(ops, {}) == ops
