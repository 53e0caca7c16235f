# SPDX-License-Identifier: Apache-2.0
"""What the small tasks share: how one is described, trained and judged.

In: data, torch modules.  Out: ``Task``; ``Trained``, a network with the inputs that calibrate it
and those that judge it; metrics in percent or dB.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from networks.base import Array, Feed, Run, exported
from torch import nn

CALIBRATION = 96  # inputs, unless a task has its own number
TEST = 1000


@dataclass(frozen=True)
class Trained:
    """``test``: inputs that were neither trained nor calibrated on; ``truth``: what is right."""

    model: Any
    calibration: Feed
    test: Feed
    truth: Array


@dataclass(frozen=True)
class Task:
    """A task: ``score(run, trained)`` is its metric in ``unit``, larger is better."""

    name: str
    kind: str
    make: Callable[[], Trained]
    score: Callable[[Run, Trained], float]
    unit: str = "%"


@dataclass(frozen=True)
class Data:
    """Inputs and answers, of training and of test."""

    x: Array
    y: Array
    test_x: Array
    test_y: Array


def split(x: Array, y: Array, test: int = TEST, seed: int = 0) -> Data:
    """Return data in random order; ``test`` of them judge."""
    order = np.random.default_rng(seed).permutation(len(x))
    x, y = np.asarray(x, np.float32)[order], np.asarray(y)[order]
    return Data(x[test:], y[test:], x[:test], y[:test])


# ---------------------------------------------------------------- training


@dataclass(frozen=True)
class Fit:
    """How a network is trained."""

    loss: Callable[[Any, Any], Any] = field(default_factory=nn.CrossEntropyLoss)
    steps: int = 400
    rate: float = 3e-3
    batch: int = 64


def fit(net: nn.Module, x: Array, y: Array, how: Fit, seed: int = 0) -> nn.Module:
    """Train a network with Adam and a rate that falls to 0."""
    random = np.random.default_rng(seed)
    inputs = torch.as_tensor(x)
    answers = torch.as_tensor(y if y.dtype.kind == "i" else y.astype(np.float32))
    optimiser = torch.optim.Adam(net.parameters(), how.rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, how.steps)
    net.train()
    for _ in range(how.steps):
        some = torch.as_tensor(random.integers(0, len(x), how.batch))
        optimiser.zero_grad()
        how.loss(net(inputs[some]), answers[some]).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return net.eval()


def trained(build: Callable[[], nn.Module], data: Callable[[], Data], how: Fit,
            end: Callable[[nn.Module], nn.Module] = lambda net: net,
            calibration: int = CALIBRATION) -> Trained:  # fmt: skip
    """Train a network of one input and one output; ``end`` is what its user exports."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    given = data()
    net = end(fit(build(), given.x, given.y, how)).eval()
    model = exported(net, torch.as_tensor(given.x[:1]), names=["x"], outputs=["y"])
    return Trained(model, {"x": given.x[:calibration]}, {"x": given.test_x}, given.test_y)


def task(
    name: str,
    kind: str,
    build: Callable[[], nn.Module],
    data: Callable[[], Data],
    how: Fit,
    metric: Callable[[Array, Array], float],
    unit: str = "%",
    **more: Any,
) -> Task:
    """Return a task of one input and one output."""
    return Task(
        name, kind, partial(trained, build, data, how, **more), partial(scored, metric), unit
    )


def scored(metric: Callable[[Array, Array], float], run: Run, made: Trained) -> float:
    """Return the metric of the only output."""
    (y,) = run(made.test).values()
    return metric(np.asarray(y, np.float64).reshape(len(made.truth), *y.shape[1:]), made.truth)


class InUnits(nn.Module):
    """A network between standardised inputs and outputs, in units outside."""

    def __init__(self, net: nn.Module, *numbers: Array) -> None:
        super().__init__()
        self.net = net
        self.numbers = [torch.as_tensor(np.asarray(n, np.float32)) for n in numbers]

    def forward(self, x: Any) -> Any:
        mean, spread, offset, gain = self.numbers
        return self.net((x - mean) / spread) * gain + offset


# ---------------------------------------------------------------- metrics, larger is better


def top1(y: Array, truth: Array) -> float:
    """Return the share of right classes; they lie along the last axis."""
    return 100 * float(np.mean(y.argmax(-1) == truth))


def r2(y: Array, truth: Array) -> float:
    """Return the explained share of the variance, the mean over the columns."""
    y, truth = y.reshape(len(y), -1), truth.reshape(len(truth), -1)
    error, spread = np.mean((y - truth) ** 2, 0), truth.var(0) + 1e-12
    return 100 * float(np.mean(1 - error / spread))


def pooled_r2(y: Array, truth: Array) -> float:
    """Return the explained share of the variance of all elements together."""
    return r2(y.reshape(-1, 1), truth.reshape(-1, 1))


def f1(y: Array, truth: Array, threshold: float = 0.5) -> float:
    """Return the harmonic mean of precision and recall."""
    found, right = y.ravel() > threshold, truth.ravel() > 0.5
    return 200 * float(np.sum(found & right)) / max(1.0, float(found.sum() + right.sum()))


def sides(y: Array, truth: Array, threshold: float = 0.5) -> float:
    """Return the share of values on the right side of a threshold."""
    return 100 * float(np.mean((y.reshape(truth.shape) > threshold) == (truth > 0.5)))


def auc(y: Array, truth: Array) -> float:
    """Return the area under the ROC curve."""
    from sklearn.metrics import roc_auc_score

    return 100 * float(roc_auc_score(truth.ravel() > 0.5, y.reshape(-1)))


def average_precision(y: Array, truth: Array) -> float:
    """Return the area under precision over recall."""
    from sklearn.metrics import average_precision_score

    return 100 * float(average_precision_score(truth.ravel() > 0.5, y.reshape(-1)))


def psnr(y: Array, truth: Array) -> float:
    """Return the ratio of the peak 1 to the error, in dB."""
    return -10 * float(np.log10(np.mean((y.reshape(truth.shape) - truth) ** 2)))


def iou(y: Array, truth: Array) -> float:
    """Return intersection over union of masks at 0.5."""
    found, right = y.reshape(truth.shape) > 0.5, truth > 0.5
    return 100 * float((found & right).sum() / (found | right).sum())


def mean_precision(y: Array, truth: Array) -> float:
    """Return the average precision, the mean over the columns."""
    columns = range(truth.shape[-1])
    return float(np.mean([average_precision(y[..., k], truth[..., k]) for k in columns]))


# ---------------------------------------------------------------- parts of networks


def mlp(
    *widths: int, act: Callable[[], nn.Module] = nn.ReLU, end: Sequence[nn.Module] = ()
) -> nn.Sequential:
    """Return fully connected layers of these widths."""
    layers: list[nn.Module] = []
    for a, b in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1], *end)


def conv(
    a: int, b: int, k: int = 3, stride: int = 1, act: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Return a convolution, batch normalisation and an activation."""
    return nn.Sequential(nn.Conv2d(a, b, k, stride, k // 2), nn.BatchNorm2d(b), act())
