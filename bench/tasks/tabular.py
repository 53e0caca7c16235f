# SPDX-License-Identifier: Apache-2.0
"""Tables: classifiers and regressors with 1 to 20 outputs, inputs and outputs in units.

In: scikit-learn's bundled data sets, synthetic tables.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from networks.base import Run, exported
from torch import nn

from . import base
from .base import Data, Fit, Task, Trained, auc, average_precision, f1, mlp, r2, split, task, top1

MSE = nn.MSELoss()
TO_VALUES = Fit(MSE, 800)
BCE = nn.BCELoss()


def bundled(name: str, test: int, columns: slice = slice(None)) -> Data:
    """Return one of scikit-learn's data sets."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return split(x[:, columns], y if y.dtype.kind == "i" else y[:, None].astype(np.float32), test)


def table(
    outputs: int, seed: int, count: int = 4000, noise: float = 0.1, units: bool = True
) -> Data:
    """Return a smooth function of 8 inputs whose units differ by up to 10,000."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(count, 8))
    a, b = random.normal(size=(8, 16)) / 2, random.normal(size=(16, outputs)) / 4
    y = np.tanh(z @ a) @ b + 0.3 * z[:, :1] * z[:, 1:2]
    y = y / y.std(0) + noise * random.normal(size=y.shape)
    scale = 10.0 ** random.integers(-2, 3, 8) if units else np.ones(8)
    return split(z * scale + 3 * scale * random.normal(size=8), y.astype(np.float32))


def in_units(
    scales: tuple[float, ...], offsets: tuple[float, ...], seed: int, noise: float = 0.1
) -> Data:
    """Return the same with answers in units: ``offsets`` plus ``scales`` times what varies."""
    d = table(len(scales), seed, noise=noise)
    s, o = np.asarray(scales, np.float32), np.asarray(offsets, np.float32)
    return Data(d.x, d.y * s + o, d.test_x, d.test_y * s + o)


def regressor(widths: tuple[int, ...], data, how: Fit = TO_VALUES, act=nn.ReLU,
              calibration: int = 96) -> Trained:  # fmt: skip
    """Train a regressor between standardised values; what is exported takes and gives units."""
    d = data()
    numbers = (d.x.mean(0), d.x.std(0) + 1e-6, d.y.mean(0), d.y.std(0) + 1e-6)
    torch.manual_seed(0)
    net = base.fit(mlp(*widths, act=act), ((d.x - numbers[0]) / numbers[1]).astype(np.float32),
                   (d.y - numbers[2]) / numbers[3], how)  # fmt: skip
    whole = base.InUnits(net, *numbers)
    model = base.exported(whole, torch.as_tensor(d.x[:1]), names=["x"], outputs=["y"])
    return Trained(model, {"x": d.x[:calibration]}, {"x": d.test_x}, d.test_y)


def classifier(widths: tuple[int, ...], data, end: tuple[nn.Module, ...] = (), act=nn.ReLU,
               calibration: int = 96) -> Trained:  # fmt: skip
    """Train a classifier of standardised inputs; what is exported takes units."""
    d = data()
    mean, spread = d.x.mean(0), d.x.std(0) + 1e-6
    torch.manual_seed(0)
    net = base.fit(mlp(*widths, act=act), ((d.x - mean) / spread).astype(np.float32), d.y, Fit())
    whole = nn.Sequential(base.InUnits(net, mean, spread, 0.0, 1.0), *end)
    model = base.exported(whole, torch.as_tensor(d.x[:1]), names=["x"], outputs=["y"])
    return Trained(model, {"x": d.x[:calibration]}, {"x": d.test_x}, d.test_y)


def reg(name: str, widths: tuple[int, ...], data, metric=r2, **more) -> Task:
    return Task(name, "regressor", partial(regressor, widths, data, **more),
                     partial(base.scored, metric))  # fmt: skip


def cls(name: str, widths: tuple[int, ...], data, **more) -> Task:
    return Task(name, "classifier", partial(classifier, widths, data, **more),
                     partial(base.scored, top1))  # fmt: skip


# ---------------------------------------------------------------- rare positives


def rare(share: float, seed: int, count: int = 90000) -> Data:
    """Return tables of which a share is positive: a corner of the inputs, with noise.

    So many of them judge that one positive more or less is no point of a score.
    """
    random = np.random.default_rng(seed)
    z = random.normal(size=(count, 6))
    score = (
        z[:, 0] + z[:, 1] * np.tanh(z[:, 2]) + 0.3 * z[:, 3] ** 2 + 0.2 * random.normal(size=count)
    )
    y = score > np.quantile(score, 1 - share)
    return split(z, y[:, None].astype(np.float32), 50000, seed)


def rare_task(name: str, share: float, seed: int, metric, end: bool = True, **more) -> Task:
    net = partial(mlp, 6, 32, 32, 1)
    return task(
        name,
        "rare positives",
        net,
        partial(rare, share, seed),
        Fit(nn.BCEWithLogitsLoss(), 2500, batch=512),
        metric,
        end=(lambda n: nn.Sequential(n, nn.Sigmoid())) if end else (lambda n: n),
        **more,
    )


# ---------------------------------------------------------------- several outputs


class Heads(nn.Module):
    """Classes, a value in its unit, and a warning, of one body."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(24, 48, 32, end=(nn.ReLU(),))
        self.heads = nn.ModuleList([nn.Linear(32, 4), nn.Linear(32, 1), nn.Linear(32, 1)])

    def forward(self, x):
        y = self.body(x)
        a, b, c = (head(y) for head in self.heads)
        return a, 20 + 5 * b, torch.sigmoid(c)


