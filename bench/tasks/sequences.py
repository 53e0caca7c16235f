# SPDX-License-Identifier: Apache-2.0
"""Sequences: taggers, networks of one step whose state is fed back, transformers, text, graphs.

In: synthetic signals, SST-2, Cora.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from common import data_folder
from networks.base import Array
from torch import nn

from . import base
from .base import Data, Fit, mlp, r2, split, task, top1

MSE = nn.MSELoss()

# ---------------------------------------------------------------- whole sequences


def tagged(steps: int = 24, seed: int = 0, count: int = 4000) -> Data:
    """Return noisy series of 4 channels, and in which of 3 states each step is."""
    random = np.random.default_rng(seed)
    state = np.zeros((count, steps), np.int64)
    for t in range(1, steps):
        change = random.random(count) < 0.15
        state[:, t] = np.where(change, random.integers(0, 3, count), state[:, t - 1])
    levels = random.normal(size=(3, 4))
    return split(levels[state] + random.normal(0, 0.9, (count, steps, 4)), state, 300)


def series(steps: int = 32, seed: int = 1, count: int = 4000) -> Data:
    """Return sums of sines, and how they go on for 4 steps."""
    random = np.random.default_rng(seed)
    t = np.arange(steps + 4)
    f, p, a = (
        random.uniform(0.05, 0.4, (3, count, 1)),
        random.uniform(0, 6, (3, count, 1)),
        random.uniform(0.2, 1, (3, count, 1)),
    )
    y = (a * np.sin(f * t + p)).sum(0) * 10 + 50
    y += random.normal(0, 0.2, y.shape)
    return split(y[:, :steps, None], y[:, steps:].astype(np.float32), 500)


class Recurrent(nn.Module):
    """A recurrent layer and a linear one, of every step or of the last; in units."""

    def __init__(
        self,
        kind,
        inputs: int,
        width: int,
        outputs: int,
        last: bool,
        mean: float = 0.0,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.cell, self.head = kind(inputs, width, batch_first=True), nn.Linear(width, outputs)
        self.last, self.mean, self.gain = last, mean, gain

    def forward(self, x):
        y, _ = self.cell((x - self.mean) / self.gain)
        return self.head(y[:, -1] if self.last else y) * self.gain + self.mean


class StepLoss(nn.Module):
    """Cross entropy of every step."""

    def forward(self, y, truth):
        return nn.functional.cross_entropy(y.flatten(0, 1), truth.flatten())


class Transformer(nn.Module):
    """An encoder with learnt positions; classes of every step, or of the mean."""

    def __init__(
        self, inputs: int, steps: int, outputs: int, width: int = 24, pooled: bool = False
    ) -> None:
        super().__init__()
        self.start, self.places = (
            nn.Linear(inputs, width),
            nn.Parameter(0.1 * torch.randn(1, steps, width)),
        )
        layers = [Block(width) for _ in range(2)]
        self.body, self.head, self.pooled = (
            nn.Sequential(*layers),
            nn.Linear(width, outputs),
            pooled,
        )

    def forward(self, x):
        y = self.body(self.start(x) + self.places)
        return self.head(y.mean(1) if self.pooled else y)


class Block(nn.Module):
    """Attention of 2 heads and a feed-forward part, normalised in front."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.joint, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x):
        n, t, c = x.shape
        q, k, v = self.joint(self.norms[0](x)).reshape(n, t, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        share = torch.softmax(q @ k.transpose(-1, -2) / (c / 2) ** 0.5, -1)
        x = x + self.out((share @ v).transpose(1, 2).reshape(n, t, c))
        return x + self.feed(self.norms[1](x))


def patches() -> Data:
    from . import pictures

    x, y = pictures.clothes(28)
    x = x.reshape(-1, 4, 7, 4, 7).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 49)
    return split(x, y)


# ---------------------------------------------------------------- text and graphs


