# SPDX-License-Identifier: Apache-2.0
"""Pictures to pictures and to numbers: denoisers, enlargements, autoencoders, embeddings, counts,
distances.

In: the data of ``pictures``.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from networks.base import Array, Run
from torch import nn

from . import base
from .base import Data, Fit, Task, Trained, conv, psnr, r2, split, task
from .pictures import MSE, UNet, clothes, clothes_classes, cnn, photo_classes, photos, shapes

# ---------------------------------------------------------------- pictures to pictures


def noisy(sigma: float, which=clothes, size: int = 14) -> Data:
    x, _ = which(size)
    noise = np.random.default_rng(1).normal(0, sigma, x.shape)
    return split(x + noise, x)


def same(which=clothes, size: int = 14) -> Data:
    x, _ = which(size)
    return split(x, x)


def larger() -> Data:
    """Return photos at half their size, and whole."""
    x, _ = photos(32, 1500)
    small = x.reshape(len(x), 3, 16, 2, 16, 2).mean((3, 5))
    return split(small, x, 200)


class Residual(nn.Module):
    """A network that gives what is to be subtracted from its input."""

    def __init__(self, channels: int, width: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1),
            nn.ReLU(),
            conv(width, width),
            nn.Conv2d(width, channels, 3, 1, 1),
        )

    def forward(self, x):
        return x - self.body(x)


def enlarger(skip: bool) -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(16, 12, 3, 1, 1),
        nn.PixelShuffle(2),
    )
    return Enlarged(body) if skip else body


class Enlarged(nn.Module):
    """Details, added to an enlarged picture."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return self.body(x) + nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")


def autoencoder(size: int, code: int, end: nn.Module) -> nn.Sequential:
    n = size * size
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(n, 64),
        nn.ReLU(),
        nn.Linear(64, code),
        nn.Linear(code, 64),
        nn.ReLU(),
        nn.Linear(64, n),
        end,
    )


class FlatMSE(nn.Module):
    """Squared error of flat pictures."""

    def forward(self, y, truth):
        return ((y - truth.flatten(1)) ** 2).mean()


# ---------------------------------------------------------------- embeddings


class Margin(nn.Module):
    """Cross entropy of cosines with learnt directions."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.ways = nn.Parameter(torch.randn(classes, width))

    def forward(self, y, truth):
        return nn.functional.cross_entropy(
            10 * nn.functional.normalize(y, dim=1) @ nn.functional.normalize(self.ways, dim=1).T,
            truth,
        )


class Unit(nn.Module):
    """A network whose rows have length 1."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return nn.functional.normalize(self.net(x), dim=1)


def retrieval(run: Run, made: Trained) -> float:
    """Return how often the most similar of the other pictures has the same class."""
    (y,) = run(made.test).values()
    unit = y / np.linalg.norm(y, axis=1, keepdims=True)
    near = unit @ unit.T - 9 * np.eye(len(unit))
    return 100 * float(np.mean(made.truth[near.argmax(1)] == made.truth))


def embedder(data, width: int, unit: bool, act=nn.ReLU) -> Trained:
    torch.manual_seed(0)
    d = data()
    net = cnn(d.x.shape[1], width, d.x.shape[2], act)
    loss = Margin(width, 10)
    net.margin = loss  # trained beside it
    base.fit(net[:6], d.x, d.y, Fit(loss))
    whole = Unit(net[:6]) if unit else net[:6]
    model = base.exported(whole, torch.as_tensor(d.x[:1]), names=["x"], outputs=["y"])
    return Trained(model, {"x": d.x[:96]}, {"x": d.test_x}, d.test_y)


# ---------------------------------------------------------------- counts


def dots() -> Data:
    """Return pictures with up to 12 dots, and their density."""
    random = np.random.default_rng(3)
    count, size = 2500, 24
    x, y = np.zeros((count, 1, size, size)), np.zeros((count, 1, size, size))
    rows, columns = np.mgrid[:size, :size]
    for i in range(count):
        for cx, cy in random.uniform(2, size - 2, (random.integers(0, 13), 2)):
            spot = np.exp(-((columns - cx) ** 2 + (rows - cy) ** 2) / 2)
            x[i, 0] += random.uniform(0.5, 1) * spot
            y[i, 0] += spot / spot.sum()
    return split(x + random.normal(0, 0.1, x.shape), y.astype(np.float32))


class Hundredfold(nn.Module):
    def forward(self, y, truth):
        return 100 * ((y - truth) ** 2).mean()


def counted(y: Array, truth: Array) -> float:
    return r2(y.sum((1, 2, 3))[:, None], truth.sum((1, 2, 3))[:, None])


class Metres(nn.Module):
    """A network whose results are multiplied by 30, from 40 on."""

    def __init__(self) -> None:
        super().__init__()
        self.net = UNet()

    def forward(self, x):
        return 40 - 30 * self.net(x)


def depth() -> Data:
    """Return pictures of shapes, and of their distance in metres."""
    x, _, mask = shapes()
    far = 40 - 30 * mask * np.clip(x, 0, 1).max((2, 3), keepdims=True)
    return split(x, far.astype(np.float32))


TO_PICTURE = Fit(MSE, 500)
ANY = "pictures to pictures"

TASKS = (
    task(
        "denoise clothes 0.1",
        ANY,
        partial(Residual, 1),
        partial(noisy, 0.1),
        TO_PICTURE,
        psnr,
        "dB",
    ),
    task(
        "denoise clothes 0.03",
        ANY,
        partial(Residual, 1),
        partial(noisy, 0.03),
        TO_PICTURE,
        psnr,
        "dB",
    ),
    task(
        "denoise photos 0.05",
        ANY,
        partial(Residual, 3),
        partial(noisy, 0.05, photos, 16),
        TO_PICTURE,
        psnr,
        "dB",
    ),
    task("denoise, U-Net", ANY, UNet, partial(noisy, 0.2), TO_PICTURE, psnr, "dB"),
    task("enlarge", ANY, partial(enlarger, False), larger, TO_PICTURE, psnr, "dB"),
    task("enlarge, skip", ANY, partial(enlarger, True), larger, TO_PICTURE, psnr, "dB"),
    task(
        "autoencoder, sigmoid",
        ANY,
        partial(autoencoder, 14, 16, nn.Sigmoid()),
        same,
        Fit(FlatMSE(), 800),
        psnr,
        "dB",
    ),
    task(
        "autoencoder, linear",
        ANY,
        partial(autoencoder, 14, 32, nn.Identity()),
        same,
        Fit(FlatMSE(), 800),
        psnr,
        "dB",
    ),
    task("depth in metres", "regressor", Metres, depth, Fit(MSE, 300, 1e-2), base.pooled_r2),
    task("counts by density", "regressor", UNet, dots, Fit(Hundredfold(), 300), counted),
    Task(
        "embedding, clothes", "embedding", partial(embedder, clothes_classes, 32, False), retrieval
    ),
    Task(
        "embedding of length 1",
        "embedding",
        partial(embedder, clothes_classes, 16, True),
        retrieval,
    ),
    Task("embedding, photos", "embedding", partial(embedder, photo_classes, 64, True), retrieval),
)
