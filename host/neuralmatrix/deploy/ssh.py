# SPDX-License-Identifier: Apache-2.0
"""One connection to another machine, through the system's OpenSSH client.

In: user, host, port, key.  Out: ``Connection``, which runs commands there.
All commands share one authenticated connection; passwords are not supported.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from ..errors import BadInput, HostUnreachable, ToolMissing

CONNECT_SECONDS = 10
ALIVE_SECONDS = (
    15  # seconds between probes of a silent host; four unanswered ones end the connection
)
SSH_FAILED = 255  # ssh's own exit code, as opposed to the command's
_POLL_SECONDS = 0.05
_KEPT = 200  # lines of standard error that are searched for a reason
_TAIL = 12  # lines of what a command printed that an error shows
_HOST = re.compile(r"(?:[A-Za-z0-9_][\w.-]*@)?[A-Za-z0-9_:\[][\w.:%\[\]-]*")


@dataclass(frozen=True)
class Target:
    """The machine to connect to; ``config`` replaces the user's ssh configuration."""

    host: str  # "xilinx@192.168.2.99", or a name of the ssh configuration
    port: int | None = None
    identity: Path | None = None
    config: Path | None = None

    def options(self) -> list[str]:
        """Return the arguments of every ssh command."""
        settings = {
            "BatchMode": "yes",
            "ConnectTimeout": CONNECT_SECONDS,
            "ServerAliveInterval": ALIVE_SECONDS,
            "ServerAliveCountMax": 4,
        }
        found = ["-T"] + [part for k, v in settings.items() for part in ("-o", f"{k}={v}")]
        found += ["-F", str(self.config)] if self.config else []
        found += ["-p", str(self.port)] if self.port else []
        found += ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"] if self.identity else []
        return found

    @property
    def by_hand(self) -> str:
        """Return the command by which a user tries the same connection."""
        port = f"-p {self.port} " if self.port else ""
        return f"ssh {port}{self.host}"


def check_target(target: Target) -> None:
    """Raise BadInput or ToolMissing for what can be checked before connecting."""
    if not _HOST.fullmatch(target.host):
        raise BadInput(f"host: found {target.host!r}, allowed is user@board or user@192.168.2.99")
    for path in (target.identity, target.config):
        if path is not None and not path.is_file():
            raise BadInput(f"{path}: found no such file; name a private key or a configuration")
    if shutil.which("ssh") is None:
        raise ToolMissing("ssh is not installed; install OpenSSH (apt install openssh-client)")


# Messages of ssh and what to do; the first one found is used.
_FAILURES = (
    (
        "Permission denied",
        "it refused the key; put yours there: ssh-copy-id {host}, or name one with --identity "
        "(passwords are not supported)",
    ),
    (
        "Host key verification failed",
        "its host key is not known here, or has changed; connect once by hand and check it: "
        "{by_hand}",
    ),
    ("Could not resolve hostname", "no such host; check the name, or use its IP address"),
    (
        "Connection refused",
        "nothing listens on that port; check that sshd runs there and --port is right",
    ),
    (
        "Bad configuration option",
        "the ssh configuration has an option that this ssh does not know; correct it",
    ),
    (
        "",
        "it does not answer; check that the board is on, in this network, and the address is "
        "right: {by_hand} tries the same by hand",
    ),
)


def explained(target: Target, stderr: str) -> HostUnreachable:
    """Return the error that ssh's output describes."""
    advice = next(text for sign, text in _FAILURES if sign in stderr)
    lines = [line for line in stderr.splitlines() if line.strip()]
    said = f" (ssh: {lines[-1].strip()})" if lines else ""
    text = advice.format(host=target.host, by_hand=target.by_hand)
    return HostUnreachable(f"{target.host}: {text}{said}")


@dataclass(frozen=True)
class Finished:
    """A command's exit code, and the last lines of what it printed besides the marked lines."""

    code: int
    tail: str


class Connection:
    """Runs commands on the other machine, whose shell splits ``command``: quote its words."""

    def __init__(self, target: Target, socket: str) -> None:
        self.target = target
        self._base = ["ssh", *target.options(), "-S", socket, target.host, "--"]

    @contextmanager
    def process(
        self, command: str, stderr: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command with pipes to its input and output; leaving the block early ends it.

        ``stderr`` PIPE must be read, or a command that prints much there never ends.
        """
        pipe, own = subprocess.PIPE, [*self._base, command]
        with subprocess.Popen(
            own, stdin=pipe, stdout=pipe, stderr=stderr, start_new_session=True
        ) as running:
            try:
                yield running
            except BaseException:
                running.kill()
                raise

    def run(
        self,
        command: str,
        on_line: Callable[[str], bool],
        data: Iterable[bytes] = (),
    ) -> Finished:
        """Send ``data``, give each printed line to ``on_line``; lines for which it
        returns False and standard error make the tail.

        HostUnreachable: the connection broke.
        """
        with self.process(command, subprocess.PIPE) as running:
            assert running.stdin and running.stdout and running.stderr
            errors: deque[str] = deque(maxlen=_KEPT)
            readers = [
                Thread(target=_collect, args=(running.stderr, errors)),
                Thread(target=_send, args=(running.stdin, data)),
            ]
            for reader in readers:
                reader.start()
            lines = (raw.decode(errors="replace").rstrip("\n") for raw in running.stdout)
            other = deque((line for line in lines if not on_line(line)), maxlen=_TAIL)
            code = running.wait()
            for reader in readers:
                reader.join()
        if code == SSH_FAILED:
            raise explained(self.target, "\n".join(errors))
        return Finished(code, "\n".join([*other, *errors][-_TAIL:]))


def _collect(stream: IO[bytes], lines: deque[str]) -> None:
    lines.extend(line.decode(errors="replace").rstrip("\r\n") for line in stream)


def _send(stream: IO[bytes], data: Iterable[bytes]) -> None:
    """Write to the command; if it stops reading, its own message says why."""
    try:
        for block in data:
            stream.write(block)
        stream.close()
    except OSError:
        pass


@contextmanager
def connect(target: Target) -> Iterator[Connection]:
    """Open an authenticated connection.  HostUnreachable: it cannot be opened."""
    check_target(target)
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        socket, log = str(Path(folder) / "s"), Path(folder) / "log"
        command = ["ssh", *target.options(), "-M", "-N", "-S", socket, "--", target.host]
        with log.open("wb") as stderr:
            nowhere = subprocess.DEVNULL
            # In a session of its own, Ctrl-C leaves the connection open for cleaning up.
            master = subprocess.Popen(
                command, stdin=nowhere, stdout=nowhere, stderr=stderr, start_new_session=True
            )
        try:
            _wait_for(master, target, socket, log)
            yield Connection(target, socket)
        finally:
            master.terminate()
            master.wait()


def _wait_for(master: subprocess.Popen[bytes], target: Target, socket: str, log: Path) -> None:
    """Wait for the socket, which appears when the other side has accepted the key."""
    end = (
        time.monotonic() + 4 * CONNECT_SECONDS
    )  # for name resolution, connection, key exchange and the key
    while not Path(socket).exists():
        if master.poll() is not None or time.monotonic() > end:
            raise explained(target, log.read_text(errors="replace"))
        time.sleep(_POLL_SECONDS)
