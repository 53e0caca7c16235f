# SPDX-License-Identifier: Apache-2.0
"""ONNX normalisation and attention operators, and com.microsoft's fused forms, against onnxruntime.

In: one-node models.  Out: equal values of the lowered graph; refusals that say what is supported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.errors import BadModel, UnsupportedModel
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Attention, Embedding, Graph, Normalize
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.transforms.graph.simplify import simplify
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from targets import lower

MICROSOFT = "com.microsoft"
X = (2, 6, 4, 5)
ROWS = (2, 5, 24)


def compared(
    proto: onnx.ModelProto, feeds: Mapping[str, np.ndarray], by_onnx: bool = False
) -> Graph:
    """Compare values and return the simplified graph; ``by_onnx``: with onnx's own reference."""
    simple = simplify(import_onnx(proto))
    found = run_float(mg := lower(simple), feeds)
    outputs = port_outputs(mg, found)
    if by_onnx:
        names = [o.name for o in proto.graph.output]
        results = ReferenceEvaluator(proto).run(None, dict(feeds))
        wanted = dict(zip(names, results, strict=True))
    else:
        wanted = onnxruntime_outputs(proto, feeds)
    for name, array in wanted.items():
        # float32 sums of a few dozen terms in another order
        np.testing.assert_allclose(outputs[name], array, rtol=2e-5, atol=2e-5)
    return simple


def one(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: object):  # type: ignore[no-untyped-def]
    return node(op, inputs, outputs, **attributes)


def vectors(count: int, *names: str) -> dict[str, np.ndarray]:
    return {name: signed((count,), 20 + i) for i, name in enumerate(names)}


NORMS: dict[str, tuple[onnx.NodeProto, tuple[int, ...], dict[str, np.ndarray], int]] = {
    "layer": (one("LayerNormalization", ["x", "g", "b"]), X, vectors(5, "g", "b"), 17),
    "layer-no-bias": (one("LayerNormalization", ["x", "g"], epsilon=0.1), X, vectors(5, "g"), 17),
    "layer-two-axes": (
        one("LayerNormalization", ["x", "g", "b"], axis=2), X,
        {"g": signed((4, 5), 1), "b": signed((4, 5), 2)}, 17),
    "instance": (one("InstanceNormalization", ["x", "g", "b"]), X, vectors(6, "g", "b"), 17),
    "instance-1d": (
        one("InstanceNormalization", ["x", "g", "b"]), (2, 6, 9), vectors(6, "g", "b"), 17),
    "group": (
        one("GroupNormalization", ["x", "g", "b"], num_groups=3), X, vectors(6, "g", "b"), 21),
    "group-of-all": (
        one("GroupNormalization", ["x", "g", "b"], num_groups=1), X, vectors(6, "g", "b"), 21),
    "lp-2": (one("LpNormalization", ["x"], axis=1), X, {}, 17),
    "lp-1": (one("LpNormalization", ["x"], axis=-1, p=1), X, {}, 17),
    "mean-variance": (one("MeanVarianceNormalization", ["x"]), X, {}, 17),
}  # fmt: skip


@pytest.mark.parametrize("name", NORMS)
def test_normalisation(name: str) -> None:
    made, shape, constants, opset = NORMS[name]
    graph = compared(
        model([made], {"x": shape}, ["y"], constants, opset=opset), {"x": signed(shape)}
    )
    assert any(isinstance(n, Normalize) for n in graph.nodes) or name == "lp-1"


def test_rms_normalisation() -> None:
    made = one("RMSNormalization", ["x", "g"], axis=-1, epsilon=1e-3)
    proto = model([made], {"x": ROWS}, ["y"], vectors(24, "g"), opset=23)
    compared(proto, {"x": signed(ROWS)}, by_onnx=True)


def test_computed_scale_of_a_layer_norm() -> None:
    nodes = [one("Sigmoid", ["z"], ["g"]), one("LayerNormalization", ["x", "g", "b"])]
    proto = model(nodes, {"x": ROWS, "z": (24,)}, ["y"], vectors(24, "b"))
    compared(proto, {"x": signed(ROWS), "z": signed((24,), 1)})


def test_groups_that_do_not_divide_the_channels() -> None:
    made = one("GroupNormalization", ["x", "g", "b"], num_groups=4)
    with pytest.raises(BadModel, match="4 groups of a tensor"):
        import_onnx(model([made], {"x": X}, ["y"], vectors(6, "g", "b"), opset=21))


@pytest.mark.parametrize("axis", [-1, 2])
def test_statistics_may_be_outputs(axis: int) -> None:
    made = one("LayerNormalization", ["x", "g"], ["y", "mean", "inverse"], axis=axis)
    scale = np.abs(signed(X[axis:], 1)) + np.float32(0.1)
    proto = model([made], {"x": X}, ["y", "mean", "inverse"], {"g": scale})
    compared(proto, {"x": signed(X)}, by_onnx=True)


# ---------------------------------------------------------------- com.microsoft


