# SPDX-License-Identifier: Apache-2.0
"""The folder in which ``pynq.Overlay("neuralmatrix.bit")`` finds this board's overlay.

In: pynq's active device.  Out: ``__path__``, which pynq reads of every module that is registered
as an entry point ``pynq.overlays``, each time it looks for a bitstream.
"""

from __future__ import annotations

from pathlib import Path

from ...errors import NeuralMatrixError
from ...hardware.overlay_folder import board_of_device, resolve


def _folder() -> Path:
    """Return the overlay's folder, or one without bitstreams if there is no overlay: pynq then
    reports the missing name, and still finds other packages' bitstreams."""
    from pynq import Device

    try:
        board = board_of_device(Device.active_device.name)
        if board is not None:
            return resolve(board).folder
    except (NeuralMatrixError, RuntimeError):  # no overlay; no device
        pass
    return Path(__file__).parent


def __getattr__(name: str) -> list[str]:
    if name != "__path__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return [str(_folder())]
