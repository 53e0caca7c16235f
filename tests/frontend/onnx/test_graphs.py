# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs of more than one node: folding, dynamic dimensions, casts, external data, real files.

In: small models and the data sets' networks.  Out: Graphs that compute what onnxruntime does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Conv, Reshape, Take
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.transforms.graph.simplify import simplify
from onnx import TensorProto, helper


def _same(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    wanted = onnxruntime_outputs(proto, feeds)
    found = run_graph(simplify(import_onnx(proto)), feeds)
    for name, array in wanted.items():
        # the order of float32 sums
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5)


def test_shape_arithmetic_is_folded_away() -> None:
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "zero"], ["n"]),
        node("Unsqueeze", ["n", "axis0"], ["n1"]),
        node("Concat", ["n1", "minus"], ["target"], axis=0),
        node("Cast", ["target"], ["target32"], to=TensorProto.INT32),
        node("Cast", ["target32"], ["target64"], to=TensorProto.INT64),
        node("Reshape", ["x", "target64"], ["flat"]),
        node("Size", ["x"], ["count"]),
        node("Cast", ["count"], ["countf"], to=TensorProto.FLOAT),
        node("Div", ["flat", "countf"], ["y"]),
    ]
    constants = {
        "zero": np.asarray(0, np.int64),
        "axis0": np.asarray([0], np.int64),
        "minus": np.asarray([-1], np.int64),
    }
    proto = model(nodes, {"x": (2, 3, 4)}, ["y"], constants)
    assert [type(n).__name__ for n in import_onnx(proto).nodes] == ["Reshape", "Binary"]
    _same(proto, {"x": signed((2, 3, 4))})


def test_constant_nodes_and_fills() -> None:
    value = onnx.numpy_helper.from_array(np.asarray([2], np.float32))
    nodes = [
        node("Constant", [], ["shape"], value_ints=[3, 1]),
        node("ConstantOfShape", ["shape"], ["twos"], value=value),
        node("Constant", [], ["half"], value_float=0.5),
        node("Mul", ["twos", "half"], ["ones"]),
        node("Constant", [], ["indices"], value_ints=[2, 0]),
        node("Add", ["x", "ones"], ["sum"]),
        node("Gather", ["sum", "indices"], ["y"], axis=0),
    ]
    _same(model(nodes, {"x": (3, 4)}, ["y"]), {"x": signed((3, 4))})


def test_nodes_out_of_order_are_sorted_and_dead_ones_ignored() -> None:
    nodes = [
        node("Relu", ["a"], ["y"]),
        node("NonZero", ["x"], ["unused"]),
        node("Neg", ["x"], ["a"]),
    ]
    graph = import_onnx(model(nodes, {"x": (2, 3)}, ["y"]))
    x = signed((2, 3))
    np.testing.assert_array_equal(run_graph(graph, {"x": x})["y"], np.maximum(-x, 0))


def test_initialisers_that_are_inputs_too_are_constants() -> None:
    proto = model(
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": (2, 3), "w": (3, 4)},
        ["y"],
        {"w": signed((3, 4))},
    )
    graph = import_onnx(proto)
    assert graph.inputs == ("x",)
    assert set(graph.constants) == {"w"}


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_weights_become_float32(dtype: type) -> None:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    weight = signed((3, 4)).astype(dtype)
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Cast", ["h"], ["y"], to=TensorProto.FLOAT),
    ]
    proto = model(nodes, {"x": (2, 3)}, ["y"], {"w": weight}, types={"x": kind})
    graph = simplify(import_onnx(proto))
    assert graph.constants["w"].dtype == np.float32
    x = signed((2, 3), 1)
    found = run_graph(graph, {"x": x})["y"]
    np.testing.assert_allclose(found, x @ weight.astype(np.float32), rtol=1e-5, atol=1e-5)


def test_outputs_keep_their_names() -> None:
    """Return a model whose outputs are an input, an alias and two names of one tensor."""
    nodes = [node("Relu", ["x"], ["r"]), node("Identity", ["r"], ["a"])]
    nodes += [node("Identity", ["r"], ["b"]), node("Identity", ["x"], ["c"])]
    proto = model(nodes, {"x": (2, 3)}, ["a", "b", "r", "c"])
    _same(proto, {"x": signed((2, 3))})


def test_argmax_may_be_cast_at_the_output() -> None:
    nodes = [
        node("ArgMax", ["x"], ["i"], axis=1, keepdims=0),
        node("Cast", ["i"], ["y"], to=TensorProto.INT32),
    ]
    _same(model(nodes, {"x": (4, 9)}, ["y"], types={"y": TensorProto.INT32}), {"x": signed((4, 9))})


def _flattening(shape: tuple[int | str, ...]) -> onnx.ModelProto:
    return model([node("Flatten", ["image"], ["y"])], {"image": shape}, ["y"])


