# SPDX-License-Identifier: Apache-2.0
"""Images per second and per joule of one network: a board, this processor, this graphics card.

In: an ONNX model, the program compiled from it, inputs; a board, or a saved bench, or neither.
Out: one dictionary with a row per device; every number has its basis, and a missing number has its
reason.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from .._version import __version__
from ..errors import BadInput
from ..program.host_io import check_feeds
from ..program.program import Program
from ..program.report import batch_of, unit_of
from ..runtime.session import Session
from . import onnxruntime_bench as ort
from .agreement import agreement
from .bench import FORMAT as BENCH_FORMAT
from .bench import Options, bench_program, random_feeds
from .compare_host import HostOptions, host_row
from .comparison_rows import Row, board_row, estimated_row, row_json
from .power_run import PowerOptions, read_result
from .provenance import SHORT

Array = npt.NDArray[Any]

FORMAT = "neuralmatrix compare 1"
LEAST_DB = 3.0  # signal over error; quantisation loses far less
MOST_IMAGES = 32  # of the inputs, on which outputs are compared


@dataclass(frozen=True)
class CompareOptions:
    """``device``: "" leaves the board to the estimate, or to ``board_result``."""

    device: str = ""
    overlay: Path | None = None
    board_result: Path | None = None
    rail: str = ""  # the rail that represents the board; "" for the one that feeds all others
    host: HostOptions = HostOptions()


# ------------------------------------------------------------------------------ the board


def _saved(program: Program, path: Path) -> dict[str, Any]:
    result = read_result(path, BENCH_FORMAT)
    if (result.get("fingerprint"), result.get("macs")) != (
        program.array.fingerprint,
        program.estimate().macs,
    ):
        raise BadInput(
            f"{path}: found a bench of another program (board {result.get('board')!r}, "
            f"{result.get('macs')} multiply-adds); bench this one"
        )
    return result


def _board(program: Program, options: CompareOptions) -> tuple[Row, dict[str, Any] | None]:
    if options.board_result is not None:
        result = _saved(program, options.board_result)
        return board_row(result, options.rail), result
    if not options.device:
        return estimated_row(program), None
    host = options.host
    power = PowerOptions(host.plan) if host.power else None
    bench = Options(host.batches, host.repeats, power, host.clock)
    result = bench_program(program, options.device, bench, overlay=options.overlay)
    return board_row(result, options.rail), result


# ------------------------------------------------------------------------------ the comparison


def _runs(program: Program, feeds: Mapping[str, Array] | None) -> tuple[dict[str, Array], int]:
    """Select at most ``MOST_IMAGES`` images of the given inputs, or make random ones."""
    many = batch_of(program) == 1
    random = random_feeds(program, MOST_IMAGES if many else 1)
    chosen = random if feeds is None else dict(feeds)
    arrays, images = check_feeds(program.shown_inputs, chosen)
    if many and images > MOST_IMAGES:
        arrays = {name: x[:MOST_IMAGES] for name, x in arrays.items()}
    return arrays, min(images, MOST_IMAGES)


def _our_outputs(
    program: Program, feeds: Mapping[str, Array], options: CompareOptions
) -> tuple[dict[str, Array], str]:
    device = options.device or "emulation"
    with Session(program, device, overlay=options.overlay) as session:
        outputs = session.run(feeds)
        assert session.stats is not None
        return outputs, f"{SHORT[session.stats.origin]} outputs against onnxruntime's"


def _runtimes(
    model: Path, program: Program, options: HostOptions
) -> tuple[list[ort.Runtime], list[str]]:
    """Open a runtime per provider, the processor first, and say why others do not start.

    N images at once are allowed only where a run of the program is one image.
    """
    names, single = [port.name for port in program.shown_outputs], batch_of(program) == 1
    opened, lacking = [], []
    for provider in ort.providers():
        try:
            one = ort.open_runtime(model, provider, options.threads, names, options.constants)
        except BadInput as error:
            if provider == ort.CPU:
                raise
            lacking.append(f"no row of {provider}: {error}")
        else:
            opened.append(replace(one, many=one.many and single))
    return opened, lacking


def compare(
    model: Path,
    program: Program,
    feeds: Mapping[str, Array] | None = None,
    options: CompareOptions = CompareOptions(),
) -> dict[str, Any]:
    """Make one row per device, and the agreement of the outputs.

    BadInput: the program was not compiled from the model.
    """
    arrays, images = _runs(program, feeds)
    hosts, lacking = _runtimes(model, program, options.host)
    constants = options.host.constants
    typed = ort.typed_feeds(hosts[0], arrays, constants)
    each = ort.slices(typed, images, constants) if images > 1 else [typed]
    outputs, basis = _our_outputs(program, arrays, options)
    near = agreement(ort.outputs_of(hosts[0], each), outputs)
    row, result = _board(program, options)
    rows = [row, *(host_row(host, each[0], options.host) for host in hosts)]
    return {
        "format": FORMAT,
        "versions": {"neuralmatrix": __version__, "python": platform.python_version()},
        "board": program.board,
        "unit": unit_of(batch_of(program), [port.shape or () for port in program.shown_inputs]),
        "rows": [row_json(one) for one in rows],
        "agreement": {
            "basis": basis,
            "images": images,
            "inputs": "given" if feeds is not None else "random, seeded",
            "outputs": near,
        },
        "bench": result,
        "notes": [*lacking, *_notes(rows), *_strangers(near)],
    }


def _strangers(near: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List outputs that differ so much that the program belongs to another model."""
    noisy = [n for n, one in near.items() if (one.get("snr_db") or LEAST_DB) < LEAST_DB]
    other = [n for n, one in near.items() if not one["equal_shapes"]]
    text = "differs like that of another model: check that the program was compiled from this model"
    return [f"output {name!r} {text}" for name in (*noisy, *other)]


def _notes(rows: Sequence[Row]) -> list[str]:
    scopes = {row.scope for row in rows if row.watts is not None}
    different = "the watts have different scopes: compare them with care"
    return [different] if len(scopes) > 1 else []
