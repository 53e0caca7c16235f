# SPDX-License-Identifier: Apache-2.0
"""One network of every kind, whole on the array.

In: a CNN, a vision and a text transformer, a graph network, recurrent ones.  Out: every tensor of
the emulation equal to the integer reference, nothing on the host but the edges of the network, and
results close to the floats.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from conftest import ROOT
from neuralmatrix.quantization.integer_epilogues import _table
from neuralmatrix.verification import signal_to_noise
from slow import slow_after

sys.path.insert(0, str(ROOT / "models"))
import zoo  # noqa: E402
import zoo_transformers  # noqa: E402

pytestmark = pytest.mark.gxx

DEMO_DATA = Path(nm.__file__).parent / "demo" / "data"
HOST = {"quantize", "dequantize", "gather", "argmax"}
STEPS, FEATURES, HIDDEN, CLASSES = 24, 8, 24, 5
GATES = {"GRU": 3, "LSTM": 4}

Feed = dict[str, np.ndarray]
Net = tuple[onnx.ModelProto, Callable[[np.random.Generator], Feed]]


def recurrent(kind: str, way: str = "forward") -> Net:
    """Return a layer like a trained one: orthogonal recurrent weights, an open forget gate, and a
    classifier of the last state."""
    rng, both = np.random.default_rng(5), 2 if way == "bidirectional" else 1
    rows = GATES[kind] * HIDDEN
    turns = np.linalg.qr(rng.standard_normal((both, GATES[kind], HIDDEN, HIDDEN)))[0]
    bias = np.zeros((both, 2 * rows), np.float32)
    bias[:, 2 * HIDDEN : 3 * HIDDEN] = kind == "LSTM"
    constants = {
        "w": rng.standard_normal((both, rows, FEATURES)) / np.sqrt(FEATURES),
        "r": turns.reshape(both, rows, HIDDEN),
        "b": bias,
        "c": rng.standard_normal((both * HIDDEN, CLASSES)) / np.sqrt(HIDDEN),
    }
    nodes = [
        node(kind, ["x", "w", "r", "b"], ["", "h"], hidden_size=HIDDEN, direction=way),
        node("Transpose", ["h"], ["t"], perm=[1, 0, 2]),
        node("Flatten", ["t"], ["f"]),
        node("MatMul", ["f", "c"], ["y"]),
        node("ArgMax", ["y"], ["best"], axis=1),
    ]
    arrays = {name: np.asarray(value, np.float32) for name, value in constants.items()}
    proto = model(nodes, {"x": (STEPS, 1, FEATURES)}, ["y", "best"], arrays, opset=14,
                  types={"best": onnx.TensorProto.INT64})  # fmt: skip
    return proto, lambda rng: {"x": signals(rng, STEPS, 1, FEATURES)}


def signals(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def packaged(name: str, *shape: int) -> Net:
    return onnx.load(str(DEMO_DATA / name)), lambda rng: {"input": signals(rng, *shape)}


def karate() -> Net:
    proto = onnx.load(str(DEMO_DATA / "karate_gcn.onnx"))
    (name, shape), = ((i.name, [d.dim_value for d in i.type.tensor_type.shape.dim])
                      for i in proto.graph.input)  # fmt: skip
    return proto, lambda rng: {name: signals(rng, *shape)}


def text() -> Net:
    def feed(rng: np.random.Generator) -> Feed:
        length = int(rng.integers(3, 12))
        return {"ids": rng.integers(0, 50, (1, 12)), "mask": (np.arange(12) < length)[None] * 1}

    return zoo_transformers.bert_mini(12, 50), feed


NETS: dict[str, tuple[Callable[[], Net], set[str]]] = {
    "convolutions": (lambda: (zoo.resnet20(32), lambda rng: {"input": signals(rng, 1, 3, 32, 32)}),
                     set()),
    "vision transformer": (lambda: packaged("digits_vit.onnx", 1, 1, 8, 8), set()),
    "text transformer": (text, {"gather"}),
    "graph": (karate, set()),
    "LSTM": (lambda: recurrent("LSTM"), {"argmax"}),
    "GRU both ways": (lambda: recurrent("GRU", "bidirectional"), {"argmax"}),
}  # fmt: skip


@pytest.mark.parametrize("name", slow_after(2, NETS))
def test_every_tensor_of_a_whole_network(name: str) -> None:
    (proto, feed), host = NETS[name][0](), NETS[name][1]
    rng = np.random.default_rng(2)
    program: Any = nm.compile(proto, calibration=[feed(rng) for _ in range(8)])
    assert set(program.host_ops) <= HOST and host <= set(program.host_ops)
    fresh = feed(rng)
    found = nm.verify(proto, program, fresh)
    assert found.ok, found.to_text()
    assert len(found.layers) >= len(program.layers) >= 4
    y, wanted = (list(run.values())[0] for run in (
        nm.Session(program, threads=1).run(fresh), onnxruntime_outputs(proto, fresh)))  # fmt: skip
    # int8 weights and activations through some ten to a hundred layers
    assert signal_to_noise(wanted, y) > 18


def test_steps_of_a_recurrence_share_their_tables() -> None:
    """24 steps of 5 functions need one table each, and a few more for steps that differ."""
    proto, feed = recurrent("LSTM")
    _table.cache_clear()
    nm.compile(proto, calibration=[feed(np.random.default_rng(3))])
    assert _table.cache_info().misses <= 12 < _table.cache_info().hits
