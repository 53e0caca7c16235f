# SPDX-License-Identifier: Apache-2.0
"""The compiler: one list of passes, from a model to a Program.

In: an ONNX model, a board, calibration inputs.  Out: a Program.
``passes`` lists all steps of the compiler from top to bottom.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import AccuracyWarning, BadInput, UnsupportedModel, UnsupportedNode
from .frontend.hls4ml.model_graph import Converted, convert, is_model_graph
from .frontend.onnx.bind_constants import bind_constants
from .frontend.onnx.host_edges import import_model
from .frontend.onnx.judge import judged
from .frontend.torch.export import as_onnx
from .hardware.board import Board, load_board
from .hardware.board_memory import check_least_memory, with_cma
from .hardware.target import Target
from .ir.accuracy import Accuracy
from .ir.graph.nodes import Graph
from .ir.matgraph.facts import TiedGraph
from .ir.matgraph.ops import Gemm, MatGraph, Window
from .ir.types import Array, Shape
from .program.metric import Metric, check_metric, metric_loss
from .program.move_notes import move_notes
from .program.program import Program
from .quantization.calibrate import set_ranges
from .quantization.correct_biases import correct_biases
from .quantization.equalize import equalize
from .quantization.exact_biases import exact_biases
from .quantization.exact_means import exact_means
from .quantization.exact_outputs import exact_outputs
from .quantization.host_part import HostPart
from .quantization.loss_warnings import MOST_LOST, metric_warnings
from .quantization.overrides import Wanted, overrides_of
from .quantization.passes import Numbers, apply_levels, apply_units, round_weights, widen
from .quantization.pwl.report import table_notes
from .quantization.qgraph import QGraph
from .quantization.quantize import quantize
from .quantization.requirements import check_requirements, requirements
from .quantization.samples import Run, Samples, feeds_of
from .quantization.scales import choose_scales
from .quantization.settings import SEARCH_SECONDS, Measure, Settings, check_settings
from .quantization.trials import integer_outputs, shown_outputs
from .scheduling import for_board, schedule
from .stages import Passes, Stages, part
from .transforms.graph.simplify import simplify
from .transforms.lowering.rules import lower_graph
from .transforms.matgraph.center_residuals import center_residuals
from .transforms.matgraph.choose_orientation import choose_orientation
from .transforms.matgraph.defer_bias import defer_bias
from .transforms.matgraph.fold_input_permutations import fold_input_permutations
from .transforms.matgraph.fold_row_scales import fold_row_scales
from .transforms.matgraph.fuse_epilogues import fuse_epilogues
from .transforms.matgraph.fuse_row_statistics import fuse_row_statistics
from .transforms.matgraph.legalize_operands import legalize_operands
from .transforms.matgraph.order_channels import order_channels
from .transforms.matgraph.pad_heads import pad_heads
from .transforms.matgraph.quantize_before_moves import quantize_before_moves
from .transforms.matgraph.reorder_nodes import reorder_nodes
from .transforms.matgraph.split_projections import split_projections
from .transforms.matgraph.split_wide import split_wide
from .transforms.matgraph.split_windows import split_windows
from .transforms.matgraph.tie_scales import tie_scales

if TYPE_CHECKING:
    from onnx import ModelProto

Feed = Mapping[str, Array]

# What mixed allows where the user's metric is not content with its default.
TIGHTER = (0.005, 0.001)
REPORT_IT = "do not use the program, and report it"
JUDGED = 4  # held-back inputs on which onnxruntime is asked as well


@dataclass(frozen=True)
class Options:
    """What the passes need besides a graph and a Target.

    ``saved``: follow the recipe of this program instead of choosing one on ``calibration``.
    ``outputs``: values that end the model instead of its own outputs.  ``metric``: of the user.
    """

    settings: Settings = Settings()
    calibration: Iterable[Feed] | None = None
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    constants: Mapping[str, Array] | None = None
    saved: Program | None = None
    stages: Stages = field(default_factory=Stages)
    outputs: tuple[str, ...] = ()
    metric: Metric | None = None

    @cached_property
    def host(self) -> HostPart:
        """What the host computes around the array; known once the model is imported."""
        return HostPart()

    @cached_property
    def numbers(self) -> Numbers:
        """The passes that choose numbers and measure them; they keep what they found."""
        recipe = self.saved.recipe if self.saved is not None else None
        return Numbers(self.settings, self._samples(), ByRecipe(), recipe, self.stages.step)

    def _samples(self) -> Samples | None:
        if self.saved is not None or self.calibration is None:
            return None
        most, hold = self.settings.max_images, self.settings.measured
        return Samples(self.host.prepared(self.calibration), most, hold=hold)


# The passes from a recipe to integers: the search for a recipe runs them for every trial.
BY_RECIPE: Passes = (
    ("level_spectra", apply_levels),
    ("split_scales", apply_units),
    ("exact_outputs", exact_outputs),
    ("equalize", equalize),
    ("widen_weights", widen),
    ("exact_means", exact_means),
    ("exact_biases", exact_biases),
    ("legalize_operands", legalize_operands),
    ("tie_scales", tie_scales),
    ("set_ranges", set_ranges),
    ("correct_biases", correct_biases),
    ("choose_scales", choose_scales),
    ("round_weights", round_weights),
    ("quantize", quantize),
)


def passes(options: Options) -> Passes:
    """Return every pass from an ONNX model to a Program, in the order in which they run."""
    numbers = options.numbers
    return (
        ("import_onnx", partial(_import, options)),
        ("simplify", partial(simplify, note=options.stages.note)),
        ("lower_graph", lower_graph),
        ("fuse_epilogues", fuse_epilogues),
        ("quantize_before_moves", quantize_before_moves),
        ("split_projections", split_projections),
        ("fuse_epilogues", fuse_epilogues),  # into the matmuls that were split
        ("fuse_row_statistics", fuse_row_statistics),
        ("defer_bias", defer_bias),
        ("center_residuals", center_residuals),
        ("pad_heads", pad_heads),
        ("fold_input_permutations", fold_input_permutations),
        ("order_channels", order_channels),
        ("fold_row_scales", fold_row_scales),
        ("choose_orientation", choose_orientation),
        ("reorder_nodes", reorder_nodes),
        ("split_wide", split_wide),
        ("split_windows", split_windows),
        ("choose_numbers", numbers.choose),
        *BY_RECIPE,
        ("measure_accuracy", numbers.measure),
        ("schedule", schedule),
    )


class ByRecipe:
    """The passes of ``BY_RECIPE``, as trials of the search run them."""

    def tied(self, graph: MatGraph, target: Target) -> TiedGraph:
        """Return the graph that its recipe makes, with scale groups."""
        first = part(BY_RECIPE, BY_RECIPE[0][0], "tie_scales")
        tied: TiedGraph = Stages().run(first, graph, target)
        return tied

    def quantized(self, graph: MatGraph, target: Target) -> QGraph:
        """Return the integers that the graph's recipe makes."""
        quantized: QGraph = Stages().run(BY_RECIPE, graph, target)
        return quantized


