# SPDX-License-Identifier: Apache-2.0
"""Models of graph networks, lowered and compared with onnxruntime.

In: an ONNX model, feeds, bound constants.  Out: the MatGraph, equal in float.
"""

from __future__ import annotations

import numpy as np
import onnx
from build_onnx import onnxruntime_outputs
from graph_models import (
    random_graph,
)
from neuralmatrix.compiler import Options, front_end
from neuralmatrix.ir.matgraph.ops import MatGraph, Move
from neuralmatrix.ir.matgraph.reference import run_float
from neuralmatrix.ir.types import Array, apply_steps
from targets import target

GRAPH = random_graph(45)


def lowered(proto: onnx.ModelProto, constants: dict[str, Array] | None = None) -> MatGraph:
    return front_end(proto, target(), Options(constants=constants))


def floats(mg: MatGraph, feeds: dict[str, Array]) -> dict[str, Array]:
    values = run_float(mg, feeds)
    return {p.name: apply_steps(values[p.tensor], p.steps) for p in mg.outputs}


def check_floats(
    proto: onnx.ModelProto, feeds: dict[str, Array], constants: dict[str, Array] | None = None
) -> MatGraph:
    """Return the MatGraph, checked against onnxruntime."""
    mg = lowered(proto, constants)
    expected = onnxruntime_outputs(proto, {**feeds, **(constants or {})})
    for name, value in floats(mg, feeds).items():
        # float32 sums of some tens of products in another order
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-4)
    return mg


def moves(mg: MatGraph) -> list[str]:
    return [op.output for op in mg.ops if isinstance(op, Move)]
