# SPDX-License-Identifier: Apache-2.0
"""Operations of the host in programs of any origin: what is wrong is said before anything runs.

In: a small program with operations of the host, changed.  Out: BadProgram, or the values.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadInput, BadProgram
from neuralmatrix.ir.host.limits import MOST_ELEMENTS
from neuralmatrix.ir.host.operators import OPERATORS
from neuralmatrix.ir.host.run import before, run_ops
from neuralmatrix.ir.host.types import HostConstant, HostEdges, HostOp, HostValue
from neuralmatrix.program.check_host import MOST_OPS, host_problem
from neuralmatrix.program.nmx_file import FORMAT
from neuralmatrix.program.program import Program, load
from nmx_members import rewrite

RNG = np.random.default_rng(0)
ONE = HostConstant("one", np.array([1]))
EDGES = HostEdges(
    (HostValue("ids", (1, 4), "int64"),),
    (HostValue("best", (1, 2), "float32"), HostValue("y", None, "")),
    (HostOp("Equal", ("ids", "one"), ("mask",)), HostOp("Cast", ("mask",), ("x",), (("to", 1),))),
    (HostOp("TopK", ("y", "one"), ("best", ""), (("axis", 1),)),),
    (ONE,),
)


def changed(**parts: Any) -> HostEdges:
    return replace(EDGES, **parts)


def op(name: str, inputs: tuple[str, ...] = ("ids",), outputs: tuple[str, ...] = ("x",),
       **attributes: int) -> HostEdges:  # fmt: skip
    """The operations with one in front of the array instead of theirs."""
    return changed(before=(HostOp(name, inputs, outputs, tuple(attributes.items())),))


def test_nothing_is_wrong() -> None:
    assert host_problem(EDGES, ["x"], ["y"]) == "" == host_problem(None, ["x"], ["y"])


@pytest.mark.parametrize(
    ("edges", "text"),
    (
        (op("System"), "host.before[0].op: found 'System', allowed are Abs, Add,"),
        (op("__class__"), "host.before[0].op: found '__class__'"),
        (op("Add"), "inputs: found 1 of Add, allowed are 2 to 2"),
        (op("Not", ("",)), "inputs: found 1 of Not"),
        (op("Add", ("ids", "")), "inputs: found one left out, needed are the first 2"),
        (op("Not", outputs=("x", "z")), "outputs: found 2 of Not, allowed are 1 to 1"),
        (op("Cast"), "attributes: found [], needed is to once"),
        (op("Cast", to=8), "to: found 8, which Cast does not allow"),
        (op("Cast", to=99), "to: found 99, which Cast does not allow"),
        (op("Not", axis=1), "axis: found 1, which Not does not allow"),
        (op("ArgMax", axis=64), "axis: found 64, which ArgMax does not allow"),
        (op("Not", ("later",)), "host.before[0]: found 'later', which nothing gives"),
        (op("Not", outputs=("ids",)), "host.before[0]: found 'ids' again, allowed is once"),
        (op("Not", outputs=("z",)), "inputs of the array: found 'x', which nothing gives"),
        (changed(after=()), "host.outputs: found 'best', which nothing gives"),
        (changed(before=EDGES.before * MOST_OPS), "found 16385 operations, allowed are 8192"),
        (changed(inputs=()), "host.inputs: found none"),
        (changed(inputs=EDGES.inputs * 2), "host.inputs: found 'ids' twice"),
        (changed(inputs=(HostValue("ids", None, "int64"),)), "shape: found null"),
        (changed(inputs=(HostValue("ids", (-1,), "int64"),)), "shape: found (-1,)"),
        (changed(inputs=(HostValue("ids", (1 << 30,), "int64"),)), "allowed are 67108864 elements"),
        (changed(inputs=(HostValue("ids", (1, 4), "object"),)), "dtype: found 'object'"),
        (changed(outputs=(HostValue("y", (-2,), ""),)), "shape: found (-2,)"),
        (changed(constants=(HostConstant("one"),)), "host.constants one: found no values"),
        (changed(constants=(HostConstant("one", np.array("x")),)), "found <U1, allowed are"),
    ),
)
def test_what_is_wrong_is_said(edges: HostEdges, text: str) -> None:
    assert text in host_problem(edges, ["x"], ["y"])


# ---------------------------------------------------------------- sizes


def big(name: str, *inputs: str, **attributes: int) -> HostOp:
    return HostOp(name, inputs, (f"{name} result",), tuple(attributes.items()))


VALUES = {"a": np.ones((1 << 14, 1), np.float32), "b": np.ones((1, 1 << 14), np.float32),
          "huge": np.array([1 << 40]), "x": np.ones(2, np.float32), "0": np.array(0),
          "step": np.array(1), "on": np.array([0, 1]), "value": np.array([1]),
          "on 1": np.ones(1), "minus": np.array([-1]),
          "rows": np.zeros(1 << 14, np.int64)}  # fmt: skip


@pytest.mark.parametrize(
    "one",
    (
        big("Add", "a", "b"),
        big("Where", "a", "b", "x"),
        big("Mod", "a", "b"),
        big("Expand", "on 1", "huge"),
        big("Tile", "x", "huge"),
        big("Range", "0", "huge", "step"),
        big("ConstantOfShape", "huge", "value"),
        big("ConstantOfShape", "minus", "value"),
        big("OneHot", "rows", "huge", "on"),
        big("Gather", "b", "rows"),
    ),
)
def test_no_operation_takes_all_memory(one: HostOp) -> None:
    with pytest.raises(BadInput, match=r"which the host computes, cannot run .* allowed|broadcast"):
        run_ops([one], VALUES)


def test_no_row_of_operations_takes_all_memory() -> None:
    doubling = [HostOp("Concat", (f"x{i}",) * 2, (f"x{i + 1}",), (("axis", 0),)) for i in range(60)]
    with pytest.raises(BadInput, match=f"at most {MOST_ELEMENTS} elements are allowed"):
        run_ops(doubling, {"x0": np.ones(1, np.float32)})
    copies = [HostOp("Identity", ("x",), (f"y{i}",)) for i in range(1 << 6)]
    with pytest.raises(BadInput, match="compute more than"):
        run_ops(copies, {"x": np.broadcast_to(np.float32(0), (1 << 25,))})


@pytest.mark.parametrize(
    "one",
    (
        big("Gather", "x", "huge"),
        big("Reshape", "x", "huge"),
        big("TopK", "x", "huge"),
        big("Transpose", "x", "huge"),
        big("Expand", "x", "huge"),
        big("Squeeze", "x", "huge"),
        big("Slice", "x", "value", "value", "huge"),
        big("NonMaxSuppression", "x", "x"),
    ),
)
def test_operands_that_do_not_fit_are_one_message(one: HostOp) -> None:
    with pytest.raises(BadInput, match=f"{one.op} '{one.op} result', which the host computes"):
        run_ops([one], VALUES)


ODD = (
    np.array(3), np.array([0]), np.array([1]), np.array([1, 2]), np.array([1 << 40]),
    RNG.normal(size=(2, 3)).astype(np.float32),
    RNG.integers(-5, 5, (2, 3)), np.array([True, False]), np.array([-(1 << 62)]),
    np.zeros((0, 3), np.float32), np.array([np.nan, np.inf], np.float32), np.array([[[1, 2]]]),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:Mean of empty slice")
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_any_operands_give_a_result_or_one_message(name: str) -> None:
    known, results = OPERATORS[name], 0
    for _ in range(60):
        count = int(RNG.integers(known.inputs[0], min(known.inputs[1], known.inputs[0] + 2) + 1))
        values = {f"x{i}": ODD[RNG.integers(len(ODD))] for i in range(count)}
        outputs = tuple(f"y{i}" for i in range(RNG.integers(1, min(known.outputs[1], 3) + 1)))
        ranges = known.attributes.items()
        given = tuple(
            (n, int(RNG.integers(max(low, -4), min(high, 4) + 1)))
            for n, (low, high) in ranges
            if n in known.required or RNG.random() < 0.5
        )
        try:
            run_ops([HostOp(name, tuple(values), outputs, given)], values)
            results += 1
        except BadInput as error:
            assert f"{name} 'y0', which the host computes" in str(error)
    assert results or name in ("NonMaxSuppression", "ScatterND")


# ---------------------------------------------------------------- files


@pytest.fixture
def edged(program: Program) -> Program:
    (port,) = program.outputs
    value = HostValue(program.inputs[0].name, program.inputs[0].shape, "float32")
    least = HostConstant("least", np.array([0.25], np.float32))
    greater = HostOp("Greater", (port.name, "least"), ("above",))
    made = HostEdges((value,), (HostValue("above", port.shape, "bool"),), (), (greater,), (least,))
    return replace(program, host=made)


def test_a_file_keeps_operations_and_constants(edged: Program, tmp_path: Path) -> None:
    edged.save(tmp_path / "a.nmx")
    found = load(tmp_path / "a.nmx")
    assert found.host == edged.host and found.host is not None
    assert np.array_equal(found.host.constants[0].values, [0.25])
    found.save(tmp_path / "b.nmx")
    assert (tmp_path / "a.nmx").read_bytes() == (tmp_path / "b.nmx").read_bytes()
    values = before(found.host, {found.host.inputs[0].name: np.zeros(1)})
    assert values["least"].dtype == np.float32


@pytest.mark.parametrize(
    ("change", "text"),
    (
        (lambda m: m.pop("host_0.npy"), "host constants: found [], allowed are 1 of them"),
        (lambda m: m.update({"host_1.npy": m["host_0.npy"]}), "allowed are 1 of them"),
        (lambda m: m.update({"host_0.npy": m["host_0.npy"][:-1]}), "host_0.npy: found float32"),
        (lambda m: m.update({"host_x.npy": m["host_0.npy"]}), "members: found"),
    ),
)
def test_tampered_constants(edged: Program, tmp_path: Path, change: Any, text: str) -> None:
    edged.save(tmp_path / "net.nmx")
    rewrite(tmp_path / "net.nmx", change)
    with pytest.raises(BadProgram, match=re.escape(text)):
        load(tmp_path / "net.nmx")


def test_an_unknown_operation_is_refused_at_load(edged: Program, tmp_path: Path) -> None:
    assert edged.host is not None
    (one,) = edged.host.after
    host = replace(edged.host, after=(replace(one, op="Eval"),))
    replace(edged, host=host).save(tmp_path / "net.nmx")
    with pytest.raises(BadProgram, match="op: found 'Eval', allowed are Abs"):
        load(tmp_path / "net.nmx")


def test_files_of_the_format_before_have_no_operations_of_the_host(
    program: Program, tmp_path: Path
) -> None:
    path = tmp_path / "old.nmx"
    program.save(path)

    def older(members: dict[str, bytes]) -> None:
        text = members["manifest.json"].replace(f'"format": {FORMAT}'.encode(), b'"format": 3')
        assert text != members["manifest.json"]
        members["manifest.json"] = re.sub(rb',\s*"host": null', b"", text)
        assert b'"host"' not in members["manifest.json"]

    rewrite(path, older)
    assert load(path).host is None
