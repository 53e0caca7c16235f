# SPDX-License-Identifier: Apache-2.0
"""verify_matgraph on activation-activation matmuls, row statistics, means and tables.

In: a valid MatGraph with one field changed.  Out: the rule, by name.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import attention, layer_norm
from cnn_graphs import Q2, conv, make, relu
from neuralmatrix.errors import BadInput, BadModel
from neuralmatrix.ir.graph.nodes import Binary
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Port, RowStat, Tensor
from neuralmatrix.ir.matgraph.reference import (
    matgraph_text,
    port_outputs,
    run_float,
    verify_matgraph,
)
from neuralmatrix.ir.types import Units, ViewStep
from targets import lower


def changed(mg: MatGraph, output: str, **fields: object) -> MatGraph:
    """Return ``mg`` with fields of one operation replaced, epilogue fields included."""
    ops = []
    for op in mg.ops:
        if op.output == output:
            inner = {k: v for k, v in fields.items() if k in Epilogue.__dataclass_fields__}
            outer = {k: v for k, v in fields.items() if k not in inner}
            epilogue = replace(op.epilogue, **inner)  # type: ignore[union-attr, arg-type]
            op = replace(op, epilogue=epilogue, **outer)  # type: ignore[arg-type]
        ops.append(op)
    return replace(mg, ops=tuple(ops))


def stats(*kinds: str) -> tuple[RowStat, ...]:
    return tuple(RowStat(kind, f"r{i}") for i, kind in enumerate(kinds))  # type: ignore[arg-type]


def with_rows(mg: MatGraph, shape: tuple[int, int, int, int], count: int = 2) -> MatGraph:
    extra = {f"r{i}": Tensor(f"r{i}", shape, True) for i in range(count)}
    return replace(mg, tensors={**mg.tensors, **extra})


@pytest.mark.parametrize("mask", ["", "add", "keep"])
def test_attention_is_valid(mask: str) -> None:
    assert verify_matgraph(attention(mask=mask)).ops


@pytest.mark.parametrize(
    "output, fields, message",
    [
        ("s", {"rhs_transposed": False}, r"right operand is \(1, 21, 20\), not \(1, 20, 21\)"),
        ("s", {"gain": 0.0}, "gain is 0.0"),
        ("s", {"gain": np.inf}, "gain is inf"),
        ("s", {"strides": (1, 2)}, "has a right operand and strides, pads, dilations or groups"),
        ("s", {"weight": np.ones((1, 1, 20, 21))}, "weights and a right operand"),
        ("s", {"rhs": "nothing"}, "reads 'nothing' before anything defines it"),
        ("s", {"rhs": None}, "neither weights nor a right operand"),
        ("q", {"gain": 2.0}, "only an activation-activation matmul takes one"),
        ("s", {"rows": (RowStat("max", "q"),)}, "defines a name that exists already: 'q'"),
        ("s", {"rows": (RowStat("max", "new"),)}, "makes 'new', a tensor that is not declared"),
    ],
)
def test_products(output: str, fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadModel, match=message):
        verify_matgraph(changed(attention(), output, **fields))


def test_images_are_a_multiple_of_the_right_side() -> None:
    mg = attention(heads=4)
    for images, ok in ((2, True), (3, False)):
        k = Tensor("k", (images, 1, 21, 20))
        slim = replace(
            mg, tensors={**mg.tensors, "k": k}, inputs=(*mg.inputs, Port("k", k.shape, "k", ())),
            ops=tuple(op for op in mg.ops if op.output != "k"),
        )  # fmt: skip
        if ok:
            assert verify_matgraph(slim)
        else:
            with pytest.raises(
                BadModel, match="images are not a multiple of the right operand's 3"
            ):
                verify_matgraph(slim)


@pytest.mark.parametrize(
    "kinds", [("max", "sum"), ("sum", "mean"), ("mean", "mean"), ("max", "square")]
)
def test_statistics_that_do_not_go_together(kinds: tuple[str, str]) -> None:
    mg = with_rows(attention(), (2, 1, 21, 1))
    with pytest.raises(BadModel, match="row statistics .*allowed are max, or sum, or mean"):
        verify_matgraph(changed(mg, "q", rows=stats(*kinds)))


def test_statistics_have_one_value_per_position() -> None:
    mg = with_rows(attention(), (2, 1, 20, 1))
    with pytest.raises(BadModel, match="row statistic 'r0' is .*20.*not .*21"):
        verify_matgraph(changed(mg, "q", rows=stats("max")))
    mg = with_rows(attention(), (2, 1, 21, 1))
    with pytest.raises(BadModel, match="makes one tensor twice"):
        verify_matgraph(changed(mg, "q", rows=(RowStat("mean", "r0"), RowStat("square", "r0"))))


def test_squares_stand_alone() -> None:
    mg = with_rows(layer_norm(), (2, 1, 17, 1))
    with pytest.raises(BadModel, match="mean of squares and a Hadamard operand"):
        verify_matgraph(changed(mg, "y", rows=stats("square")))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"minus": "g"}, "minus 'g' is"),
        ({"reduce": "max"}, "allowed in 1x1 windows that add"),
        ({"weight": np.ones((1, 2, 40))}, "is .*, not .*|allowed in 1x1 windows"),
    ],
)
def test_means(fields: dict[str, object], message: str) -> None:
    with pytest.raises(BadModel, match=message):
        verify_matgraph(changed(layer_norm(), "y", **fields))


def test_text_of_the_new_fields() -> None:
    text = matgraph_text(attention(mask="keep")) + matgraph_text(layer_norm())
    assert "s: 2x1x21x21 = Gemm(q) rhs=k^T x0.223607 +1*added max->max\n" in text
    assert "e: 2x1x21x21 = Gemm(q) rhs=k^T x0.223607 -1*max exp *keep sum->sum\n" in text
    assert "g: 2x1x17x40 = Gemm(x) k1x1 mean->mean square->square\n" in text
    assert "y: 2x1x17x40 = Window(g) k1x1 add minus=mean *inverse\n" in text


def table_graph() -> MatGraph:
    """Two ports have one name: one gathers rows of a table, the other has the ids."""
    table = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    ones = np.ones((1, 1, 5, 4), np.float32)
    op = Gemm("y", "rows", ones, np.zeros(4, np.float32), epilogue=Epilogue("plain"))
    tensors = {
        "rows": Tensor("rows", (1, 1, 3, 5)),
        "plain": Tensor("plain", (1, 1, 3, 1), True),
        "y": Tensor("y", (1, 1, 3, 4)),
    }
    shape = (1, 1, 3)
    column = Port("ids", shape, "plain", (ViewStep("reshape", (1, 1, 3, 1)),))
    ports = (Port("ids", shape, "rows", (), table=table), column)
    return MatGraph(ports, (Port("y", (1, 1, 3, 4), "y", ()),), (op,), tensors, {})


def test_rows_of_a_table() -> None:
    mg = verify_matgraph(table_graph())
    ids = np.array([[[8, 0, 3]], [[1, 1, 2]]]).reshape(2, 1, 3)
    table = mg.inputs[0].table
    assert table is not None
    y = port_outputs(mg, run_float(mg, {"ids": ids}))["y"]
    wanted = table[ids].sum(-1) + ids
    np.testing.assert_allclose(y[..., 0], wanted, rtol=1e-5)  # float32 sums
    with pytest.raises(BadInput, match=r"indices 0..9; allowed are -9..8"):
        run_float(mg, {"ids": np.array([[[0, 9, 1]]])})


def test_a_table_has_rows_of_numbers() -> None:
    mg = table_graph()
    bad = replace(mg.inputs[0], table=np.full((9, 5), np.nan))
    with pytest.raises(BadModel, match="port 'ids' table: 45 of 45 values are NaN"):
        verify_matgraph(replace(mg, inputs=(bad, mg.inputs[1])))
    cube = replace(mg.inputs[0], table=np.zeros((9, 5, 1)))
    with pytest.raises(BadModel, match="axes of its table's rows is 2, not 1"):
        verify_matgraph(replace(mg, inputs=(cube, mg.inputs[1])))


def _broken(mg: MatGraph, **changes: object) -> MatGraph:
    from dataclasses import replace

    return replace(mg, ops=(replace(mg.ops[0], **changes), *mg.ops[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"input": "nowhere"}, "reads 'nowhere' before anything defines it"),
        ({"output": "x"}, "defines a name that exists already"),
        ({"bias": np.zeros(3, np.float32)}, "bias is \\(3,\\), not \\(4,\\)"),
        ({"bias": np.full(4, np.nan)}, "bias: 4 of 4 values are NaN or infinite"),
        ({"strides": (2, 2)}, "is \\(1, 3, 3, 4\\), not \\(1, 6, 6, 4\\)|not \\(1, 3, 3, 4\\)"),
        ({"epilogue": Epilogue(residual="y")}, "reads 'y' before"),
    ],
)
def test_verify_names_the_rule(changes: dict[str, object], message: str) -> None:
    mg = lower(make(conv("x", "w", "c"), conv("c", "v", "y")))
    with pytest.raises(BadModel, match=message):
        verify_matgraph(_broken(mg, **changes))


def test_text() -> None:
    g = make(
        conv("x", "w", "c"), Binary(("c", "x"), "s", kind="sub"), relu("s", "y"),
        quant={"y": Q2},
    )  # fmt: skip
    assert matgraph_text(lower(g)) == (
        "input x: 1x4x6x6 -> x 1x6x6x4 by transpose(0,2,3,1)\n"
        "y: 1x6x6x4 [scale 0.2 zero 3] = Gemm(x) k3x3 p1,1,1,1 -1*x relu  # c.node\n"
        "output y: 1x4x6x6 <- y by transpose(0,3,1,2)\n"
    )


UNITS = (
    (Units((1, 1, 1, 2), (1.0, 1.0)), "units of shape"),
    (Units((1, 1, 1, 1), (1.0, 2.0)), "divisors is 2, not 1"),
    (Units((1, 1, 1, 1), (1.0,), (1.0, 2.0)), "offsets is 2, not 1"),
    (Units((1, 1, 1, 1), (0.0,)), "a divisor of 0 or less"),
    (Units((1, 1, 1, 1), (float("nan"),)), "NaN"),
)


@pytest.mark.parametrize(("units", "message"), UNITS)
def test_units_of_ports(units: Units, message: str) -> None:
    mg = attention()
    (port,) = mg.outputs
    with pytest.raises(BadModel, match=message):
        verify_matgraph(replace(mg, outputs=(replace(port, units=units),)))


def test_units_and_factors_show_in_the_text() -> None:
    mg = changed(attention(), "inverse", factor=0.25)
    units = Units((1, 1, 1, 1), (2.0,), (3.0,))
    text = matgraph_text(replace(mg, inputs=(replace(mg.inputs[0], units=units),)))
    assert "units 1x1x1x1 2..2 offset 3..3" in text and "reciprocal *0.25" in text


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf")])
def test_factors_are_above_0(factor: float) -> None:
    with pytest.raises(BadModel, match="factor is .*; allowed is above 0"):
        verify_matgraph(changed(attention(), "inverse", factor=factor))
