# SPDX-License-Identifier: Apache-2.0
"""Small networks that torchao's PT2E flow quantises: exported, prepared, calibrated or trained.

In: a name and a quantiser.  Out: what ``convert_pt2e`` returns, and the shape of its input.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e, prepare_qat_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

Shape = tuple[int, ...]


class Residual(nn.Module):
    """Two blocks whose sums another convolution reads, so that they are quantised."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 16, 3, stride=2)
        self.head = nn.Linear(144, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(x + self.first(x))
        x = torch.relu(self.second(x) + x)
        x = torch.relu(self.down(x))
        return self.head(x.flatten(1))


class Mean(nn.Module):
    """A sum that x86's quantiser leaves in float, in front of a mean that it quantises."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(x)))
        x = self.pool(torch.relu(x + self.second(x)))
        return self.head(x.mean((2, 3)))


def _cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(144, 10),
    )  # fmt: skip


def _mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
                         nn.Linear(32, 10))  # fmt: skip


NETWORKS = {
    "mlp": (_mlp, (20,)),
    "cnn": (_cnn, (1, 14, 14)),
    "residual": (Residual, (3, 8, 8)),
    "mean of a sum": (Mean, (3, 8, 8)),
}
FLOWS = ("static", "qat")


def quantized(name: str, flow: str) -> tuple[nn.Module, Shape]:
    """Return a quantised module and the shape of its input, the batch of 1 included."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    module = make()
    module.train(flow == "qat")
    example = (torch.randn(2, *shape),)
    dim = {0: torch.export.Dim("batch", min=1, max=64)}
    exported = torch.export.export(module, example, dynamic_shapes=(dim,)).module()
    quantizer = x86.X86InductorQuantizer()
    config = x86.get_default_x86_inductor_quantization_config(is_qat=flow == "qat")
    quantizer.set_global(config)
    prepare = prepare_qat_pt2e if flow == "qat" else prepare_pt2e
    prepared = prepare(exported, quantizer)
    _run(prepared, shape, flow)
    if flow == "qat":
        move_exported_model_to_eval(prepared)
    return convert_pt2e(prepared), (1, *shape)


def _run(module: nn.Module, shape: Shape, flow: str) -> None:
    """Let observers see random batches; with ``qat`` train a few steps as well."""
    step = torch.optim.SGD(module.parameters(), lr=1e-3) if flow == "qat" else None
    for _ in range(8):
        loss = module(torch.randn(16, *shape)).square().mean()
        if step is not None:
            step.zero_grad()
            loss.backward()
            step.step()
