# SPDX-License-Identifier: Apache-2.0
"""Control and estimation: policies in a closed loop, filters of long memory, predictions that are
fed back, values of actions, coordinates, inputs of heavy tails.

In: synthetic systems.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from networks.base import Array, Run, exported
from torch import nn

from . import base
from .base import Data, Fit, Task, Trained, mlp, psnr, r2, split, task, top1
from .tabular import cls, reg

MSE = nn.MSELoss()

# ---------------------------------------------------------------- a policy in its loop


def balanced(s: Array) -> Array:
    """Return the force that balances a pole on a cart, from (x, v, angle, speed)."""
    return np.tanh(s @ np.array([[0.45], [0.92], [8.8], [2.8]]))


def moved(s: Array, force: Array) -> Array:
    """Return the state a moment later."""
    x, v, a, w = s.T
    turn = 9.8 * np.sin(a) - 5 * force[:, 0] * np.cos(a)
    step = 0.02 * np.stack([v, 5 * force[:, 0] - 0.3 * np.sin(a), w, turn - 0.1 * w], 1)
    return s + step


def policies(seed: int = 0) -> Data:
    random = np.random.default_rng(seed)
    s = random.normal(size=(4000, 4)) * [0.8, 0.8, 0.2, 0.6]
    return split(s, balanced(s).astype(np.float32))


def kept_up(run: Run, made: Trained) -> float:
    """Return how near the pole stays to upright over 300 steps, 100 if it never leaves."""
    s, away = np.asarray(made.test["x"][:50], np.float64) / 2, []
    for _ in range(300):
        (force,) = run({"x": s.astype(np.float32)}).values()
        s = np.clip(moved(s, force.reshape(-1, 1)), -10, 10)
        away.append(np.minimum(np.abs(s[:, 2]) + 0.1 * np.abs(s[:, 0]), 1.0))
    return 100 * (1 - float(np.mean(away)))


# ---------------------------------------------------------------- long memory


class Memory(nn.Module):
    """A linear filter whose poles are near 1: level and slope of a noisy series."""

    def __init__(self, gain: float = 0.05) -> None:
        super().__init__()
        a, h = np.array([[1, 1], [0, 1.0]]), np.array([[1, 0.0]])
        k = np.array([[2 * gain], [gain**2]])
        self.a = nn.Linear(2, 2, bias=False)
        self.b = nn.Linear(1, 2, bias=False)
        self.a.weight.data = torch.as_tensor((np.eye(2) - k @ h) @ a, dtype=torch.float32)
        self.b.weight.data = torch.as_tensor(k, dtype=torch.float32)

    def forward(self, x, s):
        return self.a(s) + self.b(x)


def walks(count: int, steps: int, seed: int) -> tuple[Array, Array]:
    """Return noisy walks (count, steps, 1), and clean."""
    random = np.random.default_rng(seed)
    slope = np.cumsum(random.normal(0, 0.02, (count, steps)), 1)
    clean = np.cumsum(slope, 1)
    clean *= 20 / np.abs(clean).max(1, keepdims=True)
    return (clean + random.normal(0, 1, clean.shape))[..., None].astype(np.float32), clean


def tracker() -> Trained:
    torch.manual_seed(0)
    net = Memory()
    model = exported(net, torch.zeros(1, 1), torch.zeros(1, 2), names=["x", "s"], outputs=["s_out"])
    x, _ = walks(40, 100, 0)
    feeds, s = [], np.zeros((40, 2), np.float32)
    for t in range(100):
        feeds.append((x[:, t], s))
        with torch.no_grad():
            s = net(*map(torch.as_tensor, feeds[-1])).numpy()
    order = np.random.default_rng(0).permutation(4000)[:128]
    each = [np.concatenate(part)[order] for part in zip(*feeds, strict=True)]
    test, clean = walks(40, 100, 1)
    return Trained(model, {"x": each[0], "s": each[1]}, {"x": test}, clean)


def tracked(run: Run, made: Trained) -> float:
    s, found = np.zeros((len(made.truth), 2), np.float32), []
    for t in range(made.truth.shape[1]):
        (s,) = run({"x": made.test["x"][:, t], "s": s}).values()
        s = np.asarray(s, np.float32).reshape(-1, 2)
        found.append(s[:, 0])
    return r2(np.stack(found, 1).reshape(-1, 1), made.truth.reshape(-1, 1))


def waves(count: int = 3000) -> Data:
    """Return windows of 24 samples of two tones, and the next sample, then 20 more to judge by."""
    random = np.random.default_rng(2)
    t = np.arange(44)
    f, p = random.uniform(0.2, 0.6, (2, count, 1)), random.uniform(0, 6, (2, count, 1))
    y = np.sin(f * t + p).sum(0) / 2
    return split(y[:, :24], y[:, 24:].astype(np.float32), 200)


class FirstOnly(nn.Module):
    def forward(self, y, truth):
        return ((y - truth[:, :1]) ** 2).mean()


def fed_back(run: Run, made: Trained) -> float:
    """Return the explained variance of 20 samples, each predicted from predictions."""
    x, found = made.test["x"], []
    for _ in range(made.truth.shape[1]):
        (y,) = run({"x": x}).values()
        found.append(np.asarray(y, np.float32).reshape(-1, 1))
        x = np.concatenate([x[:, 1:], found[-1]], 1)
    return r2(np.concatenate(found, 1), made.truth)


# ---------------------------------------------------------------- other readings of values


def actions() -> Data:
    """Return states, and the values of 4 actions: a large common part, small differences."""
    random = np.random.default_rng(3)
    x = random.normal(size=(4000, 6))
    common = 20 + 10 * np.tanh(x[:, :1] + 0.5 * x[:, 1:2])
    own = np.tanh(x @ random.normal(size=(6, 4)) / 2)
    return split(x, (common + own).astype(np.float32))


def best_action(y: Array, truth: Array) -> float:
    return top1(y, truth.argmax(-1))


def landmarks() -> Data:
    """Return 8 features of a hand's pose, and 10 coordinates in pixels."""
    random = np.random.default_rng(4)
    x = random.normal(size=(8000, 8))
    a, b = random.normal(size=(8, 24)) / 2, random.normal(size=(24, 10)) * 8
    return split(x, (112 + np.tanh(x @ a) @ b).astype(np.float32), 4000)


