# SPDX-License-Identifier: Apache-2.0
"""Mixed precision, scale migration and bias correction.

In: small networks with known weak spots.  Out: the right tensors raised; refinements that are exact
in real arithmetic and gain in integers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from blocks import Maker, attention, feed
from neuralmatrix.ir.matgraph.ops import Epilogue, MatGraph, Tensor, Window
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.points import Ranges
from neuralmatrix.ir.quantized_values import dequantize_array
from neuralmatrix.ir.recipe import as_numbers
from neuralmatrix.ir.types import Array, Function
from neuralmatrix.quantization.correct_biases import shifts_of, with_shifts
from neuralmatrix.quantization.equalize import migrate, with_factors
from neuralmatrix.quantization.fake_quant import rerun, sample, with_rounded_weights
from neuralmatrix.quantization.integer_reference import run_integer
from neuralmatrix.quantization.mixed_precision import Mixed, choose_mixed
from quantized import calibrated, quantized, scales, tied
from targets import target


def runs(mg: MatGraph, count: int = 4) -> list[dict[str, Array]]:
    return [{"x": feed(mg, seed)} for seed in range(count)]


def ranges(mg: MatGraph, method: str = "mse") -> Ranges:
    return calibrated(mg, runs(mg), method).ranges


def mixed(mg: MatGraph, max_loss: float, method: str = "mse", measure: str = "relative") -> Mixed:
    """What is raised, on the inputs of the calibration."""
    found = calibrated(mg, runs(mg), method)
    return choose_mixed(found, target(), runs(mg), max_loss, measure)


def integer_error(
    mg: MatGraph, plain: MatGraph, bounds: Ranges, raised: tuple[str, ...] = ()
) -> float:
    """Of ``mg`` in integers against ``plain`` in float, on an input not calibrated with."""
    q, x = quantized(mg, bounds, "int8", raised), feed(mg, 99)
    y = run_float(plain, {"x": x})["y"]
    got = dequantize_array(run_integer(q, {"x": x})["y"], q.qparams["y"])
    return float(np.linalg.norm(got - y) / np.linalg.norm(y))


def weak_spot() -> MatGraph:
    """A chain whose tensor "b" has one channel 200 times larger, which the next product ignores."""
    b = Maker()
    b.tensor("x", (1, 1, 40, 24))
    b.gemm("a", "x", 24, epilogue=Epilogue(activation=Function("relu")))
    scale = np.ones((1, 1, 24))
    scale[..., 5] = 200.0
    b.window("b", "a", weight=scale)
    b.gemm("c", "b", 24)
    weight = b.ops[-1].weight  # type: ignore[union-attr]
    weight[0, 0, 5] = 0.0
    b.gemm("y", "c", 10)
    return b.graph()


def test_the_weak_tensor_alone_is_raised() -> None:
    mg = weak_spot()
    found = mixed(mg, 0.05, "minmax")
    assert found.tensors == {"b"}
    assert found.met and found.before > 0.1
    assert found.after == pytest.approx(integer_error_on_runs(mg, ("b",)), rel=1e-6)
    assert "1 of 4 int8 tensors raised to int16" in found.to_text()
    assert "b: alone" in found.to_text()


def integer_error_on_runs(mg: MatGraph, raised: tuple[str, ...]) -> float:
    q = quantized(mg, ranges(mg, "minmax"), "int8", raised)
    y = np.concatenate([run_float(mg, run)["y"] for run in runs(mg)])
    codes = np.concatenate([run_integer(q, run)["y"] for run in runs(mg)])
    return float(np.linalg.norm(dequantize_array(codes, q.qparams["y"]) - y) / np.linalg.norm(y))


def test_nothing_is_raised_where_int8_is_enough() -> None:
    mg = attention()
    found = mixed(mg, 0.5)
    assert found.raised == () and found.met and found.after == found.before


def test_an_impossible_loss_stops_near_int16() -> None:
    mg = attention()
    found = mixed(mg, 1e-6)
    assert not found.met and found.raised
    # a tenth above the floor, and what rounded floats do not model
    assert found.after < 1.3 * found.floor
    assert "not met; int16 throughout has" in found.to_text()


def test_a_tighter_loss_raises_more() -> None:
    mg = attention(sharpness=2.0)
    chosen = [mixed(mg, loss) for loss in (0.03, 0.012)]
    assert len(chosen[0].raised) < len(chosen[1].raised)
    assert chosen[0].after > chosen[1].after
    for found in chosen:
        assert found.met, found.to_text()


def test_top1_counts_rows() -> None:
    mg = weak_spot()
    found = mixed(mg, 0.02, "minmax", "top1")
    assert 0.02 < found.before <= 1 and found.met
    assert "largest element differs" in found.to_text()


def test_only_what_depends_on_a_tensor_is_evaluated_again() -> None:
    mg = attention()
    seen = sample(mg, runs(mg))
    assert seen.images == 4
    q = scales(mg, ranges(mg))
    whole = rerun(mg, seen.values, {"v": q["v"]})
    part = rerun(mg, seen.values, {"v": q["v"]}, ("v",))
    assert part["e"] is seen.values["e"] and part["q"] is seen.values["q"]
    np.testing.assert_array_equal(part["y"], whole["y"])
    assert not np.array_equal(part["y"], seen.values["y"])


def test_rounded_floats_predict_the_integers() -> None:
    mg = weak_spot()
    bounds = ranges(mg)
    seen = sample(mg, runs(mg, 1))
    q = quantized(mg, bounds, "int8")
    found = rerun(with_rounded_weights(mg), seen.values, {n: q.qparams[n] for n in mg.tensors})
    got = dequantize_array(run_integer(q, runs(mg)[0])["y"], q.qparams["y"])
    # the last rounding of each tensor may fall the other way on a tie
    np.testing.assert_allclose(found["y"], got, atol=0.02 * np.abs(got).max())


# ---------------------------------------------------------------- refinements


def uneven_norm() -> MatGraph:
    """A window like a normalisation's, whose channels differ in size, read by two Gemms."""
    b = Maker()
    b.tensor("x", (2, 1, 30, 32))
    gamma = np.geomspace(0.02, 20.0, 32).reshape(1, 1, 32)
    b.window("n", "x", weight=gamma)
    for name in ("a", "b"):
        b.gemm(name, "n", 16)
        b.ops[-1].weight[:] /= gamma.reshape(32, 1) ** 0.8  # type: ignore[union-attr]
    b.window("y", "a", epilogue=Epilogue("b"))
    return b.graph()