def sentences(width: int = 400) -> Data:
    """Return counts of the most frequent words of SST-2's sentences, and their sentiment."""
    lines = [
        line.rsplit("\t", 1)
        for line in (data_folder() / "sst2" / "train.tsv").read_text().splitlines()
    ]
    texts, y = [a.lower().split() for a, *_ in lines], np.array([int(b) for *_, b in lines])
    words: dict[str, int] = {}
    for text in texts:
        for word in text:
            words[word] = words.get(word, 0) + 1
    place = {w: i for i, w in enumerate(sorted(words, key=lambda w: -words[w])[:width])}
    x = np.zeros((len(texts), width), np.float32)
    for row, text in zip(x, texts, strict=True):
        for word in text:
            if word in place:
                row[place[word]] += 1
    return split(x, y.astype(np.int64), 800)


class Neighbours(nn.Module):
    """Two graph convolutions over a fixed graph of sensors; the values of all of them."""

    def __init__(self, adjacency: Array, inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.register_buffer("adjacency", torch.as_tensor(adjacency))
        self.first, self.second = nn.Linear(inputs, width), nn.Linear(width, outputs)

    def forward(self, x):
        return self.second(self.adjacency @ torch.relu(self.first(self.adjacency @ x)))


def sensors(count: int = 3000, nodes: int = 20) -> tuple[Array, Data]:
    """Return a ring of sensors with chords; loads, and the temperature that they lead to."""
    random = np.random.default_rng(2)
    a = np.eye(nodes) + np.roll(np.eye(nodes), 1, 0) + np.roll(np.eye(nodes), 1, 1)
    for i, j in random.integers(0, nodes, (8, 2)):
        a[i, j] = a[j, i] = 1
    a = (a / a.sum(1, keepdims=True)).astype(np.float32)
    x = random.gamma(2, 1, (count, nodes, 3))
    y = a @ np.sqrt(a @ (x[..., :1] * x[..., 1:2])) + 0.2 * (a @ x[..., 2:])
    return a, split(x, (20 + 5 * y).astype(np.float32), 200)


TAGS = partial(Fit, StepLoss())
AHEAD = partial(Fit, MSE)
UNITS = {"mean": 50.0, "gain": 10.0}

TASKS = (
    *(
        task(
            f"tags, {kind.__name__}",
            "tagger",
            partial(Recurrent, kind, 4, 20, 3, False),
            tagged,
            TAGS(250),
            top1,
        )
        for kind in (nn.LSTM, nn.GRU, nn.RNN)
    ),
    task("tags, transformer", "tagger", partial(Transformer, 4, 24, 3), tagged, TAGS(300), top1),
    task(
        "clothes, patches",
        "transformer",
        partial(Transformer, 49, 16, 10, 32, True),
        patches,
        Fit(steps=500),
        top1,
    ),
    task(
        "forecast, GRU",
        "regressor",
        partial(Recurrent, nn.GRU, 1, 24, 4, True, **UNITS),
        series,
        AHEAD(400),
        r2,
    ),
    task(
        "forecast, LSTM",
        "regressor",
        partial(Recurrent, nn.LSTM, 1, 24, 4, True, **UNITS),
        series,
        AHEAD(400),
        r2,
    ),
    task(
        "forecast, transformer",
        "regressor",
        partial(Transformer, 1, 32, 4, 24, True),
        lambda: _centred(series()),
        AHEAD(400),
        r2,
    ),
    task(
        "sentiment, words", "classifier", partial(mlp, 400, 24, 2), sentences, Fit(steps=500), top1
    ),
    task(
        "sensors on a graph",
        "graph",
        lambda: Neighbours(sensors()[0], 3, 24, 1),
        lambda: sensors()[1],
        Fit(MSE, 1500, 1e-2),
        base.pooled_r2,
    ),
)


def _centred(d: Data) -> Data:
    return Data(d.x / 10 - 5, d.y / 10 - 5, d.test_x / 10 - 5, d.test_y / 10 - 5)
