# SPDX-License-Identifier: Apache-2.0
"""Small exports kept as test data: the file, inputs, and the outputs of the package that made it.

In: a model and arrays.  Out: NAME.onnx and NAME.npz.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]


def record(path: Path, model: onnx.ModelProto, x: Array, right: Array) -> None:
    """Write a model without the notes of its exporter, and its inputs and right outputs."""
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    for part in (kept, kept.graph, *kept.graph.node):
        part.doc_string = ""
        del part.metadata_props[:]
    del kept.graph.value_info[:]
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(kept, f"{path}.onnx")
    np.savez_compressed(f"{path}.npz", x=x.astype(np.float32), y=np.asarray(right, np.float32))