def test_migration_is_exact_and_reduces_the_error() -> None:
    mg = uneven_norm()
    factors = migrate(mg, sample(mg, runs(mg)))
    assert set(factors) == {"n"}
    better = with_factors(mg, target(), factors=as_numbers(factors))
    x = feed(mg, 7)
    # float32 products of factors
    np.testing.assert_allclose(
        run_float(better, {"x": x})["y"], run_float(mg, {"x": x})["y"], rtol=1e-3, atol=1e-4
    )
    before = integer_error(mg, mg, ranges(mg))
    assert integer_error(better, mg, ranges(better)) < 0.7 * before


def test_migration_leaves_even_channels_alone() -> None:
    mg = weak_spot()
    even = replace(mg, ops=tuple(
        replace(op, weight=np.ones((1, 1, 24))) if op.output == "b" else op for op in mg.ops
    ))  # fmt: skip
    assert "b" not in migrate(even, sample(even, runs(even)))


@pytest.mark.parametrize("epilogue", [Epilogue("x"), Epilogue(activation=Function("tanh"))])
def test_what_is_not_proportional_to_its_weights_is_not_scaled(epilogue: Epilogue) -> None:
    mg = uneven_norm()
    mg = replace(mg, ops=(replace(mg.ops[0], epilogue=epilogue), *mg.ops[1:]))
    assert migrate(mg, sample(mg, runs(mg))) == {}


def test_what_others_read_is_not_scaled() -> None:
    mg = uneven_norm()
    reader = Window("z", "n", np.ones((1, 1, 1)), np.zeros(32))
    mg = replace(
        mg, ops=(*mg.ops, reader), tensors={**mg.tensors, "z": Tensor("z", (2, 1, 30, 32))}
    )
    assert migrate(mg, sample(mg, runs(mg))) == {}


def offset_net() -> MatGraph:
    """Positive inputs of one size: the rounding of weights leaves a constant error per channel."""
    b = Maker()
    b.tensor("x", (1, 1, 50, 60))
    b.window("p", "x", epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("h", "p", 40, epilogue=Epilogue(activation=Function("sigmoid")))
    b.gemm("y", "h", 12)
    return b.graph()


def test_bias_correction_removes_the_mean_error() -> None:
    mg = offset_net()
    bounds = ranges(mg)
    shifts = shifts_of(mg, scales(mg, bounds), sample(mg, runs(mg)))
    assert set(shifts) <= {"h", "y"} and "y" in shifts
    better = with_shifts(tied(mg), target(), shifts=as_numbers(shifts)).graph
    assert integer_error(better, mg, bounds) < 0.9 * integer_error(mg, mg, bounds)


def test_bias_correction_does_nothing_at_int16_weights_of_full_precision() -> None:
    mg = offset_net()
    exact = with_rounded_weights(mg)  # its weights are int8 codes already
    bounds = ranges(exact)
    wide = scales(exact, bounds, "int16")
    shifts = shifts_of(exact, wide, sample(exact, runs(exact)))
    assert all(np.abs(shift).max() < 1e-3 for shift in shifts.values())
