# SPDX-License-Identifier: Apache-2.0
"""What hls4ml calls to learn of the backend.

In: hls4ml's functions that register.  Out: the backend "NeuralMatrix".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def register(
    register_backend: Callable[[str, Any], None], register_writer: Callable[[str, Any], None]
) -> None:
    """Register the backend and its writer with hls4ml 1.3 or later."""
    from .backend import NAME, NeuralMatrixBackend, NeuralMatrixWriter

    register_writer(NAME, NeuralMatrixWriter)
    register_backend(NAME, NeuralMatrixBackend)
