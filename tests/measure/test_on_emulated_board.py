# SPDX-License-Identifier: Apache-2.0
"""Benching through the real pynq package on an emulated board: counters equal to the estimate."""

from __future__ import annotations

import json

import pytest
from neuralmatrix.measure.bench import Options, bench_program
from neuralmatrix.measure.text_tables import bench_lines
from neuralmatrix.program.program import Program

pytestmark = [pytest.mark.pynq, pytest.mark.gxx]


def test_bench(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEURALMATRIX_EMULATED_BOARD", "pynq-z2")
    result = bench_program(program, "pynq", Options((1, 3), 3))
    assert result["origin"] == "emulated board" and result["device"]["overlay"]
    assert result["cycles"]["basis"] == "emulated: counters of the emulated board"
    busy, latency = result["cycles"]["busy"], result["latency"]
    assert all(pair["counted"] == pair["estimated"] for pair in busy.values())
    parts = ("host_s", "transfer_s", "array_s")
    assert all(latency[part]["lowest"] > 0 for part in parts)
    assert "measured on the board" not in "\n".join(bench_lines(json.loads(json.dumps(result))))
