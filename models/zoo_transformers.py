# SPDX-License-Identifier: Apache-2.0
"""Constructors of transformers as ONNX models, without torch.

In: sizes and a seed, or the ``state_dict`` of the same network in ``torch_transformers``.
Out: ``onnx.ModelProto`` (float, opset 17, batch 1): LayerNormalization as its own node; attention,
GELU, SiLU, RMSNorm and rotary embedding decomposed as torch.onnx decomposes them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from zoo import BRANCH_GAIN, Builder, Floats, finish

MASKED = -1e4  # added to the scores of masked keys


@dataclass(frozen=True)
class Size:
    """Width of the residual stream, layers, heads, width of the feed-forward part, positions."""

    dim: int
    depth: int
    heads: int
    hidden: int
    sequence: int

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads


# ---------------------------------------------------------------- small parts


def fixed(b: Builder, name: str, value: object) -> str:
    """Add a constant that is not a weight: shapes (int64), masks, angles (float32)."""
    array = np.asarray(value)
    kind = np.int64 if array.dtype.kind == "i" else np.float32
    if all(tensor.name != name for tensor in b.initializers):
        b.initializers.append(numpy_helper.from_array(array.astype(kind), name))
    return name


def normal(b: Builder, shape: tuple[int, ...], spread: float) -> Floats:
    """Make random values around 0."""
    return spread * b.rng.standard_normal(shape, dtype=np.float32)


def linear(
    b: Builder, x: str, name: str, ends: tuple[int, int], bias: bool = True, gain: float = 1.0
) -> str:
    """x @ weight + bias with torch.nn.Linear's (out, in) weight; ``ends`` is (in, out)."""
    given = b.weights.get(f"{name}.weight")
    weight = normal(b, ends[::-1], gain / ends[0] ** 0.5) if given is None else given
    turned = np.ascontiguousarray(np.float32(weight).T)
    b.initializers.append(numpy_helper.from_array(turned, f"{name}.weight"))
    y = b.node("MatMul", [x, f"{name}.weight"], f"{name}.matmul" if bias else name)
    if not bias:
        return y
    shift = b.constant(f"{name}.bias", lambda: normal(b, (ends[1],), 0.1))
    return b.node("Add", [y, shift], name)


def layer_norm(b: Builder, x: str, name: str, dim: int, epsilon: float = 1e-5) -> str:
    """LayerNormalization over the last axis."""
    scale = b.constant(f"{name}.weight", lambda: b.rng.uniform(0.8, 1.2, dim))
    shift = b.constant(f"{name}.bias", lambda: normal(b, (dim,), 0.1))
    return b.node("LayerNormalization", [x, scale, shift], name, axis=-1, epsilon=epsilon)


def rms_norm(b: Builder, x: str, name: str, dim: int, epsilon: float = 1e-5) -> str:
    """x * (1 / sqrt(mean(x^2) + epsilon)) * weight."""
    square = b.node("Pow", [x, fixed(b, "two", 2.0)], f"{name}.square")
    mean = b.node("ReduceMean", [square], f"{name}.mean", axes=[-1], keepdims=1)
    moved = b.node("Add", [mean, fixed(b, f"{name}.epsilon", epsilon)], f"{name}.moved")
    root = b.node("Sqrt", [moved], f"{name}.root")
    factor = b.node("Reciprocal", [root], f"{name}.factor")
    y = b.node("Mul", [x, factor], f"{name}.unit")
    weight = b.constant(f"{name}.weight", lambda: b.rng.uniform(0.8, 1.2, dim))
    return b.node("Mul", [y, weight], name)


def gelu(b: Builder, x: str, name: str) -> str:
    """x/2 * (1 + erf(x / sqrt(2)))."""
    y = b.node("Div", [x, fixed(b, "sqrt_2", 2**0.5)], f"{name}.div")
    y = b.node("Erf", [y], f"{name}.erf")
    y = b.node("Add", [y, fixed(b, "one", 1.0)], f"{name}.add")
    y = b.node("Mul", [x, y], f"{name}.mul")
    return b.node("Mul", [y, fixed(b, "half", 0.5)], name)


