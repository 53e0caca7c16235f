# SPDX-License-Identifier: Apache-2.0
"""``deploy`` against a real sshd on this machine; the device is an emulated board where pynq
is installed, otherwise the plain emulation.

In: a small program.  Out: outputs equal to those of a local run, and a named error per failure.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import pynq
from far_board import Far, emulated_board, free_port, interpreter, key
from make_overlay_folder import overlay_folder
from neuralmatrix.cli.main import app
from neuralmatrix.deploy.bundles import overlay_piece
from neuralmatrix.deploy.deploy import Progress, Request, deploy
from neuralmatrix.deploy.remote_board import RemoteBoard
from neuralmatrix.deploy.ssh import connect
from neuralmatrix.errors import (
    BadInput,
    BadProgram,
    HostUnreachable,
    OverlayMissing,
    RemoteFailure,
    ToolMissing,
    WrongOverlay,
)
from neuralmatrix.hardware.overlay_folder import BIT, check_files, open_overlay
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.session import Session
from typer.testing import CliRunner

pytestmark = [pytest.mark.ssh, pytest.mark.gxx]
DEVICE = "pynq" if pynq() else "emulation"
BOARD = "pynq-z2"


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    with emulated_board(tmp_path_factory.mktemp("sshd"), BOARD) as running:
        yield running


@pytest.fixture
def feeds(tmp_path: Path) -> Path:
    """Three signed inputs, among them zeros and extremes."""
    x = np.random.default_rng(4).normal(0, 40, (3, 5, 4, 4)).astype(np.float32)
    x[0, 0] = 0.0
    x[1, :, 0, 0] = (-1e4, 1e4, -64, 63.5, 0.25)
    path = tmp_path / "in.npz"
    np.savez(path, x=x)
    return path


@pytest.fixture
def request_(far: Far, saved: Path) -> Request:
    """Make a deployment with the tests' Python, to a folder that all tests share."""
    place = str(far.folder / "place")
    return Request(saved, python=sys.executable, remote_dir=place, device=DEVICE)


def stays(request: Request) -> set[str]:
    """Return the kinds of the files that lie on the board's side."""
    return {path.name.partition("-")[0] for path in Path(request.remote_dir).iterdir()}


def with_run(request: Request, feeds: Path) -> Request:
    return replace(request, inputs=feeds, outputs=feeds.with_name("out.npz"))


def test_outputs_equal_those_of_a_local_run(
    far: Far, request_: Request, feeds: Path, program: Program
) -> None:
    notes: list[str] = []
    steps: list[tuple[int, int]] = []
    wanted = with_run(request_, feeds)
    callbacks = Progress(notes.append, lambda done, total: steps.append((done, total)))
    result = deploy(far.target, wanted, callbacks)
    expected = Session(program).run(dict(np.load(feeds)))
    assert wanted.outputs is not None
    outputs = dict(np.load(wanted.outputs))
    assert set(outputs) == set(expected) == {"y"}
    assert outputs["y"].tobytes() == expected["y"].tobytes()
    assert outputs["y"].dtype == expected["y"].dtype and outputs["y"].any()
    assert steps[-1] == (3, 3)
    assert result["run"]["stats"]["images"] == 3
    origin = {"pynq": "emulated board", "emulation": "emulation"}[DEVICE]
    assert result["run"]["stats"]["origin"] == origin, "never called measured"
    assert notes[-1] == f"running on {far.target.host}"
    assert stays(request_) == {"package", "program"}, "inputs and outputs do not stay there"


@pytest.mark.slow
def test_what_is_there_is_not_sent_again(far: Far, request_: Request, tmp_path: Path) -> None:
    notes: list[str] = []
    fresh = replace(request_, remote_dir=str(tmp_path / "far"))
    first = deploy(far.target, fresh, Progress(notes.append))["sent"]
    assert len(first) == 2 and all(first.values())
    assert sum(note.startswith("sending ") for note in notes) == 2
    assert not any(deploy(far.target, fresh)["sent"].values())
    package = next(Path(fresh.remote_dir).glob("package-*"))
    (package / "neuralmatrix" / "paths.py").write_text("damaged = True\n")
    again = deploy(far.target, fresh)["sent"]
    assert [name for name, sent in again.items() if sent] == [package.name]
    assert "damaged" not in (package / "neuralmatrix" / "paths.py").read_text()


@pytest.mark.slow
def test_names_that_a_shell_would_change(
    far: Far, request_: Request, feeds: Path, tmp_path: Path
) -> None:
    place = tmp_path / 'it\'s; $(touch x) "é"'
    wanted = replace(with_run(request_, feeds), remote_dir=str(place))
    assert deploy(far.target, wanted)["remote_dir"] == str(place)
    assert wanted.outputs is not None and wanted.outputs.is_file()
    assert stays(wanted) == {"package", "program"}


