# SPDX-License-Identifier: Apache-2.0
"""Strided convolutions of a signal, over blocks of samples.

In: ONNX models of a transform and a logarithm.  Out: stride 1 and onnxruntime's values, or the
convolution as it was.
"""

from __future__ import annotations

import pytest
from build_onnx import signed
from neuralmatrix.ir.graph.nodes import Conv, Graph
from onnx_forms import Form, checked


def convolution(samples: int, taps: int, square: bool = True, **attributes: object) -> Graph:
    f = Form()
    part = f.op("Conv", "x", signed((6, 1, taps), 1), signed((6,), 2), **attributes)
    if square:
        f.op("Log", f.op("Add", f.op("Pow", part, 2.0), 0.1))
    return checked(f.model({"x": (1, 1, samples)}), tolerance=1e-4)


def strides(graph: Graph) -> set[tuple[int, ...]]:
    return {node.strides for node in graph.nodes if isinstance(node, Conv)}


@pytest.mark.parametrize(
    ("samples", "taps", "stride", "pads"),
    [(64, 16, 8, [0, 0]), (60, 25, 10, [0, 0]), (64, 20, 16, [16, 7]), (40, 8, 8, [8, 8])],
)
def test_blocks(samples: int, taps: int, stride: int, pads: list[int]) -> None:
    assert strides(convolution(samples, taps, strides=[stride], pads=pads)) == {(1,)}


@pytest.mark.parametrize(
    ("samples", "attributes"),
    [
        (64, {"strides": [4]}),  # short blocks
        (60, {"strides": [8]}),  # the signal ends within a block
        (64, {"strides": [8], "pads": [3, 5]}),  # it begins within one
        (64, {"strides": [8], "dilations": [2]}),
        (64, {"strides": [8], "square": False}),  # no spectrum
    ],
)
def test_other_convolutions_stay(samples: int, attributes: dict[str, object]) -> None:
    assert strides(convolution(samples, 12, **attributes)) == {tuple(attributes["strides"])}  # type: ignore[arg-type,call-overload]
