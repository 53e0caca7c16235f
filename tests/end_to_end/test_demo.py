# SPDX-License-Identifier: Apache-2.0
"""The embedded demos, from their files to their predictions.

In: the packaged networks, images and graph.  Out: both accuracies, the tables, and the JSON form.
"""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from neuralmatrix.demo import run
from neuralmatrix.errors import BadInput
from rich.console import Console
from targets import target

IMAGES = 60


def test_packaged_data_are_small_and_complete():
    digits = run.load_digits()
    assert sum(path.stat().st_size for path in run.DATA.iterdir()) < 450_000
    assert digits.x.shape == (500, 1, 8, 8) and digits.x.dtype == np.float32
    assert digits.calibration.shape == (128, 1, 8, 8)
    assert digits.x.min() == 0.0 and digits.x.max() == 1.0
    assert set(digits.y.tolist()) == set(range(10))


def test_float_accuracy_of_the_packaged_network():
    digits = run.load_digits()
    chosen = run.TASKS["digits"]
    answers = run._float_logits(chosen, chosen.load(None), target()).argmax(1)
    assert (answers == digits.y).mean() >= 0.98


@pytest.mark.gxx
def test_demo_shows_both_accuracies_and_where_numbers_come_from():
    text = io.StringIO()
    result = run.run_demo(limit=IMAGES, console=Console(file=text, width=160))
    assert result.images == IMAGES
    # int8 may change a prediction with a tiny margin in float: one image in 60.
    assert result.same_answers >= 1 - 1 / IMAGES
    assert abs(result.array_accuracy - result.float_accuracy) <= 1 / IMAGES
    shown = text.getvalue()
    for expected in ("pynq-z2", "60/60", "float accuracy", "emulated", "estimated", "measured"):
        assert expected in shown
    for layer in result.report["layers"]:
        assert layer["name"] in shown


@pytest.mark.gxx
def test_demo_as_json_is_one_object_on_another_board():
    text = io.StringIO()
    run.run_demo("kv260", limit=3, console=Console(file=text), as_json=True)
    found = json.loads(text.getvalue())
    assert found["images"] == 3
    assert found["report"]["board"] == "kv260"
    assert found["estimated"]["frames_per_s"] > 0
    assert 0 <= found["emulated"]["array_accuracy"] <= 1
    assert "float_accuracy" in found["measured"]


@pytest.mark.slow
@pytest.mark.gxx
def test_transformer_demo_runs_whole_on_the_array():
    text = io.StringIO()
    console = Console(file=text, width=160)
    result = run.run_demo(limit=IMAGES, console=console, name="transformer")
    assert (result.demo, result.images, result.answers) == ("transformer", IMAGES, IMAGES)
    assert result.float_accuracy >= 0.95
    # int8 may change two predictions in 60 with a tiny margin in float
    assert result.same_answers >= 1 - 2 / IMAGES
    assert set(result.report["program"]["host_ops"]) <= {"quantize", "dequantize"}
    for expected in ("vision transformer", "left to the host", "array utilisation", "cycles"):
        assert expected in text.getvalue()


@pytest.mark.gxx
def test_graph_demo_tells_the_sides_of_the_club():
    text = io.StringIO()
    result = run.run_demo(console=Console(file=text), as_json=True, name="gnn")
    found = json.loads(text.getvalue())
    assert (found["demo"], found["images"], found["answers"]) == ("gnn", 1, 32)
    # One of the 32 sides is wrong in float; int8 may change one more.
    assert result.float_accuracy == 31 / 32
    assert result.array_accuracy >= 30 / 32
    assert set(result.report["program"]["host_ops"]) <= {"quantize", "dequantize"}


def test_an_unknown_demo_is_refused():
    with pytest.raises(BadInput, match="demo 'cnn': allowed are digits, transformer, gnn"):
        run.run_demo(name="cnn")


def test_a_graph_has_no_limit():
    with pytest.raises(BadInput, match="limit 3: the club is one graph"):
        run.run_demo(limit=3, name="gnn")


def test_a_limit_without_images_is_refused():
    with pytest.raises(BadInput, match="limit 0: allowed is at least 1 image"):
        run.run_demo(limit=0)
