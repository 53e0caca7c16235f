# SPDX-License-Identifier: Apache-2.0
"""Networks of one step, whose state is fed back.

In: the series of ``sequences``, a pendulum.  Out: ``TASKS``.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from networks.base import Array, Run, exported
from torch import nn

from . import base
from .base import Data, Fit, Task, Trained, mlp, r2, split, top1
from .sequences import AHEAD, MSE, TAGS, UNITS, Recurrent, series, tagged

# ---------------------------------------------------------------- one step, its state fed back


class Step(nn.Module):
    """One step of a recurrent layer: input and states to output and states."""

    def __init__(self, net: Recurrent) -> None:
        super().__init__()
        self.net, self.lstm = net, isinstance(net.cell, nn.LSTM)

    def forward(self, x, *states):
        given = tuple(s[None] for s in states)
        y, after = self.net.cell(
            (x[:, None] - self.net.mean) / self.net.gain, given if self.lstm else given[0]
        )
        after = after if self.lstm else (after,)
        return (self.net.head(y[:, 0]) * self.net.gain + self.net.mean, *(s[0] for s in after))


def stepwise(build, data, how: Fit, mean: float = 0.0, gain: float = 1.0) -> Trained:
    """Train on whole series, export one step, calibrate on steps with the states that they get."""
    torch.manual_seed(0)
    d = data()
    net = base.fit(build(mean=mean, gain=gain), d.x, d.y, how)
    step, count = Step(net).eval(), 2 if isinstance(net.cell, nn.LSTM) else 1
    names = [f"s{k}" for k in range(count)]
    states = [torch.zeros(1, net.cell.hidden_size)] * count
    model = exported(
        step,
        torch.as_tensor(d.x[:1, 0]),
        *states,
        names=["x", *names],
        outputs=["y", *(f"{n}_out" for n in names)],
    )
    feeds = _steps_of(step, d.x[:32], names)
    order = np.random.default_rng(0).permutation(len(feeds["x"]))[:128]
    return Trained(model, {n: f[order] for n, f in feeds.items()}, {"x": d.test_x}, d.test_y)


def _steps_of(step: Step, x: Array, names: list[str]) -> dict[str, Array]:
    """Return what a step is given on whole series."""
    states, feeds = [np.zeros((len(x), step.net.cell.hidden_size), np.float32)] * len(names), []
    for t in range(x.shape[1]):
        feeds.append([x[:, t], *states])
        with torch.no_grad():
            _, *after = step(*map(torch.as_tensor, feeds[-1]))
        states = [s.numpy() for s in after]
    return {n: np.concatenate([f[k] for f in feeds]) for k, n in enumerate(["x", *names])}


def stepped(metric, last: bool, run: Run, made: Trained) -> float:
    """Return the metric of outputs of a step that gets its own states."""
    x, truth = made.test["x"], made.truth
    shapes = {p.name: p.type.tensor_type.shape.dim[1].dim_value for p in made.model.graph.input[1:]}
    states = {n: np.zeros((len(x), width), np.float32) for n, width in shapes.items()}
    outputs = []
    for t in range(x.shape[1]):
        found = run({"x": x[:, t], **states})
        outputs.append(found["y"].reshape(len(x), -1))
        states = {n: np.asarray(found[f"{n}_out"], np.float32).reshape(len(x), -1) for n in states}
    return metric(outputs[-1] if last else np.stack(outputs, 1), truth)


# ---------------------------------------------------------------- models of a system


def pendulum(count: int = 4000) -> Data:
    """Return states (angle, speed) with a torque, and what they change to."""
    random = np.random.default_rng(0)
    s, u = random.uniform(-2, 2, (count, 2)), random.uniform(-1, 1, (count, 1))
    return split(np.concatenate([s, u], 1), _swing(s, u).astype(np.float32))


def _swing(s: Array, u: Array) -> Array:
    speed = s[:, 1:] + 0.1 * (-2 * np.sin(s[:, :1]) - 0.3 * s[:, 1:] + u)
    return np.concatenate([s[:, :1] + 0.1 * speed, speed], 1)


class Dynamics(nn.Module):
    """A state and a torque to the next state."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, s, u):
        return s + 0.1 * self.net(torch.cat([s, u], 1))


class OfBoth(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = Dynamics(net)

    def forward(self, x):
        return self.net(x[:, :2], x[:, 2:])


def simulator() -> Trained:
    torch.manual_seed(0)
    d = pendulum()
    both = OfBoth(mlp(3, 32, 32, 2, act=nn.Tanh))
    base.fit(both, d.x, d.y, Fit(MSE, 1500))
    model = exported(
        both.net, torch.zeros(1, 2), torch.zeros(1, 1), names=["s", "u"], outputs=["s_out"]
    )
    random = np.random.default_rng(5)
    torque = random.uniform(-1, 1, (40, 60, 1)).astype(np.float32)
    s, right = random.uniform(-1, 1, (40, 2)), []
    start = s.astype(np.float32)
    for t in range(torque.shape[1]):
        s = _swing(s, torque[:, t])
        right.append(s)
    return Trained(
        model,
        {"s": d.x[:128, :2], "u": d.x[:128, 2:]},
        {"s": start, "u": torque},
        np.stack(right, 1),
    )


def simulated(run: Run, made: Trained) -> float:
    s, found = made.test["s"], []
    for t in range(made.truth.shape[1]):
        (s,) = run({"s": s.reshape(-1, 2), "u": made.test["u"][:, t]}).values()
        s = np.asarray(s, np.float32).reshape(-1, 2)
        found.append(s)
    return r2(np.stack(found, 1).reshape(-1, 2), made.truth.reshape(-1, 2))


TASKS = (
    Task(
        "step, GRU tags",
        "step",
        partial(stepwise, partial(Recurrent, nn.GRU, 4, 20, 3, False), tagged, TAGS(250)),
        partial(stepped, top1, False),
    ),
    Task(
        "step, LSTM tags",
        "step",
        partial(stepwise, partial(Recurrent, nn.LSTM, 4, 20, 3, False), tagged, TAGS(250)),
        partial(stepped, top1, False),
    ),
    Task(
        "step, GRU forecast",
        "step",
        partial(stepwise, partial(Recurrent, nn.GRU, 1, 24, 4, True), series, AHEAD(400), **UNITS),
        partial(stepped, r2, True),
    ),
    Task(
        "step, LSTM forecast",
        "step",
        partial(stepwise, partial(Recurrent, nn.LSTM, 1, 24, 4, True), series, AHEAD(400), **UNITS),
        partial(stepped, r2, True),
    ),
    Task(
        "step, RNN tags",
        "step",
        partial(
            stepwise,
            partial(Recurrent, nn.RNN, 4, 20, 3, False),
            partial(tagged, seed=4),
            TAGS(250),
        ),
        partial(stepped, top1, False),
    ),
    Task("pendulum, 60 steps", "step", simulator, simulated),
)
