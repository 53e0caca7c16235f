# SPDX-License-Identifier: Apache-2.0
"""softmax(q k^T) v in ONNX nodes, with a test's masks on the scores.

In: a Form.  Out: its nodes, and the one Attention that they become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from neuralmatrix.ir.graph.nodes import Attention, Graph
from onnx_forms import Form, kinds

QKV: dict[str, Sequence[int]] = {"q": (2, 3, 5, 8), "k": (2, 3, 7, 8), "v": (2, 3, 7, 4)}


LOWEST = float(np.finfo(np.float32).min)


TRIANGLE = np.tril(np.ones((5, 7), bool))


def attend(form: Form, masked: Callable[[str], str], split: bool = False) -> str:
    """Append attention; ``masked`` changes the scores; ``split`` scales q and k by a root each."""
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
