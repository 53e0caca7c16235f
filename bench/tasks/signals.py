# SPDX-License-Identifier: Apache-2.0
"""Signals: rare events, anomaly scores, spectrograms, filters, several outputs.

In: synthetic signals, MLPerf Tiny's speech.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from common import data_folder
from networks.base import Array, Run
from torch import nn

from . import base
from .base import (
    Data,
    Fit,
    Task,
    Trained,
    auc,
    average_precision,
    f1,
    mean_precision,
    mlp,
    r2,
    split,
    task,
    top1,
)

MSE = nn.MSELoss()
LENGTH = 64

# ---------------------------------------------------------------- events


def beats(share: float, count: int = 8000, seed: int = 0) -> Data:
    """Return series of one pulse, of which a share are of the wrong form."""
    random = np.random.default_rng(seed)
    t = np.arange(LENGTH)
    bad = random.random(count) < share
    centre, width = (
        random.uniform(24, 40, (count, 1)),
        np.where(bad[:, None], 5.0, 3.0) * random.uniform(0.85, 1.2, (count, 1)),
    )
    x = np.exp(-(((t - centre) / width) ** 2)) + 0.15 * random.normal(size=(count, LENGTH))
    return split(x[:, None], bad[:, None].astype(np.float32), 3000, seed)


def conv1(outputs: int, channels: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(channels, 12, 5, 2, 2),
        nn.BatchNorm1d(12),
        nn.ReLU(),
        nn.Conv1d(12, 16, 5, 2, 2),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * LENGTH // 4, outputs),
    )


def with_sigmoid(net: nn.Module) -> nn.Module:
    return nn.Sequential(net, nn.Sigmoid())


def tones(count: int = 4000) -> Data:
    """Return mixtures of up to 4 of 8 tones, and which."""
    random = np.random.default_rng(1)
    t, on = np.arange(LENGTH), random.random((count, 8)) < 0.2
    waves = np.sin(
        2 * np.pi * (2 + 3 * np.arange(8)[:, None]) * t / LENGTH
        + random.uniform(0, 6, (count, 8, 1))
    )
    x = (on[..., None] * random.uniform(0.3, 1, (count, 8, 1)) * waves).sum(
        1
    ) + 0.5 * random.normal(size=(count, LENGTH))
    return split(x[:, None], on.astype(np.float32))


# ---------------------------------------------------------------- anomalies


def machines(count: int = 4000, seed: int = 2) -> Data:
    """Return 24 correlated readings of machines; half of the tests are of faulty ones."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(4, 24))
    z = random.normal(size=(count, 4))
    x = np.tanh(z @ mix / 2) + 0.05 * random.normal(size=(count, 24))
    bad = np.zeros(count)
    bad[:400:2] = 1
    for i in np.flatnonzero(bad):
        x[i, random.integers(24)] += random.choice([-1, 1]) * random.uniform(0.3, 1.2)
    x = x.astype(np.float32)
    return Data(x[400:], x[400:], x[:400], bad[:400].astype(np.float32))


