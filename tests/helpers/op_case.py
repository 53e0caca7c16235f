# SPDX-License-Identifier: Apache-2.0
"""One operator under test: its operands and attributes, and the model around it.

In: names, shapes, constants.  Out: pytest parameters, ONNX models and feeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed


@dataclass(frozen=True)
class Case:
    """One node: its run-time inputs' shapes, its constants (None: left out) and attributes."""

    op: str
    shapes: tuple[tuple[int, ...], ...]
    constants: tuple[np.ndarray | None, ...] = ()
    opset: int = 17
    outputs: int = 1
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray
    attrs: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""
    calibrated: bool = False  # the range of its output does not follow from the inputs' scales
    steps: float = 1.0  # output steps between the array and onnxruntime; 0: not run on the array


def case(
    op: str,
    shapes: Any,
    *constants: Any,
    opset: int = 17,
    outputs: int = 1,
    prepare: Callable[[np.ndarray], np.ndarray] = np.asarray,
    domain: str = "",
    calibrated: bool = False,
    steps: float = 1.0,
    **attrs: Any,
) -> Any:
    """Return a pytest parameter; ``shapes`` is one shape or a list of them."""
    several = tuple(shapes) if isinstance(shapes, list) else (shapes,)
    values = tuple(None if c is None else np.asarray(c) for c in constants)
    made = Case(op, several, values, opset, outputs, prepare, attrs, domain, calibrated, steps)
    text = "-".join(f"{k}={v}" for k, v in attrs.items()).replace(" ", "")
    return pytest.param(made, id=f"{op}-{opset}-{text}-{several}".replace(" ", ""))


def w(*shape: int, seed: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.asarray(values, np.int64)


def f32(*values: float) -> np.ndarray:
    return np.asarray(values, np.float32)


def scalar(value: float) -> np.ndarray:
    return np.asarray(value, np.float32)


IMAGE = (2, 5, 7, 6)
TINY = (1, 3, 5, 4)
SIGNAL = (2, 3, 11)


def positive(x: np.ndarray) -> np.ndarray:
    return np.abs(x) + np.float32(0.1)


def float_model(
    one: Case, opset: int | None = None
) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a model of the node alone, and feeds."""
    runtime = {f"x{i}": shape for i, shape in enumerate(one.shapes)}
    constants = {f"c{i}": c for i, c in enumerate(one.constants) if c is not None}
    names = [*runtime, *("" if c is None else f"c{i}" for i, c in enumerate(one.constants))]
    outputs = [f"y{i}" for i in range(one.outputs)]
    proto = model(
        [node(one.op, names, outputs, domain=one.domain, **one.attrs)],
        runtime,
        outputs,
        constants,
        opset=opset or one.opset,
        types={"y0": 7} if one.op in ("ArgMax", "ArgMin") else None,
        domains=[one.domain] if one.domain else [],
    )
    return proto, {name: one.prepare(signed(s, i)) for i, (name, s) in enumerate(runtime.items())}
