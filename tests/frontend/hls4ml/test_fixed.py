# SPDX-License-Identifier: Apache-2.0
"""Fixed-point types: casts against the definition, and the array's roundings bit for bit.

In: values on and between steps, all modes.  Out: the integers of exact fractions; emulated results.
Nothing here needs hls4ml.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, floor
from types import SimpleNamespace

import numpy as np
import pytest
from neuralmatrix.compiler import compile_model
from neuralmatrix.errors import BadModel
from neuralmatrix.frontend.hls4ml.builder import OPSET, Builder, Value
from neuralmatrix.frontend.hls4ml.fixed import ROUND, Fixed, cast_weights, fixed_of
from neuralmatrix.frontend.hls4ml.model_graph import Converted, _proto
from neuralmatrix.frontend.hls4ml.products import Weights, product
from neuralmatrix.runtime.session import Session

pytest.importorskip("onnx")


def nearest(value: Fraction, mode: str) -> int:
    """Round an exact fraction as the name of the mode says."""
    below, above = floor(value), ceil(value)
    if mode == "TRN":
        return below
    if mode == "TRN_ZERO":
        return below if value >= 0 else above
    if value - below != above - value:
        return below if value - below < above - value else above
    ties = {
        "RND": above, "RND_MIN_INF": below, "RND_INF": above if value > 0 else below,
        "RND_ZERO": below if value > 0 else above, "RND_CONV": below if below % 2 == 0 else above,
    }  # fmt: skip
    return below if below == above else ties[mode]


@pytest.mark.parametrize("mode", ROUND)
def test_casts_round_as_their_mode_says(mode):
    values = [Fraction(n, 8) for n in range(-40, 41)]
    fixed = Fixed(8, 8, True, mode, "SAT")
    found = fixed.cast([float(v) for v in values])
    assert found.tolist() == [nearest(v, mode) for v in values]


def test_casts_overflow_as_their_mode_says():
    values = [-9.0, -8.0, 7.0, 8.0, 17.0]
    found = {mode: Fixed(4, 4, True, "TRN", mode).cast(values).tolist()
             for mode in ("WRAP", "SAT", "SAT_SYM", "SAT_ZERO")}  # fmt: skip
    assert found == {
        "WRAP": [7, -8, 7, -8, 1], "SAT": [-8, -8, 7, 7, 7],
        "SAT_SYM": [-7, -7, 7, 7, 7], "SAT_ZERO": [0, -8, 7, 0, 0],
    }  # fmt: skip


def test_weights_are_what_the_text_of_a_project_holds():
    # "{:.2f}" of 0.246 is 0.25, a step; the value itself would be cut to 0
    assert cast_weights(Fixed(4, 2), np.array([0.246, 0.2])).tolist() == [1, 0]


def test_a_float_type_is_refused():
    with pytest.raises(BadModel, match="no fixed-point number"):
        fixed_of(SimpleNamespace(width=32), "fc")


def network(fixed: Fixed, x_type: Fixed, codes, fraction: int, bias, bias_fraction: int):
    """Return a program of one dense layer with integer weights (K, M)."""
    b = Builder()
    depth, width = codes.shape
    ends = (x_type.lowest * x_type.step, x_type.highest * x_type.step)
    b.names.add("x")
    steps = b.steps(x_type, *ends, None, "x")
    x = Value(b.cast("x", "x.fixed", steps, -1.0), (depth,), x_type, *ends)

    def apply(name, weight, bias_name, hint):
        out = b.emit("MatMul", [name, weight], hint)
        return b.emit("Add", [out, bias_name], f"{hint}.biased") if bias_name else out

    weights = Weights(codes, fraction, bias, bias_fraction, 1)
    made = product(b, x, weights, (width,), fixed, apply, "fc")
    value = made.finish("y", fixed, None)
    port = SimpleNamespace(shape=(depth,))
    model = SimpleNamespace(inputs=["x"], get_input_variables=lambda: [port])
    proto = _proto(b, model, [(value.name, value)])
    assert proto.opset_import[0].version == OPSET
    return compile_model(Converted(proto, tuple(b.notes), {}), "pynq-z2"), b.notes


CASES = {
    "one digit": (Fixed(8, 4), 8, 4, 8),
    "two digits, an exact rest": (Fixed(8, 4), 12, 8, 8),
    "two digits of int16": (Fixed(16, 6), 12, 10, 16),
    "two digits of 16 bits": (Fixed(16, 6), 16, 12, 16),
}


@pytest.mark.gxx
@pytest.mark.parametrize("mode", ["TRN", "RND", "RND_MIN_INF", "RND_CONV"])
@pytest.mark.parametrize("case", CASES)
def test_sums_with_fixed_point_weights_are_exact(case, mode):
    """Against sums of Python integers; half of all results lie on ties."""
    x_type, bits, fraction, out_bits = CASES[case]
    rng = np.random.default_rng(1)
    top = 2 ** (bits - 1) - 200 if bits == 16 else 2 ** (bits - 1) - 1
    codes = rng.integers(-top, top + 1, (12, 7))
    codes[rng.random(codes.shape) < 0.5] //= 64
    bias = rng.integers(-100, 100, 7)
    fixed = Fixed(out_bits, 8, True, mode, "SAT")
    program, notes = network(fixed, x_type, codes, fraction, bias, 6)
    assert not notes
    most = 2 ** (x_type.width - 1) - 1
    x = rng.integers(-min(most, 2000), min(most, 2000), (64, 12))
    sums = x @ codes * 2.0 ** -(x_type.fraction + fraction) + bias * 2.0**-6
    found = Session(program).run({"x": (x * x_type.step).astype(np.float32)})
    (y,) = found.values()
    wanted = fixed.cast(sums)
    inside = np.abs(wanted) <= 32639  # the array's int16 ends there
    assert np.array_equal((y.reshape(64, 7) / fixed.step)[inside], wanted[inside])
    assert inside.mean() > 0.5 and len(np.unique(wanted[inside])) > 20
