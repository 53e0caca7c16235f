# SPDX-License-Identifier: Apache-2.0
"""The command that serves programs.

In: arguments.  Out: addresses on standard output; a server until a signal ends it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .common import Device, Overlay, Threads, console

Programs = Annotated[
    list[str], typer.Argument(help="Programs: PATH, or NAME=PATH (default name: the file's).")
]
Host = Annotated[str, typer.Option(help="Address to listen on; nobody has to log in.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")]
MaxBatch = Annotated[int, typer.Option(min=1, help="Waiting inputs that run together.")]
MaxQueue = Annotated[int, typer.Option(min=1, help="Inputs that may wait, of each program.")]
MaxMbytes = Annotated[float, typer.Option(min=0.001, help="Largest request, in MiB.")]


def serve(
    programs: Programs,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    device: Device = "emulation",
    overlay: Overlay = None,
    threads: Threads = None,
    max_batch: MaxBatch = 32,
    max_queue: MaxQueue = 2048,
    max_mbytes: MaxMbytes = 64.0,
) -> None:
    """Serve programs over HTTP with the Open Inference Protocol, as Triton's clients speak it."""
    from ..serve.batching import Limits
    from ..serve.server import Options
    from ..serve.server import serve as run_server

    limits = Limits(max_batch, max_queue, int(max_mbytes * (1 << 20)))
    screen = console()

    def ready(line: str) -> None:
        screen.print(line, highlight=False, markup=False, soft_wrap=True)
        screen.file.flush()

    run_server(Options(programs, host, port, device, threads, overlay, limits), ready)
