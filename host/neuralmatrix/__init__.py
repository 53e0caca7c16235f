# SPDX-License-Identifier: Apache-2.0
"""NeuralMatrix: whole neural networks as matrix products on one array of a PYNQ board, or emulated.

In: an ONNX model (a path or a ModelProto).  Out: a ``Program``, its estimate, and runs of it.
Names load when first used, so that a board needs numpy alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .errors import (
    AccuracyMissed,
    AccuracyWarning,
    BadInput,
    BadModel,
    BadProgram,
    CompilerFault,
    DeviceFault,
    DeviceTimeout,
    DoesNotFit,
    HostUnreachable,
    InputsSaturated,
    NeuralMatrixError,
    OverlayMissing,
    RemoteFailure,
    ToolMissing,
    UnsupportedModel,
    UnsupportedNode,
    WrongClock,
    WrongOverlay,
)

if TYPE_CHECKING:
    from .compiler import compile_model as compile
    from .hardware.board import Board, board_names, load_board
    from .program.estimate import Estimate
    from .program.program import Program, load
    from .runtime.inference_session import InferenceSession
    from .runtime.session import Session
    from .verification import trace, verify

_LAZY = {
    "Board": ("hardware.board", "Board"),
    "Estimate": ("program.estimate", "Estimate"),
    "InferenceSession": ("runtime.inference_session", "InferenceSession"),
    "Program": ("program.program", "Program"),
    "Session": ("runtime.session", "Session"),
    "board_names": ("hardware.board", "board_names"),
    "compile": ("compiler", "compile_model"),
    "load": ("program.program", "load"),
    "load_board": ("hardware.board", "load_board"),
    "trace": ("verification", "trace"),
    "verify": ("verification", "verify"),
}

__all__ = [
    "AccuracyMissed",
    "AccuracyWarning",
    "BadInput",
    "BadModel",
    "BadProgram",
    "Board",
    "CompilerFault",
    "DeviceFault",
    "DeviceTimeout",
    "DoesNotFit",
    "Estimate",
    "HostUnreachable",
    "InferenceSession",
    "InputsSaturated",
    "NeuralMatrixError",
    "OverlayMissing",
    "Program",
    "RemoteFailure",
    "Session",
    "ToolMissing",
    "UnsupportedModel",
    "UnsupportedNode",
    "WrongClock",
    "WrongOverlay",
    "__version__",
    "board_names",
    "compile",
    "load",
    "load_board",
    "trace",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _LAZY[name]
    value = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
