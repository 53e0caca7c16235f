# SPDX-License-Identifier: Apache-2.0
"""Fusion of the decomposed forms that exporters emit into one node each.

In: a Graph.  Out: ``PASSES`` for ``simplify``: normalisation, activations, attention with its
masks.  Each rule is exact in real arithmetic; where a form differs, the nodes stay.
"""

from __future__ import annotations

from functools import partial

from ..rewrite import Pass, apply_rule
from .attention import fuse_attention
from .frame_blocks import block_frames
from .gated_activations import fuse_activation, fuse_sigmoid_quotient
from .log_sum_exp import shift_exponentials
from .masks import select_far_terms
from .narrow_transforms import narrow_transforms
from .normalization import fold_norm_affine, fuse_folded_norm, fuse_norm
from .rotary_embedding import fold_factor_forward, fuse_rotation, unwrap_sum
from .spectrum import to_logarithms
from .two_digit_weights import split_weights

PASSES: tuple[tuple[str, Pass], ...] = (
    ("fuse_folded_norm", partial(apply_rule, fuse_folded_norm)),
    ("fuse_norm", partial(apply_rule, fuse_norm)),
    ("fold_norm_affine", partial(apply_rule, fold_norm_affine)),
    ("fuse_activation", partial(apply_rule, fuse_activation)),
    ("fuse_sigmoid_quotient", partial(apply_rule, fuse_sigmoid_quotient)),
    ("fuse_rotation", partial(apply_rule, fuse_rotation)),
    ("unwrap_sum", partial(apply_rule, unwrap_sum)),
    ("fold_factor_forward", partial(apply_rule, fold_factor_forward)),
    ("fuse_attention", partial(apply_rule, fuse_attention)),
)

# Rewrites of what no pass of ``PASSES`` has fused into something else.
LAST: tuple[tuple[str, Pass], ...] = (
    ("shift_exponentials", partial(apply_rule, shift_exponentials)),
    ("select_far_terms", partial(apply_rule, select_far_terms)),
    ("to_logarithms", to_logarithms),
    ("narrow_transforms", narrow_transforms),
    ("block_frames", block_frames),
    ("split_weights", split_weights),
)
