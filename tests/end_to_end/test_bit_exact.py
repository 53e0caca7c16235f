# SPDX-License-Identifier: Apache-2.0
"""The emulated kernels, the integer reference and the cycle model agree exactly.

In: 300 random networks, ResNet-20 and a MobileNet.  Out: no byte and no cycle differs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.config import load_board
from neuralmatrix.ir import Array, MatGraph
from neuralmatrix.proof import verify_program
from neuralmatrix.quantize import quantize
from neuralmatrix.reference import run_float
from neuralmatrix.schedule import schedule
from neuralmatrix.session import Session
from neuralmatrix.verification import compare
from random_nets import random_net

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "models"))
import zoo  # noqa: E402

pytestmark = pytest.mark.gxx

NETWORKS = 300
PER_TEST = 10


def bounds_of(mg: MatGraph, feed: dict[str, Array]) -> dict[str, tuple[float, float]]:
    values = run_float(mg, feed)
    return {name: (float(v.min()), float(v.max())) for name, v in values.items()}


def check(mg: MatGraph, feed: dict[str, Array], precision: str, board: str) -> None:
    graph = quantize(mg, bounds_of(mg, feed), precision)
    program = schedule(graph, load_board(board))
    verify_program(program)
    found = compare(mg, graph, program, feed)
    assert found.ok, found.to_text()
    session = Session(program, threads=1)
    session.run(feed)
    assert session.stats.cycles == program.estimate().cycles


@pytest.mark.parametrize("first", range(0, NETWORKS, PER_TEST))
def test_random_networks(first: int) -> None:
    for seed in range(first, first + PER_TEST):
        mg, feed = random_net(seed)
        check(mg, feed, "int16" if seed % 3 == 0 else "int8", "pynq-z2")


@pytest.mark.parametrize("seed", range(1000, 1020))
def test_random_networks_on_a_larger_array(seed: int) -> None:
    mg, feed = random_net(seed)
    check(mg, feed, "int16" if seed % 3 == 0 else "int8", "kv260")


@pytest.mark.parametrize("seed", range(2000, 2012))
def test_integers_follow_the_floats(seed: int) -> None:
    """int16 keeps 20 dB even through chains of products of cancelling terms and int8 weights."""
    mg, feed = random_net(seed)
    graph = quantize(mg, bounds_of(mg, feed), "int16")
    found = compare(mg, graph, schedule(graph, load_board("pynq-z2")), feed)
    silent = [np.all(run_float(mg, feed)[layer.name] == 0) for layer in found.layers]
    assert all(s or layer.snr_db > 20 for s, layer in zip(silent, found.layers, strict=True)), (
        found.to_text()
    )


@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v2"])
def test_whole_networks(name: str, precision: str) -> None:
    model = getattr(zoo, name)(size=32)
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    program = nm.compile(model, calibration=[{"input": x}], precision=precision)
    found = nm.verify(model, program, {"input": x})
    assert found.ok, found.to_text()
    assert len(found.layers) == len(program.layers)


@pytest.mark.data
def test_trained_resnet20_byte_for_byte(data: Path) -> None:
    path = data / "resnet_cifar" / "resnet20_finetuned_jpeg.onnx"
    x = np.random.default_rng(0).standard_normal((4, 3, 32, 32)).astype(np.float32)
    program = nm.compile(path, calibration=[{"input": x}])
    found = nm.verify(path, program, {"input": x})
    assert found.ok, found.to_text()
    # int8 weights and activations leave about 30 dB on this network; 20 dB would mean a wrong scale
    assert min(layer.snr_db for layer in found.layers) > 20


def test_a_changed_weight_is_found() -> None:
    """The comparison can fail: one flipped weight bit is reported with the layer it is in."""
    model = zoo.resnet20(size=32)
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    program = nm.compile(model, calibration=[{"input": x}])
    weights = int(program.instructions[program.insn_layer == 0][1][1])
    program.const[weights + np.arange(0, 4096)] ^= 0x40
    found = nm.verify(model, program, {"input": x})
    assert not found.ok
    assert found.first_difference is not None
    assert found.first_difference.name in found.to_text().splitlines()[-1]
