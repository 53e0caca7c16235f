# SPDX-License-Identifier: Apache-2.0
"""The first build of a board's overlay and the first run on it, in one file to send.

``python -m overlay.first_light BOARD [--board user@host]``, as ``make first-light`` does.
In: a board's name; Vitis HLS and Vivado in the PATH; a board's SSH address.  Out:
``build/first-light/BOARD.tar.gz`` with reports, logs, our predictions beside what was found, and
for each stage what it did or why it failed.  A failed stage stops only those that need it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tarfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from neuralmatrix.deploy.ssh import Target
from neuralmatrix.errors import NeuralMatrixError
from neuralmatrix.hardware.board import board_names
from neuralmatrix.hardware.overlay_folder import INFO, Overlay, open_overlay
from neuralmatrix.hardware.registers import KERNELS
from neuralmatrix.jsonform import to_json
from neuralmatrix.paths import REMOTE_DIR

from . import build, csynth
from .first_light_board import DEMOS, At, first_run, run_demo, run_power
from .first_light_report import predictions, readme, versions
from .hls_data import ip_folder, report_folder
from .plan import (
    DEFAULT_JOBS,
    POWER,
    REPOSITORY,
    RESULTS,
    UTILIZATION,
    VIVADO_LOG,
    Plan,
    plan_of,
)
from .reports import read_power, read_utilization, worst_slack
from .tools import find_hls, find_vivado

State = Literal["done", "failed", "skipped"]
LAST_LINES = 25
BUG = "this is a fault of the project: send the file"


class Skip(Exception):
    """A stage that cannot run because of an earlier one."""


@dataclass(frozen=True)
class Outcome:
    """A stage's end: ``found`` in JSON form, or ``why`` there is none."""

    stage: str
    about: str
    state: State
    found: Any = None
    why: str = ""


@dataclass
class Light:
    """All that the stages share; ``folder`` becomes the file to send."""

    plan: Plan
    folder: Path
    at: At | None = None  # the board; None if none was named
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def found(self, stage: str) -> Any:
        """Return what a stage found; None if it did not end well."""
        outcome = self.outcomes.get(stage)
        return outcome.found if outcome and outcome.state == "done" else None

    def write(self, name: str, text: str) -> None:
        """Write a file of the result."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Stage:
    """One step; ``needs`` names stages without which it is skipped."""

    name: str
    about: str
    work: Callable[[Light], Any]
    needs: tuple[str, ...] = ()


# ------------------------------------------------------------------------------ stages


def _predictions(light: Light) -> Any:
    found = predictions(light.plan.board, DEMOS)
    light.write("predictions.json", json.dumps(found, indent=2) + "\n")
    return found


def _versions(light: Light) -> Any:
    found = versions(build.commit())
    light.write("versions.json", json.dumps(found, indent=2) + "\n")
    return found


def _synthesis(light: Light) -> Any:
    plan, program = light.plan, find_hls()
    build.prepare(plan)
    text = build.synthesize(plan, program)
    light.write("reports/hls/csynth.txt", text)
    return json.loads((plan.hls / csynth.JSON).read_text(encoding="utf-8"))["comparison"]


def _overlay(light: Light) -> Any:
    """Go on where synthesis only missed a gate: its estimates before placement run high."""
    plan, vivado = light.plan, find_vivado()
    exported = [(ip_folder(plan.hls, k) / "component.xml").is_file() for k in KERNELS]
    if not all(exported):
        raise Skip("Vitis HLS exported no IPs: see the stage synthesis")
    info = build.finish(plan, find_hls(), vivado)
    return to_json(info)


def _implemented(light: Light) -> Any:
    """Read the reports, also of an implementation that missed timing."""
    folder = light.plan.vivado
    if not (folder / UTILIZATION).is_file():
        raise Skip("Vivado left no reports: see the stage overlay")
    found: dict[str, Any] = {"utilization": to_json(read_utilization(folder / UTILIZATION))}
    if (folder / POWER).is_file():
        found["power_w"] = read_power(folder / POWER)
    if (folder / RESULTS).is_file():
        found["worst_slack_ns"] = worst_slack(folder / RESULTS)
    return found


def _board(light: Light) -> At:
    if light.at is None:
        raise Skip("no board was named: add BOARD_HOST=user@host, or --board user@host")
    return light.at


def _built(light: Light) -> Overlay | None:
    """Return the overlay of this build; None for the emulation, which loads none."""
    if _board(light).device == "emulation":
        return None
    if light.found("overlay") is None:
        raise Skip("there is no overlay to load: see the stage overlay")
    return open_overlay(light.plan.target)


def _selftest(light: Light) -> Any:
    return first_run(_board(light), light.plan.board, _built(light), light.folder)


def _demo(name: str) -> Callable[[Light], Any]:
    return lambda light: run_demo(
        _board(light), light.plan.board, _built(light), light.folder, name
    )


def _power(light: Light) -> Any:
    return run_power(_board(light), light.plan.board, _built(light), light.folder)


STAGES = (
    Stage("predictions", "what we expect, before anything is built", _predictions),
    Stage("versions", "of this machine and its tools", _versions),
    Stage("synthesis", "the kernels through Vitis HLS, beside our estimates", _synthesis),
    Stage("overlay", "block design, placement, routing, bitstream", _overlay),
    Stage("implemented", "utilisation, power and slack after routing", _implemented),
    Stage("selftest", "the overlay on the board, its self-test, one image", _selftest),
    *(
        Stage(
            f"demo {name}", "outputs, accuracy and cycles on the board", _demo(name), ("selftest",)
        )
        for name in DEMOS
    ),
    Stage("power", "the board's rails, idle and under load", _power, ("selftest",)),
)


def run_stage(light: Light, stage: Stage) -> Outcome:
    """Run one stage; whatever stops it becomes its outcome."""
    missing = [name for name in stage.needs if light.found(name) is None]
    if missing:
        return Outcome(stage.name, stage.about, "skipped", why=f"needs {', '.join(missing)}")
    try:
        return Outcome(stage.name, stage.about, "done", stage.work(light))
    except Skip as why:
        return Outcome(stage.name, stage.about, "skipped", why=str(why))
    except (NeuralMatrixError, OSError) as error:
        return Outcome(stage.name, stage.about, "failed", why=f"{type(error).__name__}: {error}")
    except Exception:
        tail = "\n".join(traceback.format_exc().splitlines()[-LAST_LINES:])
        return Outcome(stage.name, stage.about, "failed", why=f"{tail}\n{BUG}")


def run_stages(light: Light, stages: Sequence[Stage] = STAGES) -> None:
    """Run all stages in order and write each one's file."""
    for number, stage in enumerate(stages, 1):
        print(f"{stage.name}: {stage.about}", flush=True)
        outcome = run_stage(light, stage)
        light.outcomes[stage.name] = outcome
        text = json.dumps(to_json(outcome), indent=2)
        light.write(f"stages/{number:02d}-{stage.name.replace(' ', '-')}.json", text + "\n")
        print(f"  {outcome.state}{': ' if outcome.why else ''}{outcome.why}", flush=True)


