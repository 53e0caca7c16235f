# SPDX-License-Identifier: Apache-2.0
"""Levels of a spectrum: every channel of a transform gets the range that it needs.

In: a MatGraph and samples.  Out: an equal MatGraph.  Where a logarithm reads magnitudes, a channel
is divided by its usual level, in the weights, and the level's logarithm is added afterwards.
Magnitudes below a split are computed on a scale of their own.

Speech is 40 dB quieter at 6 kHz than at 500 Hz; with one range for both, 6 kHz has 8 bits of 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Epilogue, Gemm, MatGraph, MatOp, Port, Tensor, Window
from ..ir.matgraph.predicates import is_elementwise
from ..ir.matgraph.reference import run_float
from ..ir.matgraph.rewrite import fresh_name, pruned, with_ops
from ..ir.matgraph.uses import Uses
from ..ir.recipe import PerChannel, as_arrays, as_numbers
from ..ir.types import Array, Function
from .samples import Samples

ROOM = 4.0  # other inputs may have a channel that much louder than the samples
SPLIT = 2.0**-5  # of the largest magnitude; those below have 5 bits more
TINY = 1e-30
LEAST = 2.0**-6  # of the loudest channel; a channel that was silent may not stay so


ABS = Function("abs")


@dataclass(frozen=True)
class Spectrum:
    """The operation that makes magnitudes, its addend's maker or None, and their logarithm."""

    maker: Gemm
    addend: Gemm | None
    logarithm: Window


def level_spectra(graph: MatGraph, target: Target, *, samples: Samples) -> MatGraph:
    """Return ``graph`` with the levels that its spectra have on the samples."""
    peaks = _peaks(graph, [spectrum.maker.output for spectrum in spectra(graph)], samples)
    levels = {name: _levels(peak) for name, peak in peaks.items()}
    splits = {
        name: np.atleast_1d(SPLIT * max(float((peak / levels[name]).max()), TINY))
        for name, peak in peaks.items()
    }
    return with_levels(graph, target, levels=as_numbers(levels), splits=as_numbers(splits))


def with_levels(
    graph: MatGraph, target: Target, *, levels: PerChannel, splits: PerChannel
) -> MatGraph:
    """Return ``graph`` with the channels of the named magnitudes divided by the given levels, and
    those below the given split on a scale of their own.

    log|x| is log(min(|x|, s)) + log(max(|x|, s) / s).
    """
    if not levels:
        return graph
    known, split_at = as_arrays(levels), {name: float(s[0]) for name, s in splits}
    tensors, changed = dict(graph.tensors), dict[str, tuple[MatOp, ...]]()
    for found in spectra(graph):
        name = found.maker.output
        if name not in known:
            continue
        maker = _divided(found.maker, known[name])
        if found.addend is not None:
            changed[found.addend.output] = (_divided(found.addend, known[name]),)
        small, logs = _parts(found, maker, split_at[name], known[name], tensors)
        changed[name] = (small, maker)
        changed[found.logarithm.output] = logs
    recipe = replace(graph.recipe, levels=levels, splits=splits)
    return replace(with_ops(graph, changed, tensors), recipe=recipe)


def _parts(
    found: Spectrum, maker: Gemm, split: float, level: Array, tensors: dict[str, Tensor]
) -> tuple[Gemm, tuple[MatOp, ...]]:
    """Return the operations that make the magnitudes below ``split``, and then the logarithm."""
    log, out = found.logarithm, found.logarithm.output
    names = []
    for part in (f"{maker.output}:small", f"{out}:small", f"{out}:large"):
        names.append(fresh_name(part, tensors))
        tensors[names[-1]] = replace(tensors[out], name=names[-1])
    below, above = Function("abs_below", (split,)), Function("log_above", (split,))
    small = replace(maker, output=names[0], epilogue=replace(maker.epilogue, activation=below))
    one = np.ones((1, 1, 1), np.float32)
    shift = np.log(level).astype(np.float32)
    return small, (
        replace(log, output=names[1], input=names[0]),
        replace(log, output=names[2], epilogue=replace(log.epilogue, activation=above)),
        Window(out, names[1], one, shift, epilogue=Epilogue(names[2]), source=log.source),
    )


def spectra(mg: MatGraph) -> list[Spectrum]:
    """Return the logarithms of magnitudes whose channels are free: nothing else reads them."""
    uses = Uses.of(mg)
    found = []
    for op in mg.ops:
        activation = op.epilogue.activation
        if not is_elementwise(op) or activation is None or activation.name != "log_floor":
            continue
        maker = uses.maker(op.input)
        if op.epilogue.rows or op.epilogue.hadamard or not uses.private(op.input):
            continue
        if isinstance(maker, Gemm) and _scalable(maker) and maker.epilogue.activation == ABS:
            residual = maker.epilogue.residual
            addend = uses.maker(residual) if residual else None
            plain = isinstance(addend, Gemm) and _scalable(addend) and not addend.epilogue.residual
            if residual is None:
                found.append(Spectrum(maker, None, op))
            elif plain and uses.private(residual) and not addend.epilogue.activation:  # type: ignore[union-attr]
                found.append(Spectrum(maker, addend, op))  # type: ignore[arg-type]
    return found


def _scalable(op: Gemm) -> bool:
    e = op.epilogue
    plain = e.hadamard is None and not e.rows and e.activation in (None, ABS)
    return plain and op.weight is not None and op.weight_scale is None


def _divided(op: Gemm, level: Array) -> Gemm:
    weight = np.asarray(op.weight / level, np.float32)
    return replace(op, weight=weight, bias=np.asarray(op.bias / level, np.float32))


def _peaks(mg: MatGraph, names: list[str], samples: Samples) -> Mapping[str, Array]:
    """Return the largest value of every channel of the named tensors on the samples."""
    if not names:
        return {}
    ports = tuple(Port(name, mg.tensors[name].shape, name, ()) for name in names)
    part = pruned(replace(mg, outputs=ports))
    peaks = {name: np.zeros(mg.tensors[name].shape[3]) for name in names}
    for feeds in samples.runs(mg):
        values = run_float(part, feeds, keep=False)
        for name, peak in peaks.items():
            largest = np.abs(values[name]).reshape(-1, len(peak)).max(0)
            np.maximum(peak, largest, out=peak)
    return peaks


def _levels(peak: Array) -> Array:
    """Return the level of every channel, a power of 2 up to 1: division by it is exact."""
    usual = ROOM * peak / max(float(peak.max()), TINY)
    return np.asarray(2.0 ** np.ceil(np.log2(np.clip(usual, LEAST, 1.0))))
