# SPDX-License-Identifier: Apache-2.0
"""Builds overlays: ``python -m overlay.build overlay BOARD``, as ``make overlay BOARD=...`` does.

In: a board's name; Vitis HLS and Vivado in the PATH.  Out: ``overlay/build/NAME``, whole or not at
all; intermediate files and logs stay under ``build/overlay/NAME``.  ``hls`` ends after RTL.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from neuralmatrix.errors import BuildFailed, NeuralMatrixError
from neuralmatrix.files import replace_folder
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.board import Board, board_names
from neuralmatrix.hardware.isa import ISA_VERSION
from neuralmatrix.hardware.overlay_archive import archive_name, pack
from neuralmatrix.hardware.overlay_folder import (
    BIT,
    EXPECTED,
    FORMAT,
    HWH,
    INFO,
    SELFTEST,
    OverlayInfo,
    Tool,
    Utilization,
    file_hash,
    hash_files,
    write_info,
)
from neuralmatrix.hardware.registers import KERNELS
from neuralmatrix.hardware.resources import KINDS, resources
from neuralmatrix.runtime.selftest_build.build import write as write_selftest

from . import csynth
from .hls_data import DATA_VARIABLE, ip_folder, write_hls_data
from .plan import (
    DEFAULT_JOBS,
    HERE,
    MISSED,
    POWER,
    REPOSITORY,
    RESULTS,
    TIMING,
    UTILIZATION,
    VIVADO_LOG,
    Plan,
    plan_of,
)
from .reports import check_hwh, read_results, read_utilization, worst_slack
from .tcl_data import tcl_data
from .tools import STOPPING, UNKNOWN, Program, find_hls, find_vivado, run, tool_version


class TimingMissed(BuildFailed):
    """The implemented design is too slow for its clock."""


def _fresh(folder: Path) -> Path:
    """Make an empty folder, so that no file of an earlier build remains."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


# ------------------------------------------------------------------------------ steps


def synthesize(plan: Plan, hls: Program) -> str:
    """Simulate, synthesize and export the kernels; return the report with our estimates.

    BuildFailed: a step failed, or a kernel misses its initiation interval or its period.
    """
    work = _fresh(plan.hls)
    data = write_hls_data(plan.board, work, csim=plan.csim, cosim=plan.cosim)
    log = plan.work / csynth.LOG
    run(hls, HERE / "hls.tcl", environment={DATA_VARIABLE: str(data)}, folder=work, log=log)
    return csynth.report(plan.board, work, log)


def _ip_repository(plan: Plan) -> Path:
    """Collect the kernels' exported IPs in one folder."""
    folder = _fresh(plan.work / "ips")
    for kernel in KERNELS:
        source = ip_folder(plan.hls, kernel)
        if not (source / "component.xml").is_file():
            raise BuildFailed(f"{source} holds no component.xml: Vitis HLS exported no IP {kernel}")
        shutil.copytree(source, folder / kernel)
    return folder


def implement(plan: Plan, vivado: Program) -> None:
    """Run Vivado: block design, synthesis, placement, routing, bitstream.

    TimingMissed: all of that succeeded, and the clock is too fast for it.
    """
    work = _fresh(plan.vivado)
    data = work / "design.tcl"
    data.write_text(tcl_data(design_of(plan.board), plan.board), encoding="utf-8")
    words = ("-tclargs", data, _ip_repository(plan), work, plan.jobs)
    arguments = tuple(map(str, words))
    log = plan.work / VIVADO_LOG
    try:
        run(vivado, HERE / "vivado.tcl", arguments=arguments, folder=work, log=log)
    except BuildFailed as error:
        kind = TimingMissed if (work / MISSED).is_file() else BuildFailed
        raise kind(str(error)) from None


def _keep_missed(plan: Plan) -> None:
    """Keep what the next implementation would overwrite."""
    folder = _fresh(plan.missed)
    reports = (plan.vivado / name for name in (MISSED, TIMING, UTILIZATION, POWER))
    for path in (*reports, plan.work / VIVADO_LOG):
        if path.is_file():
            shutil.copyfile(path, folder / path.name)


