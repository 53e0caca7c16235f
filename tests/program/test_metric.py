# SPDX-License-Identifier: Apache-2.0
"""A user's own metric: what it gets, what a compile says of it, what is refused.

In: small networks with calibration inputs.  Out: scores of both sides, warnings, errors.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from neuralmatrix.ir.types import Array
from neuralmatrix.program.metric import read_metric
from neuralmatrix.program.program import Program
from neuralmatrix.quantization import loss_warnings

Run = Callable[[Mapping[str, Any]], dict[str, Array]]

RNG = np.random.default_rng(0)
CALIBRATION = RNG.normal(size=(64, 8)).astype(np.float32)
NEW = RNG.normal(size=(50, 8)).astype(np.float32)


def network(out: int = 1) -> onnx.ModelProto:
    """Return a dense layer, a ReLU and a dense layer."""
    rng = np.random.default_rng(1)
    weights = {"a": rng.normal(size=(8, 16)), "b": rng.normal(size=(16, out))}
    nodes = [
        onnx.helper.make_node("MatMul", ["x", "a"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["r"]),
        onnx.helper.make_node("MatMul", ["r", "b"], ["y"]),
    ]
    ports = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, size])
        for name, size in (("x", 8), ("y", out))
    ]
    constants = [onnx.numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()]
    graph = onnx.helper.make_graph(nodes, "net", ports[:1], ports[1:], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


def floats() -> Array:
    """Return the right outputs of NEW."""
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in network().graph.initializer}
    right: Array = np.maximum(NEW @ weights["a"], 0) @ weights["b"]
    return right


def compiled(metric: Any, **options: Any) -> Program:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return nm.compile(network(), calibration=[{"x": CALIBRATION}], metric=metric, **options)


def within(tolerance: float) -> Callable[[Run], float]:
    """Return the share of new outputs that are close to the right ones."""

    def close(run: Run) -> float:
        return float(np.mean(np.abs(run({"x": NEW})["y"] - floats()) < tolerance))

    return close


def test_a_metric_gets_the_float_model_and_the_integers_of_the_program() -> None:
    seen: list[Array] = []

    def none_lost(run: Run) -> float:
        seen.append(run({"x": NEW})["y"])
        assert np.array_equal(run({"x": NEW[3:4]})["y"], seen[-1][3:4])  # one input, or many
        return 1.0

    program = compiled(none_lost)
    in_float, integers = seen
    assert np.allclose(in_float, floats(), atol=1e-4) and not np.allclose(integers, in_float)
    loss = np.linalg.norm(integers - in_float) / np.linalg.norm(in_float)
    assert loss == pytest.approx(program.accuracy.outputs[0].relative_error, rel=1)  # type: ignore[union-attr]
    assert program.accuracy is not None and program.accuracy.metric is not None
    assert program.accuracy.metric.to_text() == (
        "metric none_lost: 1 in integers, 1 in float: nothing lost"
    )


@pytest.mark.gxx
def test_the_integers_are_those_that_a_session_runs() -> None:
    seen: list[Array] = []
    program = compiled(lambda run: float(len(seen.append(run({"x": NEW})["y"]) or seen)))
    assert np.array_equal(nm.Session(program, threads=1).run({"x": NEW})["y"], seen[1])


def test_a_metric_that_loses_warns_with_a_cause_and_nothing_else_does() -> None:
    with pytest.warns(nm.AccuracyWarning, match="metric close: .* % lost; cause: "):
        nm.compile(network(), calibration=[{"x": CALIBRATION}], metric=within(1e-3))
    program = compiled(within(5.0))
    assert program.accuracy is not None and program.accuracy.warnings == ()


def test_a_content_metric_silences_what_outputs_lose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_warnings, "MOST_VARYING", {"values": 0.0})
    with pytest.warns(nm.AccuracyWarning, match="output y is inaccurate"):
        plain = nm.compile(network(), calibration=[{"x": CALIBRATION}])
    content = compiled(within(5.0))
    assert plain.accuracy is not None and content.accuracy is not None
    assert content.accuracy.outputs == plain.accuracy.outputs
    assert content.accuracy.causes == plain.accuracy.causes != ()


def test_mixed_allows_less_until_the_metric_is_content() -> None:
    tight = within(0.02)
    with pytest.warns(nm.AccuracyWarning, match="metric close"):
        nm.compile(network(), calibration=[{"x": CALIBRATION}], metric=tight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loose = nm.compile(
            network(), calibration=[{"x": CALIBRATION}], metric=tight, precision="mixed",
            max_loss=0.05,
        )  # fmt: skip
        found = nm.compile(
            network(), calibration=[{"x": CALIBRATION}], metric=tight, precision="mixed"
        )
    lost = [one.accuracy.metric.lost for one in (loose, found)]  # type: ignore[union-attr]
    assert lost[1] < 0.01 < lost[0]


def test_a_required_loss_of_the_metric() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(nm.AccuracyMissed, match=r"close: .* % lost, required is metric:0.5%"):
            nm.compile(network(), calibration=[{"x": CALIBRATION}], metric=within(1e-3),
                       require="metric:0.5%")  # fmt: skip
    assert compiled(within(5.0), require="metric:0.5%").accuracy is not None
    with pytest.raises(nm.BadInput, match="without a metric"):
        nm.compile(network(), calibration=[{"x": CALIBRATION}], require="metric:1%")


def test_it_is_kept_in_the_file_and_in_json(tmp_path: Path) -> None:
    program = compiled(within(5.0))
    program.save(tmp_path / "net.nmx")
    again = nm.load(tmp_path / "net.nmx")
    assert again.accuracy == program.accuracy
    assert again.accuracy is not None
    shown = again.accuracy.to_dict()["metric"]
    assert shown == {"name": "close", "float_score": 1.0, "score": 1.0, "lost": 0.0}


def test_a_metric_counts_where_too_few_inputs_are_held_back() -> None:
    program = nm.compile(network(), calibration=[{"x": CALIBRATION[:4]}], metric=within(5.0))
    assert program.accuracy is not None and not program.accuracy.measured
    assert any("metric close" in line for line in program.accuracy.to_lines())


@pytest.mark.parametrize(
    ("metric", "text"),
    [
        ("top1", "allowed is a function"),
        (lambda run: float("nan"), "allowed is a finite number"),
        (lambda run: run({"z": NEW}), "found inputs"),
        (lambda run: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_metrics_that_are_none(metric: Any, text: str) -> None:
    with pytest.raises(nm.BadInput, match=text):
        compiled(metric)


def test_a_metric_needs_a_measured_compile() -> None:
    with pytest.raises(nm.BadInput, match="measures nothing"):
        compiled(within(1.0), accuracy=False)


def test_functions_of_files(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text("def score(run):\n    return 2\n")
    assert read_metric(f"{file}:score")(lambda feed: {}) == 2
    for text, why in (("score", "FILE.py:FUNCTION"), (f"{file}:none", "no function 'none'")):
        with pytest.raises(nm.BadInput, match=why):
            read_metric(text)
    file.write_text("1 / 0\n")
    with pytest.raises(nm.BadInput, match="failed: ZeroDivisionError"):
        read_metric(f"{file}:score")
