# SPDX-License-Identifier: Apache-2.0
"""The table of a board and onnxruntime: origins of numbers, and missing numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neuralmatrix.errors import BadInput, ToolMissing
from neuralmatrix.measure import compare_host, host_power, onnxruntime_bench
from neuralmatrix.measure.agreement import agreement
from neuralmatrix.measure.compare import CompareOptions, compare
from neuralmatrix.measure.compare_host import HostOptions
from neuralmatrix.measure.comparison_rows import board_row, row_json
from neuralmatrix.measure.power import RailPower
from neuralmatrix.measure.spread import Mean
from neuralmatrix.measure.text_tables import compare_lines
from neuralmatrix.program.program import Program

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
QUICK = HostOptions(batches=(1, 2), repeats=2, power=False)


def identity(
    path: Path,
    batch: int | str = "N",
    output: str = "y",
    shape: tuple[int, ...] = (5, 4, 4),
    kind: str = "Identity",
) -> Path:
    """Make the model of the copying program."""
    dims = [batch, *shape]
    ports = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name in ("x", output)
    )
    source, result = ports
    node = onnx.helper.make_node(kind, ["x"], [output])
    graph = onnx.helper.make_graph([node], "copy", [source], [result])
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, str(path))
    return path


def spread_of(value: float) -> dict[str, float]:
    names = ("median", "lower_quartile", "upper_quartile", "lowest", "highest")
    return {**dict.fromkeys(names, value), "count": 3}


def mean(value: float) -> dict[str, float | None]:
    return {"mean": value, "standard_error": 0.1, "count": 3}


IN_WINDOWS = 390.0  # images per second while watts were read, not the highest


def rail(name: str, watts: float) -> dict[str, Any]:
    return {"name": name, "scope": f"scope of {name}", "basis": "measured on the board",
            "loaded_w": mean(watts), "idle_w": mean(watts / 2),
            "joules_per_inference": mean(watts / IN_WINDOWS)}  # fmt: skip


def saved(program: Program, **change: Any) -> dict[str, Any]:
    """Make the parts of a bench that a comparison reads."""
    return {
        "format": "neuralmatrix bench 1", "board": program.board, "origin": "board",
        "fingerprint": program.array.fingerprint, "macs": program.estimate().macs,
        "precision": "int8",
        "latency": {"total_s": spread_of(0.004)},
        "throughput": [{"batch": n, "basis": "measured on the board", "images_per_s": spread_of(r)}
                       for n, r in ((1, 250.0), (8, 400.0), (32, 390.0))],
        "array": {"seconds": 0.002, "runs_per_s": 500.0, "basis": "emulated: counted"},
        "power": {"rails": [rail("12V", 16.0), rail("INT", 2.0)], "widest": "12V", "absent": []},
        **change,
    }  # fmt: skip


# ------------------------------------------------------------------------------ the board's row


def test_a_measured_board(program: Program) -> None:
    row = row_json(board_row(saved(program)))
    assert (row["images_per_s"], row["batch"], row["latency_s"]) == (400.0, 8, 0.004)
    assert row["watts"] == 16.0 and row["images_per_s_per_w"] == pytest.approx(390 / 16)
    assert row["images_per_s_per_w_basis"].startswith("images and joules of the loaded windows")
    assert row["scope"] == "12V: scope of 12V" and row["source"] == "measured"


def test_another_rail(program: Program) -> None:
    assert board_row(saved(program), "INT").images_per_joule == pytest.approx(195.0)
    with pytest.raises(BadInput, match="--rail: found '5V', measured are 12V, INT"):
        board_row(saved(program), "5V")


@pytest.mark.parametrize(
    ("power", "reason"),
    (
        ({"rails": [rail("A", 1), rail("B", 2)], "widest": None, "absent": []},
         "no rail feeds all of A, B; choose one with --rail"),
        ({"rails": [], "widest": None, "absent": [{"reason": "no sensor"}]}, "no sensor"),
    ),
)  # fmt: skip
def test_no_watts_without_a_measurement(
    program: Program, power: dict[str, Any], reason: str
) -> None:
    row = row_json(board_row(saved(program, power=power)))
    assert row["watts"] is None and row["images_per_s_per_w"] is None
    assert row["no_watts"] == reason == row["images_per_s_per_w_basis"]


@pytest.mark.parametrize("origin", ("emulation", "emulated board"))
def test_an_emulated_board_has_cycles_and_no_watts(program: Program, origin: str) -> None:
    """The rails of its bench are simulated and give no watts."""
    row = board_row(saved(program, origin=origin))
    assert row.images_per_s == 500.0 and row.source == "emulated" and row.watts is None


def test_a_result_that_lacks_parts(program: Program) -> None:
    result = saved(program)
    del result["throughput"]
    with pytest.raises(BadInput, match="lacks 'throughput'"):
        board_row(result)
    for odd in ([], 5, [{}], [{"images_per_s": {"median": None}}]):
        with pytest.raises(BadInput, match="the bench result lacks"):
            board_row({**saved(program), "throughput": odd})


# ------------------------------------------------------------------------------ agreement


def test_agreement() -> None:
    wanted = {"a": np.array([[1.0, 3.0], [2.0, -4.0]]), "b": np.array([1, 2, 3])}
    found = agreement(wanted, {"a": wanted["a"] + [[0, 0], [0, 7.0]], "b": np.array([1, 2, 4])})
    assert found["a"]["largest_difference"] == 7.0 and found["a"]["largest_value"] == 4.0
    assert found["a"]["equal_answers"] == 0.5
    # 30 of signal to 49 of error
    assert found["a"]["snr_db"] == pytest.approx(10 * np.log10(30 / 49))
    assert found["b"]["equal_answers"] == pytest.approx(2 / 3)


def test_a_float_model_that_gives_no_numbers() -> None:
    good = np.zeros((2, 3))
    with pytest.raises(BadInput, match="output 'b' of the float model: found NaN or infinity"):
        agreement({"a": good, "b": good + np.nan}, {"a": good, "b": good})


def test_agreement_of_equal_and_of_other_shapes() -> None:
    zeros = np.zeros((2, 3))
    assert agreement({"a": zeros}, {"a": zeros})["a"]["snr_db"] is None
    found = agreement({"a": zeros}, {"a": np.zeros((3, 2))})["a"]
    assert not found["equal_shapes"] and found["shapes"] == [[2, 3], [3, 2]]


# ------------------------------------------------------------------------------ whole comparisons


@pytest.mark.gxx
@pytest.mark.parametrize("batch", ("N", 1))
def test_the_estimate_beside_onnxruntime(
    program: Program, tmp_path: Path, batch: int | str
) -> None:
    x = np.random.default_rng(0).integers(-60, 60, (3, 5, 4, 4)).astype(np.float32)
    options = CompareOptions(host=QUICK)
    result = compare(identity(tmp_path / "m.onnx", batch), program, {"x": x}, options)
    board, *hosts = result["rows"]
    assert board["source"] == "estimated" and board["watts"] is None
    assert "the estimate has no power" in board["no_watts"]
    assert hosts[0]["source"] == "measured" and hosts[0]["device"].endswith("CPU")
    assert (batch == 1) == ("the model fixes its batch" in hosts[0]["notes"])
    near = result["agreement"]
    assert near["outputs"]["y"]["largest_difference"] == 0 and near["images"] == 3
    assert near["basis"].startswith("emulated") and near["inputs"] == "given"
    text = "\n".join(compare_lines(json.loads(json.dumps(result))))
    assert "PYNQ-Z2" in text and "100.0 % equal answers" in text


@pytest.mark.gxx
def test_a_saved_board_beside_a_measured_processor(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(saved(program)))

    def measured(*arguments: Any) -> RailPower:
        one = Mean(50.0, 1.0, 3)
        return RailPower("cpu", host_power.RAPL_SCOPE, "RAPL", arguments[-1], one, one, one, one,
                         one, 1, 1.0, 9, 0.1, "", None, ())  # fmt: skip

    folder = tmp_path / "class" / "powercap" / "intel-rapl:0"
    folder.mkdir(parents=True)
    for name, value in (("name", "package-0"), ("energy_uj", 1), ("max_energy_range_uj", 9)):
        (folder / name).write_text(str(value))
    monkeypatch.setattr(compare_host, "analyse", measured)
    plan = replace(QUICK.plan, seconds=0.01, pairs=3)
    host = replace(QUICK, power=True, sysfs=tmp_path, plan=plan)
    options = CompareOptions(board_result=path, host=host)
    result = compare(identity(tmp_path / "m.onnx"), program, None, options)
    board, cpu = result["rows"][:2]
    assert board["watts"] == 16.0 and cpu["watts"] == 50.0
    assert cpu["images_per_s_per_w"] == pytest.approx(1 / 50)  # 50 J per inference
    assert result["notes"] == ["the watts have different scopes: compare them with care"]
    assert result["agreement"]["inputs"] == "random, seeded"


@pytest.mark.gxx
@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_card_that_does_not_start(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime with CUDA lists it on machines without a card too."""
    monkeypatch.setattr(
        onnxruntime_bench, "providers", lambda: (onnxruntime_bench.CPU, onnxruntime_bench.CUDA)
    )
    if onnxruntime_bench.CUDA in onnxruntime_bench.require_onnxruntime().get_available_providers():
        pytest.skip("CUDA may start here")
    result = compare(identity(tmp_path / "m.onnx"), program, None, CompareOptions(host=QUICK))
    assert [row["device"].rpartition(" ")[2] for row in result["rows"][1:]] == ["CPU"]
    (note,) = result["notes"]
    assert "no row of CUDAExecutionProvider" in note and "cannot start it" in note


