# SPDX-License-Identifier: Apache-2.0
"""Transformers in plain torch: ViT, BERT and a Llama-like decoder, for training and for export.

In: sizes.  Out: ``nn.Module``.  Sequence lengths are fixed when a model is made, so that every
shape of its export is static.  ``zoo_transformers`` builds the same networks as ONNX without torch
and takes their ``state_dict``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MASKED = -1e4  # added to the scores of masked keys; exp of it is 0 in float32


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + epsilon) * weight over the last axis."""

    def __init__(self, dim: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


def rotary_angles(sequence: int, head_dim: int, base: float = 10000.0) -> tuple[Tensor, Tensor]:
    """Return cos and sin, each (sequence, head_dim), of the rotary embedding's rotate-half form."""
    rates = base ** (-torch.arange(0, head_dim, 2) / head_dim)
    angles = torch.arange(sequence)[:, None] * rates
    angles = torch.cat((angles, angles), -1)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of (..., sequence, head_dim)."""
    first, second = x.chunk(2, -1)
    return x * cos + torch.cat((-second, first), -1) * sin


def causal_mask(sequence: int) -> Tensor:
    """Return (sequence, sequence): 0 where a row may attend, MASKED at later positions."""
    return torch.triu(torch.full((sequence, sequence), MASKED), diagonal=1)


class Attention(nn.Module):
    """Multi-head self-attention of (N, sequence, dim); ``mask`` is added to the scores.

    ``rotary``: the sequence length for which queries and keys are rotated; 0 means no rotation.
    """

    def __init__(self, dim: int, heads: int, bias: bool = True, rotary: int = 0) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, dim // heads
        self.query, self.key, self.value, self.out = (
            nn.Linear(dim, dim, bias=bias) for _ in range(4)
        )
        self.rotary = bool(rotary)
        if rotary:
            cos, sin = rotary_angles(rotary, self.head_dim)
            self.register_buffer("cos", cos, persistent=False)
            self.register_buffer("sin", sin, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        if self.rotary:
            q, k = rotated(q, self.cos, self.sin), rotated(k, self.cos, self.sin)
        scores = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        if mask is not None:
            scores = scores + mask
        merged = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.out(merged.reshape(x.shape))

    def _split(self, x: Tensor) -> Tensor:
        n, sequence, _ = x.shape
        return x.reshape(n, sequence, self.heads, self.head_dim).transpose(1, 2)


class FeedForward(nn.Module):
    """Linear, GELU, Linear."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class GatedFeedForward(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, hidden, bias=False)
        self.up = nn.Linear(dim, hidden, bias=False)
        self.down = nn.Linear(hidden, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """Attention and feed-forward with residuals, normalised before (ViT, decoder) or after."""

    def __init__(
        self,
        attention: Attention,
        feed_forward: nn.Module,
        norm: Callable[[], nn.Module],
        pre_norm: bool = True,
    ) -> None:
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward
        self.attention_norm, self.feed_forward_norm = norm(), norm()
        self.pre_norm = pre_norm

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.pre_norm:
            x = x + self.attention(self.attention_norm(x), mask)
            return x + self.feed_forward(self.feed_forward_norm(x))
        x = self.attention_norm(x + self.attention(x, mask))
        return self.feed_forward_norm(x + self.feed_forward(x))


def decoder_block(dim: int, heads: int, hidden: int, sequence: int) -> Block:
    """RMSNorm, rotary attention and gated SiLU; call it with ``causal_mask(sequence)``."""
    attention = Attention(dim, heads, bias=False, rotary=sequence)
    return Block(attention, GatedFeedForward(dim, hidden), lambda: RMSNorm(dim))


# ---------------------------------------------------------------- vision


class ViT(nn.Module):
    """Vision transformer (arXiv 2010.11929): (N, channels, image, image) to (N, classes) logits.

    ``pool``: "class" classifies from a class token, "mean" from the mean of the patches.
    """

    def __init__(
        self, image: int, patch: int, channels: int, classes: int, dim: int, depth: int,
        heads: int, hidden: int, pool: str = "class",
    ) -> None:  # fmt: skip
        super().__init__()
        tokens = (image // patch) ** 2 + (pool == "class")
        self.pool = pool
        self.patch = nn.Conv2d(channels, dim, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, dim))
        if pool == "class":
            self.class_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.blocks = nn.ModuleList(
            Block(Attention(dim, heads), FeedForward(dim, hidden), lambda: nn.LayerNorm(dim))
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        if self.pool == "class":
            x = torch.cat((self.class_token.expand(x.shape[0], -1, -1), x), 1)
        x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return self.head(x[:, 0] if self.pool == "class" else x.mean(1))


def vit_tiny(image: int = 224, classes: int = 1000) -> ViT:
    """ViT-Ti/16 of DeiT (arXiv 2012.12877): 5.7 M parameters."""
    return ViT(image, 16, 3, classes, dim=192, depth=12, heads=3, hidden=768)


def vit_fashion() -> ViT:
    """The ViT that train_vit.py fits to Fashion-MNIST: 49 patches of 4x4, 0.2 M parameters."""
    return ViT(28, 4, 1, 10, dim=64, depth=4, heads=4, hidden=256, pool="mean")


def vit_digits() -> ViT:
    """The demo's ViT for 8x8 digits: 16 patches of 2x2, 26 k parameters."""
    return ViT(8, 2, 1, 10, dim=32, depth=2, heads=2, hidden=128, pool="mean")


# ---------------------------------------------------------------- text


class Bert(nn.Module):
    """BERT encoder (arXiv 1810.04805): ids and mask (N, sequence) to states (N, sequence, dim).

    ``mask`` is 1 for a token and 0 for padding.  All tokens are of type 0.
    """

    def __init__(
        self, vocabulary: int, sequence: int, dim: int, depth: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(0.02 * torch.randn(1, sequence, dim))
        self.norm = nn.LayerNorm(dim, 1e-12)
        self.blocks = nn.ModuleList(
            Block(Attention(dim, heads), FeedForward(dim, hidden),
                  lambda: nn.LayerNorm(dim, 1e-12), pre_norm=False)
            for _ in range(depth)
        )  # fmt: skip

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        added = (1.0 - mask.to(torch.float32))[:, None, None, :] * MASKED
        x = self.norm(self.token(ids) + self.position)
        for block in self.blocks:
            x = block(x, added)
        return x


def bert_base(sequence: int = 128, vocabulary: int = 30522) -> Bert:
    """12 layers of 768, 12 heads: 109 M parameters."""
    return Bert(vocabulary, sequence, 768, 12, 12, 3072)


def bert_small(sequence: int = 128, vocabulary: int = 30522) -> Bert:
    """4 layers of 512, 8 heads (arXiv 1908.08962)."""
    return Bert(vocabulary, sequence, 512, 4, 8, 2048)


def bert_mini(sequence: int = 128, vocabulary: int = 30522) -> Bert:
    """4 layers of 256, 4 heads (arXiv 1908.08962)."""
    return Bert(vocabulary, sequence, 256, 4, 4, 1024)


class TextClassifier(nn.Module):
    """Logits (N, classes) from the mean of the encoder's states over the unmasked tokens."""

    def __init__(self, encoder: Bert, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.position.shape[-1], classes)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = mask.to(torch.float32)[:, :, None]
        states = self.encoder(ids, mask)
        return self.head((states * kept).sum(1) / kept.sum(1))


def text_classifier(vocabulary: int, sequence: int = 64) -> TextClassifier:
    """The classifier that train_text.py fits to SST-2: two layers of 64, 4 heads."""
    return TextClassifier(Bert(vocabulary, sequence, 64, 2, 4, 256), classes=2)


class Decoder(nn.Module):
    """A stack of decoder blocks: ids (N, sequence) to logits (N, sequence, vocabulary)."""

    def __init__(
        self, vocabulary: int, sequence: int, dim: int, depth: int, heads: int, hidden: int
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.blocks = nn.ModuleList(
            decoder_block(dim, heads, hidden, sequence) for _ in range(depth)
        )
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocabulary, bias=False)
        self.register_buffer("mask", causal_mask(sequence), persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.token(ids)
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))


def decoder_small(sequence: int = 64, vocabulary: int = 4096) -> Decoder:
    """4 layers of 256, 4 heads, gated width 704."""
    return Decoder(vocabulary, sequence, 256, 4, 4, 704)
