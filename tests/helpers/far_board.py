# SPDX-License-Identifier: Apache-2.0
"""A real sshd on this machine, and interpreters that lack something, for tests of deployment.

In: a temporary folder.  Out: ``Far``: its connection and the folder of its files.
"""

from __future__ import annotations

import getpass
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import sshd as sshd_program
from neuralmatrix.deploy.ssh import Target
from neuralmatrix.paths import cache_dir

SEPARATION = Path("/run/sshd")  # root's sshd needs this folder, which the system's service makes
SECONDS = 20.0
SERVER = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin yes
SetEnv {environ}
"""
CLIENT = """\
Host *
  UserKnownHostsFile {folder}/known_hosts
  GlobalKnownHostsFile /dev/null
  IdentityFile {folder}/key
  IdentitiesOnly yes
  IdentityAgent none
"""


@dataclass(frozen=True)
class Far:
    """A running sshd."""

    target: Target
    folder: Path
    log: Path


def key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int, server: subprocess.Popen[bytes]) -> bool:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return True
        except OSError:
            time.sleep(0.05)
    return False


def _configure(folder: Path, port: int, environ: dict[str, str]) -> None:
    host = key(folder / "host_key").with_suffix(".pub").read_text()
    user = key(folder / "key").with_suffix(".pub").read_text()
    (folder / "authorized_keys").write_text(user)
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host}")
    pairs = " ".join(f'"{name}={value}"' for name, value in environ.items())
    (folder / "sshd").write_text(SERVER.format(port=port, folder=folder, environ=pairs))
    (folder / "ssh").write_text(CLIENT.format(folder=folder))


@contextmanager
def sshd(program: str, folder: Path, environ: dict[str, str]) -> Iterator[Far]:
    """Start an sshd for the user who runs the tests, with ``environ`` for its sessions."""
    port = free_port()
    _configure(folder, port, environ)
    if os.geteuid() == 0:
        SEPARATION.mkdir(parents=True, exist_ok=True)  # it stays: another test run may use it
    log = folder / "log"
    with log.open("wb") as stderr:
        command = [program, "-D", "-e", "-f", str(folder / "sshd")]
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        assert _listens(port, server), log.read_text()
        host = f"{getpass.getuser()}@127.0.0.1"
        yield Far(Target(host, port, config=folder / "ssh"), folder, log)
    finally:
        server.terminate()
        server.wait()


def interpreter(path: Path, before: str = "", options: str = "") -> str:
    """Write a command that runs ``before`` in a shell, then this Python."""
    path.write_text(f'#!/bin/sh\n{before}\nexec {shlex.quote(sys.executable)} {options} "$@"\n')
    path.chmod(0o755)
    return str(path)


@contextmanager
def emulated_board(folder: Path, board: str, **more: str) -> Iterator[Far]:
    """Give an sshd whose users have an emulated board and share the cache of built kernels;
    ``more`` are further variables."""
    program = sshd_program()
    if program is None:
        pytest.skip("no OpenSSH server: apt install openssh-server openssh-client")
    environ = {"NEURALMATRIX_EMULATED_BOARD": board, "NEURALMATRIX_CACHE": str(cache_dir()), **more}
    with sshd(program, folder, environ) as running:
        yield running
