# SPDX-License-Identifier: Apache-2.0
"""compile_model(): the list of passes, top to bottom.

In: an ONNX model, a board, calibration inputs.  Out: a Program.
Reading ``compile_model`` and ``front_end`` is reading the product.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import DoesNotFit
from .frontend.onnx.bind_constants import bind_constants
from .frontend.onnx.import_onnx import import_onnx
from .frontend.torch.export import as_onnx
from .hardware.board import Board, load_board
from .ir.graph.nodes import Graph
from .ir.matgraph.ops import Gemm, MatGraph, Window
from .ir.matgraph.verify import verify_matgraph
from .ir.types import Array, Shape
from .program.program import Program
from .program.verify import verify_program
from .quantization.decide import Decision, decide
from .quantization.pwl.report import table_notes
from .quantization.quantize import quantize
from .quantization.settings import Method, Settings, check_settings
from .scheduling import schedule
from .stages import write_stage
from .transforms.graph.simplify import simplify
from .transforms.lowering.rules import lower_graph
from .transforms.matgraph.center_residuals import center_residuals
from .transforms.matgraph.choose_orientation import choose_orientation
from .transforms.matgraph.defer_bias import defer_bias
from .transforms.matgraph.fold_input_permutations import fold_input_permutations
from .transforms.matgraph.fold_row_scales import fold_row_scales
from .transforms.matgraph.fuse_epilogues import fuse_epilogues
from .transforms.matgraph.fuse_row_statistics import fuse_row_statistics
from .transforms.matgraph.pad_heads import pad_heads
from .transforms.matgraph.reorder_nodes import reorder_nodes
from .transforms.matgraph.split_projections import split_projections

if TYPE_CHECKING:
    from onnx import ModelProto

Feed = Mapping[str, Array]


def compile_model(
    model: Any,
    board: str | Board = "pynq-z2",
    calibration: Iterable[Feed] | None = None,
    precision: str = "int8",
    shapes: Mapping[str, Shape] | None = None,
    constants: Mapping[str, Array] | None = None,
    method: Method = "mse",
    max_images: int = 256,
    keep_stages: str | Path | None = None,
    example_inputs: Any = None,
    max_loss: float | None = None,
    measure: str = "relative",
    refine: bool | None = None,
) -> Program:
    """Compile a network for a board.

    ``model``: ONNX path, bytes or ModelProto, or a torch.nn.Module with ``example_inputs``: a
    tensor, a tuple or a dict by argument name, in the shapes to compile for; inputs are then called
    after the arguments of ``forward``.  ``calibration``: typical inputs, {input name: array}, each
    array one input or N where its leading dimension is 1; not needed for a QDQ model.
    ``precision``: of activations, int8, int16 or mixed; weights are int8.  Mixed raises as few
    tensors to int16 as keep the loss on the calibration inputs within ``max_loss`` (0.05), by
    ``measure``: "relative" error of the outputs or "top1" disagreement; ``Program.notes`` names
    them.  ``refine`` migrates scales into weights and corrects biases on the calibration inputs
    (default: in mixed).  ``shapes`` fixes dynamic dimensions; ``constants`` binds inputs to arrays
    (an adjacency matrix).  ``keep_stages``: a folder that receives every stage as readable text.

    Raises BadModel, UnsupportedModel, BadInput or DoesNotFit.

    >>> program = compile_model("net.onnx", board="pynq-z2", calibration=feeds)  # doctest: +SKIP
    """
    stages = Stages(Path(keep_stages) if keep_stages else None)
    settings = Settings(precision, method, max_images, refine, max_loss, measure)
    check_settings(settings, calibration is not None)
    target = board if isinstance(board, Board) else load_board(board)
    model = as_onnx(model, example_inputs)
    lowered = front_end(model, shapes or {}, stages, constants)
    _check_dram(lowered, target)
    chosen: Decision = stages.run("calibrate", decide, lowered, calibration, settings)
    graph, bounds, raised = chosen.graph, chosen.bounds, chosen.recipe.raised
    quantised = stages.run("quantize", quantize, graph, bounds, precision, raised)
    program: Program = stages.run("program", schedule, quantised, target)
    verify_program(program)
    ranges = tuple((name, lo, hi) for name, (lo, hi) in bounds.items())
    notes = (*program.notes, *chosen.notes, *table_notes(quantised))
    return replace(program, precision=precision, ranges=ranges, recipe=chosen.recipe, notes=notes)


def lower(graph: Graph) -> MatGraph:
    """The MatGraph of ``graph``, element-wise operators fused into their producers."""
    mg = fuse_epilogues(lower_graph(graph))
    cut = split_projections(mg)
    mg = mg if cut is mg else fuse_epilogues(cut)
    mg = pad_heads(center_residuals(defer_bias(fuse_row_statistics(mg))))
    return verify_matgraph(
        reorder_nodes(choose_orientation(fold_row_scales(fold_input_permutations(mg))))
    )


def front_end(
    model: str | Path | bytes | ModelProto,
    shapes: Mapping[str, Shape],
    stages: Stages,
    constants: Mapping[str, Array] | None = None,
) -> MatGraph:
    """ONNX to the array's operations, in real numbers."""
    if constants:
        model = bind_constants(model, constants)
    graph = stages.run("import", import_onnx, model, shapes)
    graph = stages.run("simplify", simplify, graph)
    lowered: MatGraph = stages.run("lower", lower, graph)
    return lowered


def _check_dram(lowered: MatGraph, board: Board) -> None:
    """DoesNotFit before any calibration: at one byte a value, weights and the largest tensor."""
    weights = sum(op.weight.size for op in lowered.ops if isinstance(op, Gemm | Window)
                  and op.weight is not None)  # fmt: skip
    largest = max(lowered.tensors.values(), key=lambda tensor: prod(tensor.shape))
    need, have = (weights + prod(largest.shape)) / 2**20, board.dram.mbytes
    if need > have:
        raise DoesNotFit(
            f"the network needs over {need:.0f} MiB of DRAM (its weights and one tensor of shape "
            f"{largest.shape}), {board.title} has {have} MiB; choose a larger board or a smaller "
            "input"
        )


@dataclass
class Stages:
    """Runs the passes; writes each result to ``folder`` when there is one, and keeps the times."""

    folder: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, step: Callable[..., Any], *args: Any) -> Any:
        """step(*args), timed and written down."""
        start = time.perf_counter()
        # Numbers that leave the floats are refused by the passes' own checks, in one message.
        with np.errstate(all="ignore"):
            result = step(*args)
        self.seconds[name] = time.perf_counter() - start
        if self.folder is not None:
            write_stage(self.folder, len(self.seconds), name, result)
        return result
