# SPDX-License-Identifier: Apache-2.0
"""A board reached through a connection: its Python, its files, its runs.

In: a ``Connection``.  Out: ``RemoteBoard``; every failure on the board raises a named error here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from shlex import join, quote
from typing import IO, Any

from .. import errors, files
from ..errors import NeuralMatrixError, RemoteFailure, UnsupportedModel
from . import board_receive
from .board_run import Job
from .bundles import Piece
from .ssh import Connection, Finished

PYTHONS = ("/usr/local/share/pynq-venv/bin/python3", "python3")
OLDEST_PYTHON = (3, 10)
_BLOCK = 1 << 18
_ROOM = 8 << 20  # bytes in addition to the pieces, for outputs
_UNPACKED = 8  # size of unpacked and compiled files per size of the archive
# A login shell reads /etc/profile.d, which names the device and its tools.
_LOGIN = '"$(command -v bash || command -v sh)" -lc'
_FULL = "free some space there, or choose another place with --remote-dir"
_ADVICE = {"ENOSPC": _FULL, "EDQUOT": _FULL, "EFBIG": _FULL}
_NOT_WRITABLE = "choose a folder that this user can write with --remote-dir"
_BY_NAME = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type)
    and issubclass(kind, NeuralMatrixError)
    and kind is not UnsupportedModel  # made from nodes, not from a message
}


@dataclass(frozen=True)
class Python:
    """An interpreter on the board, as ``board_receive.probe`` describes it."""

    python: str
    version: list[int]
    numpy: str
    pynq: str
    root: bool
    emulated: bool

    def lack(self, device: str) -> str:
        """Return what a program needs and this lacks; empty if nothing."""
        if tuple(self.version[:2]) < OLDEST_PYTHON:
            found = ".".join(map(str, self.version))
            oldest = ".".join(map(str, OLDEST_PYTHON))
            return f"it is Python {found}, allowed is {oldest} or newer; use a newer image"
        if not self.numpy:
            return "it has no numpy; install it there: pip install numpy"
        if device == "pynq" and not self.pynq:
            return "it has no pynq; use a PYNQ image, or name its Python with --python"
        return ""


_PROBED = {field.name for field in fields(Python)}


class RemoteBoard:
    """Files under one folder, and one interpreter that can run a program on ``device``."""

    def __init__(
        self, connection: Connection, device: str, root: str, python: str | None = None
    ) -> None:
        self.connection = connection
        self.host = connection.target.host
        self.root = root  # absolute after send_missing
        self.device = device
        self.python = self._find_python((python,) if python else PYTHONS)

    @property
    def needs_sudo(self) -> bool:
        """Whether the run needs root: pynq does, an emulated board does not."""
        return self.device == "pynq" and not self.python.root and not self.python.emulated

    def _find_python(self, names: tuple[str, ...]) -> Python:
        lacks = []
        for name in names:
            found = self._probe(name)
            lack = found.lack(self.device) if isinstance(found, Python) else found
            if isinstance(found, Python) and not lack:
                return found
            lacks.append(f"\n  {name}: {lack}")
        raise RemoteFailure(f"{self.host}: found no Python that can run it:{''.join(lacks)}")

    def _probe(self, name: str) -> Python | str:
        """Return the interpreter, or why it does not run."""
        words = [name, "-c", _receiver_text(), json.dumps({"action": "probe"})]
        answers, finished = self._lines(f"{_LOGIN} {quote('exec ' + join(words))}")
        if answers and set(answers[-1]) == _PROBED:
            # A bare name is resolved with the login shell's PATH; later commands have another PATH.
            found = Python(**answers[-1])
            return replace(found, python=name) if "/" in name else found
        why = finished.tail.strip().rpartition("\n")[2] or f"exit code {finished.code}"
        return f"it cannot be run ({why}); name another with --python"

    def _lines(
        self,
        command: str,
        data: Iterable[bytes] = (),
        on_answer: Callable[[Mapping[str, Any]], object] = lambda answer: None,
    ) -> tuple[list[dict[str, Any]], Finished]:
        """Return the marked lines that a command printed, and how it ended."""
        answers: list[dict[str, Any]] = []

        def take(line: str) -> bool:
            answer = _answer(line)
            if answer is None:
                return False
            answers.append(answer)
            on_answer(answer)
            return True

        return answers, self.connection.run(command, take, data)

    # -------------------------------------------------------------------------- files

    def _receiver(self, request: Mapping[str, Any]) -> str:
        full = json.dumps({"root": self.root, **request})
        return join([self.python.python, "-c", _receiver_text(), full])

    def _ask(self, data: Iterable[bytes] = (), **request: Any) -> dict[str, Any]:
        answers, finished = self._lines(self._receiver(request), data)
        answer = answers[-1] if answers else {"error": finished.tail, "code": "", "path": ""}
        if "error" in answer:
            raise self._refused(answer)
        return answer

    def _refused(self, answer: Mapping[str, str]) -> RemoteFailure:
        where, advice = answer["path"] or self.root, _ADVICE.get(answer["code"], _NOT_WRITABLE)
        return RemoteFailure(f"{self.host}: {where}: {answer['error']}; {advice}")

    def send(self, name: str, data: bytes, tree: bool = False) -> None:
        """Send a file, or an archive that is unpacked there; it appears whole or not at all."""
        blocks = (data[at : at + _BLOCK] for at in range(0, len(data), _BLOCK))
        sha256 = hashlib.sha256(data).hexdigest()
        self._ask(blocks, action="put", name=name, size=len(data), sha256=sha256, tree=tree)

    def send_missing(
        self, pieces: tuple[Piece, ...], more: int, note: Callable[[str], object]
    ) -> dict[str, bool]:
        """Send what the board lacks, leaving room for ``more`` bytes; return what was sent."""
        answer = self._ask(action="have", files={piece.name: piece.sha256 for piece in pieces})
        self.root = answer["root"]
        missing = [piece for piece in pieces if piece.name not in answer["have"]]
        self._check_room(answer["free"], more + sum(map(_room, missing)) + _ROOM)
        for piece in missing:
            note(f"sending {piece.name}, {len(piece.data) / 1024:.0f} KiB")
            self.send(piece.name, piece.data, piece.tree)
            if piece.modules:
                self._ask(action="warm", name=piece.name, modules=piece.modules)
        return {piece.name: piece in missing for piece in pieces}

    def _check_room(self, free: int, needed: int) -> None:
        if free < needed:
            found = f"found {free / 2**20:.0f} MiB free, needed are {needed / 2**20:.0f}"
            raise self._refused({"error": found, "code": "ENOSPC", "path": self.root})

    def fetch(self, name: str, path: Path) -> None:
        """Fetch a file; it appears here whole or not at all."""
        with self.connection.process(self._receiver({"action": "get", "name": name})) as running:
            assert running.stdin and running.stdout
            running.stdin.close()
            stated = self._announced(running.stdout)
            data = running.stdout.read(stated["size"])
        if hashlib.sha256(data).hexdigest() != stated["sha256"]:
            raise RemoteFailure(f"{self.host}: {name} arrived damaged; run it again")
        files.write_whole(path, lambda file: file.write(data))

    def _announced(self, lines: IO[bytes]) -> dict[str, Any]:
        for line in lines:
            answer = _answer(line.decode(errors="replace")) or {}
            if "error" in answer:
                raise self._refused(answer)
            if "size" in answer:
                return answer
        raise RemoteFailure(f"{self.host}: no file came back; run it again")

    def drop(self, name: str) -> None:
        """Remove a folder there."""
        self._ask(action="drop", name=name)

    # -------------------------------------------------------------------------- runs

    def command(self, package: str, job: Job) -> str:
        """Return the command that runs a job in the folder that has the files."""
        variables = [f"PYTHONPATH={self.root}/{package}", "PYTHONDONTWRITEBYTECODE=1"]
        runner = [self.python.python, "-u", "-m", "neuralmatrix.deploy.board_run", job.to_text()]
        script = f"cd {quote(self.root)} && exec {join(['env', *variables, *runner])}"
        return f"{'sudo -n ' if self.needs_sudo else ''}{_LOGIN} {quote(script)}"

    def execute(self, package: str, job: Job, step: Callable[[int, int], object]) -> dict[str, Any]:
        """Run a job.  Raises the error class that stopped it there, or RemoteFailure."""

        def on_answer(answer: Mapping[str, Any]) -> None:
            if "done" in answer:
                step(answer["done"], answer["total"])

        answers, finished = self._lines(self.command(package, job), on_answer=on_answer)
        last = answers[-1] if answers else {}
        if "results" in last:
            results: dict[str, Any] = last["results"]
            return results
        raise self._stopped(last, finished)

    def _stopped(self, last: Mapping[str, Any], finished: Finished) -> NeuralMatrixError:
        if last.get("error") in _BY_NAME:
            return _BY_NAME[last["error"]](f"on {self.host}: {last['text']}")
        if self.needs_sudo and "sudo:" in finished.tail:
            said = finished.tail.strip().rpartition("\n")[2]
            return RemoteFailure(
                f"{self.host}: pynq needs root there, and sudo did not start it ({said}); deploy "
                "to root@..., or let sudo run without a password for this user (NOPASSWD)"
            )
        said = last.get("text") or finished.tail or "nothing"
        return RemoteFailure(
            f"{self.host}: the run stopped with exit code {finished.code}; it said last:\n{said}"
        )


def _answer(line: str) -> dict[str, Any] | None:
    """Parse a line from the board; None for a line that is not marked."""
    before, mark, text = line.partition(board_receive.MARK)
    try:
        answer = json.loads(text) if mark and not before else None
    except (ValueError, RecursionError):
        return None
    return answer if isinstance(answer, dict) else None


def _room(piece: Piece) -> int:
    return len(piece.data) * (_UNPACKED if piece.tree else 1)


def _receiver_text() -> str:
    return Path(board_receive.__file__).read_text(encoding="utf-8")