def compile_model(
    model: Any, board: str | Board = "pynq-z2", calibration: Iterable[Feed] | None = None,
    precision: str = "int8", shapes: Mapping[str, Shape] | None = None,
    constants: Mapping[str, Array] | None = None, method: str = "auto", max_images: int = 256,
    keep_stages: str | Path | None = None, example_inputs: Any = None,
    max_loss: float | None = None, measure: Measure = "relative", refine: bool | None = None,
    progress: Callable[[str], None] | None = None, search_seconds: float = SEARCH_SECONDS,
    accuracy: bool = True, require: str | Iterable[str] = (), outputs: Sequence[str] = (),
    cma_mbytes: int | None = None, strict: bool = False,
    overrides: Mapping[str, Wanted] | None = None, metric: Metric | None = None,
) -> Program:  # fmt: skip
    """Compile a network for a board, and measure what its integers lose.

    ``model``: ONNX path, bytes or ModelProto, hls4ml's ModelGraph (``strict``: refused where the
    array may give other results than hls4ml), or a torch.nn.Module with ``example_inputs``: a
    tensor, a tuple or a dict by argument name, in the shapes to compile for; inputs are then called
    after the arguments of ``forward``.  ``calibration``: typical inputs, {input name: array}, each
    array one input or N where its leading dimension is 1; not needed for a QDQ model.  One in four
    of 8 or more is held back: ``Program.accuracy`` is the loss on these, and an AccuracyWarning
    says where it is bad; ``accuracy=False`` measures and tries nothing.  ``require``: "1%"
    (relative error), "30dB", "psnr:40dB", "top1:99%" or "metric:1%", or several; AccuracyMissed if
    one is not.  ``metric(run)``: your own measure of a network, larger is better; ``run`` takes and
    returns what ``Session.run`` does, once of the float model and once of the integers.  A loss of
    over 1 % of its score is then what an AccuracyWarning says, and nothing else is; without
    ``max_loss`` mixed allows less until the metric is content.
    ``precision``: of activations, int8, int16 or mixed; weights are int8.  Mixed promotes as few
    tensors to int16 as keep the loss on the calibration inputs within ``max_loss`` (0.05, or
    0.01 if an output is neither classes nor vectors), by
    ``measure``, one for all outputs or {output: measure}: "relative" error, "top1" disagreement or
    "psnr"; ``Program.notes`` names them.  ``method``: of ranges, mse, minmax or percentile; auto
    takes what loses least.  ``refine``: whether scales may migrate into weights and biases be
    corrected; what does not help is left out.  ``search_seconds`` bounds that search.
    ``shapes`` fixes dynamic dimensions; ``constants`` binds inputs to arrays (an adjacency matrix).
    ``overrides``: {layer: "int16" | "wide" | {"activations": "int16", "weights": "wide"}}: tensors
    that layers write, and weights of two int8 digits, whatever the search finds; layers by name, as
    in ``program.layers``, or by a pattern as "layer3.*".
    ``outputs``: names of values of the model, which then ends there.
    ``cma_mbytes``: contiguous memory of the board, where it is not its image's any more.
    ``keep_stages``: a folder that receives every stage as readable text.  ``progress`` is called
    with the name of every pass, and in a long pass with its current step.

    Raises BadModel, UnsupportedModel, BadInput, DoesNotFit or AccuracyMissed.

    >>> program = compile_model("net.onnx", board="pynq-z2", calibration=feeds)  # doctest: +SKIP
    """
    settings = Settings(precision, method, max_images, refine, max_loss, measure, search_seconds,
                        accuracy, overrides_of(overrides))  # fmt: skip
    stages = Stages(Path(keep_stages) if keep_stages else None, progress)
    options = Options(settings, calibration, shapes or {}, constants, stages=stages,
                      outputs=_names(outputs), metric=metric)  # fmt: skip
    check_settings(settings, calibration is not None)
    measures = accuracy and calibration is not None
    bounds = requirements(require, measures, metric is not None)
    check_metric(metric, measures)
    found = with_cma(board if isinstance(board, Board) else load_board(board), cma_mbytes)
    source = converted(model, strict)
    program = _chosen(as_onnx(source.proto, example_inputs), found, options)
    program = replace(program, notes=(*source.notes, *program.notes))
    check_requirements(bounds, program.accuracy, precision)
    _warn(program)
    return program


