# SPDX-License-Identifier: Apache-2.0
"""The cost of a program: cycles, DRAM bytes, utilisation, per layer and per unit.

In: a ``Program``.  Out: an ``Estimate``.
All cycles come from the constants of the kernels' headers: they equal the emulation's count.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ..hardware.instruction_costs import Costs, costs
from ..hardware.isa import Unit
from ..hardware.timeline import Timeline, simulate
from ..ir.types import Array
from .data import ProgramData


@dataclass(frozen=True)
class LayerEstimate:
    """One layer.  ``cycles`` is what it adds to the total; spans overlap and add up to more."""

    name: str
    kind: str
    macs: int
    cycles: int
    span: int  # from the start of its first instruction to the end of its last
    array_cycles: int  # COMPUTE unit busy
    load_cycles: int
    store_cycles: int
    dram_cycles: int  # at the DRAM's effective bandwidth
    dram_bytes: int
    utilization: float  # macs / (cycles * rows * cols)
    bound: str  # what was busy longest: "array", "epilogue", "dram", "load" or "store"


@dataclass(frozen=True)
class Estimate:
    """One run of the array; the time of ``host_ops``, which the host does, is not in it."""

    cycles: int
    clock_mhz: float
    latency_s: float
    macs: int
    utilization: float
    dram_bytes: int
    busy: Mapping[str, int]
    layers: tuple[LayerEstimate, ...]
    timeline: Timeline
    host_ops: tuple[str, ...] = ()

    @property
    def frames_per_s(self) -> float:
        """Runs per second, one after another; a run is one image where the batch is 1."""
        return 1.0 / self.latency_s


def _sums(values: Array, layer: Array, count: int) -> Array:
    out = np.zeros(count, np.int64)
    known = layer >= 0
    np.add.at(out, layer[known], values[known])
    return out


def _bounds(parts: Mapping[str, Array]) -> list[str]:
    names = list(parts)
    table = np.stack([parts[name] for name in names])
    return [names[i] for i in table.argmax(0)]


def _added_cycles(timeline: Timeline, layer: Array, count: int) -> Array:
    """Split the total among layers: each gets the time by which it delays the latest end."""
    last = np.zeros(count, np.int64)
    known = layer >= 0
    np.maximum.at(last, layer[known], timeline.end[known])
    latest = np.maximum.accumulate(last)
    if count:
        latest[-1] = max(int(latest[-1]), timeline.cycles)
    return np.asarray(np.diff(latest, prepend=0))


def _spans(timeline: Timeline, layer: Array, count: int) -> Array:
    first = np.full(count, np.iinfo(np.int64).max)
    last = np.zeros(count, np.int64)
    known = layer >= 0
    np.minimum.at(first, layer[known], timeline.start[known])
    np.maximum.at(last, layer[known], timeline.end[known])
    return np.asarray(np.maximum(last - first, 0))


def _layers(program: ProgramData, cost: Costs, timeline: Timeline) -> Iterator[LayerEstimate]:
    layer, count = program.insn_layer, len(program.layers)
    peak = program.array.rows * program.array.cols
    compute = np.where(cost.unit == Unit.COMPUTE, cost.cycles, 0)
    parts = {
        "array": _sums(cost.passes, layer, count),
        "epilogue": _sums(compute - cost.passes, layer, count),
        "dram": _sums(cost.dram_cycles, layer, count),
        "load": _sums(np.where(cost.unit == Unit.LOAD, cost.cycles, 0), layer, count),
        "store": _sums(np.where(cost.unit == Unit.STORE, cost.cycles, 0), layer, count),
    }
    added, spans = _added_cycles(timeline, layer, count), _spans(timeline, layer, count)
    dram_bytes, bounds = _sums(cost.dram_bytes, layer, count), _bounds(parts)
    for i, info in enumerate(program.layers):
        cycles = int(added[i])
        yield LayerEstimate(
            name=info.name,
            kind=info.kind,
            macs=info.macs,
            cycles=cycles,
            span=int(spans[i]),
            array_cycles=int(parts["array"][i] + parts["epilogue"][i]),
            load_cycles=int(parts["load"][i]),
            store_cycles=int(parts["store"][i]),
            dram_cycles=int(parts["dram"][i]),
            dram_bytes=int(dram_bytes[i]),
            utilization=info.macs / (max(cycles, 1) * peak),
            bound=bounds[i],
        )


def estimate(program: ProgramData) -> Estimate:
    """Evaluate the cycle model; the program must be one that passed ``verify_program``."""
    cost = costs(program.instructions, program.array, program.timing)
    timeline = simulate(cost, program.array, program.timing)
    macs = sum(info.macs for info in program.layers)
    cycles = max(timeline.cycles, 1)
    busy = {u.name.lower(): int(cost.cycles[cost.unit == u].sum()) for u in Unit}
    return Estimate(
        cycles=timeline.cycles,
        clock_mhz=program.clock_mhz,
        latency_s=cycles / (program.clock_mhz * 1e6),
        macs=macs,
        utilization=macs / (cycles * program.array.rows * program.array.cols),
        dram_bytes=int(cost.dram_bytes.sum()),
        busy=busy | {"dram": int(cost.dram_cycles.sum())},
        layers=tuple(_layers(program, cost, timeline)),
        timeline=timeline,
        host_ops=program.host_ops,
    )
