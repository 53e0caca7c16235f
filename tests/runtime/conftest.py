# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run under the real pynq package.

In: the marker ``pynq``.  Out: emulated boards, and rigs on them.
pynq is imported in fixtures only: without it the tests are collected and skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from pynq_rig import Rig


@pytest.fixture
def make_board() -> Iterator[Callable[..., Any]]:
    """Return a function that makes emulated boards; they are closed afterwards."""
    from neuralmatrix.runtime.emulated_board.board import EmulatedBoard

    with ExitStack() as boards:
        yield lambda *names, **more: boards.enter_context(EmulatedBoard(*names, **more))


@pytest.fixture
def board(make_board: Callable[..., Any]) -> Any:
    """Make a PYNQ-Z2 without a loaded overlay."""
    return make_board("pynq-z2")


@pytest.fixture
def make_rig(make_board: Callable[..., Any]) -> Callable[..., Rig]:
    """Return a function that makes a board and loads its overlay."""
    return lambda *names, **more: Rig(make_board(*names, **more))


@pytest.fixture
def rig(make_rig: Callable[..., Rig]) -> Rig:
    """Make a PYNQ-Z2 with its overlay loaded."""
    return make_rig("pynq-z2")
