# SPDX-License-Identifier: Apache-2.0
"""overlay/hls.tcl in tclsh: its commands to Vitis HLS, for every board and kernel.

In: the data that overlay/hls_data.py writes, the recording stubs.  Out: nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from neuralmatrix.hardware.board import Board, board_names, load_board
from neuralmatrix.hardware.registers import KERNELS, vlnv
from neuralmatrix.paths import hls_dir
from tcl_runner import ROOT, Call, Recording, needs_tclsh, run_script

from overlay.hls_data import (
    COSIM_BENCH,
    DATA_VARIABLE,
    benches,
    ip_folder,
    report_folder,
    write_hls_data,
)

pytestmark = needs_tclsh
SCRIPT = ROOT / "overlay" / "hls.tcl"
KERNEL_STEPS = [
    "open_project",
    "set_top",
    "add_files",
    "open_solution",
    "set_part",
    "create_clock",
    "config_interface",
    "csynth_design",
    "export_design",
    "close_project",
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the script on a board's data, or on a text made of it."""

    def start(board: Board, change=lambda text: text, script: Path = SCRIPT, **options):
        found = {k: options.pop(k) for k in ("failing_command",) if k in options}
        data = write_hls_data(board, tmp_path / "work", **options)
        data.write_text(change(data.read_text()))
        monkeypatch.setenv(DATA_VARIABLE, str(data))
        return run_script("hls", script, [], tmp_path, **found)

    return start


def projects(recording: Recording) -> dict[str, list[Call]]:
    """Return the calls of each project, by its name."""
    found: dict[str, list[Call]] = {}
    for call in recording.calls:
        if call.command == "open_project":
            found[call.arguments[0]] = current = []
        if call.command != "exit":
            current.append(call)
    return found


def only(calls: list[Call], command: str) -> Call:
    (found,) = [call for call in calls if call.command == command]
    return found


@pytest.mark.parametrize("name", board_names())
def test_every_kernel_of_every_board(name: str, run) -> None:
    board = load_board(name)
    recording = run(board, csim=False)
    assert recording.code == 0, recording.errors
    found = projects(recording)
    assert list(found) == list(KERNELS)
    for kernel, calls in found.items():
        steps = [call.command for call in calls]
        assert [step for step in steps if step != "config_op"] == KERNEL_STEPS
        # Only the array and its lanes multiply in DSPs.
        assert ("config_op" in steps[: steps.index("csynth_design")]) == (kernel != "compute")
        assert only(calls, "set_top").arguments == [kernel]
        assert only(calls, "set_part").arguments == [board.part.name]
        period = float(only(calls, "create_clock").options["-period"])
        assert period == pytest.approx(1000 / board.clock_mhz, abs=1e-3)  # three digits
        interface = only(calls, "config_interface").options
        assert interface["-m_axi_addr64"] == "true"
        assert int(interface["-m_axi_max_read_burst_length"]) == board.burst_beats
        assert int(interface["-m_axi_max_write_burst_length"]) == board.burst_beats
        check_source(only(calls, "add_files"), kernel, board)
        check_export(only(calls, "export_design"), kernel)


def check_source(call: Call, kernel: str, board: Board) -> None:
    """Check that the file defines the top as a C function and includes the board's config.h."""
    path = Path(call.arguments[0])
    assert re.search(rf'extern "C" void\s+{kernel}\(', path.read_text())
    flags = call.options["-cflags"].split()
    first, second = [Path(flag[2:]) for flag in flags if flag.startswith("-I")]
    assert f'"{board.array.fingerprint}"' in (first / "nm" / "config.h").read_text()
    assert (second / "nm" / "kernels.h").is_file() and not (first / "nm" / "kernels.h").exists()
    assert {"-std=c++14", "-fwrapv", "-DNM_AP_TYPES"} <= set(flags)


def check_export(call: Call, kernel: str) -> None:
    options = call.options
    assert options["-format"] == "ip_catalog"
    parts = [options[f"-{key}"] for key in ("vendor", "library", "ipname", "version")]
    assert ":".join(parts) == vlnv(kernel)


