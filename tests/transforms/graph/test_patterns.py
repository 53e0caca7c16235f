# SPDX-License-Identifier: Apache-2.0
"""Decomposed forms of normalisation, activations and attention, as exporters write them.

In: ONNX models of one form each.  Out: the one node that each becomes, and onnxruntime's values;
near misses stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs, signed
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.ir.graph.nodes import Attention, Graph, Normalize, Unary
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.transforms.graph.simplify import simplify
from onnx import TensorProto
from targets import lower

Nodes = list[onnx.NodeProto]
Constants = dict[str, np.ndarray]


class Form:
    """A chain of ONNX nodes that is written like arithmetic."""

    def __init__(self) -> None:
        self.nodes: Nodes = []
        self.constants: Constants = {}

    def op(self, kind: str, *inputs: object, **attributes: object) -> str:
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        out = f"t{len(self.nodes)}"
        self.nodes.append(node(kind, names, [out], **attributes))
        return out

    def constant(self, value: object) -> str:
        name = f"c{len(self.constants)}"
        array = np.asarray(value)
        self.constants[name] = array.astype(np.float32) if array.dtype.kind == "f" else array
        return name

    def mean(self, x: str, axes: Sequence[int] = (-1,)) -> str:
        return self.op("ReduceMean", x, axes=list(axes), keepdims=1)

    def model(self, inputs: dict[str, Sequence[int]], **types: int) -> onnx.ModelProto:
        return model(self.nodes, inputs, [self.nodes[-1].output[0]], self.constants, types=types)


def checked(
    proto: onnx.ModelProto, feeds: dict[str, np.ndarray] | None = None, tolerance: float = 2e-5
) -> Graph:
    """The simplified graph; its lowered form has to agree with onnxruntime."""
    shapes = {
        i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in proto.graph.input
    }
    feeds = feeds or {name: signed(shape, 3 + i) for i, (name, shape) in enumerate(shapes.items())}
    simple = simplify(import_onnx(proto))
    mg = lower(simple)
    found = port_outputs(mg, run_float(mg, feeds))
    for name, wanted in onnxruntime_outputs(proto, feeds).items():
        # float32 sums of a few dozen terms in another order
        np.testing.assert_allclose(found[name], wanted, rtol=tolerance, atol=tolerance)
    return simple


def kinds(graph: Graph) -> list[str]:
    return [type(n).__name__ for n in graph.nodes]


# ---------------------------------------------------------------- normalisation

GAMMA, BETA = 1 + signed((12,), 1) / 8, signed((12,), 2)


def layer_norm(form: Form, x: str, square: str, divide: str) -> str:
    """(x - mean) / sqrt(variance + epsilon) in one of its spellings."""
    centred = form.op("Sub", x, form.mean(x))
    again = form.op("Sub", x, form.mean(x)) if square == "twice" else centred
    if square == "mul":
        power = form.op("Mul", again, again)
    else:
        power = form.op("Pow", again, 2.0)
    shifted = form.op("Add", form.mean(power), 1e-5)
    if divide == "pow":
        return form.op("Mul", centred, form.op("Pow", shifted, -0.5))
    root = form.op("Sqrt", shifted)
    if divide == "div":
        return form.op("Div", centred, root)
    if divide == "one-over":
        return form.op("Mul", centred, form.op("Div", 1.0, root))
    return form.op("Mul", form.op("Reciprocal", root), centred)


@pytest.mark.parametrize("square", ["pow", "mul", "twice"])
@pytest.mark.parametrize("divide", ["div", "reciprocal", "one-over", "pow"])
def test_layer_norm(square: str, divide: str) -> None:
    form = Form()
    normal = layer_norm(form, "x", square, divide)
    form.op("Add", form.op("Mul", GAMMA, normal), BETA)
    (norm,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(norm, Normalize) and len(norm.inputs) == 3
    assert norm.centred and norm.axes == (2,) and math.isclose(norm.epsilon, 1e-5, rel_tol=1e-6)


@pytest.mark.parametrize("gain", [False, True])
def test_layer_norm_as_batch_normalisation(gain: bool) -> None:
    """x * s + (beta - mean * s), as Keras and tf2onnx write it."""
    form = Form()
    mean = form.mean("x")
    difference = form.op("Sub", "x", mean)
    variance = form.mean(form.op("Mul", difference, difference))
    scale = form.op("Reciprocal", form.op("Sqrt", form.op("Add", variance, 1e-3)))
    if gain:
        scale = form.op("Mul", scale, GAMMA)
    shift = form.op("Sub", BETA, form.op("Mul", mean, scale))
    form.op("Add", form.op("Mul", "x", scale), shift)
    (norm,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(norm, Normalize) and norm.centred


def test_layer_norm_over_a_reshaped_map() -> None:
    """Keras's fused form: every row an image of one channel, averaged by GlobalAveragePool."""
    form = Form()
    x = form.op("Reshape", "x", np.array([1, 10, 12, 1]))
    centred = form.op("Sub", x, form.op("GlobalAveragePool", x))
    variance = form.op("GlobalAveragePool", form.op("Mul", centred, centred))
    inverse = form.op("Reciprocal", form.op("Sqrt", form.op("Add", variance, 1e-3)))
    normal = form.op("Reshape", form.op("Mul", centred, inverse), np.array([2, 5, 12]))
    form.op("Add", form.op("Mul", normal, GAMMA), BETA)
    graph = checked(form.model({"x": (2, 5, 12)}))
    assert kinds(graph).count("Normalize") == 1 and "Reduce" not in kinds(graph)


