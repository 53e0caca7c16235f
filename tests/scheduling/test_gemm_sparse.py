# SPDX-License-Identifier: Apache-2.0
"""Products with constant sparse matrices: nests, equality bit for bit, costs."""

from __future__ import annotations

from dataclasses import replace

import neuralmatrix as nm
import numpy as np
import pytest
from build_onnx import signed
from neuralmatrix.ir.matgraph.blocks import nonzero_blocks
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Port, Tensor
from neuralmatrix.ir.types import Array, Function, ViewStep
from neuralmatrix.program.verify import verify_program
from neuralmatrix.scheduling.gemm_sparse import cover
from neuralmatrix.verification import compare
from quantized import observed, quantized
from targets import scheduled, target

LANES = target().lanes


@pytest.mark.parametrize("seed", range(20))
def test_nests_cover_every_block_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 200))
    blocks = np.flatnonzero(rng.random(size) < rng.choice([0.02, 0.1, 0.4, 0.9, 1.0]))
    nests = cover(blocks, 64, 1000)
    held = [block for nest in nests for block in nest.blocks]
    assert sorted(held) == (list(blocks) if len(blocks) else [0])
    assert max(len(nest.blocks) for nest in nests) <= 64
    assert all(len(nest.loops) <= 3 for nest in nests)


def test_nests_join_what_loops_reach() -> None:
    """Two blocks always share a COMPUTE, and so does a cube of eight; too large steps do not."""
    assert len(cover(np.array([3, 90]), 64, 1000)) == 1
    cube = np.array([a + b + c for a in (0, 1) for b in (5, 17) for c in (40, 100)])
    assert len(cover(cube, 64, 1000)) == 1
    assert len(cover(np.array([3, 90]), 64, 50)) == 2


def sparse_graph(
    shape: tuple[int, int, int], density: float, epilogue: bool, seed: int
) -> tuple[MatGraph, dict[str, Array]]:
    """y = x @ W with whole blocks of W zero; ``shape``: positions, depth, channels."""
    rows, depth, width = shape
    rng = np.random.default_rng(seed)
    blocks = rng.random((-(-depth // 16), -(-width // 16))) < density
    blocks[:, 1::5] = False  # output blocks without any weight
    mask = np.kron(blocks, np.ones((16, 16)))[:depth, :width]
    weight = (mask * rng.normal(size=(depth, width))).astype(np.float32)[None, None]
    sizes = {"x": depth, "y": width}
    constants: dict[str, Array] = {}
    e = Epilogue()
    if epilogue:
        constants = {"t": signed((1, 1, rows, width), 7), "u": signed((1, 1, rows, 1), 8)}
        e = Epilogue("t", -0.5, Function("relu"), "u")
    tensors = {n: Tensor(n, (1, 1, rows, c)) for n, c in sizes.items()}
    for name, value in constants.items():
        tensors[name] = Tensor(name, (1, 1, rows, value.shape[3]), value.shape[3] == 1)
    bias = rng.normal(size=width).astype(np.float32)
    ports = [
        (Port(n, (rows, sizes[n]), n, (ViewStep("reshape", (1, 1, rows, sizes[n])),)),)
        for n in ("x", "y")
    ]
    out = replace(ports[1][0], steps=(ViewStep("reshape", (rows, width)),))
    op = Gemm("y", "x", weight, bias, epilogue=e)
    feeds = {"x": signed((rows, depth), seed)}
    return MatGraph(ports[0], (out,), (op,), tensors, constants), feeds


def emulated(mg: MatGraph, feeds: dict[str, Array], precision: str) -> tuple[nm.Program, bool]:
    """Return the program, and whether emulation equals the integer reference."""
    graph = quantized(mg, observed(mg, feeds), precision)
    program = scheduled(graph)
    verify_program(program)
    return program, compare(mg, graph, program, feeds).ok


@pytest.mark.gxx
@pytest.mark.parametrize("precision", ["int8", "int16"])
@pytest.mark.parametrize(
    ("shape", "density", "epilogue"),
    [
        ((1, 200, 130), 0.2, False),
        ((7, 500, 300), 0.1, True),
        ((16, 96, 700), 0.6, False),
        ((600, 90, 170), 0.3, True),
        ((40, 2708, 33), 0.3, False),
        ((33, 160, 96), 0.0, True),
    ],
)
def test_sparse_products_bit_by_bit(
    shape: tuple[int, int, int], density: float, epilogue: bool, precision: str
) -> None:
    _, equal = emulated(*sparse_graph(shape, density, epilogue, 1), precision)
    assert equal


def test_zero_blocks_are_neither_stored_nor_computed() -> None:
    mg, feeds = sparse_graph((16, 640, 640), 0.15, False, 2)
    (op,) = mg.ops
    assert isinstance(op, Gemm) and op.weight is not None
    full = replace(mg, ops=(replace(op, weight=np.where(op.weight == 0, 0.01, op.weight)),))
    sparse, dense = (quantized_program(g, feeds) for g in (mg, full))
    share = nonzero_blocks(op.weight, LANES) / 1600
    assert sparse.const.size < (share + 0.05) * dense.const.size
    # Beside the blocks: set-up of instructions, x and results, which the zeros do not save.
    assert sparse.estimate().cycles < (share + 0.16) * dense.estimate().cycles
    assert sparse.estimate().macs == 16 * 256 * nonzero_blocks(op.weight, LANES)


def quantized_program(mg: MatGraph, feeds: dict[str, Array]) -> nm.Program:
    return scheduled(quantized(mg, observed(mg, feeds)))
