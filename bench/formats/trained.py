# SPDX-License-Identifier: Apache-2.0
"""A small network of Brevitas trained with quantisation, and its accuracy on fresh inputs.

In: the forms of export.  Out: the accuracy of Brevitas and of the compiled program.
The task: which of ten random patterns lies under noise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import neuralmatrix as nm
import numpy as np
import torch
from torch import Tensor, nn

from .brevitas_networks import lenet

SHAPE, FRESH, NOISE = (1, 28, 28), 200, 4.0
BITS = ((2, 2), (4, 4))


def trained(forms: Iterable[str]) -> list[dict[str, Any]]:
    """Return one entry for every pair of bits and form."""
    from .run_brevitas import exported, plain

    found = []
    for w, a in BITS:
        torch.manual_seed(3)
        patterns = torch.randn(10, *SHAPE)
        module = _fitted(lenet(w, a), patterns)
        x, labels = _drawn(patterns, FRESH)
        with torch.no_grad():
            right = plain(module(x)).argmax(1)
        for form in forms:
            program = nm.compile(exported(module, x[:1], form))
            (y,) = nm.Session(program).run({program.inputs[0].name: x.numpy()}).values()
            mine = np.asarray(y).reshape(FRESH, -1).argmax(1)
            found.append({
                "network": f"lenet w{w}a{a}", "form": form,
                "brevitas": float((right == labels.numpy()).mean()),
                "ours": float((mine == labels.numpy()).mean()),
                "agree": float((mine == right).mean()),
            })  # fmt: skip
    return found


def _drawn(patterns: Tensor, count: int) -> tuple[Tensor, Tensor]:
    labels = torch.randint(0, 10, (count,))
    return patterns[labels] + NOISE * torch.randn(count, *SHAPE), labels


def _fitted(module: nn.Module, patterns: Tensor) -> nn.Module:
    optimiser = torch.optim.Adam(module.parameters(), lr=2e-3)
    module.train()
    for _ in range(150):
        x, labels = _drawn(patterns, 64)
        loss = nn.functional.cross_entropy(module(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.eval()
