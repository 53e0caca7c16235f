# SPDX-License-Identifier: Apache-2.0
"""nm.verify(): a program's integers against the float model and the emulation, layer by layer.

In: a model, the program compiled from it, one feed.  Out: per layer the signal-to-noise ratio of
the integers against the float model, and whether the emulated kernels and the integer reference
agree bit for bit; per output how far it is from the float model's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .compiler import Options, back_end, converted, front_end
from .errors import BadInput, BadModel, CompilerFault
from .hardware.target import Target
from .ir.host.types import HostValue
from .ir.matgraph.ops import MatGraph
from .ir.matgraph.reference import port_outputs, run_float
from .ir.quantized_values import dequantize_array
from .ir.types import Array
from .program.data import ProgramPort, Watchpoint
from .program.host_edges import HostRun, finished, host_runs
from .program.host_io import check_feeds, read_output, write_input
from .program.program import Program
from .quantization.accuracy import real_graph
from .quantization.adjust_ranges import MASKED
from .quantization.integer_reference import run_integer
from .quantization.qgraph import QGraph
from .runtime.emulation.emulator import Emulator, Watch
from .scheduling import schedule

if TYPE_CHECKING:
    from onnx import ModelProto


_BASIS = (
    "SNR: integer reference against the float model, on the first run's inputs, in the model's "
    "scales and without masked scores; outputs: emulation against the float model, on all inputs"
)


@dataclass(frozen=True)
class LayerCheck:
    """One tensor: ``snr_db`` of integers against float, ``mismatches`` of emulation and
    integers."""

    name: str
    kind: str
    source: str
    snr_db: float
    values: int
    mismatches: int
    first: tuple[int, ...] | None  # (n, h, w, c) of the first mismatch


@dataclass(frozen=True)
class OutputCheck:
    """One output over all ``images``: emulation against the float model.

    ``relative_error`` is RMS error over RMS value; ``top1`` the share of rows (of an arg-max:
    values) with the same largest element, None of outputs that are not (N, classes).
    """

    name: str
    images: int
    snr_db: float
    relative_error: float
    top1: float | None

    def to_text(self) -> str:
        """Return the figures in one phrase."""
        text = f"{self.name!r} relative error {self.relative_error:.3g} ({self.snr_db:.1f} dB)"
        return text if self.top1 is None else f"{text}, top-1 equal in {100 * self.top1:.1f} %"


@dataclass(frozen=True)
class Check:
    """Result of ``verify``; ``ok`` when every tensor is bit-equal."""

    layers: tuple[LayerCheck, ...]
    outputs: tuple[OutputCheck, ...] = ()

    @property
    def ok(self) -> bool:
        return not any(layer.mismatches for layer in self.layers)

    @property
    def first_difference(self) -> LayerCheck | None:
        """The first layer whose emulated bytes differ from the integer reference."""
        return next((layer for layer in self.layers if layer.mismatches), None)

    def to_dict(self) -> dict[str, Any]:
        """Return the check for JSON; ``snr_db`` is None without noise or without a float value."""
        layers, outputs = ([_finite(asdict(x)) for x in xs] for xs in (self.layers, self.outputs))
        return {"ok": self.ok, "basis": _BASIS, "layers": layers, "outputs": outputs}

    def to_text(self) -> str:
        """Return one line per layer and a verdict: bit-equality, then the loss of the outputs."""
        lines = [
            _BASIS,
            f"{'layer':40} {'kind':15} {'SNR dB':>8}  emulation vs integer reference",
        ]
        for layer in self.layers:
            equal = "equal" if not layer.mismatches else (
                f"{layer.mismatches} of {layer.values} differ, first at {layer.first}"
            )  # fmt: skip
            lines.append(f"{layer.name[-40:]:40} {layer.kind:15} {layer.snr_db:8.1f}  {equal}")
        bad = self.first_difference
        verdict = (
            f"first difference in {bad.name!r} ({bad.source})" if bad else "all tensors bit-equal"
        )
        if self.outputs:
            images = self.outputs[0].images
            found = "; ".join(output.to_text() for output in self.outputs)
            verdict += f"; {_inputs(images)} against the float model: {found}"
        return "\n".join([*lines, verdict])


def _finite(fields: dict[str, Any]) -> dict[str, Any]:
    """Return fields for JSON, which knows neither infinity nor NaN."""
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in fields.items()}


def _inputs(count: int) -> str:
    return "one input" if count == 1 else f"{count} inputs"


def verify(
    model: str | Path | bytes | ModelProto,
    program: Program,
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
) -> Check:
    """Compare float reference, integer reference and emulation on all images of a feed.

    ``program`` must have been compiled from ``model`` and ``constants``; BadInput otherwise.
    """
    target = Target(program.array, program.timing)
    lowered, graph, runs = _again(model, program, feeds, constants)
    check = compare(lowered, graph, program, *runs)
    if not check.ok and not np.array_equal(schedule(graph, target).const, program.const):
        raise _other_model("the weights differ")
    return check


def _again(
    model: Any, program: Program, feeds: Mapping[str, Array],
    constants: Mapping[str, Array] | None,
) -> tuple[MatGraph, QGraph, Sequence[HostRun]]:  # fmt: skip
    """Return the float graph and the integers that a program was made of, and its runs on feeds."""
    shapes = {port.name: port.shape or () for port in program.shown_inputs}
    target = Target(program.array, program.timing)
    options = Options(shapes=shapes, constants=constants, saved=program,
                      outputs=tuple(port.name for port in program.shown_outputs))  # fmt: skip
    try:
        lowered = front_end(converted(model).proto, target, options)
    except BadInput as error:
        raise _other_model(f"inputs: {error}") from None
    if options.host.edges != program.host:
        raise _other_model("the host's operations differ")
    arrays, images = check_feeds(program.shown_inputs, feeds)
    runs = host_runs(program, arrays, images)
    try:
        graph = back_end(lowered, target, options)
    except CompilerFault as error:
        raise _other_model(f"its recipe: {error.__cause__!r}") from None
    except BadModel as error:  # the factors or shifts do not fit these weights
        raise _other_model(f"its recipe: {error}") from None
    return lowered, graph, runs


@dataclass(frozen=True)
class LayerTensor:
    """What one layer wrote, for all images along the first axis, (N, H, W, C), in reals: of the
    float model, the integer reference and the device.

    ``scale`` and ``zero_point`` are those of the integers; ``real`` is None where no tensor of the
    float model has the same meaning.
    """

    layer: str
    kind: str
    real: Array | None
    integer: Array
    device: Array
    scale: float
    zero_point: int


def trace(
    model: str | Path | bytes | ModelProto,
    program: Program,
    feeds: Mapping[str, Array],
    constants: Mapping[str, Array] | None = None,
) -> dict[str, LayerTensor]:
    """Return every tensor that a layer writes, by its name, for all images of a feed.

    ``program`` must have been compiled from ``model`` and ``constants``; BadInput otherwise.  The
    device is the emulation of the kernels.

    >>> trace("net.onnx", program, {"x": x})["conv1"].device  # doctest: +SKIP
    """
    lowered, graph, hosts = _again(model, program, feeds, constants)
    watched = [point.tensor.name for point in program.watchpoints]
    found: list[list[LayerTensor]] = []
    for run in hosts:
        with np.errstate(over="ignore", invalid="ignore"):
            real = run_float(lowered if lowered.quant else real_graph(graph), run.feeds)
        integers = run_integer(graph, run.feeds, keep=watched)
        device, _ = emulate(program, run.feeds)
        found.append(_layer_tensors(program, graph, (real, integers, device)))
    return {name: _stacked(some) for name, some in zip(watched, zip(*found, strict=True),
                                                       strict=True)}  # fmt: skip


def _layer_tensors(
    program: Program, graph: QGraph,
    run: tuple[Mapping[str, Array], Mapping[str, Array], Sequence[Array]],
) -> list[LayerTensor]:  # fmt: skip
    """Return the tensors of one run."""
    real, integers, device = run
    made = []
    for point, array in zip(program.watchpoints, device, strict=True):
        name, layer = point.tensor.name, program.layers[point.layer]
        if name not in integers:
            raise _other_model(f"tensor {name} does not match")
        qp = graph.qparams[name]
        integer, found = dequantize_array(integers[name], qp), dequantize_array(array, qp)
        made.append(LayerTensor(layer.source, layer.kind, real.get(name), integer, found,
                                qp.scale, qp.zero_point))  # fmt: skip
    return made


def _stacked(some: Sequence[LayerTensor]) -> LayerTensor:
    """Return one tensor of several runs."""
    reals = [one.real for one in some if one.real is not None]
    return replace(
        some[0],
        real=np.concatenate(reals) if len(reals) == len(some) else None,
        integer=np.concatenate([one.integer for one in some]),
        device=np.concatenate([one.device for one in some]),
    )


def compare(
    lowered: MatGraph, graph: QGraph, program: Program, *given: HostRun | Mapping[str, Array]
) -> Check:
    """Compare as ``verify`` does, on existing graphs; every feed is one run, SNR that of the
    first."""
    hosts = [run if isinstance(run, HostRun) else HostRun(run) for run in given]
    feeds = [host.feeds for host in hosts]
    watched = [point.tensor.name for point in program.watchpoints]
    with np.errstate(over="ignore", invalid="ignore"):  # feeds may be far beyond the calibrated
        # prescribed scales are part of the model, and nothing is rewritten for them
        real = run_float(lowered if lowered.quant else real_graph(graph), feeds[0])
        wanted = [port_outputs(lowered, run_float(lowered, feed, keep=False)) for feed in feeds]
    runs, outputs = [], []
    for feed in feeds:
        integers = run_integer(graph, feed, keep=watched)
        layers, found = emulate(program, feed)
        runs.append(_compare_run(graph, program, integers, layers, real))
        outputs.append(found)
    checks = [output_check(port, wanted, outputs) for port in program.outputs]
    return Check(
        tuple(_joined(layers) for layers in zip(*runs, strict=True)),
        (*checks, *_behind(program, hosts, wanted, outputs)),
    )


def _behind(
    program: Program, hosts: Sequence[HostRun], wanted: Sequence[Mapping[str, Array]],
    found: Sequence[Mapping[str, Array]],
) -> Iterator[OutputCheck]:  # fmt: skip
    """Yield the figures of the outputs that the host computes, unless their size depends on
    data."""
    ours, theirs = (
        [finished(program, *one) for one in zip(hosts, side, strict=True)]
        for side in (found, wanted)
    )
    of_array = {port.name for port in program.outputs}
    for value in program.shown_outputs:
        shapes = {run[value.name].shape for run in (*ours, *theirs)}
        if value.name not in of_array and len(shapes) == 1:
            yield output_check(value, theirs, ours)


def _compare_run(
    graph: QGraph, program: Program, integer: Mapping[str, Array], emulated: Sequence[Array],
    real: Mapping[str, Array],
) -> list[LayerCheck]:  # fmt: skip
    checks = []
    for point, found in zip(program.watchpoints, emulated, strict=True):
        name, layer = point.tensor.name, program.layers[point.layer]
        if name not in integer or integer[name].shape != found.shape:
            raise _other_model(f"tensor {name} does not match")
        snr = float("nan")
        if name in real:
            values = dequantize_array(integer[name], graph.qparams[name])
            snr = _snr_without_masks(real[name], values)
        checks.append(_check(name, (layer.kind, layer.source), snr, integer[name], found))
    return checks


def _snr_without_masks(real: Array, values: Array) -> float:
    """Return the SNR over all values but masked scores, which saturate near the others."""
    seen = real > MASKED
    if seen.all() or float(values.min()) <= MASKED:
        return signal_to_noise(real, values)
    return signal_to_noise(real[seen], values[seen]) if seen.any() else float("nan")


def output_check(
    port: ProgramPort | HostValue,
    wanted: Sequence[Mapping[str, Array]],
    found: Sequence[Mapping[str, Array]],
) -> OutputCheck:
    """Return the figures of one output over several runs, given their outputs by name."""
    right, got = (
        np.stack([np.asarray(run[port.name], np.float64) for run in runs])
        for runs in (wanted, found)
    )
    snr = signal_to_noise(right, got)
    top1: float | None = None
    if getattr(port, "argmax", None) or np.dtype(port.dtype or "float32").kind != "f":
        top1 = float((right == got).mean())
    elif right.ndim == 3 and right.shape[2] > 1:  # runs of (N, classes)
        top1 = float((right.argmax(-1) == got.argmax(-1)).mean())
    return OutputCheck(port.name, len(wanted), snr, 10 ** (-snr / 20), top1)


def _joined(runs: Sequence[LayerCheck]) -> LayerCheck:
    """Return the check of one tensor over several runs."""
    return replace(
        runs[0],
        values=sum(run.values for run in runs),
        mismatches=sum(run.mismatches for run in runs),
        first=next((run.first for run in runs if run.first is not None), None),
    )


def _other_model(what: str) -> BadInput:
    return BadInput(
        f"the program was not compiled from this model, or by another version ({what}); "
        "give the constants it was compiled with (--constant), or compile the model again"
    )


def emulate(program: Program, feed: Mapping[str, Array]) -> tuple[list[Array], dict[str, Array]]:
    """Return quantised values (N,H,W,C) of every watchpoint's tensor, as the kernels compute
    them, and the outputs by name."""
    emulator = Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )
    for port in program.inputs:
        write_input(port, np.asarray(feed[port.name]), emulator.arena)
    stats = emulator.run(watches=[_watch(point) for point in program.watchpoints])
    points: Sequence[Watchpoint] = program.watchpoints
    layers = [p.tensor.layout.unpack(data) for p, data in zip(points, stats.watched, strict=True)]
    return layers, {port.name: read_output(port, emulator.arena) for port in program.outputs}


def _watch(point: Watchpoint) -> Watch:
    return Watch(point.insn, point.tensor.offset, point.tensor.layout.nbytes)


def signal_to_noise(real: Array, approximate: Array) -> float:
    """Return 10 log10 of signal over error energy; infinite when equal."""
    x = np.asarray(real, np.float64)
    noise = float(((x - approximate) ** 2).sum())
    signal = float((x**2).sum())
    if noise == 0.0:
        return float("inf")
    return float(10 * np.log10(max(signal, 1e-300) / noise))


def _check(
    name: str, kind: tuple[str, str], snr: float, expected: Array, emulated: Array
) -> LayerCheck:
    wrong = np.argwhere(expected != emulated)
    first = tuple(int(i) for i in wrong[0]) if len(wrong) else None
    return LayerCheck(name, *kind, snr, expected.size, len(wrong), first)
