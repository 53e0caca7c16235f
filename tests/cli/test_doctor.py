# SPDX-License-Identifier: Apache-2.0
"""``neuralmatrix doctor`` on trees of files like those of boards, and on this machine.

In: folders in place of a board's root.  Out: what each check found, and its remedy.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from make_overlay_folder import overlay_folder
from neuralmatrix.cli.doctor import diagnose
from neuralmatrix.cli.doctor_machine import Check, Machine, numbers
from neuralmatrix.cli.main import app
from neuralmatrix.hardware import overlay_folder as overlays
from neuralmatrix.hardware.board import load_board
from typer.testing import CliRunner

MEMINFO = "MemTotal: 507160 kB\nCmaTotal: 131072 kB\nCmaFree: {free} kB\n"
PYNQ_Z2 = {
    "etc/xocl.txt": "Pynq-Z2\n",
    "etc/os-release": 'NAME="PynqLinux"\nPRETTY_NAME="PynqLinux, based on Ubuntu 22.04"\n',
    "home/xilinx/REVISION": "Release 2024_07_29 1a2b3c4\nBoard 2024_07_29 5d6e7f8\n",
    "proc/device-tree/compatible": "xlnx,zynq-7000\0",
    "proc/device-tree/model": "PYNQ-Z2\0",
    "proc/meminfo": MEMINFO.format(free=98304),
    "sys/kernel/debug/clk/fclk0/clk_rate": "100000000\n",
}
ZCU104 = {
    "etc/xocl.txt": "ZCU104\n",
    "proc/meminfo": "CmaTotal: 524288 kB\nCmaFree: 524288 kB\n",
    "sys/class/hwmon/hwmon0/name": "irps5401\n",
    "sys/class/hwmon/hwmon0/power1_label": "pout1\n",
    "sys/class/hwmon/hwmon0/power1_input": "3500000\n",
    "sys/class/hwmon/hwmon1/name": "ina226\n",
    "sys/class/hwmon/hwmon1/power1_input": "14050000\n",
}


def tree(root: Path, files: dict[str, str]) -> Machine:
    """Make a machine with these files, pynq 3.1.2 and the user root."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(
        root=root,
        environ={"XILINX_XRT": "/usr", "PATH": str(root / "bin")},
        installed={"pynq": "3.1.2", "numpy": "1.26.4"}.get,
        importable=lambda name: True,
        user_id=0,
    )


def checked(machine: Machine) -> dict[str, Check]:
    return {check.name: check for check in diagnose(machine)}


def test_a_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = overlay_folder(tmp_path / "overlays" / "pynq-z2")
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(tmp_path / "overlays"))
    found = checked(tree(tmp_path, PYNQ_Z2))
    assert found["board"].found == "PYNQ-Z2, device name Pynq-Z2, device tree 'PYNQ-Z2'"
    assert (
        found["image"].found == "PynqLinux, based on Ubuntu 22.04, PYNQ Release 2024_07_29 1a2b3c4"
    )
    assert found["pynq"].found == "3.1.2"
    assert found["CMA memory"].found == "128 MiB, 96 MiB of it free"
    assert "100 MHz" in found["fabric clock"].found
    fingerprint = load_board("pynq-z2").array.fingerprint
    assert found["overlay"].found.startswith(f"{folder}: for pynq-z2, array {fingerprint}")
    for name in ("board", "image", "pynq", "overlay", "CMA memory", "fabric clock", "root rights"):
        assert found[name].ok, found[name]
    assert not found["C++ compiler"].required, "a board runs programs without a compiler"
    assert "vivado" not in found


def test_the_schedule_of_the_emulation(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path, environ={})
    assert checked(machine)["schedule"].found.startswith("cpu: ")
    named = checked(replace(machine, environ={"NEURALMATRIX_SCHEDULE": "device"}))["schedule"]
    assert named.ok and named.found == "device: the kernels' loops as they are synthesized"
    wrong = checked(replace(machine, environ={"NEURALMATRIX_SCHEDULE": "rtl"}))["schedule"]
    assert not wrong.ok and wrong.required and "allowed are 'cpu', 'device'" in wrong.problem
    assert wrong.remedy == "correct or unset NEURALMATRIX_SCHEDULE"


def test_a_board_without_sensors(tmp_path: Path) -> None:
    sensors = checked(tree(tmp_path, PYNQ_Z2))["power sensors"]
    assert not sensors.ok and "external meter" in sensors.remedy


