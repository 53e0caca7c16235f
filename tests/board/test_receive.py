# SPDX-License-Identifier: Apache-2.0
"""The far end of a deployment, on a folder of this machine; and what ssh's failures become.

In: requests as the near end makes them.  Out: files, answers, refusals.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from pathlib import Path
from shlex import split
from types import SimpleNamespace
from typing import Any

import pytest
from neuralmatrix.deploy_pieces import package_piece
from neuralmatrix.device import receive
from neuralmatrix.device.remote import Job
from neuralmatrix.remote_board import Python, RemoteBoard
from neuralmatrix.ssh import Target, explained


def answer(capsys: pytest.CaptureFixture[str], **request: Any) -> dict[str, Any]:
    receive.main(json.dumps(request))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(receive.MARK)
    found: dict[str, Any] = json.loads(line.removeprefix(receive.MARK))
    return found


def put(
    monkeypatch: pytest.MonkeyPatch, data: bytes, root: Path, name: str, **changes: Any
) -> dict[str, Any]:
    """A request to store ``data``, which lies on standard input."""
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
        assert "is no name within a folder" in found["error"]


def test_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(source: object, path: str, size: int) -> str:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr(receive, "_receive", full)
    found = answer(capsys, **put(monkeypatch, b"data", tmp_path, "file"))
    assert found["code"] == "ENOSPC" and list(tmp_path.iterdir()) == []


def test_the_home_folder_is_known_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = answer(capsys, action="have", root="~/.neuralmatrix", files={"a": "0"})
    assert found["root"] == str(tmp_path / ".neuralmatrix") and found["have"] == []
    assert found["free"] > 0


def test_the_package_is_the_same_bytes_each_time() -> None:
    one, other = package_piece(), package_piece()
    assert one == other and one.name == f"package-{one.sha256[:16]}"


# ------------------------------------------------------------------------------ commands


def board_for(user: str, device: str = "pynq", emulated: bool = False) -> RemoteBoard:
    """The far side without a connection."""
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
    assert inner[-1] == job.to_text() and inner[-2] == "neuralmatrix.device.remote"


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
        ("ssh: connect to host 10.0.0.9 port 22: Connection timed out", "is the board on"),
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", "same network"),
        ("a@b: Permission denied (publickey,password).", "ssh-copy-id a@b"),
        ("", "it does not answer"),
    ],
)
def test_what_ssh_says(stderr: str, text: str) -> None:
    message = str(explained(Target("a@b", 2222), stderr))
    assert message.startswith("a@b: ") and text in message
    assert stderr in message
