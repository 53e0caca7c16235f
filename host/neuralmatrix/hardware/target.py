# SPDX-License-Identifier: Apache-2.0
"""The target of a compilation: the array and the timing of its memory.

In: nothing.  Out: ``ArrayConfig`` (what the kernels are built with), ``Timing`` (what the cycle
model needs besides), and ``Target``, both together, which every pass of the compiler is given.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from math import isqrt
from typing import Literal

from .isa import ISA_VERSION


@dataclass(frozen=True)
class ArrayConfig:
    """The parameters that determine a bitstream's results; equal arrays share programs."""

    rows: int  # PEs along K; bytes per word
    cols: int  # PEs along N; equal to rows
    ibuf_words: int
    wbuf_words: int
    pbuf_rows: int  # rows of cols 64-bit parameters
    acc_rows: int
    obuf_rows: int
    tbuf_rows: int
    ubuf_rows: int
    seg_entries: int  # segments the lanes can hold
    line_words: int  # widest input row (with padding) in WINDOW mode
    queue_depth: int  # instructions waiting per unit
    token_depth: int  # tokens waiting per unit pair
    macs_per_dsp: Literal[1, 2]  # 2: two columns share a DSP; a WINDOW's sums take two beats

    @property
    def win(self) -> int:
        """WINDOW mode handles win x win taps per pass."""
        return isqrt(self.rows)

    @property
    def fingerprint(self) -> str:
        """16 hex digits that name this array and instruction set."""
        text = json.dumps({"isa": ISA_VERSION, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Timing:
    """The cycle model's parameters besides the array, as integers, so that all models agree."""

    load_port_bytes: int  # bytes per cycle of the LOAD port
    store_port_bytes: int
    fetch_port_bytes: int
    ddr_bytes_per_256_cycles: int  # effective DRAM bandwidth shared by all ports
    burst_beats: int  # longest burst
    dram_latency: int  # cycles from request to first beat


@dataclass(frozen=True)
class Target:
    """The target of a compilation: all that a pass may use of the hardware.

    A program holds both parts, so that ``nm.verify`` makes the same graphs again.
    """

    array: ArrayConfig
    timing: Timing

    @property
    def lanes(self) -> int:
        """Output channels that the array computes in parallel; channels of a block."""
        return self.array.cols

    @property
    def word_bytes(self) -> int:
        """Bytes of a word in DRAM and in the buffers; input channels of a block."""
        return self.array.rows
