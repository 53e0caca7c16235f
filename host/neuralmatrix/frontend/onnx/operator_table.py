# SPDX-License-Identifier: Apache-2.0
"""The table of supported ONNX operators, and what to use instead of unsupported ones.

In: an operator's name and opset.  Out: its handler, or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches

from . import constant_folding
from .context import Call, Handler, Refused, Versions
from .ops import (
    attention,
    batch_norm,
    conditions,
    einsum,
    fixed_point,
    fourier,
    gather,
    layout,
    linear,
    logic,
    normalization,
    pointwise,
    pooling,
    powers,
    qonnx,
    qoperators,
    quantization,
    recurrent,
    reduction,
    resize,
    rotary_embedding,
    sampling,
)

HANDLERS: Mapping[str, Versions] = {
    **linear.HANDLERS,
    **pooling.HANDLERS,
    **einsum.HANDLERS,
    **fourier.HANDLERS,
    **pointwise.HANDLERS,
    **powers.HANDLERS,
    **layout.HANDLERS,
    **gather.HANDLERS,
    **logic.HANDLERS,
    **conditions.HANDLERS,
    **normalization.HANDLERS,
    **batch_norm.HANDLERS,
    **attention.HANDLERS,
    **rotary_embedding.HANDLERS,
    **reduction.HANDLERS,
    **recurrent.HANDLERS,
    **resize.HANDLERS,
    **sampling.HANDLERS,
    **quantization.HANDLERS,
    **qoperators.HANDLERS,
    **constant_folding.HANDLERS,
}

# Operators of com.microsoft.
MICROSOFT: Mapping[str, Handler] = {
    **linear.MICROSOFT,
    **normalization.MICROSOFT,
    **attention.MICROSOFT,
    **rotary_embedding.MICROSOFT,
    **pointwise.MICROSOFT,
    **qoperators.MICROSOFT,
    **{op: quantization.HANDLERS[op][1] for op in ("QuantizeLinear", "DequantizeLinear")},
}

# Operators that onnxruntime writes into the domain ai.onnx although ONNX does not define them.
_WITHOUT_SCHEMA = frozenset({"SimplifiedLayerNormalization"})

_QDQ = "quantise the model in the QDQ format (QuantizeLinear, DequantizeLinear) instead"
_TEXT = "strings are not supported; tokenise first and pass ids"
_LIST = "sequences and optionals have no fixed size; tensors of fixed shapes are supported"
_SHAPE = "the size of its result depends on data"
_STEPS = "it is discontinuous: an int8 input cannot resolve the step; smooth functions and "
_CUT = "end the model before this node with outputs= (--outputs) and do it yourself"

NEAREST: Mapping[str, str] = {
    **dict.fromkeys(
        "QAttention MatMulNBits DynamicQuantizeLSTM".split(),
        _QDQ,
    ),
    **dict.fromkeys(
        "StringConcat StringNormalizer StringSplit RegexFullMatch TfIdfVectorizer "
        "LabelEncoder CategoryMapper".split(),
        _TEXT,
    ),
    **dict.fromkeys(
        "SequenceAt SequenceConstruct SequenceEmpty SequenceErase SequenceInsert SequenceLength "
        "SequenceMap SplitToSequence ConcatFromSequence Optional OptionalGetElement "
        "OptionalHasElement".split(),
        _LIST,
    ),
    "NonZero": f"{_SHAPE}; of a constant it is supported, and Gather with constant indices",
    "Unique": f"{_SHAPE}; of a constant it is supported",
    "NonMaxSuppression": f"{_SHAPE}; {_CUT}",
    "RoiAlign": f"its windows depend on data; {_CUT}",
    "MaxRoiPool": f"its windows depend on data; {_CUT}",
    "TopK": "inside a network ReduceMax is supported",
    "Hardmax": "ArgMax at an output is supported, and Softmax",
    "MaxUnpool": "ConvTranspose and Resize are supported",
    **dict.fromkeys(
        ("Floor", "Ceil", "Round", "Mod"), f"{_STEPS}comparisons of integers are supported"
    ),
    **dict.fromkeys(
        "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli "
        "Multinomial".split(),
        "random values differ from run to run; constants are supported",
    ),
    "LayerNormalization": "it needs opset 17; exported for an older one it is recognised too",
    "Gelu": "it needs opset 20; exported for an older one it is recognised too",
}


def handler_of(call: Call, in_opset: bool) -> Handler:
    """Return the handler of a node; Refused with the nearest supported operator if it has none."""
    if call.domain == "com.microsoft" and call.op in MICROSOFT:
        return MICROSOFT[call.op]
    if call.domain == fixed_point.DOMAIN and call.op in fixed_point.OWN:
        return fixed_point.OWN[call.op]
    if call.domain in qonnx.DOMAINS and call.op in qonnx.HANDLERS:
        return qonnx.HANDLERS[call.op]
    if call.domain:
        raise Refused(
            f"domain {call.domain!r}; operators of ai.onnx are supported, and of com.microsoft "
            f"{', '.join(sorted(MICROSOFT))}, and of QONNX {', '.join(qonnx.COMPUTED)}"
        )
    if not call.domain and not in_opset and call.op not in _WITHOUT_SCHEMA:
        raise Refused(f"ai.onnx opset {call.opset} has no such operator; {_nearest(call.op)}")
    versions = {n: h for n, h in HANDLERS.get(call.op, {}).items() if n <= call.opset}
    if not versions:
        raise Refused(_nearest(call.op))
    return versions[max(versions)]


def _nearest(op: str) -> str:
    if op in NEAREST:
        return NEAREST[op]
    close = get_close_matches(op, HANDLERS, n=3, cutoff=0.6)
    if close:
        return f"not supported; the nearest supported are {', '.join(close)}"
    return f"not supported; rebuild it from the {len(HANDLERS)} supported operators"
