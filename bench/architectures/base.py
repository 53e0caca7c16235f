# SPDX-License-Identifier: Apache-2.0
"""How an architecture is described, and its module made ready for an export.

In: a function that builds a torch module, and the shapes of its inputs.  Out: a module that has
seen data, whose forward takes tensors and returns tensors.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

SETTLING = 8  # inputs from which batch normalisations take their statistics


@dataclass(frozen=True)
class Values:
    """One input: normal values of ``shape``, or integers below ``ids``, or ones (a mask)."""

    shape: tuple[int, ...]
    ids: int = 0
    ones: bool = False

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """Return one input as an array of float32 or int64."""
        if self.ones:
            return np.ones(self.shape, np.int64)
        if self.ids:
            return rng.integers(0, self.ids, self.shape)
        size = rng.uniform(0.5, 1.5)
        return np.asarray(size * rng.normal(size=self.shape), np.float32)


@dataclass(frozen=True)
class Architecture:
    """``build`` returns a module; ``inputs`` are its arguments by name, in order."""

    name: str
    package: str
    build: Callable[[], torch.nn.Module]
    inputs: dict[str, Values]

    def feeds(self, count: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
        """Return ``count`` random inputs, the same for the same seed."""
        rng = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        for _ in range(count):
            yield {name: values.draw(rng) for name, values in self.inputs.items()}

    def module(self) -> torch.nn.Module:
        """Return the module in inference mode, its batch normalisations settled on data."""
        torch.manual_seed(zlib.crc32(self.name.encode()))
        module = TensorsOnly(self.build().eval())
        _fill_zeros(module)
        _settle(module, [tensors(feed) for feed in self.feeds(SETTLING, 0)])
        return module


class TensorsOnly(torch.nn.Module):
    """A module that returns a tensor or a tuple of tensors, whatever the inner one returns."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: torch.Tensor) -> Any:
        """Return the floating-point tensors of the inner module's result, flat."""
        found = tuple(_flat(self.inner(*args)))
        return found[0] if len(found) == 1 else found


def _flat(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _flat(one)
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from _flat(one)


def tensors(feed: dict[str, np.ndarray]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(array) for array in feed.values())


def _fill_zeros(module: torch.nn.Module) -> None:
    """Give matrices of zeros, as some packages begin with, random values: what such a network
    returns otherwise says nothing."""
    with torch.no_grad():
        for values in module.parameters():
            if values.ndim > 1 and not values.any():
                values.normal_(std=values[0].numel() ** -0.5)


def _settle(module: torch.nn.Module, inputs: list[tuple[torch.Tensor, ...]]) -> None:
    """Let batch normalisations average what they meet, as training would.

    A random network in inference mode otherwise fades out or overflows layer by layer.
    """
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        stacked = [torch.cat(arguments) for arguments in zip(*inputs, strict=True)]
        module(*stacked)
    module.eval()
