# SPDX-License-Identifier: Apache-2.0
"""Small detectors with their selection of boxes inside, in the forms in which exporters write them.

In: nothing.  Out: ModelProtos and inputs; the values in front of the selection by name.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from build_onnx import model, node

CLASSES, CELLS, STRIDE = 5, 8, 4
BOXES = CELLS * CELLS
SHAPE = (1, 3, CELLS * STRIDE, CELLS * STRIDE)
FRONT = ("boxes", "scores")  # what the array computes

Parts = tuple[list[onnx.NodeProto], dict[str, Any]]


def pictures(count: int = 24) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, *SHAPE[1:])).astype(np.float32)


def _f32(array: Any) -> np.ndarray:
    return np.asarray(array, np.float32)


def _ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def head() -> Parts:
    """Two convolutions, and what they say of boxes (1, 4, BOXES) and classes (1, CLASSES, BOXES):
    centre and size in pixels, probabilities."""
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.arange(CELLS), np.arange(CELLS), indexing="ij")
    constants = {
        "w0": _f32(rng.normal(size=(8, 3, 3, 3)) * 0.3),
        "w1": _f32(rng.normal(size=(16, 8, 3, 3)) * 0.15),
        "wb": _f32(rng.normal(size=(4, 16, 1, 1)) * 0.2),
        "wc": _f32(rng.normal(size=(CLASSES, 16, 1, 1)) * 0.3),
        "bc": _f32(np.full(CLASSES, -0.5)),
        "box shape": _ints(1, 4, -1),
        "class shape": _ints(1, CLASSES, -1),
        "grid": _f32(np.stack([x.ravel(), y.ravel()])[None]),
        "stride": _f32(STRIDE),
    }
    nodes = [
        node("Conv", ["x", "w0"], ["c0"], strides=[2, 2], pads=[1] * 4),
        node("Relu", ["c0"], ["r0"]),
        node("Conv", ["r0", "w1"], ["c1"], strides=[2, 2], pads=[1] * 4),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "wb"], ["b0"]),
        node("Conv", ["r1", "wc", "bc"], ["s0"]),
        node("Sigmoid", ["s0"], ["s1"]),
        node("Reshape", ["b0", "box shape"], ["b1"]),
        node("Reshape", ["s1", "class shape"], ["scores"]),
        node("Split", ["b1"], ["xy", "wh"], axis=1),
        node("Add", ["xy", "grid"], ["cell"]),
        node("Mul", ["cell", "stride"], ["centre"]),
        node("Exp", ["wh"], ["e"]),
        node("Mul", ["e", "stride"], ["size"]),
        node("Concat", ["centre", "size"], ["flat"], axis=1),
        node("Transpose", ["flat"], ["boxes"], perm=[0, 2, 1]),
    ]
    return nodes, constants


def _suppressed(least: float) -> Parts:
    constants = {"most": _ints(10), "overlap": _f32([0.45]), "least": _f32([least])}
    operands = ["boxes", "scores", *constants]
    return [node("NonMaxSuppression", operands, ["chosen"], center_point_box=1)], constants


def detector(least: float = 0.4) -> onnx.ModelProto:
    """One row of (image, box, class, score) for every box that stays, as of YOLO with its
    suppression."""
    nodes, constants = head()
    more, also = _suppressed(least)
    constants |= also | {"image": _ints(0), "kind": _ints(1), "1": _ints(1)}
    constants["image and box"] = _ints(0, 2)
    nodes += [
        *more,
        node("Gather", ["chosen", "image and box"], ["at"], axis=1),
        node("GatherND", ["boxes", "at"], ["found boxes"]),
        node("GatherND", ["scores", "chosen"], ["found scores"]),
        node("Gather", ["chosen", "kind"], ["kinds"], axis=1),
        node("Gather", ["chosen", "image"], ["images"], axis=1),
        node("Cast", ["kinds"], ["kinds as reals"], to=1),
        node("Cast", ["images"], ["images as reals"], to=1),
        node("Unsqueeze", ["found scores", "1"], ["column"]),
        node("Concat", ["images as reals", "found boxes", "kinds as reals", "column"],
             ["detections"], axis=1),
    ]  # fmt: skip
    return model(nodes, {"x": SHAPE}, ["detections"], constants)


def best_of_all(limit: int = 12, least: float = 0.3) -> onnx.ModelProto:
    """Boxes, labels and scores of the best of all classes, at most ``limit``, as SSD has them in
    MLPerf: index arithmetic, and a number that depends on what the suppression left."""
    nodes, constants = head()
    more, also = _suppressed(least)
    constants |= also | {
        "0": _ints(0), "1": _ints(1), "2": _ints(2), "flat shape": _ints(-1), "limit": _ints(limit),
        "boxes of a class": np.int64(BOXES),
    }  # fmt: skip
    nodes += [
        *more,
        node("Gather", ["chosen", "1"], ["k"], axis=1),
        node("Gather", ["chosen", "2"], ["b"], axis=1),
        node("Squeeze", ["k", "1"], ["kind"]),
        node("Squeeze", ["b", "1"], ["box"]),
        node("Mul", ["kind", "boxes of a class"], ["row"]),
        node("Add", ["row", "box"], ["place"]),
        node("Reshape", ["scores", "flat shape"], ["all scores"]),
        node("Gather", ["all scores", "place"], ["kept scores"]),
        node("Shape", ["kept scores"], ["count"]),
        node("Min", ["count", "limit"], ["number"]),
        node("TopK", ["kept scores", "number"], ["best", "order"], axis=0),
        node("Gather", ["box", "order"], ["best box"]),
        node("Gather", ["kind", "order"], ["best kind"]),
        node("Squeeze", ["boxes", "0"], ["rows"]),
        node("Gather", ["rows", "best box"], ["found"]),
        node("Unsqueeze", ["found", "0"], ["places"]),
        node("Unsqueeze", ["best kind", "0"], ["labels"]),
        node("Unsqueeze", ["best", "0"], ["confidences"]),
    ]
    whole = onnx.TensorProto.INT64
    outputs = {"places": (1, "n", 4), "labels": (1, "n"), "confidences": (1, "n")}
    proto = model(nodes, {"x": SHAPE}, list(outputs), constants, types={"labels": whole})
    for value in proto.graph.output:
        kind = value.type.tensor_type.elem_type
        value.CopyFrom(onnx.helper.make_tensor_value_info(value.name, kind, outputs[value.name]))
    return proto


def best_of_a_number(count: int = 8) -> onnx.ModelProto:
    """(1, count, 6): boxes, scores and labels of the best ``count``, without a suppression, as
    YOLOv10 has them: two rounds of TopK, division and rest."""
    nodes, constants = head()
    constants |= {
        "count": _ints(count), "-1": _ints(-1), "width": np.int64(CLASSES),
        "4 times": _ints(1, 1, 4), "classes times": _ints(1, 1, CLASSES),
    }  # fmt: skip
    nodes += [
        node("Transpose", ["scores"], ["by box"], perm=[0, 2, 1]),
        node("ReduceMax", ["by box"], ["top"], axes=[-1], keepdims=0),
        node("TopK", ["top", "count"], ["tops", "index"], axis=-1),
        node("Unsqueeze", ["index", "-1"], ["column"]),
        node("Tile", ["column", "4 times"], ["of boxes"]),
        node("Tile", ["column", "classes times"], ["of classes"]),
        node("GatherElements", ["boxes", "of boxes"], ["near boxes"], axis=1),
        node("GatherElements", ["by box", "of classes"], ["near scores"], axis=1),
        node("Flatten", ["near scores"], ["flat scores"]),
        node("TopK", ["flat scores", "count"], ["best", "place"], axis=-1),
        node("Div", ["place", "width"], ["row"]),
        node("Mod", ["place", "width"], ["label"]),
        node("Unsqueeze", ["row", "-1"], ["row column"]),
        node("Tile", ["row column", "4 times"], ["of best"]),
        node("GatherElements", ["near boxes", "of best"], ["best boxes"], axis=1),
        node("Unsqueeze", ["best", "-1"], ["best column"]),
        node("Unsqueeze", ["label", "-1"], ["label column"]),
        node("Cast", ["label column"], ["label as real"], to=1),
        node("Concat", ["best boxes", "best column", "label as real"], ["found"], axis=-1),
    ]
    return model(nodes, {"x": SHAPE}, ["found"], constants)