def test_sensors_by_name(tmp_path: Path) -> None:
    found = checked(tree(tmp_path, ZCU104))["power sensors"]
    assert found.ok and found.found == "12V (ina226): board input, INT (irps5401): VCCINT"
    (tmp_path / "sys/class/hwmon/hwmon0/power1_label").write_text("pout2\n")
    one = checked(Machine(root=tmp_path))["power sensors"]
    assert one.found.startswith("12V") and not one.ok and "pout1" in one.remedy


@pytest.mark.parametrize(
    ("board", "version", "modules", "problem", "remedy"),
    [
        (PYNQ_Z2, "4.0.0", True, "4.0 dropped Zynq-7000", "3.0.1 to 3.1.2"),
        (PYNQ_Z2, "3.0.0", True, "older than 3.0.1", "newer image"),
        (PYNQ_Z2, "3.0.1", True, "", "PYNQ 3.1 SD card image"),
        (PYNQ_Z2, "3.1.2", False, "pycparser", "pip install 'pycparser<3'"),
        (ZCU104, "4.0.0", False, "pkg_resources", "pip install 'setuptools<=80'"),
        (ZCU104, "4.0.0", True, "", "PYNQ 3.1 SD card image"),
    ],
)
def test_traps_of_pynq(
    tmp_path: Path, board: dict[str, str], version: str, modules: bool, problem: str, remedy: str
) -> None:
    machine = tree(tmp_path, board)
    machine = replace(machine, installed=lambda name: version, importable=lambda name: modules)
    pynq = checked(machine)["pynq"]
    assert pynq.ok == (not problem)
    assert problem in pynq.problem and remedy in pynq.remedy


def test_what_a_board_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(tmp_path / "none"))
    bare = tree(tmp_path, {"etc/xocl.txt": "Pynq-Z1\n"})
    bare = replace(bare, environ={}, installed=lambda name: "", user_id=1000)
    found = checked(bare)
    lacks = {name: check.remedy for name, check in found.items() if check.board and not check.ok}
    assert set(lacks) == {check.name for check in found.values() if check.board} - {"board"}
    assert "make overlay BOARD=pynq-z2" in lacks["overlay"], "PYNQ-Z1 loads PYNQ-Z2's bitstream"
    assert "PYNQ 3.1 SD card image" in lacks["pynq"] and "4.0" not in lacks["pynq"]
    assert "cma=256M" in lacks["CMA memory"] and "sudo -i" in lacks["root rights"]


def test_little_memory_is_left(tmp_path: Path) -> None:
    full = {**PYNQ_Z2, "proc/meminfo": MEMINFO.format(free=4096)}
    memory = checked(tree(tmp_path, full))["CMA memory"]
    assert memory.found == "128 MiB, 4 MiB of it free" and not memory.ok
    assert memory.remedy.startswith("close notebooks")


def test_a_damaged_overlay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = overlay_folder(tmp_path / "here")
    (folder / overlays.BIT).write_text("cut")
    monkeypatch.setenv(overlays.DIRECTORY_VARIABLE, str(folder))
    overlay = checked(tree(tmp_path, PYNQ_Z2))["overlay"]
    assert not overlay.ok and "damaged" in overlay.problem


@pytest.mark.parametrize(
    ("files", "environ", "text"),
    [
        ({"etc/xocl.txt": "MyBoard\n"}, {}, "unknown, device name MyBoard"),
        ({"proc/device-tree/compatible": "xlnx,zynqmp\0"}, {}, "device name not set"),
        ({"proc/device-tree/chosen/pynq_board": "KV260\0"}, {}, "KV260"),
        ({}, {"BOARD": "Pynq-Z2"}, "PYNQ-Z2"),
    ],
)
def test_where_the_name_comes_from(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str], text: str
) -> None:
    board = checked(replace(tree(tmp_path, files), environ=environ))["board"]
    assert text in board.found and "docs/add-a-board.md" in board.remedy


def test_a_computer_has_no_checks_of_boards(tmp_path: Path) -> None:
    found = checked(tree(tmp_path, {"etc/os-release": 'PRETTY_NAME="Debian"\n'}))
    assert not any(check.board for check in found.values())
    assert found["C++ compiler"].required and "vivado" in found and "ssh" in found


def test_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOARD", raising=False)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    data = json.loads(result.stdout)
    assert data["on_board"] == any(check["board"] for check in data["checks"])
    bad = [check["name"] for check in data["checks"] if check["required"] and not check["ok"]]
    assert data["ok"] == (not bad) and result.exit_code == bool(bad)


def test_versions_compare_by_their_numbers() -> None:
    assert numbers("3.0.1") == (3, 0, 1) < numbers("3.10") < numbers("4.0.0rc1") == (4, 0, 0)
    assert numbers("unknown") == ()
