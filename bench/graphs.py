# SPDX-License-Identifier: Apache-2.0
"""Graph networks: accuracy on Cora, and cycles against the roofline, on pynq-z2.

In: the data folder (cora); networks of models/zoo_graphs on a random graph.
Out: float and int8 accuracy (emulated), estimated cycles and their bound.

The bound of a program is the larger of two sums over its layers:
  array: positions x blocks of ROWS x COLS weights that are not all zero, one cycle each;
  DRAM:  the bytes that have to be loaded at least once (the layer's input, its nonzero blocks or
         its right operand, 8 bytes of parameters per channel, operands of its epilogue) over the
         bytes per cycle of the load port or of the DRAM, whichever is less.
The bound leaves out set-up and latency of instructions, gaps between bursts, the depth of the
array's pipeline, passes shorter than ROWS, and stores.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from common import BOARD, Array, Row, accuracy, data_folder, emulate, ort_session, report
from neuralmatrix.ir.matgraph.blocks import nonzero_blocks
from zoo_graphs import graph_net

LARGEST_LOSS = 0.3  # percentage points
LARGEST_RATIO = 1.25
PARAMETER_BYTES = 8
RANDOM_NODES, RANDOM_SIZES = 500, (64, 32, 8)


def cora() -> dict[str, Array]:
    """Read adjacency with self-loops, symmetrically normalised; features; labels; test nodes."""
    archive = np.load(data_folder() / "cora" / "cora.npz")
    nodes, width = (int(n) for n in archive["shape"])
    features = np.zeros((nodes, width), np.float32)
    rows = np.repeat(np.arange(nodes), np.diff(archive["x_indptr"]))
    features[rows, archive["x_indices"]] = archive["x_data"]
    adjacency = np.eye(nodes, dtype=np.float32)
    adjacency[tuple(archive["edge_index"])] = 1
    degree = adjacency.sum(1)
    normalized = adjacency / np.sqrt(degree[:, None] * degree)
    return {"adjacency": normalized.astype(np.float32), "features": features,
            "labels": archive["y"], "test": archive["test"]}  # fmt: skip


# ---------------------------------------------------------------- the bound


def roofline(graph: Any, board: Any) -> tuple[float, float]:
    """Return lower bounds of the cycles of the array and of the loads of a quantised graph."""
    lanes, timing = board.array.rows, board.timing
    sums = [_layer_bound(qop, graph, lanes) for qop in graph.ops]
    bandwidth = min(timing.load_port_bytes, timing.ddr_bytes_per_256_cycles / 256)
    return float(sum(array for array, _ in sums)), sum(loads for _, loads in sums) / bandwidth


def _layer_bound(qop: Any, graph: Any, lanes: int) -> tuple[int, int]:
    """Return the least array cycles and loaded bytes of one operation."""
    op, e = qop.op, qop.epilogue
    if e is None:
        return 0, 0
    operands = [name for name in (op.input, e.residual, e.hadamard) if name]
    loads = sum(_bytes(name, graph, lanes) for name in operands) + PARAMETER_BYTES * len(e.m)
    positions = int(np.prod(graph.tensors[op.output].shape[:3]))
    if getattr(op, "rhs", None):
        depth, width = graph.tensors[op.input].shape[3], graph.tensors[op.output].shape[3]
        return positions * _blocks(depth, lanes) * _blocks(width, lanes), (
            loads + _bytes(op.rhs, graph, lanes)
        )
    if qop.weight is None or qop.weight.ndim < 4:
        return 0, loads
    blocks = nonzero_blocks(qop.weight, lanes)
    return positions * blocks, loads + blocks * lanes * lanes


def _blocks(size: int, lanes: int) -> int:
    return -(-size // lanes)


def _bytes(name: str, graph: Any, lanes: int) -> int:
    """Return the bytes of a tensor in DRAM: whole lane vectors, all byte planes."""
    tensor = graph.tensors[name]
    n, h, w, c = tensor.shape
    return n * h * w * _blocks(c, lanes) * lanes * (2 if graph.qparams[name].int16 else 1)


def quantized(model: Any, feeds: dict[str, Array], constants: dict[str, Array] | None) -> Any:
    """Make the quantised graph that ``nm.compile`` schedules."""
    import neuralmatrix as nm
    from neuralmatrix.compiler import Options, back_end, front_end

    target = nm.load_board(BOARD).target
    options = Options(calibration=[feeds], constants=constants)
    return back_end(front_end(model, target, options), target, options)


# ---------------------------------------------------------------- rows


def cost_rows(
    name: str,
    model: Any,
    feeds: dict[str, Array],
    constants: dict[str, Array] | None,
    ratio: float | None,
) -> tuple[list[Row], Any]:
    """Return rows of cycles, bound and their ratio, and the program."""
    import neuralmatrix as nm

    graph = quantized(model, feeds, constants)
    program = nm.compile(model, board=BOARD, calibration=[feeds], constants=constants)
    array, loads = roofline(graph, nm.load_board(BOARD))
    cycles = program.estimate().cycles
    return [
        Row(f"{name} on {BOARD}", cycles, "cycles", "estimated"),
        Row(f"{name} bound, array", array, "cycles", "estimated"),
        Row(f"{name} bound, loads", loads, "cycles", "estimated"),
        Row(f"{name} over its bound", cycles / max(array, loads), "", "estimated", at_most=ratio),
        Row(f"{name} on {BOARD}", 1e3 * program.estimate().latency_s, "ms", "estimated"),
    ], program  # fmt: skip


def cora_rows() -> list[Row]:
    """Return the rows of the data folder's GCN, with its adjacency matrix as a sparse constant."""
    path, data = data_folder() / "cora" / "gcn_cora.onnx", cora()
    feeds, constants = {"features": data["features"]}, {"adj_norm": data["adjacency"]}
    rows, program = cost_rows("GCN on Cora", path, feeds, constants, LARGEST_RATIO)
    logits = ort_session(path).run(None, {**feeds, **constants})[0]
    emulated, _ = emulate(program, "features", data["features"])
    test, labels = data["test"], data["labels"]
    emulated = emulated.reshape(logits.shape)
    before, after = (accuracy(y[test], labels[test]) for y in (logits, emulated))
    dense = data["adjacency"].size / 2**20
    return [
        Row("GCN on Cora float, 1000 nodes", before, "%", "measured"),
        Row("GCN on Cora int8 array", after, "%", "emulated"),
        Row("GCN on Cora loss", before - after, "points", "emulated", at_most=LARGEST_LOSS),
        *rows,
        Row("program's constants", program.const.size / 2**20, "MiB", "measured", at_most=dense),
    ]


def random_rows(kind: str, dense: bool) -> list[Row]:
    """Return the rows of a two-layer network with random weights on a random graph."""
    rng = np.random.default_rng(0)
    edges = rng.integers(0, RANDOM_NODES, (2, 2 * RANDOM_NODES))
    edges = np.unique(np.concatenate([edges, edges[::-1]], 1), axis=1)
    edges = edges[:, edges[0] != edges[1]]
    model = graph_net(kind, RANDOM_SIZES, edges, RANDOM_NODES, dense)
    x = rng.normal(size=(RANDOM_NODES, RANDOM_SIZES[0])).astype(np.float32)
    name = f"{kind}, {'dense' if dense else 'edges'}, {RANDOM_NODES} nodes"
    return cost_rows(name, model, {"features": x}, None, None)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=["cora", "gcn", "sage", "gin", "gat"])
    for name in parser.parse_args().networks:
        rows = cora_rows() if name == "cora" else random_rows(name, name == "gat")
        report("graphs", rows)


if __name__ == "__main__":
    main()