@pytest.mark.parametrize("form_name", ["rsqrt-pow", "sqrt", "sum", "no-epsilon"])
def test_rms_norm(form_name: str) -> None:
    form = Form()
    square = form.op("Pow", "x", 2.0)
    mean = form.mean(square)
    if form_name == "sum":
        mean = form.op("Mul", form.op("ReduceSum", square, np.array([-1]), keepdims=1), 1 / 12)
    shifted = mean if form_name == "no-epsilon" else form.op("Add", mean, 1e-6)
    if form_name == "rsqrt-pow":
        normal = form.op("Mul", "x", form.op("Pow", shifted, -0.5))
    else:
        normal = form.op("Div", "x", form.op("Sqrt", shifted))
    form.op("Mul", GAMMA, normal)
    (norm,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(norm, Normalize) and not norm.centred and len(norm.inputs) == 2


@pytest.mark.parametrize("bound", ["clip", "max", "sum"])
def test_l2_normalisation(bound: str) -> None:
    form = Form()
    if bound == "sum":
        total = form.op("ReduceSum", form.op("Mul", "x", "x"), np.array([1]), keepdims=1)
        root = form.op("Sqrt", form.op("Add", total, 1e-6))
    else:
        size = form.op("ReduceL2", "x", axes=[1], keepdims=1)
        root = form.op("Clip", size, 1e-12) if bound == "clip" else form.op("Max", size, 1e-12)
        root = form.op("Expand", root, np.array([3, 9]))
    form.op("Div", "x", root)
    norm = checked(form.model({"x": (3, 9)})).nodes[0]
    assert isinstance(norm, Normalize) and norm.kind == ("variance" if bound == "sum" else "l2")


NEAR_NORMS: dict[str, Callable[[Form], str]] = {
    "other axes": lambda f: f.op(
        "Div", f.op("Sub", "x", f.mean("x", (1,))),
        f.op("Sqrt", f.mean(f.op("Pow", f.op("Sub", "x", f.mean("x")), 2.0)))),
    "other tensor": lambda f: f.op(
        "Div", "x", f.op("Sqrt", f.op("Add", f.mean(f.op("Pow", f.op("Tanh", "x"), 2.0)), 1.0))),
    "computed epsilon": lambda f: f.op(
        "Div", "x", f.op("Sqrt", f.op("Add", f.mean(f.op("Mul", "x", "x")),
                                      f.op("Sigmoid", f.mean("x"))))),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_NORMS)
def test_what_only_looks_like_a_norm_stays(name: str) -> None:
    form = Form()
    NEAR_NORMS[name](form)
    assert "Normalize" not in kinds(checked(form.model({"x": (2, 5, 12)}), tolerance=1e-4))


# ---------------------------------------------------------------- activations


def gelu_erf(form: Form, order: int) -> str:
    gate = form.op("Add", form.op("Erf", form.op("Div", "x", math.sqrt(2))), 1.0)
    if order == 0:
        return form.op("Mul", form.op("Mul", "x", gate), 0.5)
    if order == 1:
        return form.op("Mul", form.op("Mul", "x", 0.5), gate)
    return form.op("Mul", "x", form.op("Mul", 0.5, gate))


def gelu_tanh(form: Form, order: int) -> str:
    slope = math.sqrt(2 / math.pi)
    if order == 0:
        cube = form.op("Mul", form.op("Pow", "x", 3.0), 0.044715)
        inner = form.op("Mul", form.op("Add", "x", cube), slope)
    elif order == 1:
        square = form.op("Mul", form.op("Mul", "x", "x"), 0.044715 * slope)
        inner = form.op("Mul", "x", form.op("Add", square, slope))
    else:
        cube = form.op("Mul", "x", form.op("Mul", "x", "x"))
        inner = form.op("Mul", slope, form.op("Add", "x", form.op("Mul", 0.044715, cube)))
    gate = form.op("Add", 1.0, form.op("Tanh", inner))
    return form.op("Mul", form.op("Mul", 0.5, "x"), gate)


@pytest.mark.parametrize("order", range(3))
@pytest.mark.parametrize("make, name", [(gelu_erf, "gelu"), (gelu_tanh, "gelu_tanh")])
def test_gelu(make: Callable[[Form, int], str], name: str, order: int) -> None:
    form = Form()
    make(form, order)
    (unary,) = checked(form.model({"x": (2, 5, 12)})).nodes
    assert isinstance(unary, Unary) and unary.function.name == name


def test_almost_gelu_stays() -> None:
    form = Form()
    gate = form.op("Add", form.op("Erf", form.op("Mul", "x", 0.9)), 1.0)
    form.op("Mul", form.op("Mul", "x", gate), 0.5)
    graph = checked(form.model({"x": (2, 12)}))
    assert not any(isinstance(n, Unary) and n.function.name == "gelu" for n in graph.nodes)


@pytest.mark.parametrize("slope", [1.0, 1.702, -0.7])
def test_swish_is_silu(slope: float) -> None:
    """Also with a slope, as CLIP's activation has; the factor behind it joins the weights."""
    form = Form()
    gated = form.op("Mul", "x", form.op("Sigmoid", form.op("Mul", "x", slope)))
    form.op("MatMul", gated, signed((12, 4), 5))
    graph = checked(form.model({"x": (3, 12)}))
    assert any(isinstance(n, Unary) and n.function.name == "silu" for n in graph.nodes)
    assert kinds(graph)[-2:] == ["Unary", "MatMul"]


@pytest.mark.parametrize("numerator", ["x", "one"])
def test_exponential_quotients(numerator: str) -> None:
    form = Form()
    divisor = form.op("Add", form.op("Exp", form.op("Neg", "x")), 1.0)
    form.op("Div", "x" if numerator == "x" else 1.0, divisor)
    (unary,) = checked(form.model({"x": (2, 12)})).nodes
    assert isinstance(unary, Unary)
    assert unary.function.name == {"x": "silu", "one": "sigmoid"}[numerator]


def test_rotation_is_a_product() -> None:
    """concat(-x2, x1): the partner of every element in rotary embeddings."""
    form = Form()
    low = form.op("Slice", "x", np.array([0]), np.array([8]), np.array([3]))
    high = form.op("Slice", "x", np.array([8]), np.array([16]), np.array([3]))
    partner = form.op("Concat", form.op("Neg", high), low, axis=-1)
    form.op("Add", form.op("Mul", "x", signed((5, 16), 1)),
            form.op("Mul", partner, signed((5, 16), 2)))  # fmt: skip
    graph = checked(form.model({"x": (1, 2, 5, 16)}))
    assert "MatMul" in kinds(graph) and "Concat" not in kinds(graph)


# ---------------------------------------------------------------- attention

QKV: dict[str, Sequence[int]] = {"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 4)}
LOWEST = float(np.finfo(np.float32).min)
TRIANGLE = np.tril(np.ones((5, 7), bool))


def attend(form: Form, masked: Callable[[str], str], split: bool = False) -> str:
    """``masked`` changes the scores; ``split`` puts a root of the scale on either side."""
    q, k = "q", form.op("Transpose", "k", perm=[0, 1, 3, 2])
    if split:
        q, k = form.op("Mul", q, 8**-0.25), form.op("Mul", k, 8**-0.25)
        scores = form.op("MatMul", q, k)
    else:
        scores = form.op("Div", form.op("MatMul", q, k), math.sqrt(8))
    return form.op("MatMul", form.op("Softmax", masked(scores), axis=-1), "v")


def attention_of(graph: Graph) -> Attention:
    (found,) = (n for n in graph.nodes if isinstance(n, Attention))
    assert "Softmax" not in kinds(graph) and math.isclose(found.scale, 8**-0.5, rel_tol=1e-6)
    return found


@pytest.mark.parametrize("split", [False, True])
def test_attention(split: bool) -> None:
    form = Form()
    attend(form, lambda scores: scores, split)
    assert len(attention_of(checked(form.model(QKV))).inputs) == 3


CONSTANT_MASKS: dict[str, Callable[[Form, str], str]] = {
    "added": lambda f, s: f.op("Add", s, np.where(TRIANGLE, 0.0, -1e4)),
    "added-lowest": lambda f, s: f.op("Add", np.where(TRIANGLE, 0.0, LOWEST), s),
    "selected": lambda f, s: f.op("Where", TRIANGLE, s, np.float32(LOWEST)),
    "selected-else": lambda f, s: f.op("Where", ~TRIANGLE, np.float32(-np.inf), s),
    "two": lambda f, s: f.op("Add", f.op("Where", TRIANGLE, s, np.float32(-1e9)),
                             np.where(np.arange(7) != 1, 0.0, -1e9)),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTANT_MASKS)
def test_constant_masks(name: str) -> None:
    form = Form()
    attend(form, lambda scores: CONSTANT_MASKS[name](form, scores))
    graph = checked(form.model(QKV))
    mask = graph.constants[attention_of(graph).inputs[3]]
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert mask.sum() == (15 if name != "two" else 11)


INPUT_MASKS: dict[str, Callable[[Form, str], str]] = {
    "one-minus": lambda f, s: f.op(
        "Add", s, f.op("Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), -1e4)),
    "lowest": lambda f, s: f.op(
        "Add", s, f.op("Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), LOWEST)),
    "affine": lambda f, s: f.op(
        "Add", s, f.op("Sub", f.op("Mul", f.op("Cast", "m", to=1), 1e4), 1e4)),
    "select-of-itself": lambda f, s: _masked_fill(f, s),
    "selected": lambda f, s: f.op("Where", f.op("Cast", "m", to=9), s, np.float32(-np.inf)),
    "select-zero": lambda f, s: f.op(
        "Add", s, f.op("Where", f.op("Cast", "m", to=9), np.float32(0), np.float32(LOWEST))),
    "and-causal": lambda f, s: f.op(
        "Add", f.op("Where", TRIANGLE, s, np.float32(LOWEST)),
        f.op("Mul", f.op("Sub", 1.0, f.op("Cast", "m", to=1)), -1e4)),
}  # fmt: skip


def _masked_fill(form: Form, scores: str) -> str:
    """(1 - m).masked_fill((1 - m) is true, lowest), on an expanded mask."""
    wide = form.op("Expand", "m", np.array([2, 1, 5, 7]))
    inverse = form.op("Sub", 1.0, form.op("Cast", wide, to=1))
    filled = form.op("Where", form.op("Cast", inverse, to=9), np.float32(LOWEST), inverse)
    return form.op("Add", scores, filled)


@pytest.mark.parametrize("name", INPUT_MASKS)
def test_masks_from_an_input(name: str) -> None:
    form = Form()
    attend(form, lambda scores: INPUT_MASKS[name](form, scores))
    proto = form.model({**QKV, "m": (2, 1, 1, 7)}, m=TensorProto.INT64)
    feeds = {n: signed(s, 5 + i) for i, (n, s) in enumerate(QKV.items())}
    feeds["m"] = np.array([[1, 1, 1, 1, 0, 0, 0], [1, 0, 1, 1, 1, 1, 1]])[:, None, None]
    graph = checked(proto, feeds)
    attention = attention_of(graph)
    assert len(attention.inputs) == 4
    if name not in ("and-causal", "selected", "select-zero"):
        assert attention.inputs[3] == "m"


def test_finite_addend_is_a_bias() -> None:
    form = Form()
    bias = signed((3, 5, 7), 9)
    attend(form, lambda scores: form.op("Add", scores, bias))
    graph = checked(form.model(QKV))
    mask, name = attention_of(graph).inputs[3:]
    assert mask == "" and np.array_equal(graph.constants[name], bias)


def test_bias_and_mask_in_one_constant_are_parted() -> None:
    form = Form()
    bias = np.where(TRIANGLE, signed((3, 5, 7), 9), -np.float32(1e9))
    attend(form, lambda scores: form.op("Add", scores, bias))
    graph = checked(form.model(QKV))
    mask, name = attention_of(graph).inputs[3:]
    assert np.abs(graph.constants[name]).max() < 100 and graph.constants[mask].shape[-2:] == (5, 7)


def test_bias_between_reshapes() -> None:
    """Shifted windows add their mask to scores of another shape."""
    form = Form()
    mask = np.where(np.arange(2 * 5 * 7).reshape(2, 1, 1, 5, 7) % 3 > 0, 0.0, -100.0)

    def masked(scores: str) -> str:
        wide = form.op("Reshape", scores, np.array([1, 2, 3, 1, 5, 7]))
        return form.op("Reshape", form.op("Add", wide, mask.reshape(1, 2, 1, 1, 5, 7)),
                       np.array([2, 3, 5, 7]))  # fmt: skip

    attend(form, masked)
    graph = checked(form.model(QKV))
    assert graph.constants[attention_of(graph).inputs[3]].shape == (2, 1, 5, 7)


NEAR_ATTENTIONS: dict[str, Callable[[Form], str]] = {
    "other axis": lambda f: f.op(
        "MatMul", f.op("Softmax", f.op("MatMul", "q", f.op("Transpose", "k", perm=[0, 1, 3, 2])),
                       axis=2), "v"),
    "constant keys": lambda f: f.op(
        "MatMul", f.op("Softmax", f.op("MatMul", "q", signed((2, 3, 8, 7), 4)), axis=-1), "v"),
    "a function between": lambda f: f.op(
        "MatMul", f.op("Softmax", f.op("Tanh", f.op(
            "MatMul", "q", f.op("Transpose", "k", perm=[0, 1, 3, 2]))), axis=-1), "v"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEAR_ATTENTIONS)
def test_what_only_looks_like_attention_stays(name: str) -> None:
    form = Form()
    NEAR_ATTENTIONS[name](form)
    inputs = {n: s for n, s in QKV.items() if n != "k" or name != "constant keys"}
    assert "Attention" not in kinds(checked(form.model(inputs)))
