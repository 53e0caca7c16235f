# SPDX-License-Identifier: Apache-2.0
"""``make overlay`` and ``make hls`` with executables in place of the vendor's tools.

The whole flow, an error for each failure, and no half-written files.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_tools
import pytest
from neuralmatrix.errors import BuildFailed
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.overlay_archive import install
from neuralmatrix.hardware.overlay_folder import (
    BIT,
    EXPECTED,
    HWH,
    INFO,
    SELFTEST,
    check_files,
    file_hash,
    open_overlay,
)
from neuralmatrix.runtime.emulated_board.hwh import hwh
from neuralmatrix.runtime.selftest import SelfTest, check, read

from overlay import build, reports, tools
from overlay.plan import plan_of

FILES = {BIT, HWH, INFO, SELFTEST, EXPECTED}
STOPPED = """
import sys
from pathlib import Path
from overlay import build

build.leave_when_stopped()
sys.exit(build.main(["hls", "pynq-z2", "--no-csim"], Path(sys.argv[1])))
"""
JUDGED = "our estimate and synthesis"


def hwh_of(name: str) -> str:
    """Make the part of a hand-off that is read."""
    ranges = "".join(
        f'<MEMRANGE INSTANCE="{s.cell}" BASEVALUE="0x{s.offset:08X}"/>'
        for s in design_of(load_board(name)).segments
    )
    return f"<EDKSYSTEM><MEMORYMAP>{ranges}</MEMORYMAP></EDKSYSTEM>"


def no_selftest(_: object, folder: Path) -> None:
    """Write two files in place of a self-test, which takes long to compile."""
    for name in (SELFTEST, EXPECTED):
        (folder / name).write_text(name)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder for tools, the only one in the PATH with the vendor's."""
    folder = tmp_path / "tools"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    return folder


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "write_selftest", no_selftest)


def overlay(root: Path, board: str = "pynq-z2", *flags: str) -> int:
    return build.main(["overlay", board, "--no-csim", *flags], root)


