# SPDX-License-Identifier: Apache-2.0
"""Runs a program on a board over SSH.

In: a program, its inputs, and a board's address.  Out: outputs, statistics, bench results.
Copies only what is missing of package, overlay and program; whatever can be checked on this machine
is checked before the connection is made.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .. import files
from ..errors import BadInput, NeuralMatrixError, OverlayMissing
from ..hardware.board import load_board
from ..hardware.overlay_folder import check_array, check_files, resolve
from ..paths import REMOTE_DIR
from ..program.host_io import check_feeds
from ..program.program import Program, load
from ..runtime.session import DEVICES
from .board_run import Job
from .bundles import Piece, overlay_piece, package_piece, program_piece
from .remote_board import RemoteBoard
from .ssh import Target, connect


@dataclass(frozen=True)
class Request:
    """What to do on the board; ``outputs`` requires ``inputs``.

    ``device`` "emulation" runs the compiled kernels on the other machine's processor.
    """

    program: Path
    inputs: Path | None = None
    outputs: Path | None = None
    bench: bool = False
    power: bool = False  # of the bench
    overlay: Path | None = None
    python: str | None = None
    remote_dir: str = REMOTE_DIR
    device: str = "pynq"


@dataclass(frozen=True)
class Progress:
    """Callbacks during a deployment: a text per step, and the number of inputs run."""

    note: Callable[[str], object] = lambda text: None
    step: Callable[[int, int], object] = lambda done, total: None


# ------------------------------------------------------------------------------ before


def _check_request(request: Request) -> None:
    if request.device not in DEVICES:
        raise BadInput(f"device: found {request.device!r}, allowed are {', '.join(DEVICES)}")
    if (request.inputs is None) != (request.outputs is None):
        raise BadInput(
            "found one of --run and --output alone; give both, as --run inputs.npz -o outputs.npz"
        )
    if not request.remote_dir.isprintable() or not request.remote_dir:
        raise BadInput(f"--remote-dir: found {request.remote_dir!r}, allowed is a folder's name")
    if request.outputs is not None:
        files.check_target(request.outputs)


def _overlay(request: Request, program: Program) -> Piece | None:
    """Find the overlay for the program's board; with None the board must have one."""
    if request.device == "emulation":
        return None
    try:
        overlay = resolve(load_board(program.board), request.overlay)
    except OverlayMissing:
        if request.overlay is not None:
            raise
        return None
    check_array(overlay, program.board, program.array.fingerprint)
    check_files(overlay)
    return overlay_piece(overlay)


@dataclass(frozen=True)
class _Prepared:
    """What is sent: pieces that stay on the board, and the inputs of one run."""

    package: Piece
    program: Piece
    overlay: Piece | None
    inputs: bytes

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return tuple(p for p in (self.package, self.overlay, self.program) if p is not None)


def _prepare(request: Request) -> _Prepared:
    _check_request(request)
    program, inputs = load(request.program), b""
    if request.inputs is not None:
        check_feeds(program.shown_inputs, files.read_arrays(request.inputs))
        inputs = request.inputs.read_bytes()
    overlay = _overlay(request, program)
    return _Prepared(package_piece(), program_piece(request.program), overlay, inputs)


# ------------------------------------------------------------------------------ there


def _job(board: RemoteBoard, request: Request, prepared: _Prepared, folder: str) -> Job:
    at, runs = board.root, request.inputs is not None
    return Job(
        program=f"{at}/{prepared.program.name}",
        device=request.device,
        overlay=f"{at}/{prepared.overlay.name}" if prepared.overlay else None,
        inputs=f"{at}/{folder}/inputs.npz" if runs else None,
        outputs=f"{at}/{folder}/outputs.npz" if runs else None,
        bench=request.bench,
        power=request.power,
    )


def _run(
    board: RemoteBoard, request: Request, prepared: _Prepared, progress: Progress
) -> dict[str, Any]:
    """Send inputs, run, fetch outputs, and remove the inputs from the board."""
    folder = f"run-{secrets.token_hex(8)}"
    job = _job(board, request, prepared, folder)
    try:
        if request.inputs is not None:
            board.send(f"{folder}/inputs.npz", prepared.inputs)
        progress.note(f"running on {board.host}")
        results = board.execute(prepared.package.name, job, progress.step)
        if request.outputs is not None:
            board.fetch(f"{folder}/outputs.npz", request.outputs)
        return results
    finally:
        with contextlib.suppress(NeuralMatrixError):  # a broken connection has been reported
            board.drop(folder)


def deploy(target: Target, request: Request, progress: Progress = Progress()) -> dict[str, Any]:
    """Copy what the board lacks, run, bring the results back.

    >>> deploy(Target("xilinx@pynq"), Request(Path("net.nmx"), Path("in.npz"), Path("out.npz")))
    """
    prepared = _prepare(request)
    progress.note(f"connecting to {target.host}")
    with connect(target) as connection:
        board = RemoteBoard(connection, request.device, request.remote_dir, request.python)
        sent = board.send_missing(prepared.pieces, len(prepared.inputs), progress.note)
        wanted = request.inputs is not None or request.bench
        results = _run(board, request, prepared, progress) if wanted else {}
    return {
        "host": target.host,
        "remote_dir": board.root,
        "python": board.python.python,
        "pynq": board.python.pynq,
        "sent": sent,
        "outputs": str(request.outputs) if request.outputs else None,
        **results,
    }


@contextmanager
def deployed(
    target: Target, request: Request, progress: Progress = Progress()
) -> Iterator[Callable[[Path, Path], dict[str, Any]]]:
    """Copy what the board lacks, once; yield ``run(inputs, outputs)``, which runs one file of
    inputs after another there.
    """
    prepared = _prepare(request)
    with connect(target) as connection:
        board = RemoteBoard(connection, request.device, request.remote_dir, request.python)
        board.send_missing(prepared.pieces, 0, progress.note)

        def run(inputs: Path, outputs: Path) -> dict[str, Any]:
            one = replace(request, inputs=inputs, outputs=outputs)
            return _run(board, one, replace(prepared, inputs=inputs.read_bytes()), progress)

        yield run