def microsoft(nodes: list[onnx.NodeProto], **more: object) -> onnx.ModelProto:
    return model(nodes, domains=[MICROSOFT], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("simplified", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_skip_layer_normalization(simplified: bool, biased: bool) -> None:
    names = ["x", "s", "g"] if simplified else ["x", "s", "g", "b"]
    names += ["c"] if biased else []
    op = "SkipSimplifiedLayerNormalization" if simplified else "SkipLayerNormalization"
    made = one(op, names, ["y", "", "", "sum"], domain=MICROSOFT, epsilon=1e-5)
    proto = microsoft([made], inputs={"x": ROWS, "s": ROWS}, outputs=["y", "sum"],
                      constants=vectors(24, *names[2:]))  # fmt: skip
    compared(proto, {"x": signed(ROWS), "s": signed(ROWS, 4)})


@pytest.mark.parametrize("segments", ["none", "constant", "input"])
def test_microsoft_embeddings(segments: str) -> None:
    tables = {"w": signed((11, 24), 1), "p": signed((9, 24), 2), "s": signed((2, 24), 3)}
    constants = {**tables, **vectors(24, "g", "b")}
    inputs, names = {"ids": (2, 5)}, ["ids", "", "w", "p", "", "g", "b"]
    feeds = {"ids": np.array([[3, 0, 10, 3, 7], [1, 2, 3, 4, 5]], np.int32)}
    kinds = np.array([[0, 0, 1, 1, 1], [0, 1, 1, 1, 1]], np.int32)
    if segments != "none":
        names[1], names[4] = "kinds", "s"
    if segments == "constant":
        constants["kinds"] = kinds
    elif segments == "input":
        inputs["kinds"], feeds["kinds"] = (2, 5), kinds
    made = one("EmbedLayerNormalization", names, ["y", ""], domain=MICROSOFT, epsilon=1e-5)
    types = dict.fromkeys(inputs, TensorProto.INT32)
    proto = microsoft([made], inputs=inputs, outputs=["y"], constants=constants, types=types)
    graph = compared(proto, feeds)
    assert sum(isinstance(n, Embedding) for n in graph.nodes) == len(inputs)


MASKS: dict[str, np.ndarray] = {
    "none": np.zeros(0),
    "keys": np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
    "lengths": np.array([3, 5], np.int32),
}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", MASKS)
def test_microsoft_attention(mask: str, causal: int) -> None:
    inputs, types, feeds = {"x": ROWS}, {}, {"x": signed(ROWS)}
    names = ["x", "w", "b"]
    if mask != "none":
        names, inputs, types = (
            [*names, "m"],
            {**inputs, "m": MASKS[mask].shape},
            {"m": TensorProto.INT32},
        )
        feeds["m"] = MASKS[mask]
    made = one("Attention", names, domain=MICROSOFT, num_heads=3, unidirectional=causal)
    constants = {"w": signed((24, 72), 3) / 5, "b": signed((72,), 4)}
    proto = microsoft([made], inputs=inputs, outputs=["y"], constants=constants, types=types)
    graph = compared(proto, feeds)
    assert sum(isinstance(n, Attention) for n in graph.nodes) == 1


@pytest.mark.parametrize("biased", [False, True])
def test_microsoft_multi_head_attention(biased: bool) -> None:
    """Cross-attention with a mask per key and a bias of the scores."""
    shapes = {"q": (2, 5, 24), "k": (2, 7, 24), "v": (2, 7, 48)}
    names = [*shapes, "c", "m", *(["r"] if biased else [])]
    made = one("MultiHeadAttention", names, domain=MICROSOFT, num_heads=3)
    constants = {"c": signed((96,), 1), **({"r": signed((1, 3, 5, 7), 2)} if biased else {})}
    proto = microsoft([made], inputs={**shapes, "m": (2, 7)}, outputs=["y"], constants=constants,
                      types={"m": TensorProto.INT32})  # fmt: skip
    feeds = {n: signed(s, i) for i, (n, s) in enumerate(shapes.items())}
    feeds["m"] = np.array([[1, 1, 1, 0, 0, 1, 0], [1] * 7], np.int32)
    graph = compared(proto, feeds)
    assert sum(isinstance(n, Attention) for n in graph.nodes) == 1


def test_a_cache_of_keys_is_refused() -> None:
    made = one("Attention", ["x", "w", "b", "", "past"], ["y"], domain=MICROSOFT, num_heads=3)
    constants = {"w": signed((24, 72)), "b": signed((72,))}
    proto = microsoft([made], inputs={"x": ROWS, "past": (2, 2, 3, 5, 8)}, outputs=["y"],
                      constants=constants)  # fmt: skip
    with pytest.raises(UnsupportedModel, match="cache of past keys"):
        import_onnx(proto)


# ---------------------------------------------------------------- ai.onnx attention

SHAPES = {"q": (2, 4, 5, 8), "k": (2, 2, 7, 8), "v": (2, 2, 7, 6)}


@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("mask", ["none", "bool", "float"])
def test_attention(mask: str, causal: int) -> None:
    """Attention has four heads of queries for two of keys and values."""
    constants = {
        "bool": {"m": np.arange(7) != 3},
        "float": {"m": np.where(np.arange(35).reshape(5, 7) % 5 > 0, 0.5, -np.inf)},
    }.get(mask, {})
    constants = {n: np.broadcast_to(a, (5, 7)).copy() for n, a in constants.items()}
    constants = {n: a if a.dtype == bool else a.astype(np.float32) for n, a in constants.items()}
    made = one("Attention", [*SHAPES, *constants], is_causal=causal, scale=0.4)
    proto = model([made], SHAPES, ["y"], constants, opset=23)
    feeds = {n: signed(s, i) for i, (n, s) in enumerate(SHAPES.items())}
    graph = compared(proto, feeds, by_onnx=True)
    assert sum(isinstance(n, Attention) for n in graph.nodes) == 1


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_attention_behind_a_past_shows_keys_values_and_scores(mode: int) -> None:
    shapes = {**SHAPES, "pk": (2, 2, 3, 8), "pv": (2, 2, 3, 6)}
    names = ["q", "k", "v", "m" if mode == 2 else "", "pk", "pv"]
    constants = {"m": signed((5, 10), 9)} if mode == 2 else {}
    outputs = ["y", "nk", "nv", "s"]
    # of mode 0, onnx's own reference shows capped scores where its text says raw ones
    cap = 2.0 if mode else 0.0
    made = one("Attention", names, outputs, is_causal=int(mode != 2), softcap=cap,
               qk_matmul_output_mode=mode)  # fmt: skip
    feeds = {n: signed(s, i) for i, (n, s) in enumerate(shapes.items())}
    compared(model([made], shapes, outputs, constants, opset=23), feeds, by_onnx=True)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("attrs", [{}, {"is_causal": 1}, {"left_window_size": 2},
                                   {"left_window_size": 1, "right_window_size": 1}])  # fmt: skip
def test_keys_that_a_query_sees_by_its_position(attrs: dict[str, int], fixed: bool) -> None:
    """Two images with 7 and 5 valid keys; the mask is narrower than the keys."""
    lengths = np.asarray([7, 5], np.int64)
    constants = {"m": np.arange(35).reshape(5, 7) % 4 > 0}
    shapes = {**SHAPES, "k": (2, 2, 8, 8), "v": (2, 2, 8, 6)}
    constants |= {"n": lengths} if fixed else {}
    opset = 25 if any("window" in name for name in attrs) else 24
    if opset > max(onnx_opsets()):
        pytest.skip("the onnx package knows no windows of attention")
    if opset == 25 and not fixed:
        constants = {**constants, "n": lengths}
    inputs = shapes if "n" in constants else {**shapes, "n": (2,)}
    made = one("Attention", ["q", "k", "v", "m", "", "", "n"], **attrs)
    proto = model([made], inputs, ["y"], constants, opset=opset, types={"n": TensorProto.INT64})
    feeds = {n: signed(s, i) for i, (n, s) in enumerate(shapes.items())}
    feeds |= {} if "n" in constants else {"n": lengths}
    compared(proto, feeds, by_onnx=True)


def onnx_opsets() -> range:
    return range(1, onnx.defs.onnx_opset_version() + 1)


@pytest.mark.parametrize("softcap", [0.0, 1.5])
def test_attention_of_packed_heads(softcap: float) -> None:
    shapes = {"q": (2, 5, 32), "k": (2, 7, 16), "v": (2, 7, 16)}
    made = one("Attention", list(shapes), q_num_heads=4, kv_num_heads=2, softcap=softcap)
    feeds = {n: signed(s, i) for i, (n, s) in enumerate(shapes.items())}
    compared(model([made], shapes, ["y"], opset=23), feeds, by_onnx=True)


# ---------------------------------------------------------------- rotary embeddings


def angles(positions: int, half: int) -> dict[str, np.ndarray]:
    turn = np.outer(np.arange(positions), 0.7 ** np.arange(half)).astype(np.float32)
    return {"c": np.cos(turn), "s": np.sin(turn)}


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("shape, size", [((2, 3, 5, 8), 8), ((2, 5, 24), 8), ((2, 3, 5, 8), 4)])
def test_rotary_embedding(shape: tuple[int, ...], size: int, interleaved: int) -> None:
    steps = np.array([[4, 0, 1, 2, 9], [0, 1, 2, 3, 4]])
    extra = {"num_heads": 3} if len(shape) == 3 else {}
    if size < 8:
        extra["rotary_embedding_dim"] = size
    made = one("RotaryEmbedding", ["x", "c", "s", "p"], interleaved=interleaved, **extra)
    constants = {**angles(10, size // 2), "p": steps}
    compared(model([made], {"x": shape}, ["y"], constants, opset=23), {"x": signed(shape)}, True)


@pytest.mark.parametrize("steps", [np.array([3]), np.array([[4, 0, 1, 2, 9], [0, 1, 2, 3, 4]])])
def test_microsoft_rotary_embedding(steps: np.ndarray) -> None:
    made = one("RotaryEmbedding", ["x", "p", "c", "s"], domain=MICROSOFT)
    constants = {**angles(10, 4), "p": steps}
    proto = microsoft([made], inputs={"x": (2, 5, 24)}, outputs=["y"], constants=constants)
    compared(proto, {"x": signed((2, 5, 24))})