def rotated(b: Builder, x: str, name: str, size: Size) -> str:
    """Rotary position embedding (rotate-half form) of (1, heads, sequence, head_dim)."""
    half = size.head_dim // 2
    rates = 10000.0 ** (-np.arange(0, size.head_dim, 2) / size.head_dim)
    angles = np.tile(np.arange(size.sequence)[:, None] * rates, 2)
    parts = [f"{name}.first", f"{name}.second"]
    lengths = fixed(b, "halves", [half, half])
    b.nodes.append(helper.make_node("Split", [x, lengths], parts, f"{name}.split", axis=-1))
    turned = b.node("Neg", [parts[1]], f"{name}.negative")
    turned = b.node("Concat", [turned, parts[0]], f"{name}.turned", axis=-1)
    near = b.node("Mul", [x, fixed(b, "cos", np.cos(angles))], f"{name}.near")
    far = b.node("Mul", [turned, fixed(b, "sin", np.sin(angles))], f"{name}.far")
    return b.node("Add", [near, far], name)


# ---------------------------------------------------------------- blocks


def attention(
    b: Builder, x: str, name: str, size: Size, mask: str = "", rotary: bool = False,
    bias: bool = True,
) -> str:  # fmt: skip
    """Multi-head self-attention; ``mask`` is added to the scores."""

    def heads(part: str, axes: list[int], turn: bool) -> str:
        path = f"{name}.{part}"
        y = linear(b, x, path, (size.dim, size.dim), bias)
        shape = fixed(b, "heads", [1, size.sequence, size.heads, size.head_dim])
        y = b.node("Reshape", [y, shape], f"{path}.split")
        if not turn:
            return b.node("Transpose", [y], f"{path}.heads", perm=axes)
        y = b.node("Transpose", [y], f"{path}.heads", perm=[0, 2, 1, 3])
        y = rotated(b, y, f"{path}.rotated", size)
        return y if part == "query" else b.node("Transpose", [y], f"{path}.t", perm=[0, 1, 3, 2])

    q = heads("query", [0, 2, 1, 3], rotary)
    k = heads("key", [0, 2, 3, 1], rotary)
    v = heads("value", [0, 2, 1, 3], False)
    scores = b.node("MatMul", [q, k], f"{name}.product")
    scale = fixed(b, "scale", size.head_dim**-0.5)
    scores = b.node("Mul", [scores, scale], f"{name}.scores")
    if mask:
        scores = b.node("Add", [scores, mask], f"{name}.masked")
    shares = b.node("Softmax", [scores], f"{name}.softmax", axis=-1)
    y = b.node("MatMul", [shares, v], f"{name}.context")
    y = b.node("Transpose", [y], f"{name}.turned", perm=[0, 2, 1, 3])
    shape = fixed(b, "merged", [1, size.sequence, size.dim])
    y = b.node("Reshape", [y, shape], f"{name}.merged")
    return linear(b, y, f"{name}.out", (size.dim, size.dim), bias, BRANCH_GAIN)


def feed_forward(b: Builder, x: str, name: str, size: Size) -> str:
    """Linear, GELU, Linear."""
    y = gelu(b, linear(b, x, f"{name}.up", (size.dim, size.hidden)), f"{name}.gelu")
    return linear(b, y, f"{name}.down", (size.hidden, size.dim), gain=BRANCH_GAIN)


def gated_feed_forward(b: Builder, x: str, name: str, size: Size) -> str:
    """down(silu(gate(x)) * up(x))."""
    ends = size.dim, size.hidden
    gate, up = (linear(b, x, f"{name}.{part}", ends, bias=False) for part in ("gate", "up"))
    share = b.node("Sigmoid", [gate], f"{name}.sigmoid")
    y = b.node("Mul", [b.node("Mul", [gate, share], f"{name}.silu"), up], f"{name}.product")
    return linear(b, y, f"{name}.down", ends[::-1], bias=False, gain=BRANCH_GAIN)


def _add(b: Builder, x: str, y: str, name: str) -> str:
    return b.node("Add", [x, y], name)


def vit_block(b: Builder, x: str, name: str, size: Size) -> str:
    """Normalised before each part."""
    y = layer_norm(b, x, f"{name}.attention_norm", size.dim)
    x = _add(b, x, attention(b, y, f"{name}.attention", size), f"{name}.middle")
    y = layer_norm(b, x, f"{name}.feed_forward_norm", size.dim)
    return _add(b, x, feed_forward(b, y, f"{name}.feed_forward", size), name)


def bert_block(b: Builder, x: str, name: str, size: Size, mask: str) -> str:
    """Normalised after each part."""
    y = attention(b, x, f"{name}.attention", size, mask)
    x = _add(b, x, y, f"{name}.middle")
    x = layer_norm(b, x, f"{name}.attention_norm", size.dim, 1e-12)
    y = feed_forward(b, x, f"{name}.feed_forward", size)
    return layer_norm(b, _add(b, x, y, name), f"{name}.feed_forward_norm", size.dim, 1e-12)


