# SPDX-License-Identifier: Apache-2.0
"""Networks with a tensor whose parts differ in scale: inputs, outputs, concatenations, states.

In: how many times larger one part is than the others; 1 is the control.  Out: a model, feeds of
single runs, and the outputs by part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from build_onnx import model, node

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Parted:
    """``parts`` takes an output dictionary whose arrays stack the runs along a new first axis."""

    proto: onnx.ModelProto
    feeds: Sequence[Arrays]
    parts: Callable[[Arrays], Arrays]


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _network(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    constants: Mapping[str, Any],
) -> onnx.ModelProto:
    arrays = {name: np.asarray(value) for name, value in constants.items()}
    singles = {n: a if a.dtype.kind == "i" else a.astype(np.float32) for n, a in arrays.items()}
    return model(nodes, inputs, outputs, singles)


def _runs(**stacked: np.ndarray) -> list[Arrays]:
    count = len(next(iter(stacked.values())))
    return [{n: np.float32(x[i]) for n, x in stacked.items()} for i in range(count)]


def _whole(found: Arrays) -> Arrays:
    return found


def table(times: float) -> Parted:
    """Columns in units of their own, the last far from 0, normalised by the first nodes."""
    unit = np.array([times**-0.5, 1, times, 5, 1, times**1.5])
    mean = np.array([0, 1, 2 * times, -5, 0.1, 0 if times == 1 else 30 * times**1.5])
    nodes = [
        node("Sub", ["x", "mean"], ["c"]),
        node("Div", ["c", "std"], ["n"]),
        node("Gemm", ["n", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
        node("Gemm", ["r", "v"], ["y"]),
    ]
    numbers = {"mean": mean, "std": unit, "w": _random(0, 6, 8), "v": _random(1, 8, 2)}
    feeds = _runs(x=mean + unit * _random(2, 64, 1, 6))
    return Parted(_network(nodes, {"x": (1, 6)}, ["y"], numbers), feeds, _whole)


def joined(times: float) -> Parted:
    """Features joined with a raw table in front of an activation and a product."""
    weights = _random(0, 12, 4)
    weights[8:] /= times
    nodes = [
        node("Gemm", ["a", "w"], ["f"]),
        node("Sigmoid", ["f"], ["g"]),
        node("Concat", ["g", "t"], ["j"], axis=1),
        node("Relu", ["j"], ["r"]),
        node("MatMul", ["r", "v"], ["y"]),
    ]
    numbers = {"w": _random(1, 8, 8) * 0.4, "v": weights}
    feeds = _runs(a=_random(2, 48, 1, 8), t=times * _random(3, 48, 1, 4))
    return Parted(_network(nodes, {"a": (1, 8), "t": (1, 4)}, ["y"], numbers), feeds, _whole)


def detection(times: float) -> Parted:
    """Boxes and scores of two maps, joined along anchors; then a product and a sum."""
    numbers: dict[str, Any] = {
        "w": _random(0, 8, 3, 3, 3) * 0.3, "size": times, "low": np.full(12, -4.0),
        "s0": np.array([1, 64, 16]), "s1": np.array([1, 16, 16]), "two": 2.0, "more": 0.125,
    }  # fmt: skip
    nodes = [node("Conv", ["x", "w"], ["a"], strides=[2, 2], pads=[1] * 4)]
    nodes.append(node("Relu", ["a"], ["m0"]))
    nodes.append(node("MaxPool", ["m0"], ["m1"], kernel_shape=[2, 2], strides=[2, 2]))
    for i in "01":
        numbers |= {f"b{i}": _random(1, 4, 8, 1, 1) * 0.3, f"c{i}": _random(2, 12, 8, 1, 1) * 0.5}
        nodes += [
            node("Conv", [f"m{i}", f"b{i}"], [f"boxes{i}"]),
            node("Sigmoid", [f"boxes{i}"], [f"near{i}"]),
            node("Mul", [f"near{i}", "size"], [f"pixels{i}"]),
            node("Conv", [f"m{i}", f"c{i}", "low"], [f"classes{i}"]),
            node("Sigmoid", [f"classes{i}"], [f"scores{i}"]),
            node("Concat", [f"pixels{i}", f"scores{i}"], [f"both{i}"], axis=1),
            node("Transpose", [f"both{i}"], [f"last{i}"], perm=[0, 2, 3, 1]),
            node("Reshape", [f"last{i}", f"s{i}"], [f"rows{i}"]),
        ]
    nodes.append(node("Concat", ["rows0", "rows1"], ["all"], axis=1))
    nodes += [node("Mul", ["all", "two"], ["twice"]), node("Add", ["twice", "more"], ["y"])]
    feeds = _runs(x=2 * _random(3, 3, 1, 3, 16, 16))
    return Parted(
        _network(nodes, {"x": (1, 3, 16, 16)}, ["y"], numbers),
        feeds,
        lambda found: {"boxes": found["y"][..., :4], "scores": found["y"][..., 4:] - 0.125},
    )


def head(times: float) -> Parted:
    """One convolution makes boxes and the rest."""
    unit = np.where(np.arange(12) < 4, times, 1.0)
    nodes = [
        node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
        node("Relu", ["a"], ["b"]),
        node("Conv", ["b", "v", "c"], ["y"]),
    ]
    numbers = {
        "w": _random(0, 8, 3, 3, 3) * 0.3,
        "v": unit[:, None, None, None] * _random(1, 12, 8, 1, 1) * 0.3,
        "c": unit * 0.1,
    }
    return Parted(
        _network(nodes, {"x": (1, 3, 8, 8)}, ["y"], numbers),
        _runs(x=_random(2, 3, 1, 3, 8, 8)),
        lambda found: {"boxes": found["y"][:, :, :4], "rest": found["y"][:, :, 4:]},
    )


def state(times: float, shape: tuple[int, ...] = (2, 1, 16), axis: int = 0) -> Parted:
    """A recurrent step whose state holds h and c, side by side along ``axis``."""
    part = list(shape)
    part[axis] //= 2
    nodes = [
        node("Split", ["state", "halves"], ["h_in", "c_in"], axis=axis),
        node("Reshape", ["h_in", "flat"], ["h0"]),
        node("Reshape", ["c_in", "flat"], ["c0"]),
        node("Concat", ["x", "h0"], ["xh"], axis=1),
        node("Gemm", ["xh", "w"], ["g"]),
        node("Split", ["g", "fours"], ["i", "f", "o", "u"], axis=1),
        *(node("Sigmoid", [k], [f"{k}s"]) for k in "ifo"),
        node("Tanh", ["u"], ["us"]),
        node("Mul", ["fs", "c0"], ["a"]),
        node("Mul", ["is", "us"], ["b"]),
        node("Add", ["a", "b"], ["c1"]),
        node("Reshape", ["os", "part"], ["h2"]),
        node("Reshape", ["c1", "part"], ["c2"]),
        node("Concat", ["h2", "c2"], ["next"], axis=axis),
    ]
    numbers = {
        "w": _random(0, 32, 64) * 0.4, "flat": np.array([1, 16]), "part": np.array(part),
        "halves": np.array([part[axis]] * 2), "fours": np.array([16] * 4),
    }  # fmt: skip
    h, c = np.tanh(_random(1, 24, *part)), times * _random(2, 24, *part)
    feeds = _runs(x=_random(3, 24, 1, 16), state=np.concatenate([h, c], axis + 1))
    proto = _network(nodes, {"x": (1, 16), "state": shape}, ["next"], numbers)
    return Parted(
        proto,
        feeds,
        lambda found: dict(zip("hc", np.split(found["next"], 2, axis + 1), strict=True)),
    )


def updated_state(times: float) -> Parted:
    """A packed state to which both updates are added at once, behind a Split and a product."""
    nodes = [
        node("Split", ["state", "halves"], ["h", "c"], axis=0),
        node("Concat", ["x", "h"], ["xh"], axis=1),
        node("Gemm", ["xh", "w"], ["g"]),
        node("Tanh", ["g"], ["dh"]),
        node("Mul", ["dh", "c"], ["dc"]),
        node("Concat", ["dh", "dc"], ["d"], axis=0),
        node("Add", ["state", "d"], ["next"]),
    ]
    numbers = {"halves": np.array([1, 1]), "w": _random(0, 24, 16) * 0.3}
    packed = np.stack([_random(1, 24, 16), times * _random(2, 24, 16)], 1)
    return Parted(
        _network(nodes, {"x": (1, 8), "state": (2, 16)}, ["next"], numbers),
        _runs(x=_random(3, 24, 1, 8), state=packed),
        lambda found: {"h": found["next"][:, 0], "c": found["next"][:, 1]},
    )


PARTED: Mapping[str, Callable[[float], Parted]] = {
    "table": table,
    "joined": joined,
    "detection": detection,
    "head": head,
    "state along the first axis": state,
    "state along the last axis": lambda times: state(times, (1, 32), 1),
    "state along the middle axis": lambda times: state(times, (1, 2, 16), 1),
    "updated state": updated_state,
}
