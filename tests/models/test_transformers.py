# SPDX-License-Identifier: Apache-2.0
"""The transformers and graph networks under models/, without torch.

In: small sizes; the trained weights that the repository keeps; data where NEURALMATRIX_DATA is set.
Out: sizes, dependencies of outputs, agreement of two forms of one network, accuracies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_DATA = REPOSITORY / "host" / "neuralmatrix" / "demo" / "data"
NAMES = "zoo zoo_transformers zoo_graphs training train_vit train_text".split()


@pytest.fixture(scope="module")
def models():
    """The folder's modules by name."""
    sys.path.insert(0, str(REPOSITORY / "models"))
    try:
        yield {name: __import__(name) for name in NAMES}
    finally:
        sys.path.remove(str(REPOSITORY / "models"))
        for name in NAMES:
            sys.modules.pop(name, None)


def run(model, **feeds):
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(model.SerializeToString()).run(None, feeds)[0]


def tokens(seed, *shape):
    return np.random.default_rng(seed).integers(0, 50, shape)


def initializers(model):
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}


# Millions of parameters: DeiT's table for ViT-Ti; the others counted by hand from layers, widths
# and vocabulary (4 d^2 + 2 d h weights a layer, and biases and norms).
KNOWN = {
    "vit_tiny": ({}, 5.717, {"Softmax": 12, "LayerNormalization": 25, "Erf": 12}),
    "bert_small": ({"vocabulary": 50}, 12.70, {"Softmax": 4, "LayerNormalization": 9, "Erf": 4}),
    "bert_mini": ({"vocabulary": 50}, 3.205, {"Softmax": 4, "LayerNormalization": 9, "Erf": 4}),
    "decoder_small": ({"vocabulary": 50}, 3.240, {"Softmax": 4, "Sigmoid": 4, "Reciprocal": 9}),
}


@pytest.mark.parametrize("name", KNOWN)
def test_size_and_make_up(models, name):
    options, millions, counts = KNOWN[name]
    model = models["zoo_transformers"].TRANSFORMERS[name](**options)
    learned = [t for t in model.graph.initializer if "." in t.name or t.name in _NAMED]
    parameters = sum(np.prod(t.dims) for t in learned if t.data_type == onnx.TensorProto.FLOAT)
    ops = [node.op_type for node in model.graph.node]
    assert parameters / 1e6 == pytest.approx(millions, rel=0.002)
    assert {op: ops.count(op) for op in counts} == counts


_NAMED = {"position", "class_token"}


def test_every_transformer_is_listed(models):
    assert set(models["zoo_transformers"].TRANSFORMERS) == {*KNOWN, "bert_base"}


def test_the_seed_decides_every_weight(models):
    make = models["zoo_transformers"].decoder_small
    first, again, other = (make(8, 20, seed=s).SerializeToString() for s in (3, 3, 4))
    assert first == again != other


@pytest.mark.slow
def test_random_networks_keep_their_signal(models):
    zoo = models["zoo_transformers"]
    mask = np.ones((1, 12), np.int64)
    outputs = [
        run(zoo.vit_tiny(32, 10), input=np.ones((1, 3, 32, 32), np.float32)),
        run(zoo.bert_mini(12, 50), ids=tokens(0, 1, 12), mask=mask),
        run(zoo.decoder_small(12, 50), ids=tokens(0, 1, 12)),
    ]
    for output in outputs:
        assert 0.05 < output.std() < 50


def test_a_decoder_does_not_look_ahead(models):
    model = models["zoo_transformers"].decoder_small(10, 50)
    ids = tokens(1, 1, 10)
    changed = ids.copy()
    changed[0, 6] = (ids[0, 6] + 1) % 50
    one, other = run(model, ids=ids), run(model, ids=changed)
    np.testing.assert_array_equal(one[:, :6], other[:, :6])
    assert (abs(one - other).max(-1)[0, 6:] > 0).all()


def test_masked_tokens_do_not_count(models):
    model = models["zoo_transformers"].bert_mini(10, 50)
    ids, mask = tokens(2, 1, 10), (np.arange(10) < 7).astype(np.int64)[None]
    changed = np.where(mask, ids, (ids + 1) % 50)
    one, other = run(model, ids=ids, mask=mask), run(model, ids=changed, mask=mask)
    np.testing.assert_array_equal(one[:, :7], other[:, :7])
    unmasked = run(model, ids=ids, mask=np.ones_like(mask))
    assert abs(one - unmasked)[:, :7].max() > 1e-3


# ---------------------------------------------------------------- graph networks


