# SPDX-License-Identifier: Apache-2.0
"""How fast the emulation runs a program on this machine.

In: a ``Program``.  Out: measured host numbers with their spread, beside the device's estimate.
"""

from __future__ import annotations

import platform
import time
from statistics import median
from typing import Any

import numpy as np

from ._version import __version__
from .program import Program
from .report import batch_of, unit_of
from .session import Session


def _feeds(program: Program, images: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    feeds: dict[str, Any] = {}
    for port in program.inputs:
        shape = (images, *port.shape[1:]) if port.shape[:1] == (1,) else port.shape
        q = port.slot.qparams
        low, high = ((limit - q.zero_point) * q.scale for limit in (q.qmin, q.qmax))
        feeds.setdefault(port.name, rng.uniform(low, high, shape).astype(np.float32))
        if port.table is not None:
            feeds[port.name] = rng.integers(len(port.table), size=shape)
    return feeds


def bench_program(
    program: Program, images: int, repeats: int, threads: int | None
) -> dict[str, Any]:
    """One warm-up, then ``repeats`` timed runs of ``images`` images.

    A program whose batch is not 1 runs once per repeat.
    """
    batch = batch_of(program)
    images = images if batch == 1 else 1
    session, feeds = Session(program, threads=threads), _feeds(program, images)
    session.run(feeds)
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        session.run(feeds)
        seconds.append(time.perf_counter() - began)
    rates = sorted(images / s for s in seconds)
    estimate, stats = program.estimate(), session.stats
    return {
        "versions": {"neuralmatrix": __version__, "python": platform.python_version()},
        "unit": unit_of(batch, [port.shape for port in program.inputs]),
        "host": {
            "basis": "measured: emulation on this machine, host quantising included",
            "machine": platform.machine(),
            "threads": stats.threads if stats else 0,
            "images": images,
            "repeats": repeats,
            "images_per_s": {
                "median": median(rates),
                "lowest": rates[0],
                "highest": rates[-1],
            },
            "gmac_per_s": median(rates) * estimate.macs / 1e9,
        },
        "device": {
            "basis": "estimated by the cycle model, without the host's work",
            "board": program.board,
            "fingerprint": program.array.fingerprint,
            "batch": batch,
            "cycles": estimate.cycles,
            "emulated_cycles": stats.cycles if stats else 0,
            "clock_mhz": estimate.clock_mhz,
            "frames_per_s": estimate.frames_per_s,
            "utilization": estimate.utilization,
        },
    }