def test_all_benches_are_simulated_before_anything_is_synthesized(run) -> None:
    recording = run(load_board("pynq-z2"))
    found = projects(recording)
    tested = [name for name in found if name.startswith("csim_")]
    assert tested == [f"csim_{path.stem}" for path in benches()] and len(tested) == 7
    assert list(found)[: len(tested)] == tested
    for name in tested:
        files = [call for call in found[name] if call.command == "add_files"]
        bench = [Path(call.arguments[0]) for call in files if "-tb" in call.options]
        kernels = [Path(call.arguments[0]) for call in files if "-tb" not in call.options]
        assert [path.stem for path in bench] == [name.removeprefix("csim_")]
        assert "int main()" in bench[0].read_text()
        assert {path.stem for path in kernels} == set(KERNELS)
        # The vendor's ap_int and hls::stream, which a plain compiler replaces by our own.
        assert all("-DNM_AP_TYPES" in call.options["-cflags"] for call in files)
        assert found[name][-2].command == "csim_design"


def test_benches_are_those_of_the_folder() -> None:
    assert set(benches()) == set((hls_dir() / "tb").glob("tb_*.cpp"))
    assert (hls_dir() / "tb" / COSIM_BENCH) in benches()


def test_cosimulation_on_request(run) -> None:
    found = projects(run(load_board("pynq-z2"), csim=False, cosim=True))
    for kernel, calls in found.items():
        names = [call.command for call in calls]
        assert names.index("csynth_design") < names.index("cosim_design")
        files = {
            Path(c.arguments[0]).stem: "-tb" in c.options for c in calls if c.command == "add_files"
        }
        assert files == {**dict.fromkeys(KERNELS, True), kernel: False, "tb_kernels": True}


def test_where_results_lie(run, tmp_path: Path) -> None:
    """The script works in the data's folder, in projects named like kernels."""
    recording = run(load_board("kv260"), csim=False)
    project = recording.of("open_project")[list(KERNELS).index("load")]
    solution = recording.of("open_solution")[0]
    place = Path(*project.arguments, *solution.arguments)
    assert report_folder(tmp_path, "load") == tmp_path / place / "syn" / "report"
    assert ip_folder(tmp_path, "load") == tmp_path / place / "impl" / "ip"
    assert "cd [dict get $HLS output]" in SCRIPT.read_text()


MISTAKES = {
    "bench": (lambda t: t.replace("tb_mac.cpp", "tb_max.cpp"), r"tb_max\.cpp is missing"),
    "source": (lambda t: t.replace("src/load.cpp", "src/loader.cpp"), r"loader\.cpp is missing"),
    "config": (lambda t: t.replace("work/include ", "work/inc "), r"config\.h is missing"),
    "kernel": (lambda t: t.replace("{fetch", "{fetsch"), "kernel fetsch has no source among"),
    "part": (lambda t: re.sub(r"    part .*\n", "", t), 'key "part" not known'),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_the_data_stops_it(name: str, run) -> None:
    change, message = MISTAKES[name]
    recording = run(load_board("pynq-z2"), change=change)
    assert recording.code == 1
    assert re.search(message, recording.message)
    assert not recording.of("export_design")


EDITS = {
    "unknown option": ("csim_design -O", "csim_design -fast", "csim_design: unknown option -fast"),
    "unknown command": ("csynth_design\n", "synth_design\n", "synth_design is no command"),
    "word too many": ("set_top $kernel", "set_top $kernel extra", "set_top: takes 1 to 1 words"),
    "no value": ("-name default\n", "-name\n", "create_clock: option -name needs a value"),
}


@pytest.mark.parametrize("name", EDITS)
def test_a_mistake_in_the_script_is_found(name: str, run, tmp_path: Path) -> None:
    right, wrong, message = EDITS[name]
    text = SCRIPT.read_text()
    assert right in text
    (tmp_path / "hls.tcl").write_text(text.replace(right, wrong))
    recording = run(load_board("pynq-z2"), script=tmp_path / "hls.tcl")
    assert recording.code == 1
    assert message in recording.message


@pytest.mark.parametrize("command", ["csim_design", "csynth_design", "export_design"])
def test_a_step_that_fails_ends_the_run(command: str, run) -> None:
    recording = run(load_board("pynq-z2"), failing_command=command)
    assert recording.code == 1 and command in recording.message
    assert len(recording.of(command)) == 1
    assert recording.calls[-1].arguments == ["1"]


def test_a_path_with_a_blank_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_hls_data(load_board("pynq-z2"), tmp_path / "my work")
    monkeypatch.setenv(DATA_VARIABLE, str(data))
    recording = run_script("hls", SCRIPT, [], tmp_path)
    assert recording.code == 1 and "has a blank in it" in recording.message


def test_no_data_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
    recording = run_script("hls", SCRIPT, [], tmp_path)
    assert recording.code == 2 and DATA_VARIABLE in recording.message
