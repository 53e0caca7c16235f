# SPDX-License-Identifier: Apache-2.0
"""Checks about a board: image, pynq, overlay, memory, clock, sensors, rights.

In: a ``Machine``.  Out: checks, none of which loads an overlay or touches a register.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import NeuralMatrixError
from ..hardware.board import Board, board_names, load_board
from ..hardware.overlay_folder import board_of_device, check_files, resolve
from ..measure.hwmon import open_board
from ..runtime.pynq.cma import MORE, cma_of
from .doctor_machine import Check, Machine, numbers

DEVICE_NAME = "etc/xocl.txt"  # written by the image; pynq's name of the device
TREE_NAME = "proc/device-tree/chosen/pynq_board"
CLOCKS = {"zynq7000": "fclk0", "zynqmp": "pl0_ref"}  # of the fabric, as the kernel calls them
LOW_CMA = 16 << 20  # bytes that weights and activations of a small CNN take
_GUIDE = "see docs/on-a-board.md"


def device_name(machine: Machine) -> str:
    """Return the name that pynq gives this board; empty if there is none."""
    found = machine.text(DEVICE_NAME) or machine.text(TREE_NAME)
    return (found or machine.environ.get("BOARD", "")).partition("\n")[0].strip()


def is_board(machine: Machine) -> bool:
    """Return whether this is a Zynq, or a machine that its image or user names a board."""
    return bool(device_name(machine)) or "xlnx,zynq" in machine.text("proc/device-tree/compatible")


def _board(machine: Machine, board: Board | None) -> Check:
    name, model = device_name(machine), machine.text("proc/device-tree/model")
    known = ", ".join(load_board(each).device_name for each in board_names())
    found = f"{board.title if board else 'unknown'}, device name {name or 'not set'}"
    found += f", device tree {model!r}" if model else ""
    remedy = f"boards with a file are {known}; docs/add-a-board.md says how to add one"
    if not name:
        remedy = f"write the board's name into /{DEVICE_NAME}; {remedy}"
    problem = "" if board else "no board file for it"
    return Check("board", found, "choosing the overlay", remedy, True, problem, True)


def _images(board: Board | None) -> str:
    usable = [image for image in board.images if image.usable] if board else []
    names = [f"{image.name} (pynq {image.pynq})" for image in usable]
    return f"use {' or '.join(names)}" if names else "use an image of the PYNQ project"


def _image(machine: Machine, board: Board | None) -> Check:
    lines = machine.text("etc/os-release").splitlines()
    pretty = next((line for line in lines if line.startswith("PRETTY_NAME=")), "")
    parts = [pretty.partition("=")[2].strip("\"'")]
    revision = machine.text("home/xilinx/REVISION") or machine.text("boot/REVISION")
    parts += [f"PYNQ {line}" for line in revision.splitlines()[:1]]
    return Check("image", ", ".join(filter(None, parts)), "pynq", _images(board), board=True)


# ------------------------------------------------------------------------------ pynq


@dataclass(frozen=True)
class _Trap:
    """A known fault of some installations."""

    holds: Callable[[tuple[int, ...], Board | None, Machine], bool]
    problem: str
    remedy: str


def _is_zynq7000(board: Board | None) -> bool:
    return board is not None and board.family == "zynq7000"


_TRAPS = (
    _Trap(
        lambda version, board, machine: version < (3, 0, 1),
        "older than 3.0.1, the oldest version that the driver is written for",
        "use a newer image",
    ),
    _Trap(
        lambda version, board, machine: version >= (4,) and _is_zynq7000(board),
        "pynq 4.0 dropped Zynq-7000: loading an overlay fails when it sets the clock",
        "use an image with pynq 3.0.1 to 3.1.2",
    ),
    _Trap(
        lambda version, board, machine: (
            version < (4,) and not machine.importable("pycparser.plyparser")
        ),
        "pycparser 3 has no pycparser.plyparser, which this pynq imports to load an overlay",
        "pip install 'pycparser<3'",
    ),
    _Trap(
        lambda version, board, machine: not machine.importable("pkg_resources"),
        "setuptools without pkg_resources, which pynq imports",
        "pip install 'setuptools<=80'",
    ),
)


def _pynq(machine: Machine, board: Board | None) -> Check:
    found = machine.installed("pynq")
    remedy = f"{_images(board)}, and run the Python of its virtual environment"
    problem = ""
    for trap in _TRAPS if found else ():
        if trap.holds(numbers(found), board, machine):
            problem, remedy = trap.problem, trap.remedy
            break
    return Check("pynq", found, "running on the board", remedy, True, problem, True)


def _login(machine: Machine, board: Board | None) -> Check:
    """Check the variable by which pynq finds the board; /etc/profile.d sets it."""
    found = machine.environ.get("XILINX_XRT", "")
    remedy = "use a login shell, as 'sudo -i' gives; it reads /etc/profile.d"
    return Check("XILINX_XRT", found, "pynq to find the device", remedy, board=True)


def _xclbinutil(machine: Machine, board: Board | None) -> Check:
    found = shutil.which("xclbinutil", path=machine.environ.get("PATH", "")) or ""
    remedy = "use a login shell of the PYNQ image; it belongs to XRT"
    return Check("xclbinutil", found, "pynq to load an overlay", remedy, board=True)


def _root(machine: Machine, board: Board | None) -> Check:
    found = "yes" if machine.user_id == 0 else ""
    remedy = "run Python and notebooks as root: sudo -i"
    return Check("root rights", found, "pynq to reach the fabric", remedy, board=True)


# ------------------------------------------------------------------------------ hardware


def _overlay(machine: Machine, board: Board | None) -> Check:
    found = problem = ""
    remedy = "build the overlay on a computer with Vivado and copy it here"
    if board is not None:
        try:
            overlay = resolve(board)
            info = overlay.info
            found = (
                f"{overlay.folder}: for {', '.join(info.boards)}, array {info.fingerprint}, "
                f"timing closed at {info.clock_mhz:g} MHz, {info.origin}"
            )
            check_files(overlay)
        except NeuralMatrixError as error:
            problem = str(error) if found else ""
            remedy = str(error)
    return Check("overlay", found, "running on the board", remedy, True, problem, True)


def _cma(machine: Machine, board: Board | None) -> Check:
    cma = cma_of(machine.text("proc/meminfo"))
    found = problem = ""
    remedy = f"add {MORE} to the kernel's boot arguments; {_GUIDE}"
    if cma is not None:
        found = f"{cma.total >> 20} MiB, {cma.free >> 20} MiB of it free"
        if cma.free < LOW_CMA:
            problem = f"less than {LOW_CMA >> 20} MiB free"
            remedy = f"close notebooks and sessions that hold buffers, or {remedy}"
    return Check("CMA memory", found, "buffers of a program", remedy, False, problem, True)


def _clock(machine: Machine, board: Board | None) -> Check:
    """Report the clock that the kernel recorded; pynq sets dividers without the kernel."""
    name = CLOCKS[board.family] if board else ""
    rate = machine.text(f"sys/kernel/debug/clk/{name}/clk_rate") if name else ""
    found = ""
    if rate.isdecimal():
        found = f"{int(rate) / 1e6:g} MHz in the kernel's record ({name}), from before any overlay"
    remedy = "nothing: the driver reads the clock back after loading; this record needs root"
    return Check("fabric clock", found, "information", remedy, board=True)


def _sensors(machine: Machine, board: Board | None) -> Check:
    sources, absent = open_board(board, machine.root / "sys") if board else ((), ())
    found = ", ".join(f"{each.name} ({each.sensor}): {each.scope}" for each in sources)
    remedy = "; ".join(each.reason for each in absent)
    problem = remedy if found else ""
    return Check("power sensors", found, "measuring power", remedy, False, problem, True)


_CHECKS = (
    _board,
    _image,
    _pynq,
    _root,
    _login,
    _xclbinutil,
    _overlay,
    _cma,
    _clock,
    _sensors,
)


def board_checks(machine: Machine) -> tuple[Check, ...]:
    """Run all checks about a board; there are none on other machines."""
    if not is_board(machine):
        return ()
    board = board_of_device(device_name(machine))
    return tuple(check(machine, board) for check in _CHECKS)
