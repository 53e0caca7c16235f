# SPDX-License-Identifier: Apache-2.0
"""Serves programs on an address until a signal ends it.

In: program files with names, options.  Out: a server on HTTP.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from ..errors import BadInput, ToolMissing
from ..program.program import Program, load
from ..runtime.saturation import without_warnings
from ..runtime.session import Session
from .batching import Limits, Outputs

LAST_WORDS_S = 0.5  # in which clients hear that the server ends, instead of a closed connection
GRACE_S = 30  # in which requests that run may end
NAME = re.compile(r"[A-Za-z0-9_.\-]{1,100}")


@dataclass(frozen=True)
class Options:
    """``programs``: files, as PATH or NAME=PATH; port 0 takes one that is free."""

    programs: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "emulation"
    threads: int | None = None
    overlay: Path | None = None
    limits: Limits = field(default_factory=Limits)


def serve(options: Options, ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; ``ready(line)`` is told of each program's address."""
    try:
        import uvicorn

        from .app import Served, Server
        from .reading import PatientProtocol
    except ImportError as error:
        raise ToolMissing(
            f"serve needs starlette, uvicorn and prometheus-client ({error}); "
            "pip install 'neuralmatrix[serve]'"
        ) from None

    class Ending(uvicorn.Server):
        """Refuses in words before it closes connections; a second signal ends it at once."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if server.ending:
                self.should_exit = self.force_exit = True
            else:
                server.end_soon(partial(setattr, self, "should_exit", True), LAST_WORDS_S)

    with ExitStack() as stack:
        listening = stack.enter_context(_listening(options.host, options.port))
        served = []
        for name, program in _programs(options.programs).items():
            session = Session(program, options.device, options.threads, overlay=options.overlay)
            stack.enter_context(session)
            run = partial(_run, session)
            run(_zeros(program))  # builds the kernels, or opens the board
            served.append(Served(name, program, run))
        server = Server(served, options.limits, together=options.device != "emulation")
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        for one in served:
            ready(f"{one.name}: http://{shown}:{port}/v2/models/{one.name} ({options.device})")
        config = uvicorn.Config(
            server.app(), http=PatientProtocol, ws="none", loop="asyncio", log_level="warning",
            access_log=False, timeout_graceful_shutdown=GRACE_S,
        )  # fmt: skip
        Ending(config).run(sockets=[listening])


def _run(session: Session, feeds: Any) -> Outputs:
    with without_warnings():
        return session.run(feeds)


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        found = socket.create_server((host, port), family=family, backlog=1024)
        # Connections inherit it; without it an answer's last bytes wait for the client's word.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return found
    except (OSError, OverflowError) as error:
        raise BadInput(
            f"found address {host}:{port} ({error}); choose a free --port, and a --host of "
            "this machine"
        ) from None


def _programs(given: Sequence[str]) -> dict[str, Program]:
    """Return the programs by name."""
    found: dict[str, Program] = {}
    for text in given:
        before, sign, after = text.partition("=")
        name, path = (before, after) if sign else (Path(text).stem, text)
        if not NAME.fullmatch(name) or name in found:
            what = "twice" if name in found else "as a name"
            raise BadInput(
                f"found {name!r} {what}; allowed are letters, digits, _ . and -, each name once: "
                "give NAME=PATH"
            )
        found[name] = load(path)
    return found


def _zeros(program: Program) -> dict[str, Any]:
    """Return one input of zeros."""
    return {
        port.name: np.zeros([max(n, 1) for n in port.shape or ()], port.dtype or "float32")
        for port in program.shown_inputs
    }
