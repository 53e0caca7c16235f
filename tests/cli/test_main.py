# SPDX-License-Identifier: Apache-2.0
"""The command line: what it prints, its JSON, and one clean message for every error."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from conftest import ROOT
from neuralmatrix.cli import main as cli
from neuralmatrix.cli.common import waiting
from neuralmatrix.cli.doctor import diagnose
from neuralmatrix.cli.main import app, main
from neuralmatrix.errors import BadInput, ToolMissing
from neuralmatrix.files import parse_shapes, read_arrays, write_arrays
from neuralmatrix.program.program import Program
from neuralmatrix.program.report import program_report, summary_lines
from neuralmatrix.verification import Check, LayerCheck
from rich.console import Console
from typer.testing import CliRunner


def call(*arguments: object) -> str:
    """Return the standard output of a command that succeeds."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def fail(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Return exit code and message of a command that fails."""
    old, sys.argv = sys.argv, ["neuralmatrix", *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = old
    assert isinstance(stop.value.code, int)
    return stop.value.code, capsys.readouterr().err


@contextmanager
def handler(of_sigterm: Callable[..., None]) -> Iterator[Callable[..., None]]:
    """Install a handler of SIGTERM, as a program that calls ``main`` may have."""
    before = signal.signal(signal.SIGTERM, of_sigterm)
    try:
        yield of_sigterm
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(
    ("arguments", "code"), ((("boards",), 0), (("report", "nowhere.nmx"), 1), (("nonsense",), 2))
)
def test_the_callers_handler_of_sigterm_is_back_afterwards(
    arguments: tuple[str, ...], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["neuralmatrix", *arguments])
    with handler(lambda *_: None) as mine:
        with pytest.raises(SystemExit) as stop:
            main()
        assert signal.getsignal(signal.SIGTERM) is mine
    assert stop.value.code == code


def test_sigterm_ends_a_command_and_the_callers_handler_is_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "app", lambda: signal.raise_signal(signal.SIGTERM))
    with handler(lambda *_: None) as mine:
        with pytest.raises(SystemExit) as stop:
            main()
        assert signal.getsignal(signal.SIGTERM) is mine
    assert stop.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err == "error: stopped by SIGTERM\n"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    path = tmp_path / "in.npz"
    np.savez(path, x=np.random.default_rng(0).integers(-60, 60, (3, 5, 4, 4)))
    return path


def test_boards() -> None:
    rows = json.loads(call("boards", "--json"))
    assert [row["name"] for row in rows] == list(nm.board_names())
    text = call("boards")
    assert all(name in text for name in nm.board_names())


def test_report(saved: Path) -> None:
    data = json.loads(call("report", saved, "--json"))
    assert data["network"]["cycles"] == nm.load(saved).estimate().cycles
    assert "estimated" in data["network"]["basis"]
    assert sum(layer["cycles"] for layer in data["layers"]) == data["network"]["cycles"]
    text = call("report", saved)
    assert "copy" in text and "images/s" in text and "not measured" in text


@pytest.mark.parametrize(
    ("shapes", "batch", "unit"),
    ((((1, 2, 3, 3), (1, 3)), 1, "image"), (((1, 5), (1, 3)), 1, "run"),
     (((4, 2, 3, 3), (4, 3)), 4, "run"), (((4, 5), (2, 3)), None, "run"),
     (((), (1, 3)), None, "run")),
)  # fmt: skip
def test_only_one_image_is_called_an_image(
    program: Program, shapes: tuple[tuple[int, ...], ...], batch: int | None, unit: str
) -> None:
    source, result = (replace(p, shape=s) for p, s in zip(
        (*program.inputs, *program.outputs), shapes, strict=True))  # fmt: skip
    data = program_report(replace(program, inputs=(source,), outputs=(result,)))
    assert data["batch"] == batch
    assert f"ms per {unit}, " in summary_lines(data)[0]


