# SPDX-License-Identifier: Apache-2.0
"""The constructors under models/ and the network that the demo packages.

In: small image sizes.  Out: valid ONNX, published sizes, seeds that determine every weight.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, shape_inference
from slow import slow_after

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO_MODEL = REPOSITORY / "host" / "neuralmatrix" / "demo" / "data" / "digits_cnn.onnx"


@pytest.fixture(scope="module")
def zoo():
    sys.path.insert(0, str(REPOSITORY / "models"))
    try:
        import zoo

        yield zoo
    finally:
        sys.path.remove(str(REPOSITORY / "models"))


# Millions of parameters as the papers and torchvision give them (batch normalisation counted with
# its two running statistics), and the ops a network is made of.
KNOWN = {
    "resnet20": (0.274, 10, {"Conv": 21, "Add": 9}),
    "mobilenet_v1": (4.25, 1000, {"Conv": 27, "Clip": 27}),
    "mobilenet_v2": (3.54, 1000, {"Conv": 52, "Clip": 35, "Add": 10}),
    "small_cnn": (0.0149, 10, {"Conv": 3}),
    "resnet18": (11.70, 1000, {"Conv": 20, "Add": 8, "MaxPool": 1}),
    "resnet50": (25.61, 1000, {"Conv": 53, "Add": 16, "MaxPool": 1}),
}


@pytest.mark.parametrize("name", slow_after(4, KNOWN))
def test_size_and_make_up(zoo, name):
    millions, classes, counts = KNOWN[name]
    model = zoo.ZOO[name](size=64)
    ops = [node.op_type for node in model.graph.node]
    parameters = sum(np.prod(t.dims) for t in model.graph.initializer)
    assert set(KNOWN) == set(zoo.ZOO)
    assert parameters / 1e6 == pytest.approx(millions, rel=0.005)
    assert {op: ops.count(op) for op in counts} == counts
    assert ops.count("BatchNormalization") == ops.count("Conv")
    inferred = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    dims = inferred.graph.output[0].type.tensor_type.shape.dim
    assert [d.dim_value for d in dims] == [1, classes]


def test_the_seed_decides_every_weight(zoo):
    first, again, other = (zoo.small_cnn(seed=s).SerializeToString() for s in (3, 3, 4))
    assert first == again != other


@pytest.mark.slow
def test_random_networks_keep_their_signal(zoo):
    ort = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).normal(size=(1, 3, 32, 32)).astype(np.float32)
    for name in zoo.ZOO:
        session = ort.InferenceSession(zoo.ZOO[name](size=32).SerializeToString())
        y = session.run(None, {"input": x})[0]
        assert 0.05 < y.std() < 50


def test_depthwise_convolutions_have_one_group_per_channel(zoo):
    model = zoo.mobilenet_v2(size=32)
    shapes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    grouped = [
        (node, onnx.helper.get_node_attr_value(node, "group"))
        for node in model.graph.node
        if node.op_type == "Conv" and "depthwise" in node.name
    ]
    assert len(grouped) == 17
    for node, groups in grouped:
        assert shapes[node.input[1]] == (groups, 1, 3, 3)


def test_packaged_digits_network_is_the_zoo_structure_with_trained_weights(zoo):
    packaged = onnx.load(str(DEMO_MODEL))
    weights = {t.name: numpy_helper.to_array(t) for t in packaged.graph.initializer}
    assert zoo.digits_cnn(weights).SerializeToString() == packaged.SerializeToString()
    assert packaged.opset_import[0].version == 17
    ops = {node.op_type for node in packaged.graph.node}
    assert ops == {
        "Conv",
        "BatchNormalization",
        "Relu",
        "Add",
        "GlobalAveragePool",
        "Flatten",
        "Gemm",
    }