class Distance(nn.Module):
    """The squared error of an autoencoder, as its score."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return ((x - self.net(x)) ** 2).mean(1, keepdim=True)


def rebuilt(run: Run, made: Trained) -> float:
    """Return the area under the ROC curve of the error that the host works out."""
    (y,) = run(made.test).values()
    error = ((y.reshape(made.test["x"].shape) - made.test["x"]) ** 2).mean(1)
    return auc(error, made.truth)


# ---------------------------------------------------------------- spectrograms


def chirps(count: int = 2500) -> Data:
    """Return noisy chirps that rise, fall or stay, at many levels."""
    random = np.random.default_rng(3)
    t, kind = np.arange(256) / 256, random.integers(0, 3, count)
    start, slope = (
        random.uniform(20, 60, (count, 1)),
        (kind[:, None] - 1) * random.uniform(8, 25, (count, 1)),
    )
    x = np.sin(2 * np.pi * (start * t + slope * t * t / 2)) * 10 ** random.uniform(
        -1, 0.5, (count, 1)
    )
    return split(x + 0.05 * random.normal(size=x.shape), kind.astype(np.int64))


class Spectrogram(nn.Module):
    """Windowed Fourier transforms of 64 samples as a convolution, power, logarithm, and a CNN."""

    def __init__(self, outputs: int, log: bool = True) -> None:
        super().__init__()
        n, k = np.arange(64), np.arange(1, 25)[:, None]
        window, angle = np.hanning(64), 2 * np.pi * k * n / 64
        basis = np.concatenate([np.cos(angle) * window, np.sin(angle) * window])[:, None]
        self.register_buffer("basis", torch.as_tensor(basis, dtype=torch.float32))
        self.body = nn.Sequential(
            nn.Conv1d(24, 16, 3, 1, 1),
            nn.ReLU(),
            nn.Conv1d(16, 16, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 7, outputs),
        )
        self.log = log

    def forward(self, x):
        y = nn.functional.conv1d(x[:, None], self.basis, stride=16)
        power = y[:, :24] ** 2 + y[:, 24:] ** 2
        return self.body(torch.log(power + 1e-3) if self.log else torch.sqrt(power + 1e-6))


def speech() -> Data:
    archive = np.load(data_folder() / "mlperf_tiny" / "kws01.npz")
    x = (archive["x"].astype(np.float32) - 83) * np.float32(0.5847029)
    return split(x.reshape(len(x), -1), archive["y"].astype(np.int64), 300)


# ---------------------------------------------------------------- filters


def cleaned(count: int = 2500) -> Data:
    """Return noisy slow signals, and clean."""
    random = np.random.default_rng(4)
    t = np.arange(LENGTH)
    f, p = random.uniform(0.05, 0.25, (3, count, 1)), random.uniform(0, 6, (3, count, 1))
    y = np.sin(f * t + p).sum(0)
    return split(
        (y + 0.4 * random.normal(size=y.shape))[:, None], y[:, None].astype(np.float32), 300
    )


def filter1(width: int = 16) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(1, width, 9, 1, 4),
        nn.ReLU(),
        nn.Conv1d(width, width, 9, 1, 4),
        nn.ReLU(),
        nn.Conv1d(width, 1, 9, 1, 4),
    )


def snr(y: Array, truth: Array) -> float:
    return float(10 * np.log10(np.mean(truth**2) / np.mean((y.reshape(truth.shape) - truth) ** 2)))


def rates(count: int = 4000) -> Data:
    """Return inputs and counts of events whose rate spans two decades."""
    random = np.random.default_rng(6)
    x = random.normal(size=(count, 6))
    rate = np.exp(1.5 + 0.8 * x[:, 0] + 0.5 * np.tanh(x[:, 1] * x[:, 2]))
    return split(x, rate[:, None].astype(np.float32))


class Exp(nn.Module):
    def forward(self, x):
        return torch.exp(x)


class Poisson(nn.Module):
    def forward(self, y, truth):
        return (y - truth * torch.log(y + 1e-6)).mean()


def log_r2(y: Array, truth: Array) -> float:
    return r2(np.log(np.maximum(y.reshape(truth.shape), 1e-3)), np.log(truth))


TO_SELF = Fit(MSE, 4000)

TASKS = (
    task(
        "beats, 2 % wrong",
        "rare positives",
        partial(conv1, 1),
        partial(beats, 0.02),
        Fit(nn.BCEWithLogitsLoss(), 600),
        f1,
        end=with_sigmoid,
    ),
    task(
        "beats, 5 % wrong",
        "rare positives",
        partial(conv1, 1),
        partial(beats, 0.05, seed=8),
        Fit(nn.BCEWithLogitsLoss(), 600),
        average_precision,
        end=with_sigmoid,
    ),
    task(
        "tones, 8 sigmoids",
        "classifier",
        partial(conv1, 8),
        tones,
        Fit(nn.BCEWithLogitsLoss(), 600),
        mean_precision,
        end=with_sigmoid,
    ),
    Task(
        "anomaly, error on the host",
        "anomaly",
        partial(base.trained, partial(mlp, 24, 24, 4, 24, 24), machines, TO_SELF),
        rebuilt,
    ),
    task(
        "anomaly, score",
        "anomaly",
        partial(mlp, 24, 24, 4, 24, 24),
        machines,
        TO_SELF,
        auc,
        end=Distance,
    ),
    task(
        "anomaly, score, tanh",
        "anomaly",
        partial(mlp, 24, 32, 6, 32, 24, act=nn.Tanh),
        partial(machines, seed=9),
        TO_SELF,
        auc,
        end=Distance,
    ),
    task(
        "chirps, log spectrum", "spectrogram", partial(Spectrogram, 3), chirps, Fit(steps=400), top1
    ),
    task(
        "chirps, magnitude",
        "spectrogram",
        partial(Spectrogram, 3, False),
        chirps,
        Fit(steps=400),
        top1,
    ),
    task("speech, mlp", "classifier", partial(mlp, 490, 48, 12), speech, Fit(steps=200), top1),
    task("filter", "filter", filter1, cleaned, Fit(MSE, 500), snr, "dB"),
    task(
        "rates, exp",
        "regressor",
        partial(mlp, 6, 32, 32, 1, end=(Exp(),)),
        rates,
        Fit(Poisson(), 1200),
        r2,
    ),
    task(
        "rates, exp, by their logarithm",
        "regressor",
        partial(mlp, 6, 32, 32, 1, end=(Exp(),)),
        rates,
        Fit(Poisson(), 1200),
        log_r2,
    ),
    task(
        "rates, softplus",
        "regressor",
        partial(mlp, 6, 32, 32, 1, end=(nn.Softplus(),)),
        rates,
        Fit(MSE, 1200),
        r2,
    ),
)
