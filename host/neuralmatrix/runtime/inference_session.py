# SPDX-License-Identifier: Apache-2.0
"""A session in the shape of onnxruntime's ``InferenceSession``.

In: a program or its file; feeds.  Out: outputs as a list.
Code that was written for onnxruntime runs a program with it: only the file's name changes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..program.program import Program, load
from .session import Session

Array = npt.NDArray[Any]

TYPES: Mapping[str, str] = {
    "float16": "tensor(float16)",
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    "bool": "tensor(bool)",
    **{f"int{bits}": f"tensor(int{bits})" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"tensor(uint{bits})" for bits in (8, 16, 32, 64)},
}
PROVIDERS: Mapping[str, str] = {
    "emulation": "NeuralMatrixEmulationProvider",
    "pynq": "NeuralMatrixPynqProvider",
}


@dataclass(frozen=True)
class NodeArg:
    """An input or output as onnxruntime describes it: ``type`` such as ``tensor(float)``."""

    name: str
    shape: list[int | str | None]
    type: str


class InferenceSession:
    """A program that is run as onnxruntime runs a model.

    ``path_or_program``: an ``.nmx`` file or a ``Program``.  ``sess_options`` and ``providers`` are
    taken and have no effect: the device is ``device``; other options are ``Session``'s.

    >>> (y,) = InferenceSession("net.nmx").run(None, {"input": x})
    """

    def __init__(
        self,
        path_or_program: str | os.PathLike[str] | Program,
        sess_options: object = None,
        providers: object = None,
        *,
        device: str = "emulation",
        **options: Any,
    ) -> None:
        program = path_or_program
        if not isinstance(program, Program):
            program = load(Path(program))
        self._session = Session(program, device, **options)
        self._device = device

    @property
    def session(self) -> Session:
        """The session below, with its statistics."""
        return self._session

    def get_inputs(self) -> list[NodeArg]:
        """Return what ``run`` takes."""
        return [_node(port) for port in self._session.program.shown_inputs]

    def get_outputs(self) -> list[NodeArg]:
        """Return what ``run`` gives."""
        return [_node(port) for port in self._session.program.shown_outputs]

    def get_providers(self) -> list[str]:
        """Return the name of the device."""
        return [PROVIDERS[self._device]]

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: object = None,
    ) -> list[Array]:
        """Return the outputs of these names, or all, in order.  BadInput: there is no such one."""
        known = [port.name for port in self._session.program.shown_outputs]
        wanted = known if output_names is None else list(output_names)
        for name in wanted:
            if name not in known:
                raise BadInput(f"output_names: found {name!r}, allowed are {', '.join(known)}")
        found = self._session.run(input_feed)
        return [found[name] for name in wanted]


def _node(port: Any) -> NodeArg:
    shape = [None if n < 0 else n for n in port.shape or ()]
    return NodeArg(port.name, shape, TYPES[str(np.dtype(port.dtype or "float32"))])
