# SPDX-License-Identifier: Apache-2.0
"""Errors of the ONNX importer on models that are malformed or cannot run on the array.

In: broken models.  Out: one error each, by its text.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from build_onnx import model, node, signed
from neuralmatrix.errors import BadInput, BadModel, NeuralMatrixError, ToolMissing, UnsupportedModel
from neuralmatrix.frontend.onnx.control_flow import CONTROL
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.frontend.onnx.operator_table import HANDLERS, NEAREST
from onnx import TensorProto, helper


def _relu(dims: tuple[int | str, ...] = (2, 3), opset: int = 17) -> onnx.ModelProto:
    return model([node("Relu", ["x"], ["y"])], {"x": dims}, ["y"], opset=opset)


def _matmul(weight: np.ndarray) -> onnx.ModelProto:
    return model([node("MatMul", ["x", "w"], ["y"])], {"x": (2, 3)}, ["y"], {"w": weight})


def _conv(**attrs: Any) -> onnx.ModelProto:
    conv = node("Conv", ["x", "w"], ["y"], **attrs)
    return model([conv], {"x": (1, 3, 5, 5)}, ["y"], {"w": signed((4, 3, 3, 3))})


def _edited(proto: onnx.ModelProto, edit: Callable[[onnx.GraphProto], object]) -> onnx.ModelProto:
    edit(proto.graph)
    return proto


def _not_finite(value: float) -> np.ndarray:
    weight = signed((3, 4))
    weight[1, :2] = value
    return weight


def _twice() -> onnx.ModelProto:
    nodes = [node("Relu", ["x"], ["y"]), node("Neg", ["x"], ["y"])]
    return model(nodes, {"x": (2,)}, ["y"])


def _cycle() -> onnx.ModelProto:
    nodes = [node("Add", ["x", "b"], ["a"]), node("Relu", ["a"], ["b"]), node("Neg", ["b"], ["y"])]
    return model(nodes, {"x": (2,)}, ["y"])


def _foreign() -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"], domain="acme")], {"x": (2,)}, ["y"])


def _huge() -> onnx.ModelProto:
    nodes = [node("ConstantOfShape", ["s"], ["c"]), node("Add", ["x", "c"], ["y"])]
    return model(nodes, {"x": (2,)}, ["y"], {"s": np.asarray([1 << 20, 1 << 20], np.int64)})


def _empty_slice() -> onnx.ModelProto:
    part = node("Slice", ["x", "s", "e"], ["y"])
    bounds = {"s": np.asarray([1], np.int64), "e": np.asarray([1], np.int64)}
    return model([part], {"x": (2, 3)}, ["y"], bounds)


def _quantized(scale: float) -> onnx.ModelProto:
    nodes = [node("QuantizeLinear", ["x", "s", "z"], ["q"])]
    nodes += [node("DequantizeLinear", ["q", "s", "z"], ["y"])]
    constants = {"s": np.asarray(scale, np.float32), "z": np.asarray(0, np.int8)}
    return model(nodes, {"x": (2,)}, ["y"], constants)


def _no_output() -> onnx.ModelProto:
    proto = _relu()
    del proto.graph.output[:]
    return proto


MALFORMED: dict[str, tuple[Callable[[], Any], str]] = {
    "random bytes": (lambda: bytes(range(7, 200)), "not a complete ONNX model"),
    "truncated": (lambda: _matmul(signed((3, 4))).SerializeToString()[:-20], "not a complete ONNX"),
    "no bytes": (lambda: b"", "is empty; export the model again"),
    "no file": (lambda: "does/not/exist.onnx", "cannot read 'does/not/exist.onnx'.*give the path"),
    "opset 5": (lambda: _relu(opset=5), r"opset 5; allowed are 6 to 28; export it again"),
    "opset 99": (lambda: _relu(opset=99), r"opset 99; allowed are 6 to 28"),
    "cycle": (_cycle, r"cycle: '.*' <- '.*'; a model must be acyclic"),
    "undefined input": (
        lambda: _edited(_relu(), lambda g: g.node[0].input.__setitem__(0, "gone")),
        "reads 'gone', which is not an input, initialiser or node output",
    ),
    "missing initialiser": (
        lambda: _edited(_matmul(signed((3, 4))), lambda g: g.initializer.pop()),
        r"\(MatMul\) reads 'w', which is not an input, initialiser",
    ),
    "undefined output": (
        lambda: _edited(_relu(), lambda g: setattr(g.output[0], "name", "gone")),
        "no node computes the output 'gone'",
    ),
    "no output": (_no_output, "the model has no outputs"),
    "same name twice": (_twice, "the name 'y' is given to 2 values"),
    "same initialiser twice": (
        lambda: _edited(_matmul(signed((3, 4))), lambda g: g.initializer.append(g.initializer[0])),
        "the name 'w' is given to 2 initialisers",
    ),
    "NaN": (lambda: _matmul(_not_finite(np.nan)), "tensor 'w': 2 of 12 values are NaN or infinite"),
    "Inf": (lambda: _matmul(_not_finite(np.inf)), "tensor 'w': 2 of 12 values are NaN or infinite"),
    "short data": (
        lambda: _edited(
            _matmul(signed((3, 4))),
            lambda g: setattr(g.initializer[0], "raw_data", b"123"),
        ),
        "tensor 'w' cannot be read",
    ),
    "domain not imported": (_foreign, r"domain 'acme', which the model does not import"),
    "unknown attribute": (lambda: _conv(color=3), r"\(Conv\).*color"),
    "wrong attribute type": (lambda: _conv(strides=2.5), r"\(Conv\).*strides"),
    "wrong pads": (
        lambda: _conv(pads=[1, 1]),
        "pads has 2 entries for 2 spatial axes; allowed are 4",
    ),
    "wrong channels": (lambda: _conv(group=2), "3 channels, but weight .* x 2 groups"),
    "wrong inner size": (lambda: _matmul(signed((4, 4))), r"inner sizes of \(2, 3\) and \(4, 4\)"),
    "zero-sized input": (
        lambda: _relu((2, 0)),
        r"output 'y' has the shape \(2, 0\); every dimension",
    ),
    "empty slice": (_empty_slice, r"output 'y' has the shape \(0, 3\); every dimension must be 1"),
    "huge constant": (_huge, "would make the constant 'c' of shape"),
    "scale 0": (lambda: _quantized(0.0), "the scale 's' is not positive"),
    "dynamic dimension": (
        lambda: _relu((1, "W")),
        r"input 'x': dimension 1 \(W\) is dynamic.*--shape x=1x3x224x224",
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_models(what: str) -> None:
    make, text = MALFORMED[what]
    with pytest.raises(BadModel, match=text):
        import_onnx(make())


@pytest.mark.parametrize("cut", range(0, 100, 3))
def test_a_truncated_file_never_passes(cut: int) -> None:
    whole = _matmul(signed((3, 4))).SerializeToString()
    with pytest.raises(BadModel):
        import_onnx(whole[: len(whole) * cut // 100])


def test_random_bytes_never_pass() -> None:
    rng = np.random.default_rng(0)
    for size in range(1, 200, 7):
        with pytest.raises(BadModel):
            import_onnx(rng.bytes(size))


def test_damaged_bytes_give_a_model_or_a_clear_error() -> None:
    rng = np.random.default_rng(0)
    whole = _conv(pads=[1, 1, 1, 1]).SerializeToString()
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] = rng.integers(256)
        try:
            import_onnx(bytes(damaged))
        except NeuralMatrixError:
            refused += 1
    assert 0 < refused < 400


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ({"picture": (1, 3)}, r"a shape is given for 'picture'; the inputs are \['x'\]"),
        ({"x": (1, 4)}, "--shape x=1x4 does not fit the model's Nx3; keep its fixed dimensions"),
        ({"x": (-1, 3)}, "--shape x=-1x3 does not fit"),
        ({"x": (1, 3, 1)}, "--shape x=1x3x1 does not fit"),
    ],
)
def test_wrong_shape_options(shapes: dict[str, tuple[int, ...]], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        import_onnx(_relu(("N", 3)), shapes)


def _external(folder: Path) -> Path:
    path = folder / "net.onnx"
    onnx.save(
        _matmul(signed((3, 4))),
        path,
        save_as_external_data=True,
        location="net.bin",
        size_threshold=0,
    )
    return path


def test_external_data_problems(tmp_path: Path) -> None:
    path = _external(tmp_path)
    with pytest.raises(BadModel, match="give the model as a path"):
        import_onnx(path.read_bytes())
    (tmp_path / "net.bin").write_bytes(b"1234")
    with pytest.raises(BadModel, match="48 bytes at offset 0 of 'net.bin' are needed"):
        import_onnx(path)
    (tmp_path / "net.bin").unlink()
    with pytest.raises(BadModel, match="'net.bin', which does not exist next to the model"):
        import_onnx(path)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    proto.graph.initializer[0].external_data[0].value = "../net.bin"
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BadModel, match="external data must be inside the model's folder"):
        import_onnx(path)


def test_everything_unsupported_is_listed_at_once() -> None:
    nodes = [
        node("Floor", ["x"], ["a"]),
        node("RoiAlign", ["a", "r", "n"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("NonZero", ["c"], ["d"]),
        node("TopK", ["c", "k"], ["e", "f"]),
        helper.make_node("Strange", ["c"], ["g"], name="odd", domain="acme"),
        node("Add", ["e", "g"], ["y"]),
        node("Cast", ["d"], ["z"], to=TensorProto.FLOAT),
    ]
    constants = {"r": signed((1, 4)), "n": np.asarray([0]), "k": np.asarray([2], np.int64)}
    proto = model(nodes, {"x": (1, 2, 3, 3)}, ["y", "z"], constants, domains=["acme"])
    with pytest.raises(UnsupportedModel) as caught:
        import_onnx(proto)
    found = {(n.name, n.op, n.opset): n.reason for n in caught.value.nodes}
    assert set(found) == {
        ("Floor:a", "Floor", 17),
        ("RoiAlign:b", "RoiAlign", 17),
        ("NonZero:d", "NonZero", 17),
        ("TopK:e", "TopK", 17),
        ("odd", "Strange", 17),
    }
    assert "its windows depend on data" in found["RoiAlign:b", "RoiAlign", 17]
    assert "domain 'acme'" in found["odd", "Strange", 17]
    assert "5 node(s) of the model cannot run on the array" in str(caught.value)


def _one(op: str, *inputs: str, dims: Any = (2, 4, 6), **attrs: Any) -> onnx.ModelProto:
    constants = {name: np.asarray(2.5, np.float32) for name in inputs}
    return model([node(op, ["x", *inputs], ["y"], **attrs)], {"x": dims}, ["y"], constants)


def _run_time_weight() -> onnx.ModelProto:
    shapes = {"x": (1, 3, 5, 5), "w": (2, 3, 3, 3)}
    return model([node("Conv", ["x", "w"], ["y"])], shapes, ["y"])


def _run_time_slope() -> onnx.ModelProto:
    return model([node("PRelu", ["x", "s"], ["y"])], {"x": (2, 3), "s": (3,)}, ["y"])


def _inner_argmax() -> onnx.ModelProto:
    nodes = [node("ArgMax", ["x"], ["i"]), node("Cast", ["i"], ["f"], to=1)]
    return model([*nodes, node("Relu", ["f"], ["y"])], {"x": (2, 3)}, ["y"])


def _second_output() -> onnx.ModelProto:
    pool = node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2])
    return model([pool], {"x": (1, 2, 6)}, ["y", "i"], types={"i": TensorProto.INT64})


def _constant_output() -> onnx.ModelProto:
    nodes = [node("Neg", ["c"], ["y"]), node("Relu", ["x"], ["z"])]
    return model(nodes, {"x": (2,)}, ["y", "z"], {"c": signed((2,))})


_MS = "com.microsoft"


def _two_exponents() -> onnx.ModelProto:
    constants = {"p": np.asarray([2, 2.5], np.float32)}
    return model([node("Pow", ["x", "p"], ["y"])], {"x": (2,)}, ["y"], constants)


def _rnn(lengths: np.ndarray | None = None, **attrs: Any) -> onnx.ModelProto:
    constants = {"w": signed((1, 4, 3)), "r": signed((1, 4, 4))}
    names = ["x", "w", "r"]
    if lengths is not None:
        constants["n"] = lengths
        names += ["", "n"]
    nodes = [node("RNN", names, ["y"], hidden_size=4, **attrs)]
    return model(nodes, {"x": (5, 1, 3)}, ["y"], constants)


def _run_time_recurrence() -> onnx.ModelProto:
    proto = _rnn()
    del proto.graph.initializer[1]
    proto.graph.input.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, (1, 4, 4)))
    return proto


UNSUPPORTED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "run-time weight": (_run_time_weight, "weight is computed at run time; a constant weight"),
    "inner ArgMax": (_inner_argmax, "ArgMax is supported at an output"),
    "pool indices": (_second_output, "the Indices output is used"),
    "constant output": (_constant_output, "does not depend on any input"),
    "4-D pool": (
        lambda: _one("MaxPool", dims=(1, 2, 4, 4, 4, 4), kernel_shape=[2, 2, 2, 2]),
        "one to three spatial axes are supported",
    ),
    "several exponents": (_two_exponents, "2 different exponents; one constant exponent is"),
    "negative base": (
        lambda: model([node("Pow", ["b", "x"], ["y"])], {"x": (2,)}, ["y"], {"b": np.float32(-2)}),
        "a constant base of 0 or less",
    ),
    "diagonal": (
        lambda: model([node("Einsum", ["x"], ["y"], equation="ii->i")], {"x": (3, 3)}, ["y"]),
        "takes a diagonal; every label once",
    ),
    "long product": (
        lambda: _one("ReduceProd", dims=(2, 100), axes=[1]),
        "a product of 100 elements; up to 64",
    ),
    "cut sequences": (lambda: _rnn(lengths=np.asarray([3], np.int32)), r"sequence_lens \[3\]"),
    "clipped gates": (lambda: _rnn(clip=3.0), "clip is 3.0; layers without it"),
    "strange gates": (lambda: _rnn(activations=["Affine"]), "activation 'Affine'; supported are"),
    "run-time recurrent weight": (_run_time_recurrence, "the recurrent weight is computed at run"),
    "text": (
        lambda: model([node("StringNormalizer", ["x"], ["y"])], {"x": (2,)}, ["y"], types={"y": 8}),
        "strings are not supported; tokenise first and pass ids",
    ),
    "batch swap": (
        lambda: model(
            [helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain=_MS, transBatchA=1)],
            {"x": (2, 3, 3)},
            ["y"],
            domains=[_MS],
        ),
        "transBatchA or transBatchB is 1",
    ),
    "another domain's operator": (
        lambda: model(
            [helper.make_node("BeamSearch", ["x"], ["y"], domain=_MS)],
            {"x": (2,)},
            ["y"],
            domains=[_MS],
        ),
        "domain 'com.microsoft'; operators of ai.onnx are supported, and of .*BiasGelu",
    ),
    "run-time slope": (
        _run_time_slope,
        "the slope is computed at run time; a constant is supported",
    ),
    "cast to integers": (lambda: _one("Cast", to=6), "a cast of real values to type int32"),
    "operator of a later opset": (
        lambda: model([node("Gelu", ["x"], ["y"])], {"x": (2,)}, ["y"], opset=17),
        "opset 17 has no such operator; it needs opset 20",
    ),
    "random": (
        lambda: model(
            [node("RandomNormal", [], ["r"], shape=[2]), node("Add", ["x", "r"], ["y"])],
            {"x": (2,)},
            ["y"],
        ),
        "random values differ from run to run",
    ),
}


@pytest.mark.parametrize("what", UNSUPPORTED)
def test_unsupported_forms(what: str) -> None:
    make, text = UNSUPPORTED[what]
    with pytest.raises(UnsupportedModel, match=text):
        import_onnx(make())


def test_no_advice_is_given_for_what_is_supported() -> None:
    later_opsets = {"LayerNormalization", "Gelu"}
    assert set(NEAREST) & {*HANDLERS, *CONTROL} == later_opsets


def test_without_the_onnx_package(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_import = builtins.__import__

    def no_onnx(name: str, globals: Any = None, locals: Any = None, *rest: Any) -> Any:
        if name.split(".")[0] == "onnx" and not (rest and rest[-1]):
            raise ImportError("No module named 'onnx'")
        return plain_import(name, globals, locals, *rest)

    monkeypatch.setattr(builtins, "__import__", no_onnx)
    with pytest.raises(ToolMissing, match=r"extra \[onnx\], or: pip install"):
        import_onnx(b"anything")
