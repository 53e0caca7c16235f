# SPDX-License-Identifier: Apache-2.0
"""The scheduler's parts: memory, jobs, tiles, and taking moves apart.

In: hand-made graphs and address planes.  Out: what each part promises.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from neuralmatrix.errors import DoesNotFit
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.isa import SegKind
from neuralmatrix.ir.matgraph.ops import Epilogue, Gemm, MatGraph, Move, Port, RowStat, Tensor
from neuralmatrix.ir.types import Array
from neuralmatrix.quantization.pwl.table import Segments
from neuralmatrix.quantization.qgraph import QEpilogue
from neuralmatrix.scheduling.epilogue_parameters import pack_table
from neuralmatrix.scheduling.gemm_jobs import Chunk, Job, plan_jobs, runs_of
from neuralmatrix.scheduling.memory_plan import ConstRegion, plan_memory
from neuralmatrix.scheduling.move_blocks import CONST_FLAG, FILL, IDLE, Piece, take_apart
from neuralmatrix.scheduling.tiling import (
    KERNEL_LIMIT,
    GemmPlan,
    GemmProblem,
    WindowProblem,
    boxes,
    plan_gemm,
    plan_window,
    tile_sizes,
)
from quantized import observed, quantized
from targets import scheduled

ARRAY = load_board("pynq-z2").array


# ------------------------------------------------------------------ memory


def concat_graph(c1: int, c2: int) -> MatGraph:
    """Two dense layers whose results are joined along the channels."""
    rng = np.random.default_rng(0)
    shapes = {"x": (1, 3, 5, 8), "a": (1, 3, 5, c1), "b": (1, 3, 5, c2), "y": (1, 3, 5, c1 + c2)}
    tensors = {n: Tensor(n, s) for n, s in shapes.items()}
    first = np.arange(15 * c1).reshape(1, 3, 5, c1)
    second = np.arange(15 * c2).reshape(1, 3, 5, c2) + first.size
    ops = (
        Gemm("a", "x", rng.standard_normal((1, 1, 8, c1)), np.zeros(c1)),
        Gemm("b", "x", rng.standard_normal((1, 1, 8, c2)), np.zeros(c2)),
        Move("y", ("a", "b"), np.concatenate([first, second], 3)),
    )
    return MatGraph(
        (Port("x", shapes["x"], "x", ()),), (Port("y", shapes["y"], "y", ()),), ops, tensors, {}
    )


def quantised(mg: MatGraph) -> object:
    feed = {"x": np.random.default_rng(1).standard_normal((1, 3, 5, 8))}
    return quantized(mg, observed(mg, feed))


@pytest.mark.parametrize("c1, c2, free", [(16, 16, True), (32, 5, True), (5, 16, False)])
def test_concat_of_whole_blocks_is_only_addresses(c1: int, c2: int, free: bool) -> None:
    graph = quantised(concat_graph(c1, c2))
    program = scheduled(graph)  # type: ignore[arg-type]
    assert [layer.kind for layer in program.layers].count("Move") == (0 if free else 1)


def test_live_tensors_never_share_bytes() -> None:
    graph = quantised(concat_graph(5, 16))
    plan = plan_memory(graph, 16, ConstRegion())  # type: ignore[arg-type]
    spans = {n: (p.offset, p.offset + p.layout.nbytes) for n, p in plan.places.items()}
    for one, other in (("a", "b"), ("a", "y"), ("b", "y"), ("x", "a"), ("x", "b")):
        assert spans[one][1] <= spans[other][0] or spans[other][1] <= spans[one][0]


def product_graph(kinds: tuple[str, ...], read: bool) -> MatGraph:
    """Two heads of 16 channels, the product of their halves, and statistics of its rows."""
    shape = (2, 1, 20, 20)
    tensors = {"x": Tensor("x", (1, 1, 20, 32)), "y": Tensor("y", (2, 1, 20, 16)),
               "s": Tensor("s", shape)}  # fmt: skip
    tensors |= {kind: Tensor(kind, (2, 1, 20, 1), True) for kind in kinds}
    split = np.arange(640).reshape(1, 20, 2, 16).transpose(2, 0, 1, 3)
    rows = tuple(RowStat(kind, kind) for kind in kinds)  # type: ignore[arg-type]
    ops = (
        Move("y", ("x",), np.ascontiguousarray(split)),
        Gemm("s", "y", None, np.zeros(20), rhs="y", rhs_transposed=True,
             epilogue=Epilogue(rows=rows)),
    )  # fmt: skip
    outputs = [Port(name, tensors[name].shape, name, ()) for name in kinds]
    outputs += [Port("s", shape, "s", ())] if read else []
    return MatGraph((Port("x", (1, 1, 20, 32), "x", ()),), tuple(outputs), ops, tensors, {})


@pytest.mark.parametrize("kinds, read", [(("max",), False), (("mean", "square"), True)])
def test_only_what_is_read_is_stored(kinds: tuple[str, ...], read: bool) -> None:
    mg = product_graph(kinds, read)
    feed = {"x": np.random.default_rng(1).standard_normal((1, 1, 20, 32))}
    graph = quantized(mg, observed(mg, feed))
    assert ("s" in plan_memory(graph, 16, ConstRegion()).places) == read
    program = scheduled(graph)
    stored = [point.tensor.name for point in program.watchpoints]
    assert stored == (["s"] if read else []) + list(kinds)
    (layer,) = program.layers  # the heads are split by addresses alone
    assert layer.kind == ("MatMul" if read else "MatMulStatistic")
    assert layer.macs == (2 * 20 * 20 * 16 if read else 0)


# ------------------------------------------------------------------ the K loop


@pytest.mark.parametrize(
    "used, gap, runs",
    [
        ("110011", 3, [(0, 6)]),
        ("110011", 2, [(0, 2), (4, 6)]),
        ("0010", 1, [(2, 3)]),
        ("000", 1, [(0, 1)]),
    ],
)
def test_runs_leave_out_zero_blocks(used: str, gap: int, runs: list[tuple[int, int]]) -> None:
    found = runs_of(np.array([c == "1" for c in used]), gap)
    assert [(run.start, run.stop) for run in found] == runs


class Counted:
    """Weights that only number their parts."""

    digits = 1

    def __init__(self) -> None:
        self.count = 0

    def add(self, nb: range, chunk: Chunk) -> int:
        self.count += 1
        return self.count

    def version(self, image: int) -> int:
        return 0

    def load(self, job: Job, image: int, base: int) -> None:
        raise AssertionError("not loaded here")


@pytest.mark.parametrize("depth, gaps", [(4, False), (10, False), (4, True), (10, True)])
def test_jobs_complete_every_sum_once(depth: int, gaps: bool) -> None:
    """Five output blocks of ten input blocks: all products, one first and one last per output."""
    runs = [[range(b % 3, 4), range(6, 10)] if gaps else [range(10)] for b in range(5)]
    plan = GemmPlan((1, 8), 2, (1, 1, depth), False, False, depth < 10, 0.0)
    done: set[tuple[int, int]] = set()
    for group in plan_jobs(Counted(), plan, (1, 1), runs, 16):
        sums: dict[int, int] = {}
        for job in group:
            for nb in job.nb:
                assert job.first == (nb not in sums)
                assert sums.setdefault(nb, job.acc) == job.acc
                assert set(job.chunk.cb) <= set(job.serves.cb)
                assert not done & {(nb, cb) for cb in job.chunk.cb}
                done |= {(nb, cb) for cb in job.chunk.cb}
            assert job.first and job.last or len(job.nb) == 1
        assert sum(len(job.nb) for job in group if job.last) == len(sums)
        if depth < 10:
            assert len(set(sums.values())) == len(sums)
    assert done == {(nb, cb) for nb, all_ in enumerate(runs) for run in all_ for cb in run}


def test_a_map_follows_its_segments() -> None:
    """Eight cells to an entry, from the first row after the segments on."""
    cells = np.arange(130, dtype=np.uint8) % 20
    table = Segments(SegKind.MAPPED, 0, 4, np.arange(20, dtype=np.int16), np.zeros(20, np.int32),
                     np.zeros(20, np.uint8), 1.0, 1.0, 0.0, 0.0, cells)  # fmt: skip
    e = QEpilogue(np.zeros(1), np.zeros(1), np.zeros(1), 0, 0, 0, 0, 0, 0, 0, 0, table)
    packed = pack_table(e, 16)
    assert packed.size == 32 + 32
    assert packed[:20].tolist() == [k << 32 for k in range(20)] and not packed[20:32].any()
    found = [int(packed[32 + j // 8]) >> (8 * (j % 8)) & 0xFF for j in range(130)]
    assert found == cells.tolist()


# ------------------------------------------------------------------ taking moves apart


def rebuild(plane: Array, pieces: list[Piece]) -> Array:
    """The plane of addresses that the pieces stand for."""
    out = np.full(plane.shape, -99, np.int64)
    for p in pieces:
        rows = p.row + p.row_stride * np.arange(p.rows)
        cols = p.col + p.col_stride * np.arange(p.cols)
        out[np.ix_(rows, cols)] = FILL
        i, j = np.arange(p.rows)[:, None, None], np.arange(p.cols)[None, :, None]
        for s in p.sources:
            lane = np.arange(s.l0, s.l1)
            value = s.base + i * s.row_step + j * s.col_step + lane * s.lane_step
            out[np.ix_(rows, cols, lane)] = value
    return out


def planes() -> dict[str, Array]:
    rng = np.random.default_rng(5)
    grid = np.arange(6 * 8 * 16).reshape(6, 8, 16)
    up = grid.repeat(2, 0).repeat(2, 1)
    padded = np.pad(grid, ((1, 2), (0, 3), (0, 0)), constant_values=FILL)
    short = np.where(np.arange(16) < 5, grid, IDLE)
    joined = np.concatenate([grid[..., :9], grid[..., :7] + 5000 + CONST_FLAG], 2)
    return {
        "identity": grid, "transposed": grid.transpose(1, 0, 2), "upsampled": up,
        "padded": padded, "few lanes": short, "joined": joined, "flipped": grid[::-1, ::-1],
        "random": rng.integers(0, 9999, (3, 4, 16)), "all fill": np.full((2, 3, 16), FILL),
        "lanes from columns": grid.transpose(2, 0, 1)[:, :, [*range(8), *range(8)]],
    }  # fmt: skip


@pytest.mark.parametrize("name", planes())
def test_pieces_cover_the_plane_exactly(name: str) -> None:
    plane = planes()[name]
    found = rebuild(plane, take_apart(plane))
    np.testing.assert_array_equal(found[plane != IDLE], plane[plane != IDLE])


@pytest.mark.parametrize("name, most", [("identity", 1), ("upsampled", 4), ("padded", 4)])
def test_regular_moves_need_few_pieces(name: str, most: int) -> None:
    assert len(take_apart(planes()[name])) <= most


# ------------------------------------------------------------------ tiles


@pytest.mark.parametrize("height, width", [(1, 1), (1, 3136), (7, 7), (112, 112), (3, 1000)])
def test_tiles_respect_the_limit_and_cover_all(height: int, width: int) -> None:
    sizes = list(tile_sizes(height, width, 512))
    assert sizes
    for tile in sizes:
        assert tile[0] * tile[1] <= 512
        assert sum(b.words for b in boxes(height, width, tile)) == height * width


def gemm_problem(**changes: object) -> GemmProblem:
    fields: dict[str, object] = dict(
        out_h=14, out_w=14, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), cb=16, nb=16,
        digits=1, out_digits=1, operands={}, grouped=False,
    )  # fmt: skip
    return GemmProblem(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("cb, nb", [(1, 1), (16, 16), (32, 64), (128, 8)])
def test_a_plan_fits_the_buffers(cb: int, nb: int) -> None:
    p = gemm_problem(cb=cb, nb=nb)
    plan = plan_gemm(ARRAY, p)
    positions = plan.tile[0] * plan.tile[1]
    rows, cols, depth = plan.chunk if plan.chunked_input else (3, 3, cb)
    words = (plan.tile[0] + rows - 1) * (plan.tile[1] + cols - 1)
    assert positions <= ARRAY.acc_rows
    assert plan.nb_step * positions <= ARRAY.obuf_rows
    assert words * depth <= ARRAY.ibuf_words
    assert np.prod(plan.chunk) * plan.nb_step * ARRAY.rows <= ARRAY.wbuf_words


@pytest.mark.parametrize("kernel", [(28, 28), (100, 100), (1, 16000)])
def test_a_kernel_larger_than_the_buffers_is_cut(kernel: tuple[int, int]) -> None:
    plan = plan_gemm(ARRAY, gemm_problem(kernel=kernel, out_h=1, out_w=1))
    assert plan.chunk[0] * plan.chunk[1] < kernel[0] * kernel[1]
    assert max(plan.chunk[:2]) <= KERNEL_LIMIT


def test_a_stride_beyond_every_buffer_is_refused() -> None:
    p = gemm_problem(out_h=1, out_w=1, digits=2)
    with pytest.raises(DoesNotFit, match="3x3 kernel .*1 words of input buffer"):
        plan_gemm(replace(ARRAY, ibuf_words=1), p)


def test_a_window_over_a_large_map_splits_its_sum() -> None:
    p = WindowProblem(1, 1, (4, 4), (28, 28), (1, 1), 4, 1, 1, {}, False)
    plan = plan_window(ARRAY, p)
    assert plan.tap_rows < 28 and plan.nb_step == 1


def test_a_long_k_loop_loads_its_input_once_for_many_outputs() -> None:
    p = gemm_problem(kernel=(1, 1), out_h=1, out_w=128, cb=192, nb=48)
    plan = plan_gemm(ARRAY, p)
    positions = plan.tile[0] * plan.tile[1]
    assert plan.chunked_input and plan.nb_step > 1
    assert plan.nb_step * positions <= ARRAY.acc_rows
    # one load of the input per group: less of the port than products take of the array
    loads = 2 * 192 * 128 * -(-48 // plan.nb_step)
    assert loads < 192 * 48 * 128


@pytest.mark.parametrize("planes", [1, 2])
def test_statistics_keep_rows_of_the_output_buffer(planes: int) -> None:
    p = gemm_problem(kernel=(1, 1), out_h=1, out_w=1000, cb=4, nb=12, stat_planes=planes)
    plan = plan_gemm(ARRAY, p)
    positions = plan.tile[0] * plan.tile[1]
    assert (plan.nb_step + planes) * positions <= ARRAY.obuf_rows
    assert not plan.weights_outer


@pytest.mark.parametrize("nb", [3, 48, 600])
def test_what_is_subtracted_lies_beside_its_blocks(nb: int) -> None:
    p = WindowProblem(1, 128, (1, 1), (1, 1), (1, 1), nb, 2, 1, {}, False, True, minus=True)
    plan = plan_window(ARRAY, p)
    words = plan.tile[0] * plan.tile[1] * 2
    assert plan.nb_step <= plan.span <= nb
    assert (1 + plan.span) * words <= ARRAY.ibuf_words