@pytest.mark.parametrize(("columns", "shown"), ((80, False), (120, True)))
def test_tables_keep_to_the_terminal(
    saved: Path, monkeypatch: pytest.MonkeyPatch, columns: int, shown: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    boards = call("boards")
    assert ("xc7z020clg400-1" in boards) == shown
    for line in (boards + call("report", saved)).splitlines():
        assert len(line) <= columns


def test_json_has_no_infinity() -> None:
    equal = LayerCheck("a", "Gemm", "a", math.inf, 4, 0, None)
    found = Check((equal, replace(equal, snr_db=math.nan), replace(equal, snr_db=40.0)))
    assert [layer["snr_db"] for layer in found.to_dict()["layers"]] == [None, None, 40.0]


def test_report_html(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("plotly")
    call("report", saved, "--html", tmp_path / "r.html")
    assert "cycles each layer adds" in (tmp_path / "r.html").read_text()


def test_report_without_plotly(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from neuralmatrix.program.report import write_html

    monkeypatch.setitem(sys.modules, "plotly", None)
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(ToolMissing, match="plotly is not installed"):
        write_html(program, tmp_path / "r.html")


def test_list(saved: Path, program: Program) -> None:
    text = call("list", saved)
    assert "COMPUTE" in text and "; copy (gemm from Identity_0)" in text
    lines = json.loads(call("list", saved, "--json"))["lines"]
    assert lines == text.splitlines() and len(lines) == len(program.instructions) + 1


def test_doctor_knows_this_machine() -> None:
    checks = {check.name: check for check in diagnose()}
    assert checks["numpy"].found == np.__version__
    assert checks["board files"].ok and checks["kernel sources"].ok
    data = CliRunner().invoke(app, ["doctor", "--json"]).stdout
    assert {check["name"] for check in json.loads(data)["checks"]} == set(checks)


def test_version() -> None:
    assert call("--version") == f"neuralmatrix {nm.__version__}\n"


@pytest.mark.gxx
def test_run(saved: Path, inputs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    data = json.loads(call("run", saved, inputs, "-o", out, "--json"))
    assert data["shapes"] == {"y": [3, 5, 4, 4]} and data["stats"]["images"] == 3
    assert np.array_equal(np.load(out)["y"], np.load(inputs)["x"])
    assert "y [3, 5, 4, 4]" in call("run", saved, inputs, "-o", out)


@pytest.mark.gxx
def test_run_notes_inputs_beyond_the_calibrated_range(saved: Path, tmp_path: Path) -> None:
    far = tmp_path / "far.npz"
    np.savez(far, x=np.full((1, 5, 4, 4), 1e5, np.float32))
    arguments = ["run", str(saved), str(far), "-o", str(tmp_path / "out.npz")]
    shown = CliRunner().invoke(app, arguments)
    assert shown.exit_code == 0 and "\nnote: input 'x': 100 % of the values" in shown.stderr
    stats = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)["stats"]
    assert stats["saturated"]["x"]["share"] == 1 and stats["saturated"]["x"]["images"] == 1


@pytest.mark.gxx
def test_bench(saved: Path) -> None:
    quick = ("bench", saved, "--batches", "1,4", "--repeats", 2)
    data = json.loads(call(*quick, "--json"))
    assert data["origin"] == "emulation" and data["cycles"]["basis"].startswith("emulated")
    assert data["cycles"]["total"]["difference_percent"] == 0
    assert data["array"]["estimated"]["basis"].startswith("estimated")
    assert [row["batch"] for row in data["throughput"]] == [1, 4]
    for row in data["throughput"]:
        rates = row["images_per_s"]
        assert 0 < rates["lowest"] <= rates["median"] <= rates["highest"]
    text = call(*quick)
    assert "measured on this machine" in text and "no power of any rail: not requested" in text


@pytest.mark.gxx
def test_a_model_from_file_to_verdict(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    from neuralmatrix.demo.run import MODEL, load_digits

    digits, net, stages = load_digits(limit=2), tmp_path / "net.nmx", tmp_path / "stages"
    np.savez(tmp_path / "samples.npz", input=digits.calibration[:16])
    np.savez(tmp_path / "in.npz", input=digits.x)
    made = ("compile", MODEL, "-o", net, "--calibration", tmp_path / "samples.npz")
    data = json.loads(call(*made, "--keep-stages", stages, "--shape", "input=1x1x8x8", "--json"))
    assert data["output"] == str(net) and data["network"]["macs"] > 0
    assert [path.name[:2] for path in sorted(stages.iterdir())][0] == "01"
    check = json.loads(call("verify", MODEL, net, tmp_path / "in.npz", "--json"))
    assert check["ok"] and len(check["layers"]) == len(data["layers"])
    assert "all tensors bit-equal" in call("verify", MODEL, net, tmp_path / "in.npz")


@pytest.mark.gxx
def test_a_kept_demo_feeds_the_other_commands(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    kept = tmp_path / "made" / "here"
    json.loads(call("demo", "gnn", "--keep", kept, "--json"))
    net, model, inputs = kept / "net.nmx", kept / "net.onnx", kept / "inputs.npz"
    again, out = tmp_path / "again.nmx", tmp_path / "out.npz"
    call("compile", model, "-o", again, "--calibration", kept / "samples.npz")
    assert again.read_bytes() == net.read_bytes()
    assert "all tensors bit-equal" in call("verify", model, net, inputs)
    assert "logits [34, 2]" in call("run", net, inputs, "-o", out)


def test_a_demo_is_kept_in_a_folder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, text = fail(capsys, "demo", "--keep", tmp_path / "file")
    assert code == 1 and "choose a writable place" in text


# ------------------------------------------------------------------------------ errors


def test_errors_are_one_message(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, text = fail(capsys, "report", tmp_path / "none.nmx")
    assert code == 1 and text.startswith("error: ") and "Traceback" not in text
    assert "no such file; compile a network to it first" in text


@pytest.mark.parametrize("arguments", (("report",), ("fly",), ("bench", "a", "--repeats", "0")))
def test_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: Any) -> None:
    code, text = fail(capsys, *arguments)
    assert code == 2 and "Traceback" not in text


@pytest.mark.gxx
def test_run_with_bad_feeds_writes_nothing(
    capsys: pytest.CaptureFixture[str], saved: Path, tmp_path: Path
) -> None:
    np.savez(tmp_path / "in.npz", z=np.zeros(3))
    code, text = fail(capsys, "run", saved, tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert code == 1 and "found inputs ['z'], allowed is exactly ['x']" in text
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.parametrize(
    ("board", "text"), (("pynq", "unknown board 'pynq'; allowed are"), ("../x", "unknown board"))
)
def test_compile_for_no_board(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, board: str, text: str
) -> None:
    pytest.importorskip("onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    code, found = fail(
        capsys, "compile", tmp_path / "m.onnx", "-o", tmp_path / "n.nmx", "--board", board
    )
    assert code == 1 and text in found and not (tmp_path / "n.nmx").exists()


def test_compile_without_a_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    code, text = fail(capsys, "compile", tmp_path / "m.onnx", "-o", tmp_path / "n.nmx")
    assert code == 1 and text.startswith("error: ") and "m.onnx" in text
    assert not (tmp_path / "n.nmx").exists()


def test_the_model_is_not_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"weights")
    code, text = fail(capsys, "compile", model, "-o", tmp_path / "." / "m.onnx")
    assert code == 1 and "which is the model; name another file" in text
    assert model.read_bytes() == b"weights"


@pytest.mark.parametrize(("terminal", "quiet"), ((True, False), (True, True), (False, False)))
def test_waiting_shows_on_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], terminal: bool, quiet: bool
) -> None:
    monkeypatch.setattr(Console, "is_terminal", terminal)
    with waiting("compiling", quiet):
        pass
    found = capsys.readouterr()
    assert ("compiling" in found.err) == (terminal and not quiet)
    assert found.out == ""


def test_module_entry_point() -> None:
    command = [sys.executable, "-m", "neuralmatrix", "--version"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT / "host")}, check=True
    )
    assert done.stdout == f"neuralmatrix {nm.__version__}\n"


# ------------------------------------------------------------------------------ files


def test_shapes() -> None:
    shapes = parse_shapes(["a=1x3x224x224", "in:0=5", "b=2,3"])
    assert shapes == {"a": (1, 3, 224, 224), "in:0": (5,), "b": (2, 3)}


@pytest.mark.parametrize("text", ("", "a", "a=", "=1", "a=0x3", "a=1x-3", "a=1xx3", "a=NxCxHxW"))
def test_bad_shapes(text: str) -> None:
    with pytest.raises(BadInput, match="allowed is NAME=1x3x224x224"):
        parse_shapes([text])


def test_arrays_round_trip(tmp_path: Path) -> None:
    arrays = {"a/b": np.arange(6).reshape(2, 3), "c": np.float32(3)}
    write_arrays(tmp_path / "a.npz", arrays)
    found = read_arrays(tmp_path / "a.npz")
    assert set(found) == set(arrays)
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def pickled(path: Path) -> None:
    np.savez(path, a=np.array([{}], object))


def single(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    "write", (lambda p: p.write_bytes(b"junk"), lambda p: None, np.savez, single, pickled)
)
def test_bad_arrays(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "a.npz"
    write(path)
    with pytest.raises(BadInput, match=r"a.npz: found .*use numpy.savez|\(numpy.savez\)"):
        read_arrays(path)


# ------------------------------------------------------------------------------ public names


def test_public_names_exist() -> None:
    pytest.importorskip("onnx")
    assert all(getattr(nm, name) is not None for name in nm.__all__)
    assert callable(nm.compile) and callable(nm.verify)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        nm.nothing  # noqa: B018


def test_board_side_needs_numpy_alone() -> None:
    """Loading and estimating a program imports no third-party package but numpy."""
    code = (
        "import sys, neuralmatrix.runtime.session\n"
        "import neuralmatrix.program.estimate, neuralmatrix.program.nmx_file\n"
        "bad = {'onnx', 'torch', 'rich', 'typer', 'plotly', 'pynq', 'sklearn'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    env = {"PYTHONPATH": str(ROOT / "host")}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
