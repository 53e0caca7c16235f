# SPDX-License-Identifier: Apache-2.0
"""onnxruntime as a judge of what the compiler took a model for.

In: an ONNX model, feeds of single runs.  Out: ``Judgement``: onnxruntime's outputs beside the
compiler's float network, or why there are none.  onnxruntime is optional.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...ir.types import Array
from .bind_constants import bind_constants
from .cut import cut

if TYPE_CHECKING:
    from onnx import ModelProto

Outputs = Mapping[str, Array]

# Relative difference that float32 sums in another order do not reach, below any loss that matters.
MOST_DIFFERENT = 0.005
ABSOLUTE = 1e-6
_TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16,
    "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(int16)": np.int16,
    "tensor(int8)": np.int8, "tensor(uint8)": np.uint8, "tensor(bool)": np.bool_,
}  # fmt: skip


@dataclass(frozen=True)
class Judgement:
    """``by``: the judge and its version; empty where it could not run.  ``difference``: the largest
    relative one of an output, and which ``output``."""

    by: str = ""
    difference: float = 0.0
    output: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the difference is that of float32 sums."""
        return self.difference <= MOST_DIFFERENT

    def to_text(self) -> str:
        """Return one line, empty without a judge."""
        return f"{self.by}, within {100 * self.difference:.2g} %" if self.by else ""


def judged(
    model: str | Path | bytes | ModelProto, constants: Mapping[str, Any] | None,
    feeds: Sequence[Mapping[str, Array]], found: Sequence[Outputs],
) -> Judgement:  # fmt: skip
    """Compare ``found``, the float outputs of every feed, with onnxruntime's.

    Both may be values inside the model, where the host computes its edges.  Models that
    onnxruntime refuses, as of custom domains, have no judge.
    """
    try:
        import onnxruntime
    except ImportError:
        return Judgement()
    try:
        bound = bind_constants(model, constants or {})
        wanted = _outputs(onnxruntime, cut(bound, feeds[0], list(found[0])), feeds)
    except Exception:  # onnxruntime has exceptions of its own for all that it refuses
        return Judgement()
    worst = max(
        (_difference(run[name], theirs[name]), name)
        for run, theirs in zip(found, wanted, strict=True)
        for name in run
    )
    return Judgement(f"onnxruntime {onnxruntime.__version__}", *worst)


def _outputs(
    onnxruntime: Any, proto: ModelProto, feeds: Sequence[Mapping[str, Array]]
) -> list[dict[str, Array]]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)
    types: dict[str, Any] = {one.name: _TYPES[one.type] for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    runs = [{n: np.asarray(feed[n]).astype(t) for n, t in types.items()} for feed in feeds]
    return [dict(zip(names, session.run(None, run), strict=True)) for run in runs]


def _difference(found: Array, wanted: Array) -> float:
    """Return the norm of the difference over the norm; of integers the share of other values."""
    wanted = np.asarray(wanted)
    if wanted.dtype.kind in "iub":
        return float(np.mean(found.reshape(wanted.shape) != wanted))
    x, y = np.asarray(found, np.float64).reshape(wanted.shape), wanted.astype(np.float64)
    # runtimes approximate functions to some 1e-6 absolutely: a sigmoid of -12 has no more digits
    beyond = np.maximum(np.abs(x - y) - ABSOLUTE, 0.0)
    error = float(np.linalg.norm(beyond))
    return 0.0 if error == 0.0 else error / max(float(np.linalg.norm(y)), 1e-30)
