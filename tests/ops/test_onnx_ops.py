# SPDX-License-Identifier: Apache-2.0
"""Every supported ONNX operator, imported, simplified and run in numpy, against onnxruntime.

In: one small model per case.  Out: equal outputs.
"""

from __future__ import annotations

import numpy as np
import pytest
from build_onnx import onnxruntime_outputs
from neuralmatrix.frontend.onnx.context import Handler
from neuralmatrix.frontend.onnx.import_onnx import import_onnx
from neuralmatrix.frontend.onnx.operator_table import HANDLERS, MICROSOFT
from neuralmatrix.ir.graph.operators import run_graph
from neuralmatrix.ir.matgraph.reference import port_outputs, run_float
from neuralmatrix.transforms.graph.simplify import simplify
from op_case import (
    IMAGE,
    SIGNAL,
    TINY,
    Case,
    case,
    f32,
    float_model,
    ints,
    positive,
    scalar,
    w,
)
from op_cases_more import MORE
from targets import lower

CONVOLUTIONS = [
    case("Conv", IMAGE, w(4, 5, 3, 3)),
    case("Conv", IMAGE, w(4, 5, 3, 3), w(4), pads=[1, 0, 2, 1], strides=[2, 1], opset=11),
    case("Conv", IMAGE, w(4, 5, 2, 3), dilations=[2, 2], pads=[1, 2, 1, 2], opset=7),
    case("Conv", IMAGE, w(5, 1, 3, 3), w(5), group=5, pads=[1, 1, 1, 1]),
    case("Conv", IMAGE, w(10, 1, 3, 3), group=5, strides=[2, 2]),
    case("Conv", (1, 6, 5, 5), w(4, 3, 1, 1), group=2),
    *(
        case("Conv", IMAGE, w(3, 5, 3, 2), auto_pad=mode, strides=[2, 2])
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    case("Conv", IMAGE, w(3, 5, 3, 3), auto_pad="VALID", dilations=[2, 1]),
    case("Conv", SIGNAL, w(4, 3, 5), w(4), pads=[2, 2], strides=[3]),
    case("Conv", SIGNAL, w(4, 3, 4), auto_pad="SAME_LOWER"),
    *(
        case("Conv", IMAGE, w(3, 5, 3, 3), pads=[d] * 4, dilations=[d, d], steps=steps)
        for d, steps in ((5, 1.0), (6, 0.0), (30, 1.0))
    ),
    case("ConvTranspose", TINY, w(3, 2, 3, 3), w(2)),
    case("ConvTranspose", TINY, w(3, 2, 3, 3), strides=[2, 3], pads=[1, 0, 2, 1]),
    case("ConvTranspose", TINY, w(3, 2, 2, 2), strides=[2, 2], output_padding=[1, 1]),
    case("ConvTranspose", TINY, w(3, 1, 3, 3), group=3, strides=[2, 2], dilations=[2, 1]),
    case("ConvTranspose", (1, 4, 3, 3), w(4, 3, 3, 3), group=2, opset=11),
    *(
        case("ConvTranspose", TINY, w(3, 2, 3, 3), strides=[2, 2], auto_pad=mode)
        for mode in ("SAME_UPPER", "SAME_LOWER", "VALID")
    ),
    case("ConvTranspose", TINY, w(3, 2, 4, 4), strides=[2, 2], output_shape=[9, 8]),
    case("ConvTranspose", SIGNAL, w(3, 4, 3), strides=[2]),
]

PRODUCTS = [
    case("Gemm", (3, 5), w(5, 4), w(4)),
    case("Gemm", (3, 5), w(4, 5), w(3, 1), transB=1, alpha=0.5, beta=2.0, opset=9),
    case("Gemm", (5, 3), w(5, 4), transA=1, opset=11),
    case("Gemm", (3, 5), w(5, 4), w(4), beta=0.0),
    case("Gemm", [(3, 5), (4, 5)], w(4), transB=1, alpha=2.0),
    case("Gemm", [(3, 5), (5, 4), (4,)], beta=0.5),
    case("MatMul", (2, 3, 5), w(5, 4)),
    case("MatMul", (2, 1, 3, 5), w(2, 5, 4), opset=9),
    case("MatMul", [(2, 3, 5), (2, 5, 4)]),
    case("MatMul", [(3, 5), (5,)]),
    case("MatMul", [(5,), (5, 2)]),
    case("BatchNormalization", IMAGE, w(5), w(5), w(5), abs(w(5)), epsilon=1e-3),
    case("BatchNormalization", IMAGE, w(5), w(5), w(5), abs(w(5)), opset=9),
    case("BatchNormalization", (4, 5), w(5), w(5), w(5), abs(w(5)), opset=15),
]

VOLUME = (2, 4, 5, 6, 5)
VOLUMES = [
    case("Conv", VOLUME, w(6, 4, 3, 2, 3), w(6), pads=[1, 0, 1, 0, 1, 2], strides=[2, 1, 2]),
    case("Conv", VOLUME, w(6, 2, 2, 3, 3), group=2, dilations=[3, 1, 2], pads=[1] * 6),
    case("Conv", VOLUME, w(5, 4, 2, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2, 1]),
    case("Conv", VOLUME, w(3, 4, 1, 1, 1)),
    case("ConvTranspose", VOLUME, w(4, 3, 3, 2, 3), w(3), strides=[2, 1, 2],
         pads=[1, 0, 1, 0, 1, 1]),
    case("ConvTranspose", VOLUME, w(4, 2, 3, 3, 2), group=2, dilations=[2, 1, 1]),
    case("ConvTranspose", VOLUME, w(4, 2, 1, 2, 2), w(2), strides=[3, 2, 2],
         output_padding=[1, 0, 1]),
    case("ConvTranspose", VOLUME, w(4, 2, 2, 2, 2), strides=[2, 2, 2], auto_pad="SAME_UPPER"),
    case("MaxPool", VOLUME, kernel_shape=[2, 3, 2], pads=[1, 1, 0, 0, 1, 1], strides=[1, 2, 2]),
    case("MaxPool", VOLUME, kernel_shape=[2, 2, 2], strides=[2, 2, 2], ceil_mode=1),
    *(
        case("AveragePool", VOLUME, kernel_shape=[3, 2, 2], strides=[2, 1, 2],
             pads=[1, 0, 1, 1, 1, 1], count_include_pad=counted, calibrated=True, steps=2.0)
        for counted in (0, 1)
    ),
    case("MaxPool", (1, 3, 24, 20), kernel_shape=[9, 8], pads=[4, 3, 3, 4], strides=[2, 3],
         dilations=[2, 1]),
    case("LpPool", VOLUME, kernel_shape=[2, 2, 3], opset=18, calibrated=True, steps=2.0),
]  # fmt: skip

_CEIL = {"ceil_mode": 1, "kernel_shape": [3, 2], "strides": [2, 3]}
POOLS = [
    *(
        case(op, IMAGE, kernel_shape=[3, 2], opset=opset, **extra)
        for op in ("MaxPool", "AveragePool")
        for opset in (7, 12, 19)
        for extra in (
            {},
            {"strides": [2, 2], "pads": [1, 0, 1, 1]},
            {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
            {"auto_pad": "SAME_LOWER", "strides": [1, 2]},
            {"auto_pad": "VALID", "strides": [2, 2]},
        )
    ),
    case("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    *(
        case(op, shape, pads=pads, opset=19, **_CEIL)
        for op in ("MaxPool", "AveragePool")
        for shape in (IMAGE, (1, 2, 6, 8), (1, 2, 5, 5))
        for pads in ([0, 0, 0, 0], [1, 1, 1, 1])
    ),
    case("AveragePool", IMAGE, pads=[1, 1, 1, 1], count_include_pad=1, opset=19, **_CEIL),
    case("AveragePool", IMAGE, count_include_pad=1, opset=19, **_CEIL),
    case("MaxPool", IMAGE, kernel_shape=[2, 3], dilations=[2, 2], opset=12),
    case("AveragePool", IMAGE, kernel_shape=[2, 2], dilations=[2, 3], opset=19),
    case("MaxPool", SIGNAL, kernel_shape=[3], strides=[2], pads=[1, 0]),
    case("AveragePool", SIGNAL, kernel_shape=[3], strides=[2], pads=[1, 1]),
    *(
        case(op, shape)
        for op in ("GlobalAveragePool", "GlobalMaxPool")
        for shape in (IMAGE, SIGNAL)
    ),
]


FUNCTIONS = [
    *(
        case(op, IMAGE, opset=opset)
        for opset in (9, 18)
        for op in (
            "Relu LeakyRelu Elu Selu Sigmoid Tanh HardSigmoid Softplus Softsign Neg Abs Exp Erf"
        ).split()
    ),
    case("LeakyRelu", IMAGE, alpha=0.3),
    case("Elu", IMAGE, alpha=0.5),
    case("Selu", IMAGE, alpha=1.5, gamma=0.7),
    case("Celu", IMAGE, opset=12),
    case("Celu", IMAGE, alpha=0.4, opset=12),
    case("HardSigmoid", IMAGE, alpha=0.3, beta=0.4),
    case("HardSwish", IMAGE, opset=14),
    case("Mish", IMAGE, opset=18),
    case("Gelu", IMAGE, opset=20),
    case("Gelu", IMAGE, opset=20, approximate="tanh"),
    *(case(op, IMAGE, prepare=positive) for op in ("Log", "Sqrt", "Reciprocal")),
    *(case("Pow", IMAGE, scalar(p), prepare=positive) for p in (-1, -0.5, 0.5, 1, 2, 3)),
    case("Pow", IMAGE, f32(2), opset=7),
    case("PRelu", IMAGE, w(5, 1, 1)),
    case("PRelu", IMAGE, w(1), opset=9),
    case("Clip", IMAGE, min=-0.5, max=0.7, opset=7),
    case("Clip", IMAGE, min=0.0, opset=10),
    case("Clip", IMAGE, opset=7),
    case("Clip", IMAGE, scalar(-0.5), scalar(1.5), opset=11),
    case("Clip", IMAGE, None, scalar(0.5), opset=13),
    case("Clip", IMAGE, scalar(0), scalar(6), opset=12),
    case("Clip", IMAGE, scalar(0), scalar(np.inf)),
    case("Clip", IMAGE, opset=13),
    case("Clip", IMAGE, scalar(1), scalar(-0.5)),
]

ARITHMETIC = [
    *(
        case(op, [IMAGE, IMAGE], opset=opset, prepare=positive, calibrated=op == "Div")
        for op in ("Add", "Sub", "Mul", "Div")
        for opset in (7, 14)
    ),
    *(
        case(op, IMAGE, constant)
        for op in ("Add", "Sub", "Mul", "Div")
        for constant in (scalar(1.7), w(5, 1, 1) + 3, w(6) - 4)
    ),
    *(
        case(op, [(5, 1, 1), IMAGE], prepare=positive, calibrated=op == "Div")
        for op in ("Add", "Sub", "Mul", "Div")
    ),
    *(
        case(op, [IMAGE] * count, opset=opset)
        for op in ("Min", "Max", "Sum", "Mean")
        for count in (1, 2, 3)
        for opset in (8, 13)
    ),
    case("Max", IMAGE, scalar(0.2)),
    case("Min", [IMAGE, (6,)], w(5, 1, 1)),
]

REDUCTIONS = [
    *(
        case(op, IMAGE, opset=11, axes=axes, keepdims=keep)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
        for axes in ([1], [2, 3], [-1])
        for keep in (0, 1)
    ),
    *(
        case(op, IMAGE, ints(-2, 3), opset=18, keepdims=0)
        for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin")
    ),
    case("ReduceSum", IMAGE, ints(1), opset=13),
    case("ReduceSum", IMAGE, opset=13),
    case("ReduceMean", IMAGE, opset=18, keepdims=0),
    case("ReduceMean", IMAGE, opset=18, noop_with_empty_axes=1),
    *(
        case(op, IMAGE, opset=opset, **attrs)
        for op in ("Softmax", "LogSoftmax")
        for opset in (7, 11, 13)
        for attrs in ({}, {"axis": 1}, {"axis": 2}, {"axis": 3}, {"axis": 0})
    ),
    case("Softmax", (4, 9), opset=11),
    case("Softmax", (3, 9, 1, 1), opset=11),
    case("Softmax", IMAGE, axis=-2, opset=13),
    *(
        case("ArgMax", IMAGE, axis=axis, keepdims=keep, opset=opset)
        for axis, keep, opset in ((1, 0, 13), (-1, 1, 11), (0, 1, 7))
    ),
    case("ArgMax", (2, 4), axis=1, select_last_index=1, prepare=np.sign, opset=13),
]

LAYOUT = [
    case("Identity", IMAGE),
    case("Dropout", IMAGE, opset=10, ratio=0.3),
    case("Dropout", IMAGE, scalar(0.5), np.asarray(False), opset=13),
    case("Reshape", IMAGE, ints(0, -1, 3)),
    case("Reshape", IMAGE, ints(2, 210), opset=7),
    case("Flatten", IMAGE),
    *(case("Flatten", IMAGE, axis=axis, opset=11) for axis in (0, 2, 4, -1)),
    case("Squeeze", (1, 3, 1, 4), axes=[0], opset=11),
    case("Squeeze", (1, 3, 1, 4), ints(-2)),
    case("Squeeze", (1, 3, 1, 4)),
    case("Unsqueeze", (3, 4), axes=[0, 3], opset=11),
    case("Unsqueeze", (3, 4), ints(-1, 1)),
    case("Transpose", IMAGE),
    case("Transpose", IMAGE, perm=[0, 2, 3, 1]),
    case("Concat", [IMAGE, (2, 3, 7, 6)], axis=1),
    case("Concat", [IMAGE, IMAGE], w(2, 5, 7, 1), axis=-1),
    case("Split", IMAGE, axis=3, outputs=3, opset=7),
    case("Split", IMAGE, axis=1, split=[2, 3], outputs=2, opset=11),
    case("Split", IMAGE, ints(1, 4), axis=1, outputs=2, opset=13),
    case("Split", IMAGE, axis=2, num_outputs=3, outputs=3, opset=18),
    case("Slice", IMAGE, starts=[1, 0], ends=[3, -1], axes=[1, 3], opset=9),
    case("Slice", IMAGE, starts=[0, 1], ends=[1, 1000], opset=7),
    case("Slice", IMAGE, ints(0, 1), ints(7, 5), ints(2, 3), ints(2, 3), opset=10),
    case("Slice", IMAGE, ints(-3), ints(2**62), ints(-1), opset=13),
    case("Slice", IMAGE, ints(-1, 4), ints(-(2**62), 0), ints(3, 1), ints(-1, -2)),
    case("Slice", IMAGE, ints(-1, 1), ints(-(2**62), 6), ints(2, 3), ints(-2, 2)),
    case("Pad", IMAGE, pads=[0, 1, 2, 0, 0, 0, 1, 3], value=0.5, opset=10),
    case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 2, 1), opset=11),
    case("Pad", IMAGE, ints(0, 0, -1, 2, 0, 0, 2, -1), scalar(-1.5)),
    case("Pad", IMAGE, ints(1, 2), None, ints(-2), opset=18),
    *(
        case("Pad", IMAGE, ints(0, 0, 1, 2, 0, 0, 2, 1), mode=mode, opset=opset)
        for mode, opset in (("reflect", 11), ("edge", 13), ("wrap", 19))
    ),
    case("Pad", IMAGE, ints(0, 0, 0, 0, 0, 0, 0, 0), mode="edge"),
    case("Pad", IMAGE, pads=[0, 0, 1, 1, 0, 0, 0, 0], mode="reflect", opset=7),
    case("Expand", (3, 1, 4), ints(2, 1, 5, 1)),
    case("Expand", (4,), ints(3, 4), opset=8),
    case("Tile", (2, 3, 4), ints(1, 2, 3)),
    case("Tile", (2, 3), ints(1, 1)),
    case("Gather", IMAGE, ints(3, 0, -1), axis=1),
    case("Gather", IMAGE, np.asarray(2, np.int64), axis=2, opset=11),
    case("Gather", IMAGE, ints(0, 2, 1, 3).reshape(2, 2), axis=-1),
    case("DepthToSpace", (2, 12, 2, 3), blocksize=2, opset=9),
    case("DepthToSpace", (2, 12, 2, 3), blocksize=2, mode="CRD", opset=13),
    case("SpaceToDepth", (2, 3, 4, 6), blocksize=2),
]

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
_ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
_EMPTY = np.zeros(0, np.float32)
RESIZES = [
    case("Upsample", TINY, scales=[1.0, 1.0, 2.0, 3.0], mode="nearest", opset=7),
    case("Upsample", TINY, f32(1, 1, 2, 2), mode="linear", opset=9),
    case("Resize", TINY, f32(1, 1, 2, 3), opset=10),
    case("Resize", TINY, f32(1, 1, 0.6, 0.5), opset=10),
    case("Resize", TINY, f32(1, 1, 1.5, 2), mode="linear", opset=10),
    *(
        case(
            "Resize",
            TINY,
            _EMPTY,
            f32(1, 1, *scales),
            opset=opset,
            coordinate_transformation_mode=coordinates,
            nearest_mode=rounding,
        )
        for opset in (11, 19)
        for coordinates in _COORDINATES
        for rounding in _ROUNDINGS
        for scales in ((2, 1.5), (0.6, 0.75))
    ),
    *(
        case(
            "Resize",
            TINY,
            None,
            None,
            ints(1, 3, *sizes),
            opset=13,
            mode=mode,
            coordinate_transformation_mode=coordinates,
        )
        for mode in ("linear", "cubic")
        for coordinates in _COORDINATES
        for sizes in ((10, 7), (3, 3), (1, 4), (5, 9))
    ),
    case("Resize", TINY, None, None, ints(1, 3, 8, 9), mode="linear", opset=19),
    case("Resize", TINY, None, f32(2, 2), axes=[2, 3], mode="linear", opset=18),
    case("Resize", TINY, None, f32(1, 1, 1, 1), mode="linear", opset=18),
    case(
        "Resize",
        TINY,
        None,
        f32(1, 1, 1.7, 1.7),
        mode="cubic",
        cubic_coeff_a=-0.5,
        exclude_outside=1,
    ),
    case(
        "Resize",
        TINY,
        None,
        f32(1, 1, 1.7, 2.3),
        mode="linear",
        coordinate_transformation_mode="half_pixel_symmetric",
        opset=19,
    ),
    *(
        case(
            "Resize",
            TINY,
            None,
            None,
            ints(9, 9),
            axes=[2, 3],
            keep_aspect_ratio_policy=policy,
            opset=18,
        )
        for policy in ("not_larger", "not_smaller")
    ),
    case(
        "Resize",
        TINY,
        _EMPTY,
        f32(1, 1, 2, 2),
        coordinate_transformation_mode="tf_half_pixel_for_nn",
        opset=11,
    ),
]

