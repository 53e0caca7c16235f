# SPDX-License-Identifier: Apache-2.0
"""The command that compiles.

In: an ONNX model, calibration inputs, options.  Out: a program's file, and what it will cost.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import AccuracyWarning, BadInput
from ..quantization.settings import SEARCH_SECONDS
from .common import Constants, Json, ModelPath, console, emit, show_accuracy
from .stage_line import StageLine

if TYPE_CHECKING:
    from ..program.program import Program

Output = Annotated[Path, typer.Option("-o", "--output", help="Program file to write (.nmx).")]
Board = Annotated[str, typer.Option(help="Target board; see 'neuralmatrix boards'.")]
Precision = Annotated[
    str,
    typer.Option(
        help="Activations: int8, int16, or mixed: int8 with as few tensors at int16 as "
        "--max-loss requires. Weights are int8."
    ),
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        help=".npz file with 16 to 256 typical samples per input; a QDQ model needs none."
    ),
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(help="Fix dynamic dimensions: input=1x3x224x224; a dynamic batch becomes 1."),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        help="With mixed only: loss allowed on the calibration inputs, 0 to 1 (default 0.05 "
        "for classes and vectors, 0.01 for other values)."
    ),
]
Measure = Annotated[
    list[str] | None,
    typer.Option(
        help="What is kept low: 'relative' error (default), 'top1' disagreement or 'psnr'; of one "
        "output: scores=top1."
    ),
]
Method = Annotated[
    str,
    typer.Option(help="How ranges are chosen: mse, minmax, percentile, or auto: what loses least."),
]
Seconds = Annotated[
    float, typer.Option(help="Longest search for ranges, refinements and precision.")
]
Require = Annotated[
    list[str] | None,
    typer.Option(
        help="Accuracy of every output below which nothing is saved and the exit code is 1: "
        "1% (relative error), 30dB, psnr:40dB, top1:99% or metric:1% (of its score lost)."
    ),
]
Metric = Annotated[
    str | None,
    typer.Option(
        help="FILE.py:FUNCTION, your own measure of a network, larger is better: it gets what "
        "Session.run is, of the float model and of the program."
    ),
]
NoMeasure = Annotated[
    bool,
    typer.Option(
        "--no-measure", help="Measure nothing: ranges by mse on all inputs, as fast as possible."
    ),
]
CmaMbytes = Annotated[
    int | None,
    typer.Option(help="Contiguous memory (CMA) of the board, where its image's was enlarged."),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--outputs",
        help="Value of the model that ends it, named after the output of a node; repeat for "
        "several, or separate them by commas.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--override",
        help="LAYER=int16 (tensors that it writes), LAYER=wide (weights of two int8 digits), or "
        "LAYER=int16,wide; LAYER may be a pattern as 'layer3.*'.",
    ),
]
KeepStages = Annotated[
    Path | None, typer.Option(help="Folder that receives each stage as readable text.")
]
Verbose = Annotated[
    bool, typer.Option("-v", "--verbose", help="Show each stage and its time, on standard error.")
]


def compile(
    model: ModelPath,
    output: Output,
    board: Board = "pynq-z2",
    precision: Precision = "int8",
    calibration: Calibration = None,
    shape: Shapes = None,
    constant: Constants = None,
    outputs: Outputs = None,
    max_loss: MaxLoss = None,
    measure: Measure = None,
    calibration_method: Method = "auto",
    search_seconds: Seconds = SEARCH_SECONDS,
    require: Require = None,
    metric: Metric = None,
    no_measure: NoMeasure = False,
    cma_mbytes: CmaMbytes = None,
    override: Overrides = None,
    keep_stages: KeepStages = None,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Compile a model to a program for a board."""
    from .. import files
    from ..compiler import compile_model
    from ..frontend.onnx.bind_constants import read_constants
    from ..program.metric import read_metric
    from ..quantization.overrides import parse_override

    _check_output(output, model)
    shapes = files.parse_shapes(shape or [])
    constants = read_constants(constant or [])
    samples = files.read_arrays(calibration) if calibration else None
    with StageLine(verbose, line=not as_json) as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # it is shown with the accuracy
        program = compile_model(
            model,
            board=board,
            calibration=[samples] if samples else None,
            precision=precision,
            shapes=shapes or None,
            constants=constants or None,
            outputs=[name for text in outputs or () for name in text.split(",")],
            keep_stages=keep_stages,
            max_loss=max_loss,
            measure=_measures(measure or []),
            method=calibration_method,
            search_seconds=search_seconds,
            require=require or (),
            accuracy=not no_measure,
            cma_mbytes=cma_mbytes,
            overrides=dict(map(parse_override, override or ())),
            metric=read_metric(metric) if metric else None,
            progress=progress,
        )
    program.save(output)
    _show(output, program, as_json)


def _measures(texts: list[str]) -> str | dict[str, str]:
    """Return one measure for all outputs, or one for each that is named."""
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    for text in texts:
        if "=" not in text:
            raise BadInput(
                f"--measure: found {text!r} among {len(texts)}; allowed is one for all outputs, or "
                "OUTPUT=MEASURE for each"
            )
    return dict(text.rsplit("=", 1) for text in texts) if texts else "relative"


def _check_output(output: Path, model: Path) -> None:
    """Report errors of the output's path before the work starts."""
    from ..files import check_target

    if output.resolve() == model.resolve():
        raise BadInput(
            f"--output: found {output}, which is the model; name another file, as "
            f"{model.with_suffix('.nmx')}"
        )
    check_target(output)


def _show(output: Path, program: Program, as_json: bool) -> None:
    from ..program.report import port_lines, program_report, summary_lines

    report = program_report(program)
    if as_json:
        emit({"output": str(output), **report})
        return
    count = len(program.instructions)
    text = f"{output}: {count} instructions, {program.board}, {program.precision}"
    screen = console()
    for line in (text, *port_lines(report), *summary_lines(report)):
        screen.print(line, highlight=False, markup=False)
    show_accuracy(screen, program.accuracy)
