# SPDX-License-Identifier: Apache-2.0
"""Whole graph networks on the array."""

from __future__ import annotations

import sys
from pathlib import Path

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import onnxruntime_outputs
from conftest import ROOT
from graph_models import (
    FEATURES,
    MODELS,
    RandomGraph,
    edge_gcn,
    features,
    random_graph,
)
from graph_networks import GRAPH, lowered
from neuralmatrix.ir.matgraph.ops import Window
from neuralmatrix.verification import signal_to_noise
from slow import slow_after

LEAST_SNR = {"int8": 25, "int16": 38}  # dB; int8 weights and edges bound both


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize("name", slow_after(2, MODELS))
def test_networks_on_the_array(name: str, precision: str) -> None:
    proto, feeds = MODELS[name](GRAPH), {"x": features(GRAPH)}
    program = nm.compile(proto, calibration=[feeds], precision=precision)
    check = nm.verify(proto, program, feeds)
    assert check.ok, check.to_text()
    assert set(program.host_ops) == {"quantize", "dequantize"}
    y = nm.Session(program).run(feeds)["y"]
    expected = onnxruntime_outputs(proto, feeds)["y"]
    assert signal_to_noise(expected, y) > LEAST_SNR[precision]


@pytest.mark.slow
@pytest.mark.gxx
@pytest.mark.data
def test_cora(data: Path) -> None:
    """The accuracy is within 0.3 points of float, the cycles are within 1.25 times the bound."""
    sys.path.insert(0, str(ROOT / "bench"))
    import graphs as bench

    found = {row.what: row for row in bench.cora_rows()}
    assert found["GCN on Cora loss"].verdict == "pass", found
    assert found["GCN on Cora over its bound"].verdict == "pass", found
    assert found["program's constants"].value < 1


@pytest.mark.slow
def test_a_large_graph_keeps_its_width() -> None:
    """The constants grow with the number of edges, not with the square of the nodes."""
    graph: RandomGraph = random_graph(1000, degree=2.0)
    x = np.zeros((graph.nodes, FEATURES), np.float32)
    x[::3, ::2] = 1
    program = nm.compile(edge_gcn(graph), calibration=[{"x": x}])
    assert program.const.size < graph.nodes**2 / 3
    assert not any(isinstance(op, Window) for op in lowered(edge_gcn(graph)).ops)