@pytest.mark.gxx
def test_a_bench_of_another_program(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    path.write_text(json.dumps(saved(program, macs=7)))
    options = CompareOptions(board_result=path, host=QUICK)
    with pytest.raises(BadInput, match="found a bench of another program"):
        compare(identity(tmp_path / "m.onnx"), program, None, options)


@pytest.mark.parametrize(
    ("model", "problem"),
    (
        (lambda path: identity(path, output="z"), r"found outputs \['z'\], the program's are"),
        (lambda path: path.write_bytes(b"junk") and path, "onnxruntime rejects it"),
        (lambda path: identity(path, shape=(6, 4, 4)), "onnxruntime stopped: .*compiled from"),
        (lambda path: identity(path, shape=(5,)), "onnxruntime stopped: .*compiled from"),
    ),
)
def test_a_model_that_is_not_the_programs(program: Program, tmp_path: Path, model: Any,
                                          problem: str) -> None:  # fmt: skip
    with pytest.raises(BadInput, match=problem):
        compare(model(tmp_path / "m.onnx"), program, None, CompareOptions(host=QUICK))


def test_a_model_of_the_same_shapes(program: Program, tmp_path: Path) -> None:
    options = CompareOptions(host=QUICK)
    other = compare(identity(tmp_path / "m.onnx", kind="Neg"), program, None, options)
    assert "output 'y' differs like that of another model" in other["notes"][0]
    assert not compare(identity(tmp_path / "m.onnx"), program, None, options)["notes"]


def test_an_input_without_a_feed(tmp_path: Path) -> None:
    opened = onnxruntime_bench.open_runtime(
        identity(tmp_path / "m.onnx"), onnxruntime_bench.CPU, 1, ["y"], {}
    )
    with pytest.raises(BadInput, match=r"inputs \['x'\] of the model have no feed.*--constant"):
        onnxruntime_bench.typed_feeds(opened, {}, {})


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ToolMissing, match="pip install onnxruntime"):
        onnxruntime_bench.providers()