class Joined(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x):
        return torch.cat(self.net(x), 1)


class AllHeads(nn.Module):
    def forward(self, y, truth):
        value = ((y[:, 4] - truth[:, 1]) ** 2).mean() / 25
        alarm = nn.functional.binary_cross_entropy(y[:, 5].clamp(1e-6, 1 - 1e-6), truth[:, 2])
        return nn.functional.cross_entropy(y[:, :4], truth[:, 0].long()) + value + alarm


def plants(count: int = 6000) -> Data:
    random = np.random.default_rng(7)
    x = random.normal(size=(count, 24))
    a, b = random.normal(size=(24, 4)) / 2, random.normal(size=24) / 5
    kind, value = np.tanh(x @ a).argmax(1), 20 + 5 * np.sin(x @ b)
    alarm = x[:, 0] + x[:, 1] * x[:, 2] > 3.5
    return split(x, np.stack([kind, value, alarm], 1).astype(np.float32), 2000)


def heads() -> Trained:
    torch.manual_seed(0)
    d = plants()
    net = Heads()
    base.fit(Joined(net), d.x, d.y, Fit(AllHeads(), 1200))
    model = exported(net, torch.as_tensor(d.x[:1]), names=["x"], outputs=["kind", "value", "alarm"])
    return Trained(model, {"x": d.x[:96]}, {"x": d.test_x}, d.test_y)


def heads_score(run: Run, made: Trained) -> float:
    """Return the mean of the metrics of the three outputs."""
    y, n = run(made.test), len(made.truth)
    each = (
        top1(y["kind"].reshape(n, -1), made.truth[:, 0]),
        r2(y["value"].reshape(n, 1), made.truth[:, 1:2]),
        f1(y["alarm"], made.truth[:, 2]),
    )
    return float(np.mean(each))


def digits() -> Data:
    return bundled("digits", 400)


def kelvin(seed: int) -> Data:
    return in_units((2.0,), (300.0,), seed)


ladder = partial(in_units, (1.0, 5.0, 25.0, 125.0, 625.0), (0.0,) * 5)

TASKS = (
    cls("digits mlp", (64, 48, 10), digits),
    cls("digits mlp softmax", (64, 32, 32, 10), digits, end=(nn.Softmax(1),)),
    cls("digits tanh", (64, 32, 10), digits, act=nn.Tanh),
    cls("wine", (13, 16, 3), partial(bundled, "wine", 80)),
    cls("iris", (4, 12, 3), partial(bundled, "iris", 60), calibration=64),
    cls("breast cancer", (30, 16, 2), partial(bundled, "breast_cancer", 250)),
    reg("diabetes", (10, 16, 1), partial(bundled, "diabetes", 150), how=Fit(MSE, 150)),
    reg("table, 1 output", (8, 32, 32, 1), partial(table, 1, 1)),
    reg("table, 3 outputs", (8, 32, 32, 3), partial(table, 3, 2)),
    reg("table, 10 outputs", (8, 48, 48, 10), partial(table, 10, 3)),
    reg("table, 20 outputs", (8, 64, 64, 20), partial(table, 20, 4)),
    reg("table, no noise", (8, 64, 64, 1), partial(table, 1, 5, noise=0.0)),
    reg("kelvin", (8, 32, 32, 1), partial(kelvin, 6)),
    reg(
        "metres at sea level 8000", (8, 32, 32, 2), partial(in_units, (5.0, 3.0), (8000.0, 20.0), 7)
    ),
    reg("ladder of units", (8, 48, 48, 5), partial(ladder, 8)),
    reg(
        "10 outputs of size 100", (8, 48, 48, 10), partial(in_units, (100.0,) * 10, (0.0,) * 10, 9)
    ),
    reg("20 outputs of size 30", (8, 64, 64, 20), partial(in_units, (30.0,) * 20, (0.0,) * 20, 10)),
    reg(
        "6 outputs, gelu",
        (8, 48, 48, 6),
        partial(in_units, (10.0,) * 6, (5.0,) * 6, 11),
        act=nn.GELU,
    ),
    reg(
        "pose: metres and radians",
        (8, 48, 48, 6),
        partial(in_units, (4.0, 4.0, 1.0, 0.3, 0.3, 0.3), (10.0, 0.0, 1.5, 0.0, 0.0, 0.0), 12),
    ),
    reg("price", (8, 32, 32, 1), partial(in_units, (90000.0,), (250000.0,), 13)),
    reg(
        "sin arm, 7 joints",
        (8, 64, 64, 7),
        partial(in_units, (1.2,) * 7, (0.3,) * 7, 14),
        act=nn.Tanh,
    ),
    rare_task("rare 1 %, sigmoid", 0.01, 20, f1),
    rare_task("rare 3 %, sigmoid", 0.03, 21, f1),
    rare_task("rare 1 %, logit", 0.01, 22, partial(f1, threshold=0.0), end=False),
    rare_task("rare 1 %, average precision", 0.01, 23, average_precision),
    rare_task("rare 0.3 %, AUC", 0.003, 24, auc),
    rare_task("rare 1 %, alarm from 0.2 on", 0.01, 25, partial(f1, threshold=0.2)),
    rare_task("even, sigmoid", 0.5, 26, base.sides),
    Task("three outputs", "several outputs", heads, heads_score),
)
