# SPDX-License-Identifier: Apache-2.0
"""Levels of a spectrum: every channel of a transform gets the range that it needs.

In: a MatGraph and samples.  Out: an equal MatGraph.  Where a logarithm reads magnitudes, a channel
is divided by its usual level, in the weights, and the level's logarithm is added afterwards.

Speech is 40 dB quieter at 6 kHz than at 500 Hz; with one range for both, 6 kHz has 8 bits of 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..hardware.target import Target
from ..ir.matgraph.ops import Gemm, MatGraph, MatOp, Port, Window
from ..ir.matgraph.predicates import is_elementwise
from ..ir.matgraph.reference import run_float
from ..ir.matgraph.rewrite import fresh_name, pruned, with_ops
from ..ir.matgraph.uses import Uses
from ..ir.recipe import PerChannel, as_arrays, as_numbers
from ..ir.types import Array
from .samples import Samples

ROOM = 4.0  # other inputs may have a channel that much louder than the samples
LEAST = 2.0**-6  # of the loudest channel; a channel that was silent may not stay so


@dataclass(frozen=True)
class Spectrum:
    """The operation that makes magnitudes, its addend's maker or None, and their logarithm."""

    maker: Gemm
    addend: Gemm | None
    logarithm: Window


def level_spectra(graph: MatGraph, target: Target, *, samples: Samples) -> MatGraph:
    """Return ``graph`` with the levels that its spectra have on the samples."""
    names = [spectrum.maker.output for spectrum in spectra(graph)]
    return with_levels(graph, target, levels=as_numbers(_levels(graph, names, samples)))


def with_levels(graph: MatGraph, target: Target, *, levels: PerChannel) -> MatGraph:
    """Return ``graph`` with the channels of the named magnitudes divided by the given levels."""
    known, tensors = as_arrays(levels), dict(graph.tensors)
    changed: dict[str, tuple[MatOp, ...]] = {}
    for found in spectra(graph):
        level = known.get(found.maker.output)
        if level is None:
            continue
        for op in (found.maker, found.addend):
            if op is not None:
                changed[op.output] = (_divided(op, level),)
        out = found.logarithm.output
        plain = fresh_name(f"{out}:level", tensors)
        tensors[plain] = replace(tensors[out], name=plain)
        one = np.ones((1, 1, 1), np.float32)
        source = found.logarithm.source
        shifted = Window(out, plain, one, np.log(level).astype(np.float32), source=source)
        changed[out] = (replace(found.logarithm, output=plain), shifted)
    recipe = replace(graph.recipe, levels=levels)
    done = with_ops(graph, changed, tensors)
    return replace(done, recipe=recipe) if levels else graph


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
        if isinstance(maker, Gemm) and _scalable(maker):
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
    plain = e.hadamard is None and not e.rows
    odd = e.activation is None or e.activation.name == "abs"
    return plain and odd and op.weight is not None and op.weight_scale is None


def _divided(op: Gemm, level: Array) -> Gemm:
    weight = np.asarray(op.weight / level, np.float32)
    return replace(op, weight=weight, bias=np.asarray(op.bias / level, np.float32))


def _levels(mg: MatGraph, names: list[str], samples: Samples) -> Mapping[str, Array]:
    """Return the level of every channel of the named tensors, a power of 2 up to 1."""
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
    return {name: _power_of_2(ROOM * peak / max(peak.max(), 1e-30)) for name, peak in peaks.items()}


def _power_of_2(level: Array) -> Array:
    """Return the next power of 2 between LEAST and 1: division by it is exact."""
    return np.asarray(2.0 ** np.ceil(np.log2(np.clip(level, LEAST, 1.0))))
