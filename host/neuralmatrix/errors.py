# SPDX-License-Identifier: Apache-2.0
"""The exceptions that NeuralMatrix raises, and its warnings.

In: nothing.  Out: one base class and one class per kind of failure.
Every message says what was found, what is allowed and what to do.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AccuracyMissed",
    "AccuracyWarning",
    "BadInput",
    "BadModel",
    "BadProgram",
    "BuildFailed",
    "CompilerFault",
    "DeviceFault",
    "DeviceTimeout",
    "DoesNotFit",
    "HostUnreachable",
    "InputsSaturated",
    "NeuralMatrixError",
    "OverlayMissing",
    "RemoteFailure",
    "ToolMissing",
    "UnsupportedModel",
    "UnsupportedNode",
    "WrongClock",
    "WrongOverlay",
]


class NeuralMatrixError(Exception):
    """Base of every error this package raises on purpose."""


class AccuracyMissed(NeuralMatrixError):
    """The measured accuracy of a compiled program is below what was required."""


class AccuracyWarning(UserWarning):
    """The measured accuracy of a compiled program is bad: why, and what to try."""


class BadModel(NeuralMatrixError):
    """The model file or module is malformed (truncated, cyclic, NaN weights, missing
    initialiser)."""


class BadInput(NeuralMatrixError):
    """A feed, a calibration set or an option does not match the model."""


class BadProgram(NeuralMatrixError):
    """A ``.nmx`` program is corrupted or would access memory outside its own buffers.

    ``instruction``: the one that is at fault, if it is known.
    """

    def __init__(self, message: str, instruction: int | None = None) -> None:
        super().__init__(message)
        self.instruction = instruction


class BuildFailed(NeuralMatrixError):
    """A tool that builds overlays failed, or its result misses timing."""


class CompilerFault(NeuralMatrixError):
    """The compiler failed at a model that it accepted: its own fault, which a report helps to
    mend."""


class DoesNotFit(NeuralMatrixError):
    """A network cannot be placed on the chosen board, its buffers in the board's memory, or its
    compilation in this machine's."""


class OverlayMissing(NeuralMatrixError):
    """No overlay for the board was found, or its files are damaged."""


class WrongOverlay(NeuralMatrixError):
    """The loaded overlay was built for another array than the program."""


class WrongClock(NeuralMatrixError):
    """The board's clock runs faster than the overlay's timing was closed for."""


class DeviceFault(NeuralMatrixError):
    """The device refused an access, stopped early, or failed its self-test."""


class DeviceTimeout(NeuralMatrixError):
    """The device did not finish in time, or the program dead-locked."""


class HostUnreachable(NeuralMatrixError):
    """No SSH connection to a board: its address, port or key, or the connection broke."""


class RemoteFailure(NeuralMatrixError):
    """A board reached over SSH lacks something that a program needs, or gave no message."""


class InputsSaturated(UserWarning):
    """A warning: many values of an input lie outside the range that the program was calibrated
    for."""


class ToolMissing(NeuralMatrixError):
    """An optional package or an external tool is not installed; the message names it."""


@dataclass(frozen=True)
class UnsupportedNode:
    """One node that cannot run on the array."""

    name: str
    op: str
    opset: int
    reason: str


WAY_OUT = "outputs= (--outputs) compiles what is in front of a node: name the values it reads"


class UnsupportedModel(NeuralMatrixError):
    """The model has nodes that cannot be lowered; ``nodes`` lists all of them."""

    def __init__(self, nodes: tuple[UnsupportedNode, ...]) -> None:
        self.nodes = nodes
        lines = [f"  {n.name or '(unnamed)'}: {n.op} (opset {n.opset}): {n.reason}" for n in nodes]
        super().__init__(
            f"{len(nodes)} node(s) of the model cannot run on the array:\n"
            + "\n".join([*lines, WAY_OUT])
        )
