# SPDX-License-Identifier: Apache-2.0
"""Units for parts of tensors: golden texts, exactness, and graphs that must stay as they are.

In: small graphs with uneven parts.  Out: divisors where one scale loses parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker
from golden_passes import check_texts, exact, same_values
from graph_text import graph_text
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Move, Port
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.ir.matgraph.verify import verify_matgraph
from neuralmatrix.ir.types import Array, Function, QParams
from neuralmatrix.quantization.samples import Samples
from neuralmatrix.quantization.split_scales import MOST_PORT_UNITS, _merged, split_scales
from targets import target

UNEVEN = np.array([1.0, 64.0, 4096.0, 1.0])


def split(mg: MatGraph, runs: Sequence[dict[str, Array]], precision: str = "int8") -> MatGraph:
    samples = Samples(runs, len(runs))
    return verify_matgraph(split_scales(mg, target(), samples=samples, precision=precision))


def same_outputs(mg: MatGraph, found: MatGraph, runs: Sequence[dict[str, Array]]) -> None:
    for run in runs:
        wanted, got = (port_outputs(g, run_float(g, run)) for g in (mg, found))
        for name, value in wanted.items():
            # float32 products with divisors that are no powers of two
            size = np.abs(value).max((0, 1, 2))
            assert np.all(np.abs(got[name] - value) <= 1e-5 * size)


def columns(unit: Array) -> tuple[MatGraph, list[dict[str, Array]]]:
    """Return a product of columns in these units; its weights undo them."""
    b = Maker()
    b.tensor("x", (1, 1, 1, 4))
    b.gemm("y", "x", 3)
    b.ops[-1].weight[:] = exact(1, 1, 1, 4, 3) / unit[:, None]  # type: ignore[union-attr,index]
    return b.graph(), [{"x": exact(seed, 1, 1, 1, 4) * np.float32(unit)} for seed in range(32)]


def far_columns() -> tuple[MatGraph, list[dict[str, Array]]]:
    """Return a window that normalises a column near 1,024."""
    b = Maker()
    b.tensor("x", (1, 1, 1, 2))
    b.window("y", "x", weight=np.ones((1, 1, 2)), bias=np.float32([0, -1024]))
    mean = np.float32([0, 1024])
    return b.graph(), [{"x": exact(seed, 1, 1, 1, 2) + mean} for seed in range(32)]


def joined(size: float) -> tuple[MatGraph, list[dict[str, Array]]]:
    """Return boxes, linear, and scores, of a table, joined along W at an output."""
    b = Maker()
    b.tensor("x", (1, 1, 16, 2))
    b.gemm("boxes", "x", 4)
    b.ops[-1].weight[:] *= size  # type: ignore[union-attr,index]
    b.gemm("scores", "x", 4, epilogue=Epilogue(activation=Function("sigmoid")))
    b.ops.append(Move("y", ("boxes", "scores"), np.arange(128).reshape(1, 1, 32, 4)))
    b.tensor("y", (1, 1, 32, 4))
    return b.graph(), [{"x": exact(seed, 1, 1, 16, 2)} for seed in range(4)]


def packed(size: float) -> tuple[MatGraph, list[dict[str, Array]]]:
    """Return a state of two parts along N: one part gates the other, and both go on."""
    b = Maker()
    b.tensor("x", (2, 1, 1, 8))
    for i, name in enumerate("hc"):
        b.ops.append(Move(name, ("x",), np.arange(8 * i, 8 * i + 8).reshape(1, 1, 1, 8)))
        b.tensor(name, (1, 1, 1, 8))
    b.gemm("gated", "h", 8, epilogue=Epilogue(activation=Function("sigmoid"), hadamard="c"))
    b.ops.append(Move("y", ("h", "gated"), np.arange(16).reshape(2, 1, 1, 8)))
    b.tensor("y", (2, 1, 1, 8))
    unit = np.float32([1, size]).reshape(2, 1, 1, 1)
    return b.graph(), [{"x": exact(seed, 2, 1, 1, 8) * unit} for seed in range(4)]


CASES = {
    "columns": columns(UNEVEN),
    "kept_even_columns": columns(np.ones(4)),
    "column_far_from_0": far_columns(),
    "joined_at_an_output": joined(512.0),
    "kept_joined": joined(1.0),
    "packed_state": packed(256.0),
}


@pytest.mark.parametrize("case", CASES)
def test_golden(request: pytest.FixtureRequest, case: str) -> None:
    mg, runs = CASES[case]
    found = split(mg, runs)
    check_texts(request, f"split_scales/{case}", graph_text(mg), graph_text(found))
    same_outputs(mg, found, runs)


def test_silent_columns_take_the_largest_divisor_that_spares_the_other_weights() -> None:
    mg, runs = columns(UNEVEN)
    silent = [{"x": run["x"] * np.float32([1, 1, 1, 0])} for run in runs]
    (unit,) = [units for name, units in split(mg, silent).recipe.units if name == "x"]
    weight = np.abs(np.asarray(mg.ops[0].weight)).max((0, 1, 3))  # type: ignore[attr-defined]
    heaviest = (weight * unit.divisor)[:3].max()
    assert unit.divisor[3] <= max(unit.divisor[:3])
    assert weight[3] * unit.divisor[3] == pytest.approx(heaviest, rel=1e-5)


def test_few_samples_decide_nothing_about_single_channels() -> None:
    mg, runs = columns(UNEVEN)
    assert not split(mg, runs[:3]).recipe.units


def test_few_samples_decide_about_parts_that_moves_read() -> None:
    mg, runs = packed(256.0)
    (unit,) = [units for name, units in split(mg, runs[:2]).recipe.units if name == "x"]
    assert unit.shape == (2, 1, 1, 1)


def test_what_a_model_prescribes_stays() -> None:
    mg, runs = columns(UNEVEN)
    assert not split(replace(mg, quant={"x": QParams(32.0)}), runs).recipe.units


@pytest.mark.parametrize("largest", [3000, 1_000_000])
def test_integers_that_one_scale_holds_stay_exact(largest: int) -> None:
    mg, _ = columns(UNEVEN)
    mg = replace(mg, inputs=(replace(mg.inputs[0], dtype="int64"),))
    rng = np.random.default_rng(0)
    runs = [{"x": np.rint(rng.uniform(1, [2, 100, largest, 2], (1, 1, 1, 4)))} for _ in range(32)]
    found = dict(split(mg, runs).recipe.units)
    assert ("x" in found) == (largest > 32639)


def test_units_of_ports_are_few() -> None:
    many = {label: 1.5**label for label in range(1, 100)}
    merged = _merged(many, 4.0)
    assert len(set(merged.values())) < len(many) / 2
    for label, divisor in many.items():
        assert divisor <= merged[label] < 4.0 * divisor
    b = Maker()
    size = 2 * MOST_PORT_UNITS
    b.tensor("x", (1, 1, 2, size))
    b.window("y", "x", epilogue=Epilogue(activation=Function("tanh")))
    grid = np.geomspace(1, 1000, size, dtype=np.float32)
    mg = replace(b.graph(), outputs=(*b.graph().outputs, Port("z", (1, 1, 2, size), "x", ())))
    runs = [{"x": exact(seed, 1, 1, 2, size) * grid} for seed in range(16)]
    found = split(mg, runs)
    for port in (*found.inputs, *found.outputs):
        assert port.units is None or len(port.units.divisor) <= MOST_PORT_UNITS


def test_channels_of_padding_beside_parts_keep_one_scale() -> None:
    """A residual whose channels are padded with 0 (ResNet's shortcut of kind A) cannot have units
    that the sum beside it has not: the graph stays, and nothing is raised."""
    b = Maker()
    b.tensor("x", (1, 4, 4, 8))
    b.gemm("h", "x", 8, epilogue=Epilogue(activation=Function("relu")))
    index = np.full((1, 4, 4, 16), -1)
    index[..., 4:12] = np.arange(4 * 4 * 8).reshape(1, 4, 4, 8)
    b.tensor("p", (1, 4, 4, 16))
    b.ops.append(Move("p", ("h",), index))
    b.gemm("y", "x", 16, epilogue=Epilogue("p", activation=Function("relu")))
    mg = b.graph()
    runs = [{"x": 9 * exact(seed, 1, 4, 4, 8)} for seed in range(4)]
    found = split_scales(mg, target(), samples=Samples(runs, 4), precision="int8")
    same_values(mg, found)
