# SPDX-License-Identifier: Apache-2.0
"""Runs a network with onnxruntime on this machine's processor or graphics card.

In: an ONNX model, feeds of N images.  Out: outputs and times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput, ToolMissing
from .clock import Clock

Array = npt.NDArray[Any]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def require_onnxruntime() -> Any:
    """Import onnxruntime.  ToolMissing: it is not installed."""
    try:
        import onnxruntime
    except ImportError:
        raise ToolMissing(
            "onnxruntime is not installed, and comparing needs it; pip install onnxruntime"
        ) from None
    return onnxruntime


def providers() -> tuple[str, ...]:
    """List the processor, and CUDA where this onnxruntime has it."""
    available = require_onnxruntime().get_available_providers()
    return (CPU, *((CUDA,) if CUDA in available else ()))


@dataclass(frozen=True)
class Runtime:
    """A session of onnxruntime; ``many``: it takes N images at once."""

    session: Any
    provider: str
    version: str
    threads: int  # 0: chosen by onnxruntime
    names: tuple[str, ...]
    many: bool

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model.  BadInput: onnxruntime fails, as with feeds of another model."""
        try:
            outputs = self.session.run(list(self.names), dict(feeds))
        except Exception as error:  # onnxruntime's errors have no common base class
            said = " ".join(str(error).split())
            raise BadInput(
                f"onnxruntime stopped: {said}; compare a program with the model it was compiled "
                "from, with the same shapes and constants"
            ) from None
        return dict(zip(self.names, outputs, strict=True))


def open_runtime(
    model: Path, provider: str, threads: int, names: Sequence[str], constants: Mapping[str, Array]
) -> Runtime:
    """Open the model.  BadInput: onnxruntime rejects it."""
    ort = require_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(model), options, providers=[provider])
    except Exception as error:  # onnxruntime's errors have no common base class
        raise BadInput(f"{model}: onnxruntime rejects it: {error}") from None
    if provider not in session.get_providers():
        raise BadInput(f"{provider}: onnxruntime lists it but cannot start it on this machine")
    outputs = {output.name for output in session.get_outputs()}
    missing = sorted(set(names) - outputs)
    if missing:
        raise BadInput(
            f"{model}: found outputs {sorted(outputs)}, the program's are {sorted(names)}; "
            "compare a program with the model it was compiled from"
        )
    own = [port for port in session.get_inputs() if port.name not in constants]
    many = bool(own) and all(port.shape and not isinstance(port.shape[0], int) for port in own)
    return Runtime(session, provider, ort.__version__, threads, tuple(names), many)


def typed_feeds(
    runtime: Runtime, feeds: Mapping[str, Array], constants: Mapping[str, Array]
) -> dict[str, Array]:
    """Convert feeds and constants to the model's types.  BadInput: an input has none."""
    given = {**feeds, **constants}
    ports = runtime.session.get_inputs()
    missing = sorted(port.name for port in ports if port.name not in given)
    if missing:
        raise BadInput(
            f"inputs {missing} of the model have no feed; inputs that were bound when compiling "
            "need --constant NAME=FILE.npy here too"
        )
    return {
        port.name: np.ascontiguousarray(given[port.name], _TYPES.get(port.type)) for port in ports
    }


def slices(feeds: Mapping[str, Array], images: int, constants: Mapping[str, Array]) -> list[Any]:
    """Split feeds into one per image."""
    return [
        {name: x if name in constants else x[i : i + 1] for name, x in feeds.items()}
        for i in range(images)
    ]


def outputs_of(runtime: Runtime, each: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the outputs of all images, one after another."""
    results = [runtime.run(feeds) for feeds in each]
    return {
        name: np.concatenate([result[name] for result in results])
        if len(results) > 1
        else np.asarray(results[0][name])
        for name in runtime.names
    }


def seconds_per_run(
    runtime: Runtime, feeds: Mapping[str, Array], repeats: int, clock: Clock
) -> list[float]:
    """Return the wall time of each of ``repeats`` runs, after two warm-up runs."""
    runtime.run(feeds), runtime.run(feeds)
    seconds = []
    for _ in range(repeats):
        began = clock.now()
        runtime.run(feeds)
        seconds.append(clock.now() - began)
    return seconds
