# SPDX-License-Identifier: Apache-2.0
"""The application of a rule wherever it matches: replaced nodes, and nodes that must stay.

In: small Graphs and rules.  Out: the rewritten Graph, or the same object.
"""

from __future__ import annotations

import numpy as np
from neuralmatrix.ir.graph.nodes import Node, Unary
from neuralmatrix.ir.graph.uses import GraphUses
from neuralmatrix.ir.graph.verify import verify_graph
from neuralmatrix.ir.types import QParams
from neuralmatrix.transforms.graph.rewrite import Change, apply_rule, clean
from rewritten_graphs import binary, graph_of, kinds, unary


def without_negations(uses: GraphUses, node: Node) -> Change | None:
    """Apply a wrong rule, to test the checks of its result."""
    negates = isinstance(node, Unary) and node.function.name == "neg"
    return Change(same=node.inputs[0]) if negates else None


def doubled(uses: GraphUses, node: Node) -> Change | None:
    """Rewrite abs(x) to |x| * 2, with a node and a constant of fresh names."""
    if not isinstance(node, Unary) or node.function.name != "abs":
        return None
    magnitude, two = uses.fresh("m"), uses.fresh("two")
    nodes = (unary(node.inputs[0], magnitude, "square"), binary("mul", magnitude, two, node.output))
    return Change(nodes, {two: np.float32(2)})


def test_a_rule_that_never_holds_returns_the_same_object() -> None:
    graph = graph_of([unary("x", "y", "tanh")])
    assert apply_rule(without_negations, graph) is graph


def test_readers_of_a_node_that_goes_read_its_input() -> None:
    graph = graph_of(
        [unary("x", "a", "tanh"), unary("a", "b", "neg"), binary("add", "b", "b", "y")]
    )
    found = verify_graph(apply_rule(without_negations, graph))
    assert kinds(found) == ["Unary", "Binary"] and found.nodes[1].inputs == ("a", "a")
    assert set(found.shapes) == {"x", "a", "y"}


def test_an_output_gives_its_name_to_what_it_equals() -> None:
    graph = graph_of([unary("x", "a", "tanh"), unary("a", "y", "neg")])
    (node,) = verify_graph(apply_rule(without_negations, graph)).nodes
    assert node.output == "y"


def test_two_outputs_and_an_input_keep_their_node() -> None:
    both = [unary("x", "a", "tanh"), unary("a", "y", "neg")]
    graph = graph_of(both, outputs=("a", "y"))
    assert apply_rule(without_negations, graph) is graph
    graph = graph_of([unary("x", "y", "neg")])
    assert apply_rule(without_negations, graph) is graph


def test_prescribed_scales_move_to_what_stays_or_keep_the_node() -> None:
    nodes = [unary("x", "a", "tanh"), unary("a", "b", "neg"), unary("b", "y", "relu")]
    found = apply_rule(without_negations, graph_of(nodes, quant={"b": QParams(0.5)}))
    assert found.quant == {"a": QParams(0.5)}
    two = {"a": QParams(0.25), "b": QParams(0.5)}
    graph = graph_of(nodes, quant=two)
    assert apply_rule(without_negations, graph) is graph


def test_new_nodes_have_shapes_and_names_of_their_own() -> None:
    graph = graph_of([unary("x", "m", "abs"), unary("m", "y", "abs")])
    found = verify_graph(apply_rule(doubled, graph))
    assert kinds(found) == ["Unary", "Binary"] * 2
    names = [node.output for node in found.nodes]
    assert len(set(names)) == 4 and len(found.constants) == 2
    assert {found.shapes[name] for name in names} == {graph.shapes["x"]}


def test_cleaning_drops_nodes_constants_and_shapes_without_readers() -> None:
    nodes = [binary("mul", "x", "c", "dead"), unary("x", "y", "tanh")]
    found = clean(graph_of(nodes, {"c": np.ones(5)}, quant={"dead": QParams(0.5)}))
    assert kinds(found) == ["Unary"] and set(found.shapes) == {"x", "y"}
    assert not found.constants and not found.quant
