# SPDX-License-Identifier: Apache-2.0
"""The host's operations against onnxruntime's: one model of one node for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from build_onnx import model, node, onnxruntime_outputs
from neuralmatrix.ir.host.operators import OPERATORS, evaluate
from neuralmatrix.ir.host.types import ELEMENT_TYPES, HostOp

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(3, 4)).astype(np.float32)
POSITIVE = np.abs(REAL) + np.float32(0.1)
WHOLE = RNG.integers(-9, 9, (3, 4))
NONZERO = np.where(WHOLE == 0, 4, WHOLE)
BITS = WHOLE > 0
CUBE = RNG.normal(size=(2, 3, 4)).astype(np.float32)
TIES = RNG.integers(0, 4, (3, 9)).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: int) -> np.ndarray:
    return np.array(value, np.int64)


# (operator, operands, attributes); None is an operand left out
CASES: list[tuple[str, tuple[Any, ...], dict[str, int]]] = [
    *((op, (REAL,), {}) for op in ("Abs", "Ceil", "Exp", "Floor", "Identity", "Neg", "Reciprocal",
                                   "Relu", "Round", "Sigmoid", "Sign", "Tanh")),
    *((op, (POSITIVE,), {}) for op in ("Log", "Sqrt")),
    ("Round", (np.array([0.5, 1.5, -0.5, 2.5], np.float32),), {}),
    ("Abs", (WHOLE,), {}), ("Neg", (WHOLE,), {}), ("Not", (BITS,), {}),
    *((op, (WHOLE, WHOLE[:1]), {}) for op in ("Add", "Sub", "Mul", "Equal", "Less", "Greater",
                                              "LessOrEqual", "GreaterOrEqual", "Max", "Min")),
    *((op, (REAL, REAL[:, :1]), {}) for op in ("Add", "Sub", "Mul", "Div", "Less", "Max", "Min")),
    *((op, (BITS, BITS[:1]), {}) for op in ("And", "Or", "Xor", "Equal")),
    ("Sum", (REAL, REAL[:1], REAL[:, :1]), {}), ("Max", (REAL, REAL[:1], REAL[:, :1]), {}),
    ("Div", (WHOLE, NONZERO), {}), ("Div", (-np.abs(NONZERO), scalar(2)), {}),
    ("Mod", (WHOLE, NONZERO), {}), ("Mod", (WHOLE, NONZERO), {"fmod": 1}),
    ("Mod", (REAL, POSITIVE), {"fmod": 1}), ("Pow", (POSITIVE, REAL), {}),
    ("Cast", (3 * REAL,), {"to": 7}), ("Cast", (BITS,), {"to": 1}), ("Cast", (WHOLE,), {"to": 9}),
    ("Cast", (REAL,), {"to": 9}), ("Cast", (np.abs(WHOLE),), {"to": 2}),
    ("Where", (BITS, REAL, REAL[:1]), {}), ("Clip", (REAL, np.float32(-0.5), np.float32(0.5)), {}),
    ("Clip", (WHOLE, None, scalar(3)), {}), ("Clip", (REAL, np.float32(1), np.float32(0)), {}),
    ("Reshape", (CUBE, ints(0, -1)), {}), ("Reshape", (CUBE, ints(4, 6)), {}),
    ("Flatten", (CUBE,), {"axis": 2}), ("Flatten", (CUBE,), {"axis": -1}),
    ("Flatten", (CUBE,), {"axis": 0}), ("Squeeze", (CUBE[:1], ints(0)), {}),
    ("Squeeze", (CUBE[:1, :1],), {}), ("Unsqueeze", (CUBE, ints(0, -1)), {}),
    ("Transpose", (CUBE,), {}), ("Expand", (REAL[:1], ints(5, 1, 4)), {}),
    ("Expand", (REAL, ints(1)), {}), ("Tile", (REAL, ints(2, 3)), {}),
    ("Concat", (WHOLE, WHOLE), {"axis": -1}), ("Slice", (CUBE, ints(1), ints(99), ints(2)), {}),
    ("Slice", (REAL, ints(-1), ints(-99), ints(1), ints(-2)), {}),
    ("Slice", (REAL, ints(0, 3), ints(-1, 0), ints(0, 1), ints(1, -1)), {}),
    ("Shape", (CUBE,), {}), ("Shape", (CUBE,), {"start": 1, "end": -1}), ("Size", (CUBE,), {}),
    ("Range", (scalar(2), scalar(11), scalar(3)), {}), ("Range", (scalar(5), scalar(0), scalar(-2)),
                                                        {}),
    ("OneHot", (WHOLE, scalar(7), ints(3, 8)), {}), ("OneHot", (WHOLE, scalar(9), ints(0, 1)),
                                                     {"axis": 1}),
    ("Trilu", (CUBE,), {"upper": 0}), ("Trilu", (CUBE, scalar(1)), {}),
    ("CumSum", (WHOLE, scalar(1)), {}), ("CumSum", (WHOLE, scalar(0)), {"reverse": 1}),
    ("CumSum", (WHOLE, scalar(-1)), {"exclusive": 1, "reverse": 1}),
    *((op, (CUBE, ints(1)), {}) for op in ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
                                           "ReduceSum")),
    ("ReduceSum", (WHOLE, ints(0, 1)), {"keepdims": 0}), ("ReduceMax", (CUBE,), {"keepdims": 0}),
    ("ReduceSum", (WHOLE,), {"noop_with_empty_axes": 1}),
    ("ArgMax", (TIES,), {"axis": 1}), ("ArgMin", (TIES,), {"axis": 1, "keepdims": 0}),
    ("ArgMax", (TIES,), {"axis": -1, "select_last_index": 1}),
    ("Gather", (CUBE, ints(2, -1)), {"axis": 1}), ("Gather", (REAL, scalar(1)), {}),
    ("Gather", (REAL, ints(0, 2, 1).reshape(3, 1)), {"axis": 1}),
    ("GatherElements", (REAL, ints(0, -1, 2, 1).reshape(1, 4)), {}),
    ("GatherElements", (REAL, np.abs(WHOLE[:, :2]) % 4), {"axis": 1}),
    ("GatherND", (CUBE, ints(0, 1, 1, 2).reshape(2, 2)), {}),
    ("GatherND", (CUBE, ints(2, 0).reshape(2, 1)), {"batch_dims": 1}),
    ("ScatterND", (CUBE, ints(1, 0, 0, 2).reshape(2, 2), CUBE[0, :2]), {}),
    ("Compress", (REAL, BITS[0]), {"axis": 1}), ("Compress", (REAL, BITS[0]), {}),
    ("NonZero", (BITS,), {}), ("TopK", (TIES, ints(4)), {}), ("TopK", (TIES, ints(9)), {"axis": 1}),
    ("TopK", (TIES, ints(2)), {"axis": 0, "largest": 0}), ("TopK", (WHOLE, ints(3)), {"axis": 1}),
    ("TopK", (TIES, ints(5)), {"axis": 1, "largest": 0}), ("TopK", (TIES, ints(0)), {}),
]  # fmt: skip
LISTS = {"Transpose": "perm"}  # what the host takes as an operand
TWO = {"TopK": 2, "Split": 3}


def wanted(op: str, operands: tuple[Any, ...], attributes: dict[str, Any]) -> list[np.ndarray]:
    """onnxruntime's results, with all operands as inputs."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(operands)]
    outputs = [f"y{i}" for i in range(TWO.get(op, 1))]
    arrays = {n: np.asarray(x) for n, x in zip(names, operands, strict=True) if n}
    kinds = {n: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for n, a in arrays.items()}
    proto = model([node(op, names, outputs, **attributes)], {n: a.shape for n, a in arrays.items()},
                  outputs, opset=18, types=kinds | dict.fromkeys(outputs, 0))  # fmt: skip
    for value in proto.graph.output:
        value.ClearField("type")
    found = onnxruntime_outputs(proto, arrays)
    return [found[name] for name in outputs]