def close_timing(plan: Plan, vivado: Program) -> Plan:
    """Implement at the plan's clock, else at the board's fallback clock; return the plan that met
    timing.

    The kernels are not synthesized again: what was made for a faster clock fits a slower one.
    """
    shutil.rmtree(plan.missed, ignore_errors=True)
    try:
        implement(plan, vivado)
        return plan
    except TimingMissed as error:
        slower = plan.slower()
        if slower.board.clock_mhz >= plan.board.clock_mhz:
            raise
        print(f"{error}\nbuilding again at {slower.board.clock_mhz:g} MHz, the fallback clock")
    _keep_missed(plan)
    implement(slower, vivado)
    return slower


def commit(root: Path = REPOSITORY) -> str:
    """Return the sources' git commit, with "+" appended if files differ from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "HEAD")
        return f"{head}{'+' if git('status', '--porcelain') else ''}" if head else UNKNOWN
    except OSError:
        return UNKNOWN


def describe(plan: Plan, folder: Path, tools: Sequence[Tool]) -> OverlayInfo:
    """Make the contents of ``overlay.json`` for the finished files in ``folder``."""
    board = plan.board
    return OverlayInfo(
        format=FORMAT,
        name=board.name,
        boards=plan.users,
        origin="vivado",
        fingerprint=board.array.fingerprint,
        isa_version=ISA_VERSION,
        part=board.part.name,
        clock_mhz=board.clock_mhz,
        worst_slack_ns=worst_slack(plan.vivado / RESULTS),
        commit=commit(),
        tools=tuple(tools),
        utilization=read_utilization(plan.vivado / UTILIZATION),
        files=hash_files(folder),
        missed_clock_mhz=plan.missed_clock_mhz,
    )


def _copy(source: Path, folder: Path) -> None:
    if not source.is_file() or not source.stat().st_size:
        raise BuildFailed(f"Vivado succeeded and left no {source}; see vivado.log next to it")
    shutil.copyfile(source, folder / source.name)


def collect(plan: Plan, tools: Sequence[Tool]) -> OverlayInfo:
    """Gather the overlay in a temporary folder, then move it to its place by renames."""
    folder = _fresh(plan.work / "result")
    for name in (BIT, HWH):
        _copy(plan.vivado / name, folder)
    check_hwh(folder / HWH, design_of(plan.board))
    for name in (SELFTEST, EXPECTED):
        shutil.copyfile(plan.selftest / name, folder / name)
    info = describe(plan, folder, tools)
    write_info(folder, info)
    replace_folder(plan.target, folder)
    return info


# ------------------------------------------------------------------------------ commands


def build_hls(plan: Plan) -> str:
    """Run ``make hls`` and return the report of synthesis to RTL."""
    program = find_hls()
    plan.work.mkdir(parents=True, exist_ok=True)
    return synthesize(plan, program)


def build_overlay(plan: Plan) -> OverlayInfo:
    """Run ``make overlay``.  The tools are looked for and the self-test is made first, before
    hours of work."""
    hls, vivado = find_hls(), find_vivado()
    prepare(plan)
    print(synthesize(plan, hls))
    return finish(plan, hls, vivado)


def prepare(plan: Plan) -> None:
    """Make the work folder and the self-test."""
    plan.work.mkdir(parents=True, exist_ok=True)
    write_selftest(plan.board, _fresh(plan.selftest))


def finish(plan: Plan, hls: Program, vivado: Program) -> OverlayInfo:
    """Implement the exported kernels and collect the overlay, at the clock that is met."""
    met = close_timing(plan, vivado)
    if met is not plan:  # the self-test's program names its clock
        write_selftest(met.board, _fresh(met.selftest))
    version = read_results(met.vivado / RESULTS).get("vivado", UNKNOWN)
    return collect(met, (tool_version(hls), Tool(vivado.name, version)))


def _used(pieces: Sequence[Utilization]) -> str:
    return ", ".join(f"{p.kind} {p.used:g} of {p.available}" for p in pieces)


def publish(plan: Plan, info: OverlayInfo) -> str:
    """Pack the finished overlay as one file; return what to publish of it."""
    target = plan.work / archive_name(info)
    pack(plan.target, target)
    return (
        f"packed {target}\nits SHA-256 is {file_hash(target).sha256}\n"
        "publish both; users run: neuralmatrix overlay add URL --sha256 ..."
    )


def summary(plan: Plan, info: OverlayInfo) -> str:
    """Format what was built."""
    missed = ""
    if info.missed_clock_mhz is not None:
        missed = (
            f"timing was missed at {info.missed_clock_mhz:g} MHz (reports in {plan.missed}), so "
            f"this overlay runs at {info.clock_mhz:g} MHz: at most "
            f"{100 * plan.board.fallback_loss:.0f} % fewer frames/s (estimated); programs need no "
            "change, and sessions report the slower clock\n"
        )
    return (
        f"built {plan.target}: {info.part}, {info.clock_mhz:g} MHz, worst slack "
        f"{info.worst_slack_ns} ns, for {', '.join(info.boards)}\n{missed}"
        f"used after routing: {_used(info.utilization)}\n"
        f"copy the folder to the board; reports are in {plan.vivado}, {INFO} names what was built"
    )


def jobs(text: str) -> int:
    """Parse the number of processes that Vivado may use."""
    if not re.fullmatch("[1-9][0-9]?", text):
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed are 1 to 99")
    return int(text)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m overlay.build", description=__doc__)
    parser.add_argument("step", choices=("overlay", "hls"))
    parser.add_argument("board", metavar="BOARD", choices=board_names(), help=str(board_names()))
    parser.add_argument("--jobs", type=jobs, default=DEFAULT_JOBS, help="processes of Vivado")
    parser.add_argument("--no-csim", action="store_true", help="skip the kernels' benches")
    parser.add_argument(
        "--fallback-clock", action="store_true", help="build at the board's fallback clock at once"
    )
    parser.add_argument("--pack", action="store_true", help="also pack the overlay as one file")
    parser.add_argument("--cosim", action="store_true", help="also run a bench on the RTL (hours)")
    return parser.parse_args(argv)


def doubts(board: Board) -> Iterator[str]:
    """Say beforehand where a design may not fit its part, by the high end of what was counted."""
    used = resources(board)
    over = [kind for kind in KINDS if used.share(kind) > used.limits[kind]]
    for kind in over:
        yield (
            f"note: {board.title}: {kind.upper()} {100 * used.share(kind):.0f} % by open "
            f"synthesis; above {100 * used.limits[kind]:.0f} % placement and timing are in doubt"
        )


def main(argv: Sequence[str] | None = None, root: Path = REPOSITORY) -> int:
    """Run the command; return 1 if it failed, with the reason on standard error."""
    chosen = _arguments(argv)
    try:
        plan = replace(
            plan_of(chosen.board, root, fallback_clock=chosen.fallback_clock),
            jobs=chosen.jobs,
            csim=not chosen.no_csim,
            cosim=chosen.cosim,
        )
        for line in doubts(plan.board):
            print(line, file=sys.stderr)
        if chosen.step == "hls":
            print(build_hls(plan))
            return 0
        info = build_overlay(plan)
        print(summary(plan, info))
        if chosen.pack:
            print(publish(plan, info))
    except (NeuralMatrixError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _leave(number: int, frame: object) -> None:
    """Exit through the ``finally`` clauses, which end the vendor's tools."""
    print(f"error: stopped by {signal.Signals(number).name}", file=sys.stderr)
    sys.exit(128 + number)


def leave_when_stopped() -> None:
    """Let signals end the build cleanly: the tools run in sessions of their own."""
    for each in STOPPING:
        signal.signal(each, _leave)


if __name__ == "__main__":
    leave_when_stopped()
    sys.exit(main())
