# SPDX-License-Identifier: Apache-2.0
"""The board's side of a deployment, on a folder of this machine; and errors of ssh.

In: requests of the deploying machine.  Out: files, answers, errors.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from shlex import split
from types import SimpleNamespace
from typing import Any

import pytest
from neuralmatrix.deploy import board_receive
from neuralmatrix.deploy.board_run import Job
from neuralmatrix.deploy.bundles import package_piece
from neuralmatrix.deploy.remote_board import Python, RemoteBoard
from neuralmatrix.deploy.ssh import Target, explained
from neuralmatrix.errors import RemoteFailure


def answer(capsys: pytest.CaptureFixture[str], **request: Any) -> dict[str, Any]:
    board_receive.main(json.dumps(request))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(board_receive.MARK)
    found: dict[str, Any] = json.loads(line.removeprefix(board_receive.MARK))
    return found


def put(
    monkeypatch: pytest.MonkeyPatch, data: bytes, root: Path, name: str, **changes: Any
) -> dict[str, Any]:
    """Make a request to store ``data``, which is on standard input."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    sha256 = hashlib.sha256(data).hexdigest()
    request = {"root": str(root), "name": name, "size": len(data), "sha256": sha256, "tree": False}
    return {"action": "put", **request, **changes}


def test_a_file_is_there_whole_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bytes(range(256)) * 3000
    assert answer(capsys, **put(monkeypatch, data, tmp_path, "a/b")) == {}
    assert (tmp_path / "a" / "b").read_bytes() == data
    for changes in ({"size": len(data) + 1}, {"sha256": "0" * 64}):
        refused = answer(capsys, **put(monkeypatch, data, tmp_path, "c", **changes))
        assert "error" in refused
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a//b", "a/../../b", "."])
def test_names_stay_within_the_folder(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("drop", "get"):
        found = answer(capsys, action=action, root=str(tmp_path / "root"), name=name)
        assert "is not a name within a folder" in found["error"]


def test_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: object, path: str, size: int) -> str:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(board_receive, "_receive", full)
    found = answer(capsys, **put(monkeypatch, b"data", tmp_path, "file"))
    assert found["code"] == "ENOSPC" and list(tmp_path.iterdir()) == []


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"{name}.py")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed.getvalue()


