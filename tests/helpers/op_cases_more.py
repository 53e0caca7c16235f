# SPDX-License-Identifier: Apache-2.0
"""Cases of operators that become several nodes: einsum, norms, moves by index, fused forms.

In: nothing.  Out: ``MORE``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from op_case import IMAGE, SIGNAL, TINY, case, ints, positive, scalar, w


def inside(x: np.ndarray) -> np.ndarray:
    """Return values within -0.9..0.9."""
    return np.asarray(np.clip(x / 4, -0.9, 0.9), np.float32)


def small(x: np.ndarray) -> np.ndarray:
    """Return values near 0, where exponentials stay small."""
    return np.asarray(np.clip(x, -2, 2), np.float32)


def above_one(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(x) + 1.05, np.float32)


EINSUMS = [
    *(
        case("Einsum", shapes, equation=text, calibrated=True)
        for text, shapes in (
            ("ij,jk->ik", [(3, 5), (5, 4)]),
            ("bij,bkj->bik", [(2, 3, 5), (2, 4, 5)]),
            ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
            ("bqhd,bkhd->bhqk", [(1, 4, 2, 5), (1, 6, 2, 5)]),
            ("bhqk,bkhd->bqhd", [(1, 2, 4, 6), (1, 6, 2, 5)]),
            ("i,j->ij", [(3,), (4,)]),
            ("bij,bij->b", [(2, 3, 4), (2, 3, 4)]),
            ("ij,ik->jk", [(5, 3), (5, 4)]),
            ("bij,kl->bl", [(2, 3, 4), (5, 6)]),
            ("...ij,...jk->...ik", [(2, 2, 3, 5), (2, 2, 5, 4)]),
            ("ij,jk", [(3, 5), (5, 4)]),
            ("ij,jk,kl->il", [(3, 5), (5, 4), (4, 2)]),
        )
    ),
    case("Einsum", (2, 3, 4), equation="ijk->kji"),
    case("Einsum", (2, 3, 4), equation="ijk->j"),
    case("Einsum", (2, 3, 4), equation="ijk"),
    case("Einsum", (2, 3, 5), w(4, 5), equation="bij,kj->bik"),
    case("Einsum", (2, 3, 4, 5), w(4, 5, 6), equation="abhd,hde->abe"),
]

SUMS = [
    *(
        case(op, IMAGE, opset=opset, prepare=positive, keepdims=keep, calibrated=True, **attrs)
        for op in (
            "ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ReduceProd".split()
        )
        for keep, opset, attrs in ((1, 13, {"axes": [1]}), (0, 11, {"axes": [-1, 2]}))
    ),
    *(
        case(op, (3, 4, 5), ints(-1), opset=18, prepare=small, calibrated=True)
        for op in "ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSumExp ReduceProd".split()
    ),
    case("ReduceProd", (2, 7), opset=18, prepare=inside, calibrated=True),
    *(
        case("CumSum", (3, 4, 7), np.asarray(axis, np.int64), **attrs)
        for axis in (0, -1)
        for attrs in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1})
    ),
    *(case("DFT", (2, 12, 1), axis=1, onesided=one) for one in (0, 1)),
    case("STFT", (1, 64), np.asarray(12), w(16), np.asarray(16), onesided=1),
    *(
        case("LRN", (2, 7, 3, 4), calibrated=True, **attrs)
        for attrs in (
            {"size": 3},
            {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 1.5},
            {"size": 9, "alpha": 0.02, "beta": 0.5, "bias": 2.0},
        )
    ),
    case("LpPool", TINY, kernel_shape=[2, 3], strides=[2, 1], calibrated=True),
    case("LpPool", TINY, kernel_shape=[3, 2], pads=[1, 0, 1, 1], p=1, calibrated=True),
    case("LpPool", SIGNAL, kernel_shape=[3], p=3, opset=18, calibrated=True),
    case("GlobalLpPool", IMAGE, calibrated=True),
    case("GlobalLpPool", SIGNAL, p=1, calibrated=True),
]

ELEMENTS = [
    *(case(op, IMAGE) for op in ("Sin", "Cos", "Atan")),
    *(case(op, IMAGE, prepare=inside, opset=9) for op in ("Asin", "Acos", "Atanh", "Tan")),
    *(case(op, IMAGE, prepare=small, opset=9) for op in ("Sinh", "Cosh", "Asinh")),
    case("Acosh", IMAGE, prepare=above_one, opset=9, calibrated=True),
    case("ThresholdedRelu", IMAGE),
    case("ThresholdedRelu", IMAGE, alpha=0.4, opset=10),
    case("Shrink", IMAGE, lambd=0.7, bias=0.25, opset=9),
    *(case("Pow", IMAGE, scalar(p), prepare=positive, calibrated=True) for p in (1.5, -2, 0.3, 4)),
    case("Pow", IMAGE, scalar(4), prepare=small),
    case(
        "Pow",
        (3, 4),
        np.float32([[3, 0, 2, 5], [1, 1, 0, 4], [2, 2, 2, 6]]),
        prepare=inside,
        calibrated=True,
        steps=3.0,
    ),
    *(case("Trilu", shape, opset=14) for shape in ((5, 7), (2, 3, 4, 4))),
    case("Trilu", (2, 5, 7), np.asarray(-2, np.int64), upper=0),
    case("Trilu", (2, 5, 7), np.asarray(1, np.int64), upper=1),
    case("ArgMin", IMAGE, axis=1),
    case("ArgMin", IMAGE, axis=-1, keepdims=0, select_last_index=1, opset=13),
]

GRID = np.random.default_rng(3).uniform(-1.2, 1.2, (1, 4, 3, 2)).astype(np.float32)
SAMPLES = [case("GridSample", TINY, GRID, calibrated=True)]

MOVES = [
    case("GatherElements", (3, 4, 5), np.asarray([[[0, 2], [1, -1]]], np.int64), axis=2),
    case("GatherElements", (3, 4), np.asarray([[2, 0, 1, 1]], np.int64), opset=11),
    case("GatherND", (3, 4, 5), ints(0, 1, 2, 3, -1, 0).reshape(3, 2)),
    case("GatherND", (3, 4, 5), ints(1, 0, 3).reshape(3, 1), batch_dims=1, opset=12),
    case("ReverseSequence", (4, 3, 2), ints(4, 1, 2), batch_axis=1, time_axis=0),
    case("Compress", (3, 4), np.asarray([1, 0, 1], bool), axis=0, opset=11),
    case("ScatterND", (5, 3), ints(3, 0).reshape(2, 1), w(2, 3), opset=16),
    case("ScatterND", (5, 3), ints(3, 0, 3).reshape(3, 1), w(3, 3), reduction="add", opset=16),
    case("ScatterElements", (4, 3), ints(3, 0, 1).reshape(1, 3), w(1, 3), axis=0),
    case(
        "ScatterElements",
        (4, 3),
        np.repeat(ints(3, 0, 3, 1, -1), 3).reshape(5, 3),
        w(5, 3),
        axis=0,
        reduction="add",
        opset=16,
    ),
]

_MS = {"domain": "com.microsoft"}
MICROSOFT_FORMS = [
    case("Gelu", IMAGE, **_MS),
    case("BiasGelu", (2, 3, 6), w(6), **_MS),
    case("FastGelu", (2, 3, 6), w(6), **_MS),
    case("FastGelu", (2, 3, 6), **_MS),
    case("QuickGelu", IMAGE, **_MS),
    case("QuickGelu", IMAGE, alpha=1.2, **_MS),
    case("FusedMatMul", [(2, 3, 5), (2, 4, 5)], transB=1, alpha=0.3, **_MS),
    case("FusedMatMul", (2, 5, 3), w(5, 4), transA=1, **_MS),
    case("FusedMatMul", (3, 5), w(5, 4), **_MS),
    case("FusedGemm", (3, 5), w(4, 5), w(4), transB=1, activation="Relu", **_MS),
    case("FusedGemm", (3, 5), w(5, 4), w(4), activation="LeakyRelu", activation_alpha=0.3, **_MS),
    case("FusedConv", IMAGE, w(4, 5, 3, 3), w(4), activation="Relu", pads=[1, 1, 1, 1], **_MS),
    case(
        "FusedConv",
        IMAGE,
        w(4, 5, 1, 1),
        activation="Clip",
        activation_params=[0.0, 6.0],
        **_MS,
    ),
]

STEPS, BATCH, WIDTH, HIDDEN = 4, 2, 3, 7
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def recurrent(op: str, **attrs: Any) -> Any:
    """Return a case of a layer with a bias, in the direction and layout of ``attrs``."""
    # every step rounds its gates and its state; fitting tables of unrolled layers is slow
    steps = attrs.pop("array_steps", 0.0)
    both = 2 if attrs.get("direction") == "bidirectional" else 1
    rows = _GATES[op] * HIDDEN
    constants = [w(both, rows, WIDTH), w(both, rows, HIDDEN, seed=8), w(both, 2 * rows, seed=9)]
    shape = (BATCH, STEPS, WIDTH) if attrs.get("layout") else (STEPS, BATCH, WIDTH)
    extra = attrs.pop("extra", ())
    count = 3 if op == "LSTM" else 2
    return case(op, shape, *constants, *extra, outputs=count, hidden_size=HIDDEN, calibrated=True,
                opset=14, steps=steps, **attrs)  # fmt: skip


_FULL = np.full(BATCH, STEPS, np.int32)
RECURRENT = [
    *(
        recurrent(op, direction=way)
        for op in _GATES
        for way in ("forward", "reverse", "bidirectional")
    ),
    recurrent("GRU", linear_before_reset=1, direction="bidirectional"),
    recurrent("RNN", extra=(_FULL, w(1, BATCH, HIDDEN))),
    recurrent("GRU", extra=(None, w(1, BATCH, HIDDEN)), linear_before_reset=1),
    recurrent("GRU", extra=(None, w(1, BATCH, HIDDEN)), activations=["HardSigmoid", "Relu"],
              array_steps=3.0),
    recurrent("LSTM", extra=(_FULL, w(1, BATCH, HIDDEN), w(1, BATCH, HIDDEN), w(1, 3 * HIDDEN))),
    recurrent("LSTM", extra=(None, None, None, w(1, 3 * HIDDEN))),
    recurrent("LSTM", activations=["HardSigmoid", "Relu", "Softsign"], activation_alpha=[0.3],
              activation_beta=[0.4], array_steps=3.0),
    recurrent("RNN", activations=["LeakyRelu"], activation_alpha=[0.2], array_steps=3.0),
]  # fmt: skip

MORE = [*RECURRENT, *EINSUMS, *SUMS, *ELEMENTS, *MOVES, *SAMPLES, *MICROSOFT_FORMS]