@pytest.mark.slow
def test_an_overlay_is_sent_once_and_whole(far: Far, tmp_path: Path) -> None:
    piece = overlay_piece(open_overlay(overlay_folder(tmp_path / "overlay")))
    with connect(far.target) as connection:
        place = str(tmp_path / "far")
        board = RemoteBoard(connection, "emulation", place, sys.executable)
        sent = [board.send_missing((piece,), 0, lambda text: None) for _ in range(2)]
    assert sent == [{piece.name: True}, {piece.name: False}]
    check_files(open_overlay(tmp_path / "far" / piece.name))


@pytest.mark.slow
def test_bench(far: Far, request_: Request) -> None:
    bench = deploy(far.target, replace(request_, bench=True))["bench"]
    assert bench["board"] == BOARD and bench["cycles"]["total"]["counted"] > 0
    assert bench["origin"] in ("emulated board", "emulation")


@pytest.mark.slow
def test_the_command(far: Far, request_: Request, feeds: Path, tmp_path: Path) -> None:
    out, target = tmp_path / "out.npz", far.target
    options = ["--port", target.port, "--ssh-config", target.config, "--python", sys.executable]
    options += ["--remote-dir", request_.remote_dir, "--device", DEVICE]
    words = ["deploy", target.host, request_.program, "--run", feeds, "-o", out, *options]
    result = CliRunner().invoke(app, [*map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    data = json.loads(result.stdout)
    assert data["outputs"] == str(out) and data["run"]["shapes"] == {"y": [3, 5, 4, 4]}
    words = ["deploy", target.host, request_.program, *options]
    text = CliRunner().invoke(app, [*map(str, words)])
    assert text.stdout == f"copied to {request_.remote_dir}; --run and --bench run it there\n"


# ------------------------------------------------------------------------------ no connection


def test_a_key_that_is_refused(far: Far, request_: Request, tmp_path: Path) -> None:
    wrong = replace(far.target, identity=key(tmp_path / "other"))
    config = tmp_path / "config"
    text = (far.folder / "ssh").read_text()
    config.write_text("".join(x for x in text.splitlines(True) if "IdentityFile" not in x))
    with pytest.raises(HostUnreachable, match="refused the key.*ssh-copy-id .*Permission denied"):
        deploy(replace(wrong, config=config), request_)


def test_a_closed_port(far: Far, request_: Request) -> None:
    with pytest.raises(HostUnreachable, match="nothing listens on that port"):
        deploy(replace(far.target, port=free_port()), request_)


def test_a_host_that_is_not_known(far: Far, request_: Request, tmp_path: Path) -> None:
    config = tmp_path / "config"
    text = (far.folder / "ssh").read_text()
    config.write_text(text.replace("known_hosts", "no_hosts"))
    with pytest.raises(HostUnreachable, match="connect once by hand and check it: ssh -p"):
        deploy(replace(far.target, config=config), request_)


@pytest.mark.parametrize("host", ["-oProxyCommand=touch x", "a b", "", "user@", "a@b@c;d"])
def test_hosts_that_are_none(far: Far, request_: Request, host: str) -> None:
    with pytest.raises(BadInput, match="allowed is user@board"):
        deploy(replace(far.target, host=host), request_)


def test_a_key_file_that_is_missing(far: Far, request_: Request, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file"):
        deploy(replace(far.target, identity=tmp_path / "none"), request_)


# ------------------------------------------------------------------------------ before it


def unreachable(far: Far) -> Far:
    """Return a target to which a connection would fail with another error."""
    return replace(far, target=replace(far.target, port=1))


def test_a_corrupted_program(far: Far, request_: Request) -> None:
    data = request_.program.read_bytes()
    request_.program.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadProgram):
        deploy(unreachable(far).target, request_)


def test_inputs_of_another_network(far: Far, request_: Request, tmp_path: Path) -> None:
    path = tmp_path / "other.npz"
    np.savez(path, image=np.zeros((1, 3)))
    with pytest.raises(BadInput, match="image"):
        deploy(unreachable(far).target, with_run(request_, path))


def test_an_overlay_of_another_array(far: Far, request_: Request, tmp_path: Path) -> None:
    folder = overlay_folder(tmp_path / "overlay", "zcu104")
    with pytest.raises(WrongOverlay, match="board='zcu104'"):
        deploy(unreachable(far).target, replace(request_, overlay=folder, device="pynq"))


def test_a_damaged_overlay(far: Far, request_: Request, tmp_path: Path) -> None:
    folder = overlay_folder(tmp_path / "overlay", "pynq-z2")
    (folder / BIT).write_text("half")
    with pytest.raises(OverlayMissing, match=f"{BIT}: damaged"):
        deploy(unreachable(far).target, replace(request_, overlay=folder, device="pynq"))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"inputs": Path("in.npz")}, BadInput, "--run and --output alone"),
        ({"device": "fpga"}, BadInput, "allowed are emulation, pynq"),
        ({"remote_dir": ""}, BadInput, "allowed is a folder's name"),
        ({"overlay": Path("none"), "device": "pynq"}, OverlayMissing, "no such file or folder"),
    ],
)
def test_requests_that_cannot_be(
    far: Far, request_: Request, change: dict[str, object], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        deploy(unreachable(far).target, replace(request_, **change))  # type: ignore[arg-type]


# ------------------------------------------------------------------------------ there


@pytest.mark.slow
def test_no_python_there(far: Far, request_: Request) -> None:
    with pytest.raises(RemoteFailure, match=r"/none/python: it cannot be run .*--python"):
        deploy(far.target, replace(request_, python="/none/python"))


@pytest.mark.slow
def test_a_python_without_numpy(far: Far, request_: Request, tmp_path: Path) -> None:
    bare = interpreter(tmp_path / "bare", options="-S")
    with pytest.raises(RemoteFailure, match="it has no numpy; install it there"):
        deploy(far.target, replace(request_, python=bare))


@pytest.mark.slow
@pytest.mark.skipif(DEVICE == "pynq", reason="pynq is installed")
def test_a_python_without_pynq(far: Far, request_: Request) -> None:
    with pytest.raises(RemoteFailure, match="it has no pynq; use a PYNQ image"):
        deploy(far.target, replace(request_, device="pynq"))


@pytest.mark.slow
@pytest.mark.parametrize("place", ["/proc/neuralmatrix", "/dev/null/neuralmatrix"])
def test_a_folder_that_cannot_be_written(far: Far, request_: Request, place: str) -> None:
    with pytest.raises(RemoteFailure, match=f"{place}: .*choose a folder that this user can write"):
        deploy(far.target, replace(request_, remote_dir=place))


@pytest.mark.slow
def test_no_space_there(far: Far, request_: Request, tmp_path: Path) -> None:
    """A limit on the size of files replaces a full disk: writing fails halfway."""
    limited = interpreter(tmp_path / "limited", before="ulimit -f 16")
    fresh = replace(request_, python=limited, remote_dir=str(tmp_path / "far"))
    with pytest.raises(RemoteFailure, match="File too large; free some space there"):
        deploy(far.target, fresh)
    assert list(Path(fresh.remote_dir).iterdir()) == [], "nothing half-written stays"


@pytest.mark.slow
def test_an_error_there_keeps_its_class(
    far: Far, request_: Request, feeds: Path, tmp_path: Path
) -> None:
    before = f"export CXX=/none/c++ NEURALMATRIX_CACHE={tmp_path / 'empty'}"
    wanted = replace(with_run(request_, feeds), device="emulation")
    without = interpreter(tmp_path / "without", before=before)
    with pytest.raises(ToolMissing, match=f"on {far.target.host}: no C.. compiler found"):
        deploy(far.target, replace(wanted, python=without))
    assert not (tmp_path / "out.npz").exists()
    assert stays(request_) == {"package", "program"}, "a failed run leaves no folder"


@pytest.mark.slow
def test_a_run_that_dies(far: Far, request_: Request, feeds: Path, tmp_path: Path) -> None:
    before = '[ "$1" = -u ] && { echo "Traceback: something broke" >&2; exit 3; }'
    dying = interpreter(tmp_path / "dying", before=before)
    with pytest.raises(RemoteFailure, match=r"exit code 3.*\n.*Traceback: something broke"):
        deploy(far.target, replace(with_run(request_, feeds), python=dying))


@pytest.mark.slow
def test_a_far_side_that_talks(far: Far, request_: Request, feeds: Path, tmp_path: Path) -> None:
    """The other side prints greetings without a newline, lines like ours, and random bytes."""
    noise = "head -c 300000 /dev/urandom"
    before = f"{noise}; {noise} >&2; printf '\nneuralmatrix: {{garbage\nneuralmatrix: 5\n'"
    talking = interpreter(tmp_path / "talking", before=f"{before}; printf 'Welcome! '")
    wanted = replace(with_run(request_, feeds), python=talking)
    assert deploy(far.target, wanted)["run"]["shapes"] == {"y": [3, 5, 4, 4]}
    assert wanted.outputs is not None and wanted.outputs.is_file()


def test_a_far_side_that_answers_something_else(
    far: Far, request_: Request, tmp_path: Path
) -> None:
    other = interpreter(tmp_path / "other", before="""echo 'neuralmatrix: {"a": 1}'; exit 0""")
    with pytest.raises(RemoteFailure, match="it cannot be run .*name another with --python"):
        deploy(far.target, replace(request_, python=other))


@pytest.mark.slow
def test_a_connection_that_breaks(far: Far, request_: Request, feeds: Path, tmp_path: Path) -> None:
    """The server of this connection ends while the program runs there."""
    parents = "read _ _ _ parent _ < /proc/$PPID/stat"
    before = f'[ "$1" = -u ] && {{ {parents}; kill -9 $PPID $parent; sleep 9; }}'
    cutting = interpreter(tmp_path / "cutting", before=before)
    with pytest.raises((HostUnreachable, RemoteFailure)):
        deploy(far.target, replace(with_run(request_, feeds), python=cutting))
    assert not (tmp_path / "out.npz").exists()
