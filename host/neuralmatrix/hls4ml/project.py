# SPDX-License-Identifier: Apache-2.0
"""One ModelGraph on the array: its files, its program, its runs.

In: the ModelGraph, arrays as hls4ml's users give them.  Out: arrays as hls4ml's own backends give
them, and files in the project's folder: PROJECT.onnx and PROJECT.nmx.  Needs no hls4ml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..compiler import compile_model
from ..deploy.deploy import Request, deploy
from ..deploy.ssh import Target
from ..errors import BadInput
from ..frontend.hls4ml.fixed import Fixed, fixed_of
from ..frontend.hls4ml.model_graph import Converted, convert
from ..ir.types import Array
from ..program.program import Program
from ..runtime.session import Session

SAMPLES = 16  # random inputs of a run on a board


@dataclass
class Project:
    """The state of one ModelGraph in this backend."""

    model: Any
    session: Session | None = None
    traced: Session | None = None
    _made: Converted | None = field(default=None, repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.model.config.config
        return found

    def path(self, suffix: str) -> Path:
        """Return the place of a file of the project."""
        folder = Path(str(self.model.config.get_output_dir()))
        return folder / f"{self.model.config.get_project_name()}{suffix}"

    def write(self) -> None:
        """Read the ModelGraph as it is now, and write it as ONNX."""
        self._made = convert(self.model, bool(self.settings.get("Strict", False)))
        self.session = self.traced = None
        path = self.path(".onnx")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._made.proto.SerializeToString())

    def compile(self) -> Program:
        """Compile and save the program, and open a session in emulation."""
        if self._made is None:
            self.write()
        program = self._compiled(())
        program.save(self.path(".nmx"))
        self.session = Session(program)
        return program

    def _compiled(self, outputs: tuple[str, ...]) -> Program:
        assert self._made is not None
        return compile_model(
            self._made, str(self.settings.get("Board", "pynq-z2")),
            precision=str(self.settings.get("ArrayPrecision", "int8")), outputs=outputs,
        )  # fmt: skip

    def feeds(self, x: Any) -> dict[str, Array]:
        """Return the inputs, cast to the types of hls4ml's inputs, as (N, *shape)."""
        variables = self.model.get_input_variables()
        given = [x] if len(variables) == 1 else list(x)
        if len(given) != len(variables):
            raise BadInput(f"{len(given)} inputs are given; the model has {len(variables)}")
        feeds = {}
        for name, variable, values in zip(self.model.inputs, variables, given, strict=True):
            shape = tuple(int(n) for n in variable.shape)
            array = np.asarray(values)
            if not array.size or array.size % int(np.prod(shape)):
                raise BadInput(f"input {name!r} has the shape {array.shape}; allowed is (N, "
                               f"{', '.join(map(str, shape))})")  # fmt: skip
            fixed = fixed_of(variable.type.precision, str(name))
            feeds[str(name)] = _cast(array.reshape(-1, *shape), fixed)
        return feeds

    def predict(self, x: Any) -> Any:
        """Return outputs flattened per sample, as hls4ml does: (N, size), or (size) of one."""
        if self.session is None:
            raise BadInput("the model is not compiled; call compile() before predict()")
        outputs = self.session.run(self.feeds(x))
        return _as_hls4ml([outputs[name] for name in outputs], _dtype(x))

    def trace(self, x: Any) -> tuple[Any, dict[str, Array]]:
        """Return ``predict(x)`` and the values of every layer, by hls4ml's name."""
        if self.session is None:
            self.compile()
        assert self._made is not None
        names = self._made.layers
        if self.traced is None:
            self.traced = Session(self._compiled(tuple(dict.fromkeys(names.values()))))
        found = self.traced.run(self.feeds(x))
        layers = {layer: found[value] for layer, value in names.items()}
        return self.predict(x), layers

    def build(self, board: str | Target | None, inputs: Any, **request: Any) -> dict[str, Any]:
        """Return the estimate of the program, and of a run on a board what it says.

        ``board``: "user@board", or how to connect.  ``request``: what ``deploy`` is asked beside
        files: device, python, overlay, remote_dir.
        """
        program = self.session.program if self.session is not None else self.compile()
        estimate = program.estimate()
        report: dict[str, Any] = {
            "board": program.board,
            "estimate": {
                "cycles": estimate.cycles,
                "clock_mhz": estimate.clock_mhz,
                "latency_s": estimate.latency_s,
                "utilization": estimate.utilization,
            },
            "notes": list(program.notes),
        }
        if board is None:
            return report
        sent, back = self.path("_inputs.npz"), self.path("_outputs.npz")
        np.savez(sent, **self.feeds(self._given(inputs)))  # type: ignore[arg-type]
        target = Target(board) if isinstance(board, str) else board
        run = deploy(target, Request(self.path(".nmx"), sent, back, **request))
        return {**report, "run": run, "outputs": str(back)}

    def _given(self, inputs: Any) -> Any:
        """Return the inputs of a run: random ones if none are given."""
        if inputs is not None:
            return inputs
        rng = np.random.default_rng(0)
        shapes = [tuple(v.shape) for v in self.model.get_input_variables()]
        drawn = [rng.normal(size=(SAMPLES, *shape)) for shape in shapes]
        return drawn[0] if len(drawn) == 1 else drawn


def _cast(values: Array, fixed: Fixed) -> Array:
    """Return the reals of a cast, exactly."""
    return np.asarray(fixed.cast(values) * fixed.step, np.float32)


def _dtype(x: Any) -> Any:
    first = np.asarray(x[0] if isinstance(x, list | tuple) else x)
    return np.float64 if first.dtype == np.float64 else np.float32


def _as_hls4ml(outputs: list[Array], dtype: Any) -> Any:
    """Return one array or a list, without the axis of a single sample."""
    flat = [y.reshape(len(y), -1).astype(dtype) for y in outputs]
    shown = [y[0] if len(y) == 1 else y for y in flat]
    return shown[0] if len(shown) == 1 else shown