def converted(model: Any, strict: bool = False) -> Converted:
    """Return what hls4ml's ModelGraph becomes; other models as they are."""
    if isinstance(model, Converted):
        return model
    return convert(model, strict) if is_model_graph(model) else Converted(model, (), {})


def lower(graph: Graph, target: Target) -> MatGraph:
    """Return the MatGraph of a simplified Graph, ready to be calibrated."""
    lowered: MatGraph = Stages().run(
        part(passes(Options()), "lower_graph", "split_windows"), graph, target
    )
    return lowered


def front_end(
    model: str | Path | bytes | ModelProto, target: Target, options: Options | None = None
) -> MatGraph:
    """Return the MatGraph of an ONNX model, in real numbers: the first part of the list."""
    options = options or Options()
    first = part(passes(options), "import_onnx", "split_windows")
    lowered: MatGraph = options.stages.run(first, model, target)
    return lowered


def back_end(lowered: MatGraph, target: Target, options: Options) -> QGraph:
    """Return the array's operations in integers: from ``choose_numbers`` to ``quantize``."""
    second = part(passes(options), "choose_numbers", "quantize")
    quantized: QGraph = options.stages.run(second, lowered, target)
    return quantized


def _chosen(model: ModelProto, board: Board, options: Options) -> Program:
    """Compile; with mixed and a user's metric allow less loss until the metric is content."""
    settings = options.settings
    if options.metric is None or settings.precision != "mixed" or settings.max_loss is not None:
        return _compiled(model, board, options)
    options = replace(options, calibration=list(feeds_of(options.calibration)))
    program, allowed = _compiled(model, board, options), iter(TIGHTER)
    while _lost(program) > MOST_LOST and (max_loss := next(allowed, None)) is not None:
        tighter = replace(options, settings=replace(settings, max_loss=max_loss))
        program = min(program, _compiled(model, board, tighter), key=_lost)
    return program


def _lost(program: Program) -> float:
    """Return the share of the score of the user's metric that the integers lose."""
    assert program.accuracy is not None and program.accuracy.metric is not None
    return program.accuracy.metric.lost