def test_a_folder_that_another_deployment_brought_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same content is accepted; other content is an error."""

    def send(data: bytes) -> dict[str, Any]:
        return answer(capsys, **put(monkeypatch, data, tmp_path, "package", tree=True))

    data = archive(module=b"x = 1\n")
    assert send(data) == send(data) == {}
    assert "error" in send(archive(module=b"x = 2\n"))
    (tmp_path / "package" / "module.py").write_text("x = 3\n")
    assert "error" in send(data)
    assert [path.name for path in tmp_path.iterdir()] == ["package"]


def test_modules_lie_there_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    data = archive(module=b"x = 1\n", other=b"x = 1\n")
    request = put(monkeypatch, data, tmp_path, "package", tree=True)
    assert answer(capsys, **request) == {}
    warm = {"action": "warm", "root": str(tmp_path), "name": "package", "modules": "module"}
    assert answer(capsys, **warm) == {}
    (compiled,) = (tmp_path / "package").glob("__pycache__/*")
    assert compiled.name.startswith("module.") and compiled.suffix == ".pyc"
    files = {"package": request["sha256"]}
    found = answer(capsys, action="have", root=str(tmp_path), files=files)
    assert found["have"] == ["package"], "compiled modules do not count as damage"


def test_the_home_folder_is_known_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = answer(capsys, action="have", root="~/.neuralmatrix", files={"a": "0"})
    assert found["root"] == str(tmp_path / ".neuralmatrix") and found["have"] == []
    assert found["free"] > 0


def test_the_package_is_the_same_bytes_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gzip.time", SimpleNamespace(time=count(1, 1000).__next__))
    one, other = package_piece(), package_piece()
    assert one == other and one.name == f"package-{one.sha256[:16]}"


# ------------------------------------------------------------------------------ commands


def board_for(user: str, device: str = "pynq", emulated: bool = False) -> RemoteBoard:
    """Make the board without a connection."""
    board = RemoteBoard.__new__(RemoteBoard)
    board.host, board.root, board.device = "user@board", "/home/a b/.neuralmatrix", device
    root = user == "root"
    board.python = Python("/venv/bin/python3", [3, 10, 12], "1.21.5", "3.1.2", root, emulated)
    return board


@pytest.mark.parametrize(
    ("user", "device", "emulated", "sudo"),
    [
        ("xilinx", "pynq", False, True),
        ("root", "pynq", False, False),
        ("xilinx", "emulation", False, False),
        ("xilinx", "pynq", True, False),
    ],
)
def test_root_where_the_device_is_the_board(
    user: str, device: str, emulated: bool, sudo: bool
) -> None:
    job = Job("net.nmx", device)
    words = split(board_for(user, device, emulated).command("package-1", job))
    assert (words[:2] == ["sudo", "-n"]) == sudo
    inner = split(words[-1])
    assert inner[:3] == ["cd", "/home/a b/.neuralmatrix", "&&"]
    assert "PYTHONPATH=/home/a b/.neuralmatrix/package-1" in inner
    assert inner[-1] == job.to_text() and inner[-2] == "neuralmatrix.deploy.board_run"


@pytest.mark.parametrize("sent", (b"data", b"dat", b"dada"))
def test_a_file_that_arrives_damaged(tmp_path: Path, sent: bytes) -> None:
    board = board_for("xilinx")
    stated = {"size": 4, "sha256": hashlib.sha256(b"data").hexdigest()}

    @contextmanager
    def process(_command: str) -> Iterator[SimpleNamespace]:
        lines = b"a greeting\n" + f"{board_receive.MARK}{json.dumps(stated)}\n".encode()
        yield SimpleNamespace(stdin=io.BytesIO(), stdout=io.BytesIO(lines + sent))

    board.connection = SimpleNamespace(process=process)  # type: ignore[assignment]
    if sent == b"data":
        board.fetch("run/outputs.npz", tmp_path / "y.npz")
        assert (tmp_path / "y.npz").read_bytes() == sent
    else:
        with pytest.raises(RemoteFailure, match="run/outputs.npz arrived damaged"):
            board.fetch("run/outputs.npz", tmp_path / "y.npz")
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "kept"),
    (("python3", "/usr/bin/python3"), ("/venv/bin/python", "/venv/bin/python")),
)
def test_which_python_later_commands_call(
    monkeypatch: pytest.MonkeyPatch, name: str, kept: str
) -> None:
    """A wrapper is called as named, a bare name as the login shell found it."""
    board = board_for("xilinx")
    found = {**asdict(board.python), "python": "/usr/bin/python3"}
    monkeypatch.setattr(board, "_lines", lambda command: ([found], None))
    probed = board._probe(name)
    assert isinstance(probed, Python) and probed.python == kept


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("sudo: a password is required", "deploy to root@..., or let sudo run without"),
        ("bash: line 1: boom", "stopped with exit code 1; it said last:\nbash: line 1: boom"),
    ],
)
def test_why_a_run_did_not_begin(said: str, text: str) -> None:
    finished = SimpleNamespace(code=1, tail=said)
    assert text in str(board_for("xilinx")._stopped({}, finished))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stderr", "text"),
    [
        ("ssh: Could not resolve hostname pynq: Name or service not known", "use its IP address"),
        (
            "ssh: connect to host 10.0.0.9 port 22: Connection timed out",
            "check that the board is on",
        ),
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", "in this network"),
        ("a@b: Permission denied (publickey,password).", "ssh-copy-id a@b"),
        ("", "it does not answer"),
    ],
)
def test_what_ssh_says(stderr: str, text: str) -> None:
    message = str(explained(Target("a@b", 2222), stderr))
    assert message.startswith("a@b: ") and text in message
    assert stderr in message


def test_ssh_asks_for_nothing_and_offers_one_key() -> None:
    plain = Target("a@b").options()
    assert "BatchMode=yes" in plain and not {"-p", "-i", "-F"} & set(plain)
    chosen = " ".join(Target("a@b", 2222, Path("key"), Path("config")).options())
    for words in ("BatchMode=yes", "-p 2222", "-F config", "-i key -o IdentitiesOnly=yes"):
        assert words in chosen