def found(op: str, operands: tuple[Any, ...], attributes: dict[str, int]) -> list[np.ndarray]:
    names = tuple("" if x is None else f"x{i}" for i, x in enumerate(operands))
    outputs = tuple(f"y{i}" for i in range(TWO.get(op, 1)))
    made = evaluate(HostOp(op, names, outputs, tuple(attributes.items())),
                    dict(zip(names, map(np.asarray, operands), strict=True)))  # fmt: skip
    return [made[name] for name in outputs]


def check(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)
        else:
            assert np.array_equal(one, other)


@pytest.mark.parametrize(("op", "operands", "attributes"), CASES)
def test_an_operation_is_onnxruntimes(
    op: str, operands: tuple[Any, ...], attributes: dict[str, int]
) -> None:
    check(found(op, operands, attributes), wanted(op, operands, attributes))


@pytest.mark.parametrize("sizes", (ints(1, 1, 2), None))
def test_split(sizes: np.ndarray | None) -> None:
    x = RNG.normal(size=(3, 4 if sizes is not None else 5)).astype(np.float32)
    operands = (x,) if sizes is None else (x, sizes)
    attributes = {"axis": 1} | ({"num_outputs": 3} if sizes is None else {})
    check(found("Split", operands, attributes), wanted("Split", operands, attributes))


