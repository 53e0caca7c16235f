# SPDX-License-Identifier: Apache-2.0
"""The input of overlay/hls.tcl: a data file and the array's own config.h.

In: a ``Board`` and a folder to work in.  Out: the data file's path and text.
"""

from __future__ import annotations

from pathlib import Path

from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.cpp_headers import config_header
from neuralmatrix.hardware.registers import KERNELS, LIBRARY, VENDOR, VERSION
from neuralmatrix.paths import hls_dir

from .tcl_data import word, words

DATA_VARIABLE = "NEURALMATRIX_HLS_DATA"
DATA = "hls_data.tcl"
COSIM_BENCH = "tb_kernels.cpp"  # the bench that calls the kernels by their ports


def sources() -> tuple[Path, ...]:
    """Return the kernels' source files, one each."""
    return tuple(sorted((hls_dir() / "src").glob("*.cpp")))


def benches() -> tuple[Path, ...]:
    """Return all benches of hls/tb, the same that a plain compiler runs."""
    return tuple(sorted((hls_dir() / "tb").glob("tb_*.cpp")))


def hls_data(
    board: Board,
    work: Path,
    *,
    csim: bool = True,
    cosim: bool = False,
) -> str:
    """Make the text of the data file."""
    facts = {
        "part": word(board.part.name),
        "period_ns": f"{1000 / board.clock_mhz:.3f}",
        "burst_beats": str(board.burst_beats),
        "includes": words((work / "include", hls_dir() / "include")),
        "sources": words(sources()),
        "kernels": words(KERNELS),
        "benches": words(benches() if csim else ()),
        "cosim": word(hls_dir() / "tb" / COSIM_BENCH if cosim else ""),
        "output": word(work),
        "vendor": VENDOR,
        "library": LIBRARY,
        "version": VERSION,
    }
    lines = [f"    {key} {value}" for key, value in facts.items()]
    return "\n".join(["set HLS {", *lines, "}", ""])


def write_hls_data(
    board: Board,
    work: Path,
    *,
    csim: bool = True,
    cosim: bool = False,
) -> Path:
    """Write ``include/nm/config.h`` and the data file into ``work``; return the file's path."""
    work = work.resolve()
    header = work / "include" / "nm" / "config.h"
    header.parent.mkdir(parents=True, exist_ok=True)
    text = config_header(board.array, board.timing, board.uram_buffers)
    header.write_text(text, encoding="utf-8")
    path = work / DATA
    data = hls_data(board, work, csim=csim, cosim=cosim)
    path.write_text(data, encoding="utf-8")
    return path


def report_folder(work: Path, kernel: str) -> Path:
    """Return the folder where hls.tcl lets Vitis HLS write a kernel's reports."""
    return work / kernel / "solution" / "syn" / "report"


def ip_folder(work: Path, kernel: str) -> Path:
    """Return the folder of the exported, unpacked IP."""
    return work / kernel / "solution" / "impl" / "ip"