def decoder_block(b: Builder, x: str, name: str, size: Size, mask: str) -> str:
    """RMSNorm, rotary causal attention, gated SiLU; no biases."""
    y = rms_norm(b, x, f"{name}.attention_norm", size.dim)
    y = attention(b, y, f"{name}.attention", size, mask, rotary=True, bias=False)
    x = _add(b, x, y, f"{name}.middle")
    y = rms_norm(b, x, f"{name}.feed_forward_norm", size.dim)
    return _add(b, x, gated_feed_forward(b, y, f"{name}.feed_forward", size), name)


# ---------------------------------------------------------------- networks

Weights = dict[str, Floats]


def vit(
    image: int, patch: int, channels: int, classes: int, size: Size, pool: str = "class",
    weights: Weights | None = None, seed: int = 0,
) -> onnx.ModelProto:  # fmt: skip
    """torch_transformers.ViT: "input" (1, channels, image, image) to "logits" (1, classes)."""
    b = Builder(seed, weights)
    shape = (size.dim, channels, patch, patch)
    spread = (channels * patch * patch) ** -0.5
    kernel = b.constant("patch.weight", lambda: normal(b, shape, spread))
    shift = b.constant("patch.bias", lambda: normal(b, (size.dim,), 0.1))
    x = b.node("Conv", ["input", kernel, shift], "patch", kernel_shape=[patch, patch],
               strides=[patch, patch])  # fmt: skip
    count = size.sequence - (pool == "class")
    x = b.node("Reshape", [x, fixed(b, "patches", [1, size.dim, count])], "patch.flat")
    x = b.node("Transpose", [x], "patch.tokens", perm=[0, 2, 1])
    if pool == "class":
        first = b.constant("class_token", lambda: normal(b, (1, 1, size.dim), 1.0))
        x = b.node("Concat", [first, x], "tokens", axis=1)
    where = b.constant("position", lambda: normal(b, (1, size.sequence, size.dim), 0.3))
    x = b.node("Add", [x, where], "positioned")
    for i in range(size.depth):
        x = vit_block(b, x, f"blocks.{i}", size)
    x = layer_norm(b, x, "norm", size.dim)
    if pool == "class":
        x = b.node("Gather", [x, fixed(b, "zero", 0)], "pooled", axis=1)
    else:
        x = b.node("ReduceMean", [x], "pooled", axes=[1], keepdims=0)
    y = linear(b, x, "head", (size.dim, classes))
    b.node("Identity", [y], "logits")
    given = _value("input", [1, channels, image, image])
    return finish(b, "vit", [given], ("logits", [1, classes]))