_CROP = {"coordinate_transformation_mode": "tf_crop_and_resize"}
CROPS = [
    case("Resize", TINY, f32(0, 0, 0.2, 0.1, 1, 1, 0.7, 1.3), None, ints(1, 3, 4, 3), mode=mode,
         extrapolation_value=value, steps=steps, **_CROP)
    for mode, value, steps in (("linear", 2.0, 1.0), ("nearest", 0.0, 0.0), ("cubic", 0.0, 0.0))
]  # fmt: skip

CASES = [
    *CONVOLUTIONS,
    *PRODUCTS,
    *POOLS,
    *VOLUMES,
    *FUNCTIONS,
    *ARITHMETIC,
    *REDUCTIONS,
    *LAYOUT,
    *RESIZES,
    *CROPS,
    *MORE,
]


@pytest.mark.parametrize("one", CASES)
def test_operator_equals_onnxruntime(one: Case) -> None:
    proto, feeds = float_model(one)
    wanted = onnxruntime_outputs(proto, feeds)
    plain = import_onnx(proto)
    simple = simplify(plain)
    lowered = lower(simple)
    results = [run_graph(plain, feeds), run_graph(simple, feeds)]
    results.append(port_outputs(lowered, run_float(lowered, feeds)))
    for found in results:
        assert list(found) == list(wanted)
        for name, y in wanted.items():
            assert found[name].shape == y.shape == plain.shapes[name]
            # float32 sums in another order, and onnxruntime's own approximations of exp and erf
            np.testing.assert_allclose(found[name], y, rtol=2e-5, atol=2e-5)


# They need more than one node around them, or have test files of their own.
_ELSEWHERE = frozenset(
    "QuantizeLinear DequantizeLinear Cast Shape Size OneHot Equal Greater GreaterOrEqual Less "
    "LessOrEqual Not And Or Xor Where Sign CastLike Swish SwiGLU".split()
)
_OWN_TESTS = ("normalization", "attention", "rotary_embedding", "qoperators")


def _is_tested_here(op: str, *handlers: Handler) -> bool:
    modules = {handler.__module__.rpartition(".")[2] for handler in handlers}
    return op not in _ELSEWHERE and not modules.intersection(_OWN_TESTS)


def test_every_operator_of_the_table_has_a_case() -> None:
    tested = {(param.values[0].domain, param.values[0].op) for param in CASES}
    known = {("", op) for op, h in HANDLERS.items() if _is_tested_here(op, *h.values())}
    known |= {("com.microsoft", op) for op, h in MICROSOFT.items() if _is_tested_here(op, h)}
    assert known == tested
