# SPDX-License-Identifier: Apache-2.0
"""``bench.architectures``: ratios, counts, the page, and one network from module to verdict.

In: arrays and results with known answers, one small torch module.  Out: numbers, Markdown.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.architectures import page
from bench.architectures.__main__ import cell, counts, first_line, judged, line_of, snr

RIGHT = {"verdict": "right", "dB": 40.0}
RESULTS: list[dict[str, Any]] = [
    {"name": "a", "package": "torch", "export": "legacy", "opset": 11, "int8": RIGHT,
     "int16": {"verdict": "wrong", "dB": 3.25}},
    {"name": "b", "package": "torch", "export": "legacy", "opset": 13,
     "int8": {"verdict": "refused", "why": "UnsupportedModel: X"}, "int16": RIGHT},
    {"name": "c", "package": "timm", "export": "torch.export", "opset": 18, "not exported": "Oh"},
]  # fmt: skip


def test_noise_of_a_tenth_is_20_db() -> None:
    wanted = np.array([[3.0, 4.0]])
    assert snr([wanted], [wanted * 1.1]) == pytest.approx(20.0)
    assert snr([wanted], [wanted]) == 200.0


def test_counts_leave_out_what_torch_did_not_export() -> None:
    lines = counts(RESULTS).splitlines()
    assert lines[0] == "3 networks, 3 exports asked for, 2 made by torch"
    assert counts(RESULTS, 9).startswith("3 networks of 9, 3 exports")
    assert lines[1].startswith("int8: 50.0 %") and "1 refused" in lines[1]
    assert "1 wrong" in lines[2]


def test_a_line_says_why() -> None:
    assert "UnsupportedModel: X" in line_of(RESULTS[1]) and "Oh" in line_of(RESULTS[2])
    assert cell(RIGHT) == "right 40.0 dB"


def test_a_reason_is_the_first_of_a_list() -> None:
    assert first_line(ValueError("2 nodes cannot run:\n  a: no\n  b: no")) == (
        "2 nodes cannot run: a: no"
    )
    assert first_line(ValueError("one\ntwo")) == "one" and first_line(ValueError()) == ""


def test_the_page_has_every_network_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "_versions", lambda: "none")
    text = page.markdown(RESULTS, counts(RESULTS))
    assert "| a | legacy, 11 | right 40.0 dB | wrong 3.2 dB |" in text
    assert "| b (legacy) | UnsupportedModel: X |" in text and "| c (torch.export) | Oh |" in text


@pytest.mark.gxx
@pytest.mark.slow
def test_one_network_as_the_command_judges_it() -> None:
    from build_onnx import model, node, onnxruntime_outputs

    rng = np.random.default_rng(0)
    proto = model([node("MatMul", ["x", "w"], ["a"]), node("Relu", ["a"], ["y"])], {"x": (1, 8)},
                  ["y"], {"w": rng.normal(size=(8, 4)).astype(np.float32)})  # fmt: skip
    feeds = [{"x": rng.normal(size=(1, 8)).astype(np.float32)} for _ in range(20)]
    expected = [onnxruntime_outputs(proto, feed) for feed in feeds[16:]]
    found = judged(proto.SerializeToString(), feeds[:16], feeds[16:], expected, "int8")
    assert found["verdict"] in ("right", "warned") and found["dB"] > 20