# ------------------------------------------------------------------------------ the file


def _gather(light: Light) -> None:
    """Copy logs and reports; those of a failed stage are there as far as it came."""
    plan = light.plan
    copied = {
        "logs": [plan.work / csynth.LOG, plan.work / VIVADO_LOG],
        "logs/missed": [plan.missed / VIVADO_LOG],
        "reports/hls": [plan.hls / csynth.JSON, plan.hls / "hls_data.tcl"],
        "reports/missed": sorted(plan.missed.glob("*.rpt")),
        "reports": [*sorted(plan.vivado.glob("*.rpt")), plan.vivado / RESULTS],
        "overlay": [plan.target / INFO] if light.found("overlay") else [],
    }
    for kernel in KERNELS:
        reports = report_folder(plan.hls, kernel)
        copied[f"reports/hls/{kernel}"] = [*reports.glob("*.rpt"), *reports.glob("*.xml")]
    for folder, paths in copied.items():
        for path in paths:
            if path.is_file():
                (light.folder / folder).mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, light.folder / folder / path.name)


def pack(light: Light) -> Path:
    """Write README.txt and summary.json, and pack the folder as one file."""
    _gather(light)
    found = {name: to_json(outcome) for name, outcome in light.outcomes.items()}
    light.write("summary.json", json.dumps(found, indent=2) + "\n")
    light.write("README.txt", readme(light.plan.board, found))
    target = light.folder.with_suffix(".tar.gz")
    with tarfile.open(target, "w:gz") as archive:
        archive.add(light.folder, arcname=light.folder.name)
    return target


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m overlay.first_light", description=__doc__)
    parser.add_argument("name", metavar="BOARD", choices=board_names(), help=str(board_names()))
    parser.add_argument("--board", metavar="USER@HOST", help="where the board is, over SSH")
    parser.add_argument("--jobs", type=build.jobs, default=DEFAULT_JOBS)
    parser.add_argument("--no-csim", action="store_true", help="skip the kernels' benches")
    parser.add_argument("--fallback-clock", action="store_true", help="build at that clock at once")
    parser.add_argument("--port", type=int, help="of ssh")
    parser.add_argument("--identity", type=Path, help="private key for ssh")
    parser.add_argument("--ssh-config", type=Path, help="instead of ~/.ssh/config")
    parser.add_argument("--python", help="Python on the board")
    parser.add_argument("--remote-dir", default=REMOTE_DIR, help="folder on the board")
    parser.add_argument(
        "--device", default="pynq", choices=("pynq", "emulation"),
        help="emulation: try the way there without an overlay",
    )  # fmt: skip
    return parser.parse_args(argv)


def _light(chosen: argparse.Namespace, root: Path) -> Light:
    plan = plan_of(chosen.name, root, fallback_clock=chosen.fallback_clock)
    plan = replace(plan, jobs=chosen.jobs, csim=not chosen.no_csim)
    at = None
    if chosen.board:
        target = Target(chosen.board, chosen.port, chosen.identity, chosen.ssh_config)
        at = At(target, chosen.name, chosen.python, chosen.remote_dir, chosen.device)
    folder = root / "build" / "first-light" / chosen.name
    for old in (folder, plan.work):  # a log or report of an earlier build would pass for this one's
        shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)
    return Light(plan, folder, at)


def main(argv: Sequence[str] | None = None, root: Path = REPOSITORY) -> int:
    """Run all stages; return 1 if one failed, or needs one that failed."""
    light = _light(_arguments(argv), root)
    try:
        run_stages(light)
    finally:
        target = pack(light)
        print((light.folder / "README.txt").read_text(encoding="utf-8"))
        print(f"send this file: {target}")
    states = {outcome.state for outcome in light.outcomes.values()}
    asked = light.at is not None
    return 1 if "failed" in states or (asked and "skipped" in states) else 0


if __name__ == "__main__":
    build.leave_when_stopped()
    sys.exit(main())
