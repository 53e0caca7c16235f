# SPDX-License-Identifier: Apache-2.0
"""Networks as people write them in torch alone: recurrent, convolutional, generative, tabular.

Out: ``ARCHITECTURES``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from .base import Architecture, Values


class Recurrent(nn.Module):
    """A tagger: every step's output goes through one linear layer."""

    def __init__(self, kind: type[nn.RNNBase], **settings: bool) -> None:
        super().__init__()
        self.cells = kind(8, 24, num_layers=2, batch_first=True, **settings)
        self.head = nn.Linear(48 if settings else 24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, steps, 8] to [1, steps, 5]."""
        scores: torch.Tensor = self.head(self.cells(x)[0])
        return scores


class Residual(nn.Module):
    """A sum of the input and a branch."""

    def __init__(self, *branch: nn.Module) -> None:
        super().__init__()
        self.branch = nn.Sequential(*branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x + branch(x)."""
        found: torch.Tensor = x + self.branch(x)
        return found


class UNet(nn.Module):
    """Down, up with a transposed convolution or an interpolation, and a concatenation."""

    def __init__(self, transposed: bool) -> None:
        super().__init__()
        self.top = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.low = nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU())
        self.up = (
            nn.ConvTranspose2d(32, 16, 2, 2)
            if transposed
            else nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(32, 16, 1))
        )
        self.head = nn.Conv2d(32, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, 3, h, w] to [1, 2, h, w]."""
        top = self.top(x)
        scores: torch.Tensor = self.head(torch.cat([top, self.up(self.low(top))], 1))
        return scores


class Gated(nn.Module):
    """WaveNet's block: tanh times sigmoid of dilated convolutions."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(16, 32, 3, padding=dilation, dilation=dilation)
        self.out = nn.Conv1d(16, 16, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, 16, steps] to the same shape."""
        value, gate = self.conv(x).chunk(2, 1)
        found: torch.Tensor = x + self.out(torch.tanh(value) * torch.sigmoid(gate))
        return found


class Attention(nn.Module):
    """Self-attention of torch, averaged over the tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, tokens, 32] to [1, 32]."""
        mean: torch.Tensor = self.attention(x, x, x)[0].mean(1)
        return mean


class Sine(nn.Module):
    """The activation of implicit networks."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return sin(2 x)."""
        return torch.sin(2 * x)


class PointNet(nn.Module):
    """A shared MLP over points, and the maximum over them."""

    def __init__(self) -> None:
        super().__init__()
        self.points = nn.Sequential(
            nn.Conv1d(3, 32, 1), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 64, 1)
        )
        self.head = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 6), nn.LogSoftmax(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, 3, points] to [1, 6]."""
        scores: torch.Tensor = self.head(self.points(x).max(2).values)
        return scores


class NBeats(nn.Module):
    """Blocks that subtract what they explain, and add up forecasts."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 48), nn.ReLU(), nn.Linear(48, 40)) for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, 32] to [1, 8]."""
        forecast = torch.zeros_like(x[:, :8])
        for block in self.blocks:
            back, ahead = block(x).split((32, 8), 1)
            x, forecast = x - back, forecast + ahead
        return forecast


class SpeechRecognizer(nn.Module):
    """Convolutions over a spectrogram, a recurrent layer, scores of letters at every step."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Sequential(
            nn.Conv2d(1, 8, 3, (2, 1), 1),
            nn.Hardtanh(0, 20),
            nn.Conv2d(8, 8, 3, (2, 1), 1),
            nn.Hardtanh(0, 20),
        )
        self.cells = nn.GRU(32, 24, bidirectional=True)
        self.head = nn.Linear(48, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, 1, 16, steps] to [steps, 1, 12]."""
        steps = self.front(x).flatten(1, 2).permute(2, 0, 1)
        return torch.log_softmax(self.head(self.cells(steps)[0]), -1)


class Cross(nn.Module):
    """Deep and cross: products of the input with itself beside an MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.cross = nn.ModuleList(nn.Linear(12, 12) for _ in range(2))
        self.deep = nn.Sequential(nn.Linear(12, 32), nn.PReLU(), nn.Linear(32, 16), nn.PReLU())
        self.head = nn.Linear(28, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [1, 12] to a probability [1, 1]."""
        crossed = x
        for layer in self.cross:
            crossed = x * layer(crossed) + crossed
        return torch.sigmoid(self.head(torch.cat([crossed, self.deep(x)], 1)))


def _separable(inputs: int, outputs: int) -> list[nn.Module]:
    return [nn.Conv1d(inputs, inputs, 9, 2, 4, groups=inputs), nn.Conv1d(inputs, outputs, 1),
            nn.BatchNorm1d(outputs), nn.ReLU6()]  # fmt: skip