@pytest.mark.parametrize("kind", ["gcn", "sage", "gin", "gat"])
def test_messages_along_edges_equal_products_with_the_adjacency(models, kind):
    graphs, rng = models["zoo_graphs"], np.random.default_rng(5)
    nodes = 21
    pairs = np.unique(rng.integers(0, nodes, (40, 2)), axis=0)
    ring = np.stack([np.arange(nodes), (np.arange(nodes) + 1) % nodes], 1)
    edges = np.unique(np.concatenate([pairs[pairs[:, 0] != pairs[:, 1]], ring]), axis=0).T
    x = rng.normal(size=(nodes, 7)).astype(np.float32)
    sparse, dense = (graphs.graph_net(kind, (7, 16, 3), edges, nodes, d, seed=1) for d in (0, 1))
    ops = [{node.op_type for node in model.graph.node} for model in (sparse, dense)]
    assert "ScatterElements" in ops[0] and "ScatterElements" not in ops[1]
    wanted = run(dense, features=x)
    assert wanted.std() > 0.05
    # float32 sums of at most 21 terms, in another order
    np.testing.assert_allclose(run(sparse, features=x), wanted, atol=2e-6 * abs(wanted).max())


def test_gcn_is_two_normalised_products(models):
    edges = np.array([[0, 1, 1, 2, 3, 0], [1, 0, 2, 1, 0, 3]])
    model = models["zoo_graphs"].graph_net("gcn", (5, 4, 2), edges, 4, seed=2)
    w, x = initializers(model), np.random.default_rng(3).normal(size=(4, 5)).astype(np.float32)
    adjacency = np.eye(4)
    adjacency[edges[1], edges[0]] = 1
    root = adjacency.sum(1) ** -0.5
    adjacency *= root[:, None] * root
    hidden = np.maximum(adjacency @ x @ w["first.linear.weight"] + w["first.bias"], 0)
    wanted = adjacency @ hidden @ w["second.linear.weight"] + w["second.bias"]
    # float32 against float64
    np.testing.assert_allclose(run(model, features=x), wanted, atol=1e-6)


# ---------------------------------------------------------------- trained weights


def state_of(model):
    """Return the state_dict of a zoo network, whose linear weights are transposed."""
    return {
        name: array.T if array.ndim == 2 and name.endswith(".weight") else array
        for name, array in initializers(model).items()
    }


def test_packaged_vit_is_the_zoo_structure_with_trained_weights(models):
    packaged = onnx.load(str(DEMO_DATA / "digits_vit.onnx"))
    again = models["zoo_transformers"].vit_digits(state_of(packaged))
    assert again.SerializeToString() == packaged.SerializeToString()


def test_packaged_graph_network_is_the_zoo_structure_with_trained_weights(models):
    packaged = onnx.load(str(DEMO_DATA / "karate_gcn.onnx"))
    arrays = initializers(packaged)
    source, target = arrays["first.aggregate.source"], arrays["first.aggregate.index"][:, 0]
    edges = np.stack([source, target])[:, : 2 * 78]
    again = models["zoo_graphs"].graph_net(
        "gcn", (34, 16, 2), edges, 34, weights=state_of(packaged)
    )
    assert again.SerializeToString() == packaged.SerializeToString()
    assert {(s, t) for s, t in edges.T} == {(t, s) for s, t in edges.T}


@pytest.mark.parametrize(("name", "parameters"), [("vit_fashion", 204_938), ("text_sst2", 424_450)])
def test_kept_weights_are_small_finite_and_complete(models, name, parameters):
    weights = models["training"].load_weights(name)
    numbers = [array for array in weights.values() if array.dtype == np.float32]
    assert sum(array.size for array in numbers) == parameters
    assert all(np.isfinite(array).all() and array.std() > 0 for array in numbers)
    assert (models["training"].WEIGHTS / f"{name}.npz").stat().st_size < 1_000_000


def test_vocabulary_of_the_text_classifier(models):
    weights = models["training"].load_weights("text_sst2")
    words = str(weights["words"]).split()
    feeds = models["train_text"].encode([["good", "zzzz"], ["a"] * 99], words)
    assert len(words) + 2 == len(weights["encoder.token.weight"])
    assert feeds["ids"].shape == feeds["mask"].shape == (2, 64)
    assert feeds["ids"][0, :3].tolist() == [words.index("good") + 2, 1, 0]
    assert feeds["mask"].sum(1).tolist() == [2, 64]


@pytest.mark.slow
@pytest.mark.data
def test_accuracy_of_the_kept_weights(models, data, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("NEURALMATRIX_DATA", str(data))
    training, zoo = models["training"], models["zoo_transformers"]
    images, labels = models["train_vit"].load("test")
    network = zoo.vit_fashion(training.load_weights("vit_fashion"))
    # 88.5 % of all 10,000; three standard errors of 1,000 are 3 points
    assert training.accuracy(network, {"input": images[:1000]}, labels[:1000]) > 0.855
    weights = training.load_weights("text_sst2")
    sentences, labels = models["train_text"].read("dev")
    feeds = models["train_text"].encode(sentences, str(weights["words"]).split())
    # 77.5 %: 676 of 872, of which another onnxruntime may move the closest few
    assert training.accuracy(zoo.text_classifier(weights), feeds, labels) > 0.77
