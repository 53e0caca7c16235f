# SPDX-License-Identifier: Apache-2.0
"""Small text networks that make masks and positions of their inputs, as transformers exports them.

In: nothing.  Out: ModelProtos and inputs of token ids, padded at the end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from build_onnx import model, node

LENGTH, WIDTH, WORDS, PADDING = 12, 16, 50, 1
WHOLE = onnx.TensorProto.INT64
IDS = {"input_ids": (1, LENGTH)}


def sentences(count: int = 24) -> np.ndarray:
    rng = np.random.default_rng(1)
    ids = rng.integers(2, WORDS, (count, LENGTH))
    ids[np.arange(LENGTH) >= rng.integers(6, LENGTH + 1, (count, 1))] = PADDING
    return ids


def masks(ids: np.ndarray) -> np.ndarray:
    return (ids != PADDING).astype(np.int64)


def _constants() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "words": rng.normal(size=(WORDS, WIDTH)).astype(np.float32),
        "places": rng.normal(size=(LENGTH + 4, WIDTH)).astype(np.float32),
        "w": (rng.normal(size=(WIDTH, WIDTH)) * 0.3).astype(np.float32),
        "padding": np.int64(PADDING),
        "-1": np.int64(-1),
        "0": np.float32(0),
        "lowest": np.float32(np.finfo(np.float32).min),
        "1 2": np.array([1, 2]),
    }


def _attention(mask: str) -> list[onnx.NodeProto]:
    """Self-attention over "sum" with an additive mask, and its mean."""
    return [
        node("MatMul", ["sum", "w"], ["q"]),
        node("Transpose", ["sum"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["q", "turned"], ["s"]),
        node("Unsqueeze", ["s", "one"], ["heads"]),
        node("Add", ["heads", mask], ["masked"]),
        node("Softmax", ["masked"], ["a"], axis=-1),
        node("Squeeze", ["a", "one"], ["share"]),
        node("MatMul", ["share", "sum"], ["o"]),
        node("ReduceMean", ["o"], ["y"], axes=[1], keepdims=0),
    ]


def of_ids() -> onnx.ModelProto:
    """RoBERTa's: positions are the running sum of what is no padding, plus the padding's number;
    the mask is made of the ids too."""
    constants = _constants() | {"one": np.array([1]), "scale": np.float32(1)}
    nodes = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("Equal", ["input_ids", "padding"], ["is padding"]),
        node("Not", ["is padding"], ["kept"]),
        node("Cast", ["kept"], ["whole"], to=onnx.TensorProto.INT32),
        node("CumSum", ["whole", "-1"], ["running"]),
        node("Mul", ["running", "whole"], ["place"]),
        node("Cast", ["place"], ["long"], to=WHOLE),
        node("Add", ["long", "padding"], ["position"]),
        node("Gather", ["places", "position"], ["where"]),
        node("Add", ["word", "where"], ["sum"]),
        node("Unsqueeze", ["kept", "1 2"], ["wide"]),
        node("Cast", ["wide"], ["real"], to=1),
        node("Sub", ["scale", "real"], ["hidden"]),
        node("Mul", ["hidden", "lowest"], ["mask"]),
        *_attention("mask"),
    ]
    return model(nodes, IDS, ["y"], constants, types={"input_ids": WHOLE})


def of_a_mask() -> onnx.ModelProto:
    """OPT's: positions are the running sum of the mask; the causal mask is joined with the other,
    as booleans that choose between 0 and the lowest float.  Sizes come from Shape."""
    constants = _constants() | {
        "one": np.array([1]), "offset": np.int64(2), "minus": np.int64(1), "zero": np.int64(0),
        "start": np.int64(0), "step": np.int64(1), "1st": np.array([1]), "0 1": np.array([0, 1]),
        "0 1 2": np.array([0, 1, 2]), "0 1 3": np.array([0, 1, 3]), "ones": np.array([1, 1]),
    }  # fmt: skip
    nodes = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("CumSum", ["attention_mask", "-1"], ["running"]),
        node("Mul", ["running", "attention_mask"], ["kept"]),
        node("Sub", ["kept", "minus"], ["from 0"]),
        node("Add", ["from 0", "offset"], ["position"]),
        node("Gather", ["places", "position"], ["where"]),
        node("Add", ["word", "where"], ["sum"]),
        node("Shape", ["input_ids"], ["sizes"]),
        node("Gather", ["sizes", "minus"], ["length"]),
        node("Range", ["start", "length", "step"], ["steps"]),
        node("Unsqueeze", ["steps", "0 1 2"], ["keys"]),
        node("Unsqueeze", ["steps", "0 1 3"], ["queries"]),
        node("LessOrEqual", ["keys", "queries"], ["causal"]),
        node("Cast", ["attention_mask"], ["bits"], to=onnx.TensorProto.BOOL),
        node("Unsqueeze", ["bits", "1 2"], ["columns"]),
        node("And", ["causal", "columns"], ["both"]),
        node("Unsqueeze", ["length", "1st0"], ["length 1"]),
        node("Concat", ["ones", "length 1", "length 1"], ["whole shape"], axis=0),
        node("Expand", ["both", "whole shape"], ["allowed"]),
        node("Where", ["allowed", "0", "lowest"], ["mask"]),
        *_attention("mask"),
    ]
    constants["1st0"] = np.array([0])
    for name in ("zero", "1st", "0 1"):
        del constants[name]
    inputs = {**IDS, "attention_mask": (1, LENGTH)}
    return model(nodes, inputs, ["y"], constants, types=dict.fromkeys(inputs, WHOLE))


def _last() -> list[onnx.NodeProto]:
    """The index of the last word that is no padding, by arg-max of the ids' own arithmetic."""
    return [
        node("Equal", ["input_ids", "padding"], ["is padding"]),
        node("Not", ["is padding"], ["kept"]),
        node("Cast", ["kept"], ["bits"], to=WHOLE),
        node("Mul", ["bits", "numbers"], ["last"]),
        node("ArgMax", ["last"], ["at"], axis=-1, keepdims=1),
        node("Concat", ["first", "at"], ["index"], axis=-1),
    ]


def _classified(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    constants = _constants() | {
        "numbers": np.arange(LENGTH),
        "first": np.array([[0]]),
        "class": np.random.default_rng(2).normal(size=(WIDTH, 3)).astype(np.float32),
    }
    front = [
        node("Gather", ["words", "input_ids"], ["word"]),
        node("MatMul", ["word", "w"], ["h"]),
        node("Relu", ["h"], ["r"]),
    ]
    return model([*front, *_last(), *nodes], IDS, ["y"], constants, types={"input_ids": WHOLE})


def last_word() -> onnx.ModelProto:
    """GPT-2's classifier: the scores of the last word, behind the last product."""
    return _classified(
        node("MatMul", ["r", "class"], ["scores"]), node("GatherND", ["scores", "index"], ["y"])
    )


def picked_word() -> onnx.ModelProto:
    """CLIP's pooling: the last word alone goes on to another product."""
    return _classified(
        node("GatherND", ["r", "index"], ["one"]), node("MatMul", ["one", "class"], ["y"])
    )


NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "of ids": of_ids,
    "of a mask": of_a_mask,
    "last word": last_word,
    "picked word": picked_word,
}


def feeds(proto: onnx.ModelProto, count: int = 24) -> dict[str, np.ndarray]:
    """Inputs of a network by name."""
    ids = sentences(count)
    given = {"input_ids": ids, "attention_mask": masks(ids)}
    return {value.name: given[value.name] for value in proto.graph.input}
