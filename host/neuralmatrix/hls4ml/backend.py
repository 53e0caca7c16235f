# SPDX-License-Identifier: Apache-2.0
"""The backend "NeuralMatrix" of hls4ml: the methods that hls4ml calls.

In: a ModelGraph after hls4ml's flows.  Out: files of a project, a program, predictions, a build.

Loaded by hls4ml alone, through ``plugin``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ToolMissing
from ..frontend.onnx.load import require_onnx
from ..paths import REMOTE_DIR
from .project import Project

try:
    from hls4ml.backends.fpga.fpga_backend import FPGABackend
    from hls4ml.model.flow import register_flow
    from hls4ml.model.optimizer import model_optimizer
    from hls4ml.writer.writers import Writer
except ImportError as error:
    raise ToolMissing(
        f"the backend of hls4ml needs hls4ml 1.3 or newer ({error}); "
        "pip install 'neuralmatrix[hls4ml]'"
    ) from None

NAME = "NeuralMatrix"

# What hls4ml does for all backends before a backend's own passes, in the order of its own backends.
SHARED = ("infer_precision_types",)


class NeuralMatrixWriter(Writer):  # type: ignore[misc]
    """Writes the model with its prescribed integers, as ONNX, into the project's folder."""

    def write_hls(self, model: Any) -> None:
        project_of(model).write()


class NeuralMatrixBackend(FPGABackend):  # type: ignore[misc]
    """Compiles for the array of a board; see docs/from-hls4ml.md."""

    def __init__(self) -> None:
        super().__init__(NAME)
        init = register_flow("init_layers", self._get_layer_initializers(), ["optimize"], self.name)
        own = [f"{self.name.lower()}:fix_softmax_table_size", *SHARED]
        types = register_flow("optimize", own, [init], self.name)
        bound = register_flow("bind", [f"{self.name.lower()}:bind_trace"], [types], self.name)
        write = [f"{self.name.lower()}:write_hls"]
        self._writer_flow = register_flow("write", write, [bound], self.name)
        self._default_flow = register_flow("ip", None, ["optimize", init, types, bound], self.name)

    def get_default_flow(self) -> str:
        return str(self._default_flow)

    def get_writer_flow(self) -> str:
        return str(self._writer_flow)

    def create_initial_config(
        self, board: str | None = None, precision: str = "int8", strict: bool = False,
        io_type: str = "io_parallel", clock_period: float = 5, **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Return what is told beside ``hls_config``.

        ``board``: a board name, "pynq-z2" by default.  ``precision``: of tensors that have no type
        in hls4ml, those inside a softmax or a recurrent layer.  ``strict``: refuse where results
        may differ from hls4ml's.  ToolMissing: the onnx package is not installed.
        """
        require_onnx()
        return {
            "Board": board or "pynq-z2",
            "ArrayPrecision": precision,
            "Strict": bool(strict),
            "IOType": io_type,
            "ClockPeriod": clock_period,
            "HLSConfig": {},
            "WriterConfig": {"Namespace": None, "WriteWeightsTxt": False, "WriteTar": False},
        }

    @model_optimizer()  # type: ignore[untyped-decorator]
    def bind_trace(self, model: Any) -> bool:
        """Have ``model.trace`` call this backend: hls4ml asks no backend for it."""
        model.trace = lambda x, *args, **kwargs: project_of(model).trace(x)
        return False

    def write(self, model: Any) -> None:
        """Write the project's files."""
        model.apply_flow(self.get_writer_flow())

    def compile(self, model: Any) -> None:
        """Compile the program; without a name of a library hls4ml keeps a handle of the process."""
        project_of(model).compile()

    def predict(self, model: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the program in emulation; arrays as of hls4ml's own ``predict``."""
        return project_of(model).predict(x)

    def build(
        self, model: Any, deploy: Any = None, inputs: Any = None, overlay: str | None = None,
        device: str = "pynq", python: str | None = None, remote_dir: str = REMOTE_DIR, **_: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Return the estimate; with ``deploy`` also what a run on a board took, of ``inputs`` or of
        random ones, and the file of its outputs.

        ``deploy``: "user@board", or ``neuralmatrix.deploy.ssh.Target``.  ``overlay``, ``device``,
        ``python``, ``remote_dir``: as of ``neuralmatrix deploy``.  Options of a synthesis are
        ignored: nothing is synthesized.
        """
        return project_of(model).build(
            deploy, inputs, overlay=Path(overlay) if overlay else None, device=device,
            python=python, remote_dir=remote_dir,
        )  # fmt: skip


def project_of(model: Any) -> Project:
    """Return the project of a ModelGraph, which lives as long as it."""
    found = model.__dict__.get("_neuralmatrix")
    if not isinstance(found, Project):
        found = model._neuralmatrix = Project(model)
    return found