def test_transpose_takes_its_order_as_an_operand() -> None:
    ours = found("Transpose", (CUBE, ints(2, 0, 1)), {})
    check(ours, wanted("Transpose", (CUBE,), {"perm": [2, 0, 1]}))


def test_constant_of_shape_takes_its_value_as_an_operand() -> None:
    value = onnx.numpy_helper.from_array(ints(7))
    ours = found("ConstantOfShape", (ints(2, 3), ints(7)), {})
    check(ours, wanted("ConstantOfShape", (ints(2, 3),), {"value": value}))


@pytest.mark.parametrize("centred", (0, 1))
@pytest.mark.parametrize("least", (None, 0.3))
@pytest.mark.parametrize("overlap", (0.0, 0.3, 0.9))
def test_non_max_suppression(centred: int, least: float | None, overlap: float) -> None:
    rng = np.random.default_rng(7)
    boxes = rng.uniform(0, 10, (2, 40, 4)).astype(np.float32)
    boxes[0, 5:9, 2:] = boxes[0, 5:9, :2]  # of no area, except as centre and size
    scores = np.round(rng.uniform(size=(2, 3, 40)), 1).astype(np.float32)  # many are equal
    limits = (ints(7), np.array([overlap], np.float32))
    operands = (boxes, scores, *limits, *([] if least is None else [np.array([least], "f4")]))
    attributes = {"center_point_box": centred}
    ours, theirs = (f("NonMaxSuppression", operands, attributes) for f in (found, wanted))
    assert len(theirs[0]) > 10
    check(ours, theirs)


def test_non_max_suppression_takes_nothing_by_default() -> None:
    operands = (RNG.uniform(size=(1, 5, 4)).astype(np.float32), np.ones((1, 1, 5), np.float32))
    check(found("NonMaxSuppression", operands, {}), wanted("NonMaxSuppression", operands, {}))


def test_every_operation_is_compared() -> None:
    others = {"Split", "ConstantOfShape", "NonMaxSuppression"}
    assert {op for op, *_ in CASES} | others == set(OPERATORS)


def test_element_types_are_onnxs() -> None:
    for number, name in ELEMENT_TYPES.items():
        dtype = onnx.helper.tensor_dtype_to_np_dtype(number)
        assert name == "float32" if "float" in dtype.name else name == dtype.name