def _value(name: str, shape: list[int], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _states(b: Builder, vocabulary: int, size: Size, at: str = "") -> str:
    """Add the nodes of torch_transformers.Bert from "ids" and "mask" (1, sequence)."""
    real = b.node("Cast", ["mask"], f"{at}mask.real", to=TensorProto.FLOAT)
    left = b.node("Sub", [fixed(b, "one", 1.0), real], f"{at}mask.left")
    left = b.node("Unsqueeze", [left, fixed(b, "middle_axes", [1, 2])], f"{at}mask.row")
    mask = b.node("Mul", [left, fixed(b, "masked", MASKED)], f"{at}mask.added")
    table = b.constant(f"{at}token.weight", lambda: normal(b, (vocabulary, size.dim), 1.0))
    x = b.node("Gather", [table, "ids"], f"{at}token")
    where = b.constant(f"{at}position", lambda: normal(b, (1, size.sequence, size.dim), 0.3))
    x = layer_norm(b, _add(b, x, where, f"{at}positioned"), f"{at}norm", size.dim, 1e-12)
    for i in range(size.depth):
        x = bert_block(b, x, f"{at}blocks.{i}", size, mask)
    return x


def _tokens(size: Size, *names: str) -> list[onnx.ValueInfoProto]:
    return [_value(name, [1, size.sequence], TensorProto.INT64) for name in names]


def bert(
    vocabulary: int, size: Size, weights: Weights | None = None, seed: int = 0
) -> onnx.ModelProto:
    """torch_transformers.Bert: "ids" and "mask" (1, sequence) to "states" (1, sequence, dim)."""
    b = Builder(seed, weights)
    b.node("Identity", [_states(b, vocabulary, size)], "states")
    return finish(b, "bert", _tokens(size, "ids", "mask"), ("states", [1, size.sequence, size.dim]))


def text_classifier(weights: Weights, heads: int = 4, classes: int = 2) -> onnx.ModelProto:
    """torch_transformers.TextClassifier: "ids" and "mask" to "logits" (1, classes)."""
    vocabulary, dim = weights["encoder.token.weight"].shape
    depth = len({key.split(".")[2] for key in weights if key.startswith("encoder.blocks.")})
    hidden = len(weights["encoder.blocks.0.feed_forward.up.weight"])
    size = Size(dim, depth, heads, hidden, weights["encoder.position"].shape[1])
    b = Builder(0, weights)
    x = _states(b, vocabulary, size, "encoder.")
    kept = b.node("Unsqueeze", ["encoder.mask.real", fixed(b, "last_axis", [2])], "kept")
    axis = fixed(b, "sequence_axis", [1])
    masked = b.node("Mul", [x, kept], "kept.states")
    total = b.node("ReduceSum", [masked, axis], "kept.sum", keepdims=0)
    count = b.node("ReduceSum", [kept, axis], "kept.count", keepdims=0)
    pooled = b.node("Div", [total, count], "pooled")
    b.node("Identity", [linear(b, pooled, "head", (dim, classes))], "logits")
    return finish(b, "text_classifier", _tokens(size, "ids", "mask"), ("logits", [1, classes]))


def decoder(
    vocabulary: int, size: Size, weights: Weights | None = None, seed: int = 0
) -> onnx.ModelProto:
    """torch_transformers.Decoder: "ids" (1, sequence) to "logits" (1, sequence, vocabulary)."""
    b = Builder(seed, weights)
    table = b.constant("token.weight", lambda: normal(b, (vocabulary, size.dim), 1.0))
    x = b.node("Gather", [table, "ids"], "token")
    later = np.triu(np.full((size.sequence, size.sequence), MASKED), 1)
    mask = fixed(b, "causal", later)
    for i in range(size.depth):
        x = decoder_block(b, x, f"blocks.{i}", size, mask)
    y = linear(b, rms_norm(b, x, "norm", size.dim), "head", (size.dim, vocabulary), bias=False)
    b.node("Identity", [y], "logits")
    return finish(b, "decoder", _tokens(size, "ids"), ("logits", [1, size.sequence, vocabulary]))


def vit_tiny(image: int = 224, classes: int = 1000, seed: int = 0) -> onnx.ModelProto:
    """ViT-Ti/16 of DeiT (arXiv 2012.12877): 5.7 M parameters."""
    size = Size(192, 12, 3, 768, (image // 16) ** 2 + 1)
    return vit(image, 16, 3, classes, size, seed=seed)


def vit_fashion(weights: Weights | None = None) -> onnx.ModelProto:
    """The ViT that train_vit.py fits to Fashion-MNIST."""
    return vit(28, 4, 1, 10, Size(64, 4, 4, 256, 49), "mean", weights)


def vit_digits(weights: Weights | None = None) -> onnx.ModelProto:
    """The demo's ViT for 8x8 digits, trained by train_demo.py."""
    return vit(8, 2, 1, 10, Size(32, 2, 2, 128, 16), "mean", weights)


def bert_base(sequence: int = 128, vocabulary: int = 30522, seed: int = 0) -> onnx.ModelProto:
    """12 layers of 768, 12 heads: 109 M parameters."""
    return bert(vocabulary, Size(768, 12, 12, 3072, sequence), seed=seed)


def bert_small(sequence: int = 128, vocabulary: int = 30522, seed: int = 0) -> onnx.ModelProto:
    """4 layers of 512, 8 heads (arXiv 1908.08962)."""
    return bert(vocabulary, Size(512, 4, 8, 2048, sequence), seed=seed)


def bert_mini(sequence: int = 128, vocabulary: int = 30522, seed: int = 0) -> onnx.ModelProto:
    """4 layers of 256, 4 heads (arXiv 1908.08962)."""
    return bert(vocabulary, Size(256, 4, 4, 1024, sequence), seed=seed)


def decoder_small(sequence: int = 64, vocabulary: int = 4096, seed: int = 0) -> onnx.ModelProto:
    """4 layers of 256, 4 heads, gated width 704."""
    return decoder(vocabulary, Size(256, 4, 4, 704, sequence), seed=seed)


TRANSFORMERS: dict[str, Callable[..., onnx.ModelProto]] = {
    "vit_tiny": vit_tiny,
    "bert_base": bert_base,
    "bert_small": bert_small,
    "bert_mini": bert_mini,
    "decoder_small": decoder_small,
}
