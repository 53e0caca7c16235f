# SPDX-License-Identifier: Apache-2.0
"""An overlay folder without a real bitstream, for tests that load nothing.

In: a folder's name, a board.  Out: the folder, with an ``overlay.json`` that fits its files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from neuralmatrix.hardware import overlay_folder as overlays
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.isa import ISA_VERSION


def overlay_folder(folder: Path, board: str = "pynq-z2", **more: Any) -> Path:
    """Write four small files under the names of an overlay's, and their overlay.json.

    ``more``: fields of ``OverlayInfo`` that differ.
    """
    folder.mkdir(parents=True)
    for name in (overlays.BIT, overlays.HWH, overlays.SELFTEST, overlays.EXPECTED):
        (folder / name).write_text(name)
    values: dict[str, Any] = dict(
        format=overlays.FORMAT,
        name=board,
        boards=(board,),
        origin="vivado",
        fingerprint=load_board(board).array.fingerprint,
        isa_version=ISA_VERSION,
        part=load_board(board).part.name,
        clock_mhz=100.0,
        worst_slack_ns=0.125,
        commit="1a2b3c4",
        tools=(overlays.Tool("vivado", "2024.1"),),
        utilization=(overlays.Utilization("bram36", 101.5, 140),),
        files=overlays.hash_files(folder),
    )
    overlays.write_info(folder, overlays.OverlayInfo(**(values | more)))
    return folder