def contents(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


# ------------------------------------------------------------------------------ success


@pytest.mark.gxx
def test_an_overlay_is_built_whole(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    assert overlay(tmp_path) == 0
    folder = tmp_path / "overlay" / "build" / "pynq-z2"
    assert set(contents(folder)) == FILES
    found = open_overlay(folder)
    check_files(found)
    board = load_board("pynq-z2")
    info = found.info
    assert info.boards == ("pynq-z1", "pynq-z2") and info.name == "pynq-z2"
    assert info.origin == "vivado" and info.fingerprint == board.array.fingerprint
    assert (info.part, info.clock_mhz, info.worst_slack_ns) == (board.part.name, 100.0, 0.021)
    assert info.commit == build.commit()
    assert {(t.name, t.version) for t in info.tools} == {
        ("vitis_hls", "2024.2"),
        ("vivado", "2024.2"),
    }
    used = {u.kind: (u.used, u.available) for u in info.utilization}
    assert used["lut"] == (44100, 53200) and used["bram36"] == (118.5, 140)
    assert used["dsp"] == (212, 220) and "uram" not in used
    test = read(folder)
    assert isinstance(test, SelfTest) and test.program.array == board.array
    check(test, test.after)
    out = capsys.readouterr().out
    assert JUDGED in out and "worst slack 0.021 ns, for pynq-z1, pynq-z2" in out


def test_a_built_overlay_is_packed_and_can_be_added(
    path: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    assert overlay(tmp_path, "pynq-z2", "--pack") == 0
    (archive,) = (tmp_path / "build" / "overlay" / "pynq-z2").glob("*.zip")
    out = capsys.readouterr().out
    assert f"packed {archive}" in out and file_hash(archive).sha256 in out
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    added = install(archive)
    assert contents(added.folder) == contents(tmp_path / "overlay" / "build" / "pynq-z2")


def test_a_twin_builds_the_bitstream_it_loads(path: Path, tmp_path: Path, quick: None) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z1"))
    assert overlay(tmp_path, "pynq-z1") == 0
    assert os.listdir(tmp_path / "overlay" / "build") == ["pynq-z2"]


def test_the_newer_tool_is_taken_and_other_names_of_cells_read(
    path: Path, tmp_path: Path, quick: None
) -> None:
    fake_tools.write_tools(path, hwh_of("zcu104"), hls="vitis-run", slices=False)
    assert overlay(tmp_path, "zcu104", "--jobs", "2") == 0
    info = open_overlay(tmp_path / "overlay" / "build" / "zcu104").info
    assert info.tools[0].name == "vitis-run" and info.clock_mhz == 187.5
    assert info.utilization[0].kind == "lut" and info.utilization[0].used == 44100


def test_hls_alone_needs_no_vivado(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tools.write_tools(path, "")
    (path / "vivado").unlink()
    assert build.main(["hls", "pynq-z2"], tmp_path) == 0
    assert JUDGED in capsys.readouterr().out
    assert not (tmp_path / "overlay").exists()


@pytest.mark.parametrize(
    ("flags", "simulated", "in_rtl"),
    (((), True, False), (("--no-csim",), False, False), (("--cosim",), True, True)),
)
def test_flags_reach_the_tools(
    path: Path,
    tmp_path: Path,
    quick: None,
    flags: tuple[str, ...],
    simulated: bool,
    in_rtl: bool,
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    assert build.main(["overlay", "pynq-z2", "--jobs", "7", *flags], tmp_path) == 0
    work = tmp_path / "build" / "overlay" / "pynq-z2"
    lines = (work / "hls" / "hls_data.tcl").read_text().splitlines()
    data = dict(line.split(maxsplit=1) for line in lines if line.startswith("    "))
    assert ("tb_mac.cpp" in data["benches"]) == simulated
    assert data["cosim"].endswith("tb_kernels.cpp") == in_rtl
    assert "INFO: 7 jobs" in (work / "vivado.log").read_text()


def test_a_build_replaces_the_one_before(path: Path, tmp_path: Path, quick: None) -> None:
    target = tmp_path / "overlay" / "build" / "pynq-z2"
    target.mkdir(parents=True)
    (target / "stale").write_text("x")
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    assert overlay(tmp_path) == 0 and set(contents(target)) == FILES
    assert overlay(tmp_path) == 0 and set(contents(target)) == FILES
    left = {p.name for p in (tmp_path / "build" / "overlay" / "pynq-z2").iterdir()}
    assert left == {"hls", "hls.log", "ips", "selftest", "vivado", "vivado.log"}


# ------------------------------------------------------------------------------ fallback clock


@pytest.mark.gxx
def test_missed_timing_is_built_again_at_the_fallback_clock(
    path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    monkeypatch.setenv("FAKE_WRONG", "timing at 100")
    assert overlay(tmp_path) == 0
    info = open_overlay(tmp_path / "overlay" / "build" / "pynq-z2").info
    slow = load_board("pynq-z2").fallback
    assert info.clock_mhz == slow.clock_mhz == 83.333333 and info.missed_clock_mhz == 100.0
    assert info.fingerprint == slow.array.fingerprint
    assert read(tmp_path / "overlay" / "build" / "pynq-z2").program.clock_mhz == slow.clock_mhz
    out = capsys.readouterr().out
    assert "timing is not met at 100 MHz" in out
    assert "building again at 83.3333 MHz, the fallback clock" in out
    assert "timing was missed at 100 MHz" in out and "at most 17 % fewer frames/s" in out
    work = tmp_path / "build" / "overlay" / "pynq-z2"
    assert {p.name for p in (work / "missed").iterdir()} == {
        "missed.txt", "timing.rpt", "utilization.rpt", "vivado.log",
    }  # fmt: skip
    assert "not met" in (work / "missed" / "timing.rpt").read_text()
    assert "clock 83.3333" in (work / "vivado.log").read_text()
    assert "period_ns 10.000" in (work / "hls" / "hls_data.tcl").read_text()


def test_a_clock_that_is_met_leaves_no_word_of_the_other(
    path: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    (tmp_path / "build" / "overlay" / "pynq-z2" / "missed").mkdir(parents=True)
    assert overlay(tmp_path) == 0
    assert open_overlay(tmp_path / "overlay" / "build" / "pynq-z2").info.missed_clock_mhz is None
    assert "missed" not in capsys.readouterr().out
    assert not (tmp_path / "build" / "overlay" / "pynq-z2" / "missed").exists()


def test_the_fallback_clock_can_be_asked_for(
    path: Path, tmp_path: Path, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    assert overlay(tmp_path, "pynq-z2", "--fallback-clock") == 0
    info = open_overlay(tmp_path / "overlay" / "build" / "pynq-z2").info
    assert info.clock_mhz == 83.333333 and info.missed_clock_mhz is None
    work = tmp_path / "build" / "overlay" / "pynq-z2"
    assert "period_ns 12.000" in (work / "hls" / "hls_data.tcl").read_text()
    monkeypatch.setenv("FAKE_WRONG", "timing")
    assert overlay(tmp_path, "pynq-z2", "--fallback-clock") == 1, "there is no third clock"


# ------------------------------------------------------------------------------ failures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "text"),
    (
        ("hls", r"vitis_hls stopped with status 1 in hls.tcl; .*ERROR: \[HLS 200-70\] Compilation"),
        ("no ip load", r"load/solution/impl/ip holds no component.xml: .* no IP load"),
        ("timing", r"vivado stopped with status 1 .*\n  ERROR: timing is not met at 83.3333 MHz"),
        ("silent", r"vivado stopped with status 3 .*\(the log is empty\)"),
        ("slack", r"timing is not met: worst slack is -0.1 ns"),
        ("no slack", r"worst_slack_ns: found '\?', allowed is a number"),
        ("no report", r"no row Slice LUTs or CLB LUTs; check that it is Vivado's report"),
        ("empty bit", r"Vivado succeeded and left no .*neuralmatrix.bit"),
        ("no hwh", r"Vivado succeeded and left no .*neuralmatrix.hwh"),
        ("broken hwh", r"neuralmatrix.hwh: no hardware hand-off"),
    ),
)
def test_what_goes_wrong_is_named_and_leaves_the_old_overlay(
    path: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    text: str,
) -> None:
    target = tmp_path / "overlay" / "build" / "pynq-z2"
    target.mkdir(parents=True)
    (target / BIT).write_text("of an earlier build")
    before = contents(target)
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    monkeypatch.setenv("FAKE_WRONG", wrong)
    assert overlay(tmp_path) == 1
    error = capsys.readouterr().err
    assert re.search(text, error, re.DOTALL), error
    assert contents(target) == before
    assert os.listdir(target.parent) == ["pynq-z2"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    (
        ("period", "compute: clock period: found 6.5 ns estimated, allowed is 5 ns"),
        ("interval", "compute: loop STEPS: found an initiation interval of 2, wanted is 1"),
    ),
)
def test_a_gate_of_synthesis_stops_before_vivado(
    path: Path,
    tmp_path: Path,
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: str,
    text: str,
) -> None:
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    monkeypatch.setenv("FAKE_WRONG", wrong)
    assert overlay(tmp_path) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert text in error
    assert not (tmp_path / "build" / "overlay" / "pynq-z2" / "vivado").exists()


def test_a_self_test_that_fails_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object, folder: Path) -> None:
        raise BuildFailed("no self-test")

    monkeypatch.setattr(build, "write_selftest", fail)
    fake_tools.write_tools(path, hwh_of("pynq-z2"))
    assert overlay(tmp_path) == 1
    assert not (tmp_path / "overlay").exists()


def test_a_hand_off_of_another_design_is_refused(
    path: Path, tmp_path: Path, quick: None, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_tools.write_tools(path, hwh_of("zcu104"))
    assert overlay(tmp_path) == 1
    assert "fetch_0 lies at 0xA0000000, the design has it at 0x40000000" in capsys.readouterr().err
    text = (path / "vivado").read_text().replace("axi_intc_0", "axi_intc_1")
    (path / "vivado").write_text(text.replace("0xA", "0x4"))
    assert overlay(tmp_path) == 1
    assert "axi_intc_0 lies nowhere" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("missing", "step", "text"),
    (
        (
            ("vitis_hls", "vivado"),
            "overlay",
            "Vitis HLS was not found (tried vitis-run, vitis_hls)",
        ),
        (("vivado",), "overlay", "Vivado was not found (tried vivado)"),
        (("vitis_hls",), "hls", "Vitis HLS was not found"),
    ),
)
def test_missing_tools_are_named_before_any_work(
    path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    missing: tuple[str, ...],
    step: str,
    text: str,
) -> None:
    fake_tools.write_tools(path, "")
    for name in missing:
        (path / name).unlink()
    assert build.main([step, "pynq-z2"], tmp_path) == 1
    error = capsys.readouterr().err
    assert text in error and "source its settings64.sh" in error
    assert not (tmp_path / "build").exists()


def test_unknown_boards_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["overlay", "pynq-z9"], tmp_path)
    assert "zcu104" in capsys.readouterr().err


# ------------------------------------------------------------------------------ parts


def write_waiting(path: Path) -> None:
    """Write a Vivado that starts a child and waits for it."""
    path.mkdir()
    (path / "vivado").write_text("#!/bin/sh\nsleep 600 &\necho started $!\nwait\n")
    (path / "vivado").chmod(0o755)


def ends(process: str) -> bool:
    """Wait until a process has ended, or is a zombie if orphans are not collected; return whether
    it has."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if Path("/proc", process, "stat").read_text().split()[2] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_a_tool_that_hangs_is_ended(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_waiting(path)
    with pytest.raises(BuildFailed, match=r"(?s)vivado ran past 1 s in a.tcl; .*started"):
        tools.run(tools.VIVADO, Path("a.tcl"), folder=tmp_path, log=tmp_path / "log", timeout_s=1)
    assert ends((tmp_path / "log").read_text().split()[1])


def test_a_tool_without_a_version_is_unknown(path: Path, tmp_path: Path) -> None:
    path.mkdir()
    (path / "vivado").write_text("#!/bin/sh\necho none\n")
    (path / "vivado").chmod(0o755)
    assert tools.tool_version(tools.VIVADO).version == "unknown"
    (path / "vivado").unlink()
    assert tools.tool_version(tools.VIVADO).version == "unknown"


def test_a_tool_that_says_no_text_or_asks(path: Path) -> None:
    path.mkdir()
    (path / "vivado").write_text("#!/bin/sh\nread answer\nprintf '\\377\\376 v2024.2'\n")
    (path / "vivado").chmod(0o755)
    assert tools.tool_version(tools.VIVADO).version == "2024.2"


def test_a_build_that_is_stopped_ends_its_tool(path: Path, tmp_path: Path) -> None:
    """The tool runs in a session of its own, so that only the build ends it."""
    fake_tools.write_tools(path, "")
    for name in ("vitis-run", "vitis_hls"):
        (path / name).write_text("#!/bin/sh\nsleep 600 &\necho started $!\nwait\n")
    process = subprocess.Popen(
        [sys.executable, "-c", STOPPED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    work = tmp_path / "build" / "overlay" / "pynq-z2"
    log = work / "hls.log"
    until = time.monotonic() + 60
    while not (log.is_file() and "started" in log.read_text()) and time.monotonic() < until:
        time.sleep(0.02)
    process.terminate()
    assert "stopped by SIGTERM" in process.communicate(timeout=60)[1]
    assert process.returncode == 128 + signal.SIGTERM
    assert ends(log.read_text().split()[1])


def test_a_signal_while_a_tool_starts_ends_it(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes when the tool runs and nobody waits for it yet."""
    write_waiting(path)
    log, start = tmp_path / "log", subprocess.Popen

    def started(*args: Any, **options: Any) -> Any:
        process = start(*args, **options)
        while "started" not in log.read_text():
            time.sleep(0.01)
        signal.raise_signal(signal.SIGHUP)
        return process

    monkeypatch.setattr(subprocess, "Popen", started)
    before = signal.signal(signal.SIGHUP, lambda number, frame: sys.exit(7))
    try:
        with pytest.raises(SystemExit, match="7"):
            tools.run(tools.VIVADO, Path("a.tcl"), folder=tmp_path, log=log)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert ends(log.read_text().split()[1])


@pytest.mark.parametrize(
    ("log", "shown"),
    (
        ("a\nERROR: one\nb\nERROR: two\nc\n", "  ERROR: one\n  ERROR: two"),
        ("".join(f"{i}\n" for i in range(40)), "\n".join(f"  {i}" for i in range(28, 40))),
        ("\n\n", "  (the log is empty)"),
    ),
)
def test_the_last_words_of_a_log(tmp_path: Path, log: str, shown: str) -> None:
    (tmp_path / "log").write_text(log)
    assert tools.last_words(tmp_path / "log") == shown


def test_the_commit_says_when_files_differ(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path), *author, *words], check=True)

    assert build.commit(tmp_path) == "unknown"
    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one")
    clean = build.commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "new").write_text("x")
    assert build.commit(tmp_path) == f"{clean}+"


def test_damaged_reports_are_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="not readable"):
        reports.read_utilization(tmp_path / "none.rpt")
    table = fake_tools.UTILIZATION.format(lut="CLB LUTs", ff="CLB Registers")
    path = tmp_path / "u.rpt"
    path.write_text(table.replace("44100", "n/a  "))
    with pytest.raises(BuildFailed, match="Used: found 'n/a', allowed is a number"):
        reports.read_utilization(path)
    for odd in ("nan  ", "inf  ", "1e999"):
        path.write_text(table.replace("44100", odd))
        with pytest.raises(BuildFailed, match=f"Used: found '{odd.strip()}', allowed is a number"):
            reports.read_utilization(path)
    path.write_text(table.replace("DSPs", "DSPx"))
    with pytest.raises(BuildFailed, match="no row DSPs"):
        reports.read_utilization(path)


@pytest.mark.parametrize("slack", ("nan", "inf", "", "0.1 ns"))
def test_a_slack_that_is_no_number(tmp_path: Path, slack: str) -> None:
    (tmp_path / "results.txt").write_text(f"worst_slack_ns {slack}\n")
    with pytest.raises(BuildFailed, match="worst_slack_ns: found .*allowed is a number"):
        reports.worst_slack(tmp_path / "results.txt")


def test_a_hand_off_with_an_odd_address(tmp_path: Path) -> None:
    text = re.sub('BASEVALUE="[^"]*"', 'BASEVALUE="here"', hwh(design_of(load_board("pynq-z2"))))
    (tmp_path / HWH).write_text(text)
    with pytest.raises(BuildFailed, match="lies nowhere, the design has it at 0x"):
        reports.check_hwh(tmp_path / HWH, design_of(load_board("pynq-z2")))


@pytest.mark.parametrize("name", board_names())
def test_the_emulated_boards_hand_off_is_the_designs(tmp_path: Path, name: str) -> None:
    design = design_of(load_board(name))
    (tmp_path / HWH).write_text(hwh(design))
    reports.check_hwh(tmp_path / HWH, design)


def test_the_place_of_the_work_is_the_plans() -> None:
    plan = plan_of("pynq-z1")
    assert plan.board.name == "pynq-z2" and plan.target.name == "pynq-z2"
    assert replace(plan, jobs=8).work == plan.work