def _compiled(model: ModelProto, board: Board, options: Options) -> Program:
    stages, numbers = options.stages, options.numbers
    lowered = front_end(model, board.target, options)
    _check_memory(lowered, board)
    last = part(passes(options), "choose_numbers", "schedule")
    program = for_board(stages.run(last, lowered, board.target), board)
    quantized: QGraph = stages.results[QGraph]
    program = replace(
        program,
        recipe=quantized.recipe,
        host=options.host.edges,
        host_ops=options.host.names(program.host_ops),
    )
    accuracy, unmeasured = _measured(model, quantized, options)
    notes = (
        *program.notes, *options.host.notes, *numbers.notes, *table_notes(quantized),
        *move_notes(program), *_not_measured(numbers), *unmeasured,
    )  # fmt: skip
    return _judged_by_user(replace(program, accuracy=accuracy, notes=notes), quantized, options)


def _judged_by_user(program: Program, quantized: QGraph, options: Options) -> Program:
    """Return a program whose warnings are those of the user's metric, if there is one."""
    if options.metric is None or program.accuracy is None:
        return program
    found = program.accuracy

    def integers(runs: Sequence[Run]) -> list[Mapping[str, Array]]:
        return list(shown_outputs(quantized, integer_outputs(quantized, runs)))

    lost = metric_loss(options.metric, program, options.numbers.float_outputs, integers)
    faults = tuple(line for line in found.warnings if line.endswith(REPORT_IT))
    said = (*faults, *metric_warnings(lost, found.causes))
    return replace(program, accuracy=replace(found, metric=lost, warnings=said))


def _measured(
    model: ModelProto, quantized: QGraph, options: Options
) -> tuple[Accuracy | None, tuple[str, ...]]:
    """Return the measured accuracy, whether onnxruntime computes the same float model, and what
    the host's operations behind the array leave of it; and notes."""
    numbers = options.numbers
    if numbers.accuracy is None or not numbers.held:
        return numbers.accuracy, ()
    feeds = numbers.held[:JUDGED]
    found = judged(model, options.constants, feeds, numbers.float_outputs(feeds))
    worse = () if found.agrees else (
        f"the network as the compiler reads it differs from the model as {found.by} runs it by "
        f"{100 * found.difference:.3g} % at output {found.output}: a fault of the compiler or of "
        f"the model; {REPORT_IT}",
    )  # fmt: skip
    made, notes = options.host.accuracies(numbers, quantized)
    behind = options.host.warnings(made, numbers.accuracy.outputs, quantized.recipe.precision)
    lines = (*worse, *numbers.accuracy.warnings, *behind)
    outputs = (*numbers.accuracy.outputs, *made)
    return replace(numbers.accuracy, judge=found.to_text(), warnings=lines, outputs=outputs), notes


def _names(outputs: Sequence[str]) -> tuple[str, ...]:
    if not isinstance(outputs, (list, tuple)) or not all(isinstance(n, str) for n in outputs):
        raise BadInput(f"outputs: found {outputs!r}, allowed is a list of names of values")
    return tuple(outputs)


def _not_measured(numbers: Numbers) -> tuple[str, ...]:
    found = numbers.accuracy
    return () if found is None or found.measured else (f"accuracy not measured: {found.missing}",)


def _warn(program: Program) -> None:
    """Warn of a bad accuracy, in one warning."""
    if program.accuracy is not None and program.accuracy.warnings:
        warnings.warn("; ".join(program.accuracy.warnings), AccuracyWarning, stacklevel=3)


# ------------------------------------------------------------------ passes with options


def _import(options: Options, model: Any, target: Target) -> Graph:
    bound = bind_constants(model, options.constants) if options.constants else model
    later = partial(_refused_behind, target)
    graph, edges = import_model(bound, options.shapes, options.outputs, later)
    options.host.edges, options.host.inputs = edges, graph.inputs
    return graph


def _refused_behind(target: Target, graph: Graph) -> tuple[UnsupportedNode, ...]:
    """Return the nodes of a graph that the lowering refuses, so that one list names them with the
    importer's."""
    try:
        lower_graph(simplify(graph, target), target)
    except UnsupportedModel as error:
        return error.nodes
    except Exception:  # behind a refused node shapes are guesses: an error there proves nothing
        return ()
    return ()


# ------------------------------------------------------------------ the board


def _check_memory(lowered: MatGraph, board: Board) -> None:
    """Raise DoesNotFit, before calibration, if weights and the largest tensor exceed the memory.

    Every value counts as one byte.
    """
    weights = sum(op.weight.size for op in lowered.ops if isinstance(op, Gemm | Window)
                  and op.weight is not None)  # fmt: skip
    largest = max(lowered.tensors.values(), key=lambda tensor: prod(tensor.shape))
    what = f"its weights and one tensor of shape {largest.shape}"
    check_least_memory(board, weights + prod(largest.shape), what)