def _style_transfer() -> nn.Module:
    body = [
        Residual(
            nn.ReflectionPad2d(1),
            nn.Conv2d(16, 16, 3),
            nn.InstanceNorm2d(16, affine=True),
            nn.ReLU(),
        )
        for _ in range(2)
    ]
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1),
        nn.InstanceNorm2d(16, affine=True),
        nn.ReLU(),
        *body,
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 3, 3, padding=1),
        nn.Tanh(),
    )


def _transformer(norm_first: bool, activation: str) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        32, 4, 64, 0.0, activation, batch_first=True, norm_first=norm_first
    )
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


IMAGE, SERIES = Values((1, 3, 32, 32)), Values((1, 12, 8))
BUILDERS: dict[str, tuple[Callable[[], nn.Module], Values]] = {
    "lstm": (lambda: Recurrent(nn.LSTM), SERIES),
    "gru": (lambda: Recurrent(nn.GRU), SERIES),
    "rnn": (lambda: Recurrent(nn.RNN), SERIES),
    "bilstm": (lambda: Recurrent(nn.LSTM, bidirectional=True), SERIES),
    "unet_transposed": (lambda: UNet(True), IMAGE),
    "unet_bilinear": (lambda: UNet(False), IMAGE),
    "wavenet": (
        lambda: nn.Sequential(
            nn.Conv1d(1, 16, 1), *(Gated(2**k) for k in range(5)), nn.Conv1d(16, 8, 1)
        ),
        Values((1, 1, 200)),
    ),
    "attention": (Attention, Values((1, 10, 32))),
    "encoder_post_norm": (lambda: _transformer(False, "relu"), Values((1, 10, 32))),
    "encoder_pre_norm": (lambda: _transformer(True, "gelu"), Values((1, 10, 32))),
    "siren": (
        lambda: nn.Sequential(
            nn.Linear(2, 32), Sine(), nn.Linear(32, 32), Sine(), nn.Linear(32, 3)
        ),
        Values((64, 2)),
    ),
    "pointnet": (PointNet, Values((1, 3, 100))),
    "nbeats": (NBeats, Values((1, 32))),
    "speech_recognizer": (SpeechRecognizer, Values((1, 1, 16, 20))),
    "deep_and_cross": (Cross, Values((1, 12))),
    "keyword_spotter": (
        lambda: nn.Sequential(
            *_separable(1, 16),
            *_separable(16, 32),
            *_separable(32, 32),
            nn.AdaptiveAvgPool1d(1),
            nn.Flatten(),
            nn.Linear(32, 5),
        ),
        Values((1, 1, 400)),
    ),
    "super_resolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2),
            nn.PReLU(),
            Residual(nn.Conv2d(16, 16, 3, padding=1), nn.PReLU()),
            nn.Conv2d(16, 4, 3, padding=1),
            nn.PixelShuffle(2),
        ),
        Values((1, 1, 24, 24)),
    ),
    "style_transfer": (_style_transfer, IMAGE),
    "group_norm": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, 2),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
            nn.Conv2d(16, 16, 3, 2),
            nn.GroupNorm(4, 16),
            nn.SiLU(),
        ),
        IMAGE,
    ),
    "generator": (
        lambda: nn.Sequential(
            nn.ConvTranspose2d(16, 32, 4),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 4, 2, 1),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 3, 4, 2, 1),
            nn.Tanh(),
        ),
        Values((1, 16, 1, 1)),
    ),
    "video": (
        lambda: nn.Sequential(
            nn.Conv3d(3, 8, 3, padding=1),
            nn.BatchNorm3d(8),
            nn.ReLU(),
            nn.MaxPool3d(2),
            nn.Conv3d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(16, 4),
        ),
        Values((1, 3, 4, 16, 16)),
    ),
    "autoencoder": (
        lambda: nn.Sequential(
            nn.Linear(64, 32),
            nn.Tanh(),
            nn.Linear(32, 4),
            nn.Linear(4, 32),
            nn.Tanh(),
            nn.Linear(32, 64),
        ),
        Values((1, 64)),
    ),
    "self_normalizing": (
        lambda: nn.Sequential(
            nn.Linear(20, 64),
            nn.SELU(),
            nn.Linear(64, 64),
            nn.SELU(),
            nn.Linear(64, 3),
            nn.Softmax(1),
        ),
        Values((1, 20)),
    ),
    "mish_elu_softplus": (
        lambda: nn.Sequential(
            nn.Linear(20, 32),
            nn.Mish(),
            nn.Linear(32, 32),
            nn.ELU(),
            nn.Linear(32, 16),
            nn.Softplus(),
            nn.Linear(16, 2),
        ),
        Values((1, 20)),
    ),
    "gated_linear": (
        lambda: nn.Sequential(
            nn.Linear(20, 64),
            nn.GLU(),
            nn.LayerNorm(32),
            nn.Linear(32, 32),
            nn.Hardswish(),
            nn.Linear(32, 2),
        ),
        Values((1, 20)),
    ),
}
ARCHITECTURES = tuple(
    Architecture(f"torch_{name}", "torch", build, {"x": values})
    for name, (build, values) in BUILDERS.items()
)