def within(y: Array, truth: Array, most: float = 4.0) -> float:
    """Return the share of coordinates that are near the truth."""
    return 100 * float(np.mean(np.abs(y.reshape(truth.shape) - truth) < most))


class Sine(nn.Module):
    def forward(self, x):
        return torch.sin(6 * x)


def picture_of_coordinates() -> Data:
    """Return places of one photo, and their colours."""
    from . import pictures

    photo = pictures.photos(32, 1500)[0][7]
    rows, columns = np.mgrid[:32, :32] / 16 - 1
    return split(
        np.stack([rows, columns], -1).reshape(-1, 2), photo.transpose(1, 2, 0).reshape(-1, 3), 300
    )


def heavy(outputs: int, seed: int) -> Data:
    """Return log-normal inputs, as of amounts of money, and a class or a value of their logs."""
    random = np.random.default_rng(seed)
    z = random.normal(size=(5000, 6))
    y = np.tanh(z @ random.normal(size=(6, max(outputs, 2)))) + 0.1 * random.normal(
        size=(5000, max(outputs, 2))
    )
    return split(
        np.exp(1.3 * z + random.normal(size=6)),
        y.argmax(1) if outputs > 1 else y[:, :1].astype(np.float32),
    )


class Cosines(nn.Module):
    """Cosines with class directions, 30 times."""

    def __init__(self, net: nn.Module, width: int, classes: int) -> None:
        super().__init__()
        self.net, self.ways = net, nn.Parameter(torch.randn(classes, width))

    def forward(self, x):
        return (
            30
            * nn.functional.normalize(self.net(x), dim=1)
            @ nn.functional.normalize(self.ways, dim=1).T
        )


def digits() -> Data:
    from .tabular import bundled

    return bundled("digits", 600)


TASKS = (
    Task(
        "pole on a cart",
        "policy",
        partial(
            base.trained, partial(mlp, 4, 32, 32, 1, end=(nn.Tanh(),)), policies, Fit(MSE, 800)
        ),
        kept_up,
    ),
    Task("tracker of level and slope", "step", tracker, tracked),
    Task(
        "waves, predictions fed back",
        "step",
        partial(base.trained, partial(mlp, 24, 48, 1, act=nn.Tanh), waves, Fit(FirstOnly(), 1500)),
        fed_back,
    ),
    reg("values of 4 actions", (6, 48, 48, 4), actions, best_action),
    reg("landmarks within 4 pixels", (8, 64, 64, 10), landmarks, within),
    reg(
        "landmarks within 1 pixel",
        (8, 96, 96, 10),
        landmarks,
        partial(within, most=1.0),
        how=Fit(MSE, 2500),
    ),
    task(
        "photo of coordinates",
        "regressor",
        partial(mlp, 2, 64, 64, 3, act=Sine),
        picture_of_coordinates,
        Fit(MSE, 2500, 1e-3),
        psnr,
        "dB",
    ),
    cls("amounts, 4 classes", (6, 48, 48, 4), partial(heavy, 4, 1)),
    reg("amounts, a value", (6, 48, 48, 1), partial(heavy, 1, 2)),
    task(
        "digits by cosine",
        "classifier",
        lambda: Cosines(mlp(64, 32, 16), 16, 10),
        digits,
        Fit(),
        top1,
    ),
    cls("digits, deep", (64, 24, 24, 24, 24, 24, 10), digits, act=nn.GELU),
    task(
        "digits, bottleneck of 2",
        "classifier",
        partial(mlp, 64, 32, 2, 32, 10, act=nn.Tanh),
        digits,
        Fit(steps=1500),
        top1,
    ),
)
