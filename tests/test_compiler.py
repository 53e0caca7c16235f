# SPDX-License-Identifier: Apache-2.0
"""compile_model from end to end: options, stages, reach of the schedule.

In: networks of models/zoo.py.  Out: programs, their estimates, errors by text.
"""

from __future__ import annotations

import sys
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.compiler import compile_model
from slow import slow_after

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "models"))
import zoo  # noqa: E402


def images(size: int, count: int = 2) -> list[dict[str, np.ndarray]]:
    x = np.random.default_rng(0).standard_normal((count, 3, size, size)).astype(np.float32)
    return [{"input": x}]


def test_every_stage_is_written(tmp_path: Path) -> None:
    compile_model(zoo.small_cnn(), calibration=images_of(zoo.small_cnn()), keep_stages=tmp_path)
    names = sorted(p.name for p in tmp_path.iterdir())
    passes = ["import", "simplify", "lower", "calibrate", "quantize", "program"]
    assert names == [f"{i:02d}-{name}.txt" for i, name in enumerate(passes, 1)]
    assert all(p.read_text().count("\n") > 3 for p in tmp_path.iterdir())


def images_of(model: object) -> list[dict[str, np.ndarray]]:
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]  # type: ignore[attr-defined]
    rng = np.random.default_rng(0)
    return [{"input": rng.standard_normal([4, *shape[1:]]).astype(np.float32)}]


def test_compiling_twice_gives_the_same_program() -> None:
    model = zoo.small_cnn()
    one, two = (compile_model(model, calibration=images_of(model)) for _ in range(2))
    np.testing.assert_array_equal(one.instructions, two.instructions)
    np.testing.assert_array_equal(one.const, two.const)


def test_calibration_is_required_for_a_float_model() -> None:
    with pytest.raises(nm.BadInput, match=r"no calibration given.*input\(s\) input.*calibration="):
        compile_model(zoo.small_cnn())


def test_unknown_precision_and_board() -> None:
    with pytest.raises(nm.BadInput, match="precision 'int4'; allowed are int8, int16"):
        compile_model(zoo.small_cnn(), precision="int4")
    with pytest.raises(nm.BadInput, match="unknown board 'de10'; allowed are .*pynq-z2"):
        compile_model(zoo.small_cnn(), board="de10")


# The bars of the cycle model on PYNQ-Z2, batch 1.  Estimates are exact integers: no tolerance.
UTILIZATION = {"resnet20": 0.65, "resnet18": 0.85, "mobilenet_v1": 0.45, "mobilenet_v2": 0.45}


@pytest.mark.parametrize("name", slow_after(1, UTILIZATION))
def test_the_array_is_kept_busy(name: str) -> None:
    size = 32 if name == "resnet20" else 224
    program = compile_model(getattr(zoo, name)(size=size), calibration=images(size, 1))
    found = program.estimate()
    assert found.utilization >= UTILIZATION[name]
    assert found.macs == sum(layer.macs for layer in found.layers)
    if name == "resnet20":
        assert 1 / found.latency_s > 300


def test_the_host_only_converts_numbers() -> None:
    program = compile_model(zoo.resnet20(), calibration=images(32))
    assert program.host_ops == ("quantize", "dequantize")
