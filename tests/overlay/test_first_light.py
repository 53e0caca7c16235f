# SPDX-License-Identifier: Apache-2.0
"""The first light: executables in place of the vendor's tools, and an emulated board behind a real
sshd on this machine (the plain emulation where pynq is not installed).

In: faults of tools and boards.  Out: one file to send, whatever happened, with its reason in it.
"""

from __future__ import annotations

import json
import os
import sys
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import fake_tools
import numpy as np
import pytest
from conftest import ROOT, pynq
from far_board import Far, emulated_board, free_port
from neuralmatrix.errors import DeviceFault
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.board import load_board
from neuralmatrix.runtime.emulated_board.bitfile import bitstream
from neuralmatrix.runtime.emulated_board.hwh import hwh
from test_build import no_selftest

from overlay import build, first_light, first_light_board
from overlay.first_light import BUG, STAGES, Light, Stage, run_stages
from overlay.plan import plan_of

pytestmark = pytest.mark.gxx
BOARD = "pynq-z2"
DEVICE = "pynq" if pynq() else "emulation"
LOCAL = ("predictions", "versions", "synthesis", "overlay", "implemented")
REMOTE = ("selftest", "demo digits", "demo transformer", "demo gnn", "power")


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with emulated_board(tmp_path_factory.mktemp("sshd"), BOARD) as running:
        yield running


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put fakes of the vendor's tools into the PATH; their overlay is an emulated board's."""
    board = load_board(BOARD)
    folder = tmp_path / "tools"
    fake_tools.write_tools(folder, hwh(design_of(board)), bit=bitstream(board))
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "write_selftest", no_selftest)


def light(root: Path, *words: object) -> int:
    return first_light.main([BOARD, "--no-csim", *map(str, words)], root)


def way_to(far: Far, root: Path, device: str = DEVICE) -> list[object]:
    target, folder = far.target, root / "far"
    return [
        *("--board", target.host, "--port", target.port, "--ssh-config", target.config),
        *("--python", sys.executable, "--remote-dir", folder, "--device", device),
    ]


def sent(root: Path) -> dict[str, str]:
    """Return the files of the packed result, by name."""
    with tarfile.open(root / "build" / "first-light" / f"{BOARD}.tar.gz") as archive:
        files = (member for member in archive.getmembers() if member.isfile())
        return {
            one.name.removeprefix(f"{BOARD}/"): archive.extractfile(one)
            .read()
            .decode(errors="replace")
            for one in files
        }


def states(files: Mapping[str, str]) -> dict[str, str]:
    return {name: one["state"] for name, one in json.loads(files["summary.json"]).items()}


def why(files: Mapping[str, str], stage: str) -> str:
    return str(json.loads(files["summary.json"])[stage]["why"])


# ------------------------------------------------------------------------------ all is well


@pytest.mark.ssh
@pytest.mark.slow
def test_from_the_sources_to_the_demos_on_a_board(far: Far, tools: Path, tmp_path: Path) -> None:
    assert light(tmp_path, *way_to(far, tmp_path)) == 0
    files = sent(tmp_path)
    assert states(files) == dict.fromkeys(LOCAL + REMOTE, "done")
    expected = {"README.txt", "summary.json", "predictions.json", "versions.json",
                "logs/hls.log", "logs/vivado.log", "reports/timing.rpt", "reports/power.rpt",
                "reports/utilization.rpt", "reports/hls/csynth.json", "reports/hls/csynth.txt",
                "reports/hls/compute/csynth.xml", "overlay/overlay.json"}  # fmt: skip
    assert expected <= set(files)
    assert {f"stages/{n:02d}-{s.name.replace(' ', '-')}.json" for n, s in enumerate(STAGES, 1)} <= (
        set(files)
    )
    found = {name: one["found"] for name, one in json.loads(files["summary.json"]).items()}
    origin = {"pynq": "emulated board", "emulation": "emulation"}[DEVICE]
    assert found["selftest"]["origin"] == origin, "never called measured"
    assert ("passed" in found["selftest"]["self_test"]) == (DEVICE == "pynq")
    for name, ours in found["predictions"]["demos"].items():
        assert found[f"demo {name}"]["cycles"] == ours["cycles"]
        assert found[f"demo {name}"]["outputs"].startswith("equal")
        assert found[f"demo {name}"]["accuracy"] > 0.9
    assert found["implemented"]["power_w"] == 1.802
    text = files["README.txt"]
    for line in (r"clock", "100 MHz", "44100 of 53200", "digits: outputs, by byte", "1.802 W"):
        assert line in text, line


@pytest.fixture
def without_a_board(tools: Path, quick: None, tmp_path: Path) -> dict[str, str]:
    assert light(tmp_path) == 0
    return sent(tmp_path)


def test_without_a_board_the_build_is_reported(without_a_board: dict[str, str]) -> None:
    found = states(without_a_board)
    assert {name: found[name] for name in LOCAL} == dict.fromkeys(LOCAL, "done")
    assert {name: found[name] for name in REMOTE} == dict.fromkeys(REMOTE, "skipped")
    assert "add BOARD_HOST=user@host" in why(without_a_board, "selftest")
    predicted = json.loads(without_a_board["predictions.json"])
    assert predicted["board"]["name"] == BOARD and predicted["cost_constants"]["COMPUTE_DEPTH"]
    assert json.loads(without_a_board["versions.json"])["tools"]["vivado"] == "2024.2"


def test_every_predicted_number_has_its_place_in_the_table(
    without_a_board: dict[str, str],
) -> None:
    text = without_a_board["README.txt"]
    for kind in ("LUT", "FF", "DSP", "BRAM36"):
        (row,) = (line for line in text.splitlines() if line.startswith(f"{kind} "))
        assert row.count(" of ") == 2, row
    assert "compute: STEPS: an iteration, cycles" in text
    assert "No bitstream is in it" in text
    assert not any(name.endswith(".bit") for name in without_a_board)


# ------------------------------------------------------------------------------ failures


def test_vivado_stops(
    tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WRONG", "silent")
    assert light(tmp_path) == 1
    files = sent(tmp_path)
    assert states(files)["synthesis"] == "done" and states(files)["overlay"] == "failed"
    assert states(files)["implemented"] == "skipped"
    assert "vivado stopped with status 3" in why(files, "overlay")
    assert "logs/vivado.log" in files and "reports/hls/csynth.json" in files
    assert "failed   overlay" in files["README.txt"]


def test_nothing_of_an_earlier_build_is_sent(
    tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert light(tmp_path) == 0
    monkeypatch.setenv("FAKE_WRONG", "hls")
    assert light(tmp_path) == 1
    files = sent(tmp_path)
    assert not [name for name in files if name.startswith(("reports/t", "overlay/", "logs/v"))]
    assert states(files)["implemented"] == "skipped"


def test_timing_is_missed_at_both_clocks(
    tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WRONG", "timing")
    assert light(tmp_path) == 1
    files = sent(tmp_path)
    assert "timing is not met at 83.3333 MHz" in why(files, "overlay")
    assert states(files)["implemented"] == "done", "the reports of a slow design are worth having"
    assert "timing is not met at 100 MHz" in files["logs/missed/vivado.log"]
    assert {"reports/missed/timing.rpt", "reports/utilization.rpt"} <= set(files)


def test_the_fallback_clock_is_in_the_table(
    tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WRONG", "timing at 100")
    assert light(tmp_path) == 0
    assert "83.33 MHz (missed at 100)" in sent(tmp_path)["README.txt"]


def test_a_gate_of_synthesis_does_not_stop_vivado(
    tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_WRONG", "interval")
    assert light(tmp_path) == 1
    files = sent(tmp_path)
    assert states(files)["synthesis"] == "failed" and states(files)["overlay"] == "done"
    assert "loop STEPS: found an initiation interval of 2" in why(files, "synthesis")


@pytest.mark.parametrize(("wrong", "text"), (("hls", "Compilation errors found"), ("", "")))
def test_synthesis_stops_or_there_are_no_tools(
    tools: Path,
    quick: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: str,
    text: str,
) -> None:
    monkeypatch.setenv("FAKE_WRONG", wrong)
    if not wrong:
        (tools / "vitis_hls").unlink()
        text = "ToolMissing: Vitis HLS was not found"
    assert light(tmp_path) == 1
    files = sent(tmp_path)
    assert text in why(files, "synthesis")
    assert states(files)["predictions"] == "done"
    assert states(files)["overlay"] == "skipped" and "no IPs" in why(files, "overlay")


@pytest.mark.ssh
def test_a_board_that_does_not_answer(far: Far, tools: Path, quick: None, tmp_path: Path) -> None:
    closed = replace(far, target=replace(far.target, port=free_port()))
    assert light(tmp_path, *way_to(closed, tmp_path, "emulation")) == 1
    files = sent(tmp_path)
    assert states(files)["overlay"] == "done" and states(files)["selftest"] == "failed"
    assert "HostUnreachable" in why(files, "selftest")
    assert {states(files)[name] for name in REMOTE[1:]} == {"skipped"}
    assert why(files, "power") == "needs selftest"


@pytest.mark.ssh
@pytest.mark.slow
def test_a_board_is_tried_though_the_build_failed(
    far: Far, tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What needs no overlay runs: the plain emulation on the other machine."""
    monkeypatch.setenv("FAKE_WRONG", "silent")
    fewer = [stage for stage in STAGES if stage.name in (*LOCAL, "selftest", "demo gnn")]
    monkeypatch.setattr(first_light, "run_stages", partial(run_stages, stages=fewer))
    assert light(tmp_path, *way_to(far, tmp_path, "emulation")) == 1
    found = states(sent(tmp_path))
    assert found["overlay"] == "failed" and found["demo gnn"] == "done"


