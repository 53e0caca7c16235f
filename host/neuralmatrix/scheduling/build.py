# SPDX-License-Identifier: Apache-2.0
"""Assembles a Program.

In: a QGraph and a Target.  Out: a Program: constants, instructions with tokens, ports, layers and
the points at which each tensor can be inspected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..errors import DoesNotFit
from ..hardware.board import Board
from ..hardware.board_memory import buffer_advice, check_memory
from ..hardware.isa import Opcode, Region
from ..hardware.target import Target
from ..ir.matgraph.ops import Gemm, MatOp, Move, Port, RowMax, Window
from ..ir.quantized_values import quantize_array
from ..program.data import LayerInfo, ProgramPort, TensorSlot, Watchpoint
from ..program.program import Program
from ..quantization.qgraph import QGraph, QOp
from .context import Context, OverBuffers
from .emitter import Emitter, make_rings
from .gemm import schedule_gemm
from .gemm_sparse import share_of_blocks
from .memory_plan import ConstRegion, MemoryPlan, plan_memory, with_guard
from .move import schedule_move
from .window import schedule_window

ADDRESS_LIMIT = 2**32

SCHEDULERS: Mapping[type, Callable[[Context, QOp], dict[str, int]]] = {
    Gemm: schedule_gemm,
    Window: schedule_window,
    RowMax: schedule_window,
    Move: schedule_move,
}


@dataclass(frozen=True)
class Guards:
    """Bytes needed before and after a region, because a gather also reads unused lanes."""

    before: int
    after: int


def schedule(graph: QGraph, target: Target, shared: bool = True) -> Program:
    """Schedule a quantised graph; the Program has no board yet (``for_board``).

    With ``shared`` False every tensor has arena bytes of its own, for inspection after a run.
    Raises DoesNotFit when an operation exceeds a buffer, or a region exceeds the addresses.
    """
    const, array = ConstRegion(), target.array
    memory = plan_memory(graph, target.word_bytes, const, shared)
    emitter = Emitter(array, memory.arena_bytes)
    ctx = Context(target, emitter, make_rings(array), const, memory.places,
                  graph.tensors, graph.qparams, _ages(graph))  # fmt: skip
    layers, stores = _schedule_ops(ctx, graph, memory)
    sizes = (Region.ARENA, memory.arena_bytes), (Region.CONST, const.size)
    arena, consts = (_guards(emitter, *size, target.word_bytes) for size in sizes)
    _shift(emitter, {Region.ARENA: arena.before, Region.CONST: consts.before})
    memory = with_guard(memory, arena.before)
    finished = emitter.finish(target.timing)
    data = np.pad(const.bytes(), (consts.before, consts.after))
    arena_bytes = memory.arena_bytes + arena.after
    _check_addresses(arena_bytes, data.size)
    points = ((_slot(name, graph, memory), layer, insn) for name, layer, insn in stores)
    return Program(
        board="",
        array=array,
        timing=target.timing,
        clock_mhz=0.0,
        instructions=finished.words,
        insn_layer=finished.layers,
        const=data,
        arena_bytes=arena_bytes,
        inputs=tuple(_port(p, graph, memory) for p in graph.inputs),
        outputs=tuple(_port(p, graph, memory) for p in graph.outputs),
        layers=layers,
        watchpoints=tuple(Watchpoint(s, n, int(finished.places[i])) for s, n, i in points),
        host_ops=_host_ops(graph),
    )


def for_board(program: Program, board: Board) -> Program:
    """Add a board's name and clock to a Program; DoesNotFit if it exceeds the board's memory."""
    check_memory(board, program.const.nbytes, program.arena_bytes, program.instructions.nbytes)
    return replace(program, board=board.name, clock_mhz=board.clock_mhz)


def _schedule_ops(
    ctx: Context, graph: QGraph, memory: MemoryPlan
) -> tuple[tuple[LayerInfo, ...], list[tuple[str, int, int]]]:
    """Emit all operations; returns layers and (tensor, layer, last store) triples."""
    layers: list[LayerInfo] = []
    stores: list[tuple[str, int, int]] = []
    for qop in graph.ops:
        if qop.op.output in memory.renamed:
            continue
        ctx.emitter.layer = len(layers)
        try:
            stored = SCHEDULERS[type(qop.op)](ctx, qop)
        except OverBuffers as error:
            name = qop.op.source or qop.op.output
            raise DoesNotFit(f"{name}: {error}; {buffer_advice(ctx.array)}") from error
        stores += [(name, len(layers), insn) for name, insn in stored.items()]
        layers.append(_layer(qop.op, graph, memory))
    return tuple(layers), stores


def _ages(graph: QGraph) -> dict[str, int]:
    return {name: i for i, qop in enumerate(graph.ops) for name in qop.op.outputs}


def _layer(op: MatOp, graph: QGraph, memory: MemoryPlan) -> LayerInfo:
    kind = type(op).__name__
    if isinstance(op, Window):
        depthwise = op.reduce == "add" and op.weight.shape[2] > 1 and op.weight.shape[:2] != (1, 1)
        pooling = "MaxPool" if op.reduce == "max" else "AveragePool"
        elementwise = op.weight.shape[:2] == (1, 1)
        kind = "Depthwise" if depthwise else "Elementwise" if elementwise else pooling
    elif isinstance(op, Gemm) and op.rhs:
        kind = "MatMul" if op.output in memory.places else "MatMulStatistic"
    return LayerInfo(op.output, kind, op.source, _macs(op, graph, memory))


def _macs(op: MatOp, graph: QGraph, memory: MemoryPlan) -> int:
    """Count multiply-adds of the source layer: convolutions and matrix products, without padding
    channels and zero blocks of a sparse matrix."""
    if not isinstance(op, Gemm | Window):
        return 0
    if graph.tensors[op.output].broadcast:  # a sum over channels, such as softmax's
        return 0
    outputs = int(np.prod(graph.tensors[op.output].shape))
    if isinstance(op, Gemm) and op.rhs:
        # A product of which only statistics are stored is computed again for its values.
        return outputs * graph.tensors[op.input].shape[3] * (op.output in memory.places)
    assert op.weight is not None
    kh, kw, c = (int(size) for size in op.weight.shape[:3])
    if isinstance(op, Gemm):
        lanes = memory.places[op.input].layout.lanes
        return round(outputs * kh * kw * c * share_of_blocks(op, lanes))
    depthwise = op.reduce == "add" and c > 1 and (kh, kw) != (1, 1)
    return outputs * kh * kw if depthwise else 0


# ------------------------------------------------------------------ guards


def _guards(emitter: Emitter, region: Region, size: int, lanes: int) -> Guards:
    low, high = 0, size
    for item in emitter.items:
        if item.opcode == Opcode.LOAD and item.values["region"] == region and item.values["n0"]:
            first, last = load_extent(item.values, lanes)
            low, high = min(low, first), max(high, last + 1)
    return Guards(-(low // 64) * 64, -(-(high - size) // 64) * 64)


def load_extent(v: Mapping[str, int], lanes: int) -> tuple[int, int]:
    """Return first and last byte a LOAD reads, relative to its region."""
    steps = [(v["n2"], v["s2"]), (v["n1"], v["s1"]), (v["n0"], v["s0"]), (lanes, v["lane_stride"])]
    ends = [(count - 1) * step for count, step in steps]
    return (
        v["addr"] + sum(min(0, end) for end in ends),
        v["addr"] + sum(max(0, end) for end in ends),
    )


def _shift(emitter: Emitter, guards: Mapping[Region, int]) -> None:
    for item in emitter.items:
        if item.opcode == Opcode.LOAD:
            item.values["addr"] += guards[Region(item.values["region"])]
        elif item.opcode == Opcode.STORE:
            item.values["addr"] += guards[Region.ARENA]


def _check_addresses(arena_bytes: int, const_bytes: int) -> None:
    for what, size in (("activations", arena_bytes), ("weights", const_bytes)):
        if size >= ADDRESS_LIMIT:
            raise DoesNotFit(f"{what} take {size} bytes; a region holds less than {ADDRESS_LIMIT}")


# ------------------------------------------------------------------ ports


def _slot(name: str, graph: QGraph, memory: MemoryPlan) -> TensorSlot:
    place = memory.places[name]
    qp = graph.qparams[name]
    return TensorSlot(name, place.offset, place.layout, qp, qp.zero_point)


def _port(port: Port, graph: QGraph, memory: MemoryPlan) -> ProgramPort:
    slot = _slot(port.tensor, graph, memory)
    table = None
    if port.table is not None:
        dtype = np.int16 if slot.qparams.int16 else np.int8
        table = quantize_array(port.table, slot.qparams).astype(dtype)
    return ProgramPort(
        port.name, port.shape, port.dtype, slot, port.steps, port.argmax, table, port.units
    )


def _host_ops(graph: QGraph) -> tuple[str, ...]:
    used = {
        "quantize": any(port.table is None for port in graph.inputs),
        "gather": any(port.table is not None for port in graph.inputs),
        "dequantize": True,
        "argmax": any(port.argmax for port in graph.outputs),
    }
    return tuple(name for name, is_used in used.items() if is_used)