@pytest.mark.parametrize(
    ("dims", "given", "expected"),
    [
        (("N", 3, 4), {}, (1, 3, 4)),
        (("N", 3, 4), {"image": (5, 3, 4)}, (5, 3, 4)),
        (("N", 3, "W"), {"image": (2, 3, 8)}, (2, 3, 8)),
        ((2, 3, 4), {"image": (2, 3, 4)}, (2, 3, 4)),
    ],
)
def test_dynamic_dimensions(
    dims: tuple[int | str, ...], given: dict[str, tuple[int, ...]], expected: tuple[int, ...]
) -> None:
    graph = import_onnx(_flattening(dims), given)
    assert graph.shapes["image"] == expected
    assert graph.shapes["y"] == (expected[0], expected[1] * expected[2])


def test_a_named_dimension_is_the_same_everywhere() -> None:
    proto = model([node("Add", ["a", "b"], ["y"])], {"a": ("N", "T"), "b": ("N", "T")}, ["y"])
    assert import_onnx(proto, {"a": (2, 7)}).shapes["b"] == (2, 7)


def test_local_functions_are_inlined() -> None:
    body = [node("Relu", ["a"], ["h"]), node("Add", ["h", "a"], ["b"])]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("mine", "Twice", ["a"], ["b"], body, imports)
    call = helper.make_node("Twice", ["x"], ["y"], domain="mine")
    proto = model([call], {"x": (2, 3)}, ["y"], domains=["mine"])
    proto.functions.append(function)
    x = signed((2, 3))
    np.testing.assert_array_equal(
        run_graph(import_onnx(proto), {"x": x})["y"], np.maximum(x, 0) + x
    )


def _with_external_data(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(64, 33)).astype(np.float32)
    proto = model([node("MatMul", ["x", "w"], ["y"])], {"x": (2, 64)}, ["y"], {"w": weight})
    path = folder / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    return path


def test_external_data_is_mapped_not_read(tmp_path: Path) -> None:
    path = _with_external_data(tmp_path)
    graph = import_onnx(path)
    assert isinstance(graph.constants["w"].base, np.memmap) or isinstance(
        graph.constants["w"], np.memmap
    )
    x = signed((2, 64))
    wanted = onnxruntime.InferenceSession(str(path)).run(None, {"x": x})[0]
    # the order of float32 sums
    np.testing.assert_allclose(run_graph(graph, {"x": x})["y"], wanted, rtol=1e-5, atol=1e-5)


def test_bytes_path_and_proto_give_the_same_graph(tmp_path: Path) -> None:
    proto = _flattening((2, 3, 4))
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    graphs = [import_onnx(m) for m in (proto, proto.SerializeToString(), path, str(path))]
    assert all(
        graph.nodes == graphs[0].nodes == (Reshape(("image",), "y", "Flatten:y", shape=(2, 12)),)
        for graph in graphs
    )


def test_the_readme_of_a_node_names_its_source() -> None:
    proto = model([node("Tile", ["x", "r"], ["y"])], {"x": (1, 2)}, ["y"], {"r": np.array([2, 3])})
    taken = import_onnx(proto).nodes
    assert [type(n) for n in taken] == [Take, Take]
    assert {n.source for n in taken} == {"Tile:y"}


MODELS = (
    "resnet_cifar/resnet20.onnx",
    "resnet_cifar/resnet20_finetuned_jpeg.onnx",
    "resnet_cifar/resnet56.onnx",
    "mlperf_tiny/pretrainedResnet.onnx",
    "mlperf_tiny/kws_ref_model_float32_tfl.onnx",
    "mlperf_tiny/kws_ref_model_dequant.onnx",
    "cora/gcn_cora.onnx",
)


def _random_feeds(
    session: onnxruntime.InferenceSession, shapes: dict[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {
        i.name: rng.integers(-128, 128, shapes[i.name]).astype(np.int8)
        if "int8" in i.type
        else rng.normal(size=shapes[i.name]).astype(np.float32)
        for i in session.get_inputs()
    }


@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_trained_models_equal_onnxruntime(data: Path, name: str) -> None:
    path = data / name
    if not path.exists():
        pytest.skip(f"{name} is not in the data folder")
    session = onnxruntime.InferenceSession(str(path))
    graph = simplify(import_onnx(path))
    feeds = _random_feeds(session, dict(graph.shapes))
    floats = {name: x.astype(np.float32) for name, x in feeds.items()}
    found = run_graph(graph, floats, quantized=True)
    for output, wanted in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        # float32 sums in another order, relative to the largest value; integer outputs: one step
        # where a value lies between two
        largest = max(1.0, float(np.abs(wanted).max()))
        tolerance = 1.0 if wanted.dtype == np.int8 else 1e-4 * largest
        np.testing.assert_allclose(found[output.name], wanted, rtol=0, atol=tolerance)


@pytest.mark.data
def test_resnet20_keeps_its_scale_and_shape_over_a_batch(data: Path) -> None:
    graph = simplify(import_onnx(data / MODELS[0], {"input": (16, 3, 32, 32)}))
    assert graph.shapes["logits"] == (16, 10)
    assert sum(isinstance(n, Conv) for n in graph.nodes) == 19
