# SPDX-License-Identifier: Apache-2.0
"""The commands that measure.

In: arguments.  Out: tables or JSON on standard output.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .cli_common import Json, ProgramPath, Threads, console, emit


def bench(
    program: ProgramPath,
    images: Annotated[int, typer.Option(min=1, help="Inputs per repeat.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Timed repeats after one warm-up.")] = 5,
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Time the emulation on this machine, beside the device's estimate."""
    from .bench import bench_program
    from .program import load

    result = bench_program(load(program), images, repeats, threads)
    if as_json:
        emit(result)
        return
    screen = console()
    host, device, unit = result["host"], result["device"], result["unit"]
    threads_used = f"{host['threads']} thread{'s' if host['threads'] > 1 else ''}"
    screen.print(
        f"emulation, measured on this machine: {host['images_per_s']['median']:.1f} {unit}s/s "
        f"(median of {repeats}, {host['images_per_s']['lowest']:.1f} to "
        f"{host['images_per_s']['highest']:.1f}), {host['gmac_per_s']:.2f} GMAC/s, {threads_used}",
        highlight=False,
    )
    screen.print(
        f"{device['board']}, {device['basis']}: {device['frames_per_s']:.1f} {unit}s/s, "
        f"{device['cycles']:,} cycles at {device['clock_mhz']:g} MHz",
        highlight=False,
    )