def test_a_fault_of_the_project_is_told_as_one(tmp_path: Path) -> None:
    def broken(_: Light) -> Any:
        return {}["missing"]

    made = Light(plan_of(BOARD, tmp_path), tmp_path / "result")
    stages = (Stage("first", "breaks", broken), Stage("next", "runs", lambda _: 1))
    run_stages(made, stages)
    assert made.outcomes["first"].state == "failed" and made.outcomes["next"].state == "done"
    assert "KeyError: 'missing'" in made.outcomes["first"].why
    assert made.outcomes["first"].why.endswith(BUG)


def test_an_interrupted_light_still_packs(
    tools: Path, quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: object, **__: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr(build, "finish", stopped)
    with pytest.raises(SystemExit):
        light(tmp_path)
    assert states(sent(tmp_path))["synthesis"] == "done"


def test_outputs_that_differ_are_a_fault() -> None:
    demo = first_light_board.compiled_demo("gnn", BOARD)
    first_light_board._equal("gnn", demo, demo.expected, None)
    wrong = demo.expected["logits"].copy()
    wrong.flat[3] = np.nextafter(wrong.flat[3], np.float32(np.inf))
    with pytest.raises(DeviceFault, match="demo gnn: 1 of 68 outputs differ"):
        first_light_board._equal("gnn", demo, {"logits": wrong}, None)


def test_make_knows_it() -> None:
    text = (ROOT / "Makefile").read_text()
    assert "overlay.first_light $(BOARD) --jobs $(JOBS)" in text
    assert "$(if $(BOARD_HOST),--board $(BOARD_HOST))" in text
