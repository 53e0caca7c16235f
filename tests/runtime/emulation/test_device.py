# SPDX-License-Identifier: Apache-2.0
"""The emulated device's interface: errors, dead-locks, watches, threads.

In: small programs, most of them wrong.  Out: the texts of errors.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from kernel_model import Model, in_order
from kernel_randoms import LANES, compute_case, fill, gemm, insn, random_epilogue, window
from neuralmatrix.errors import BadInput, BadProgram, DeviceTimeout
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_columns import as_words
from neuralmatrix.hardware.instruction_costs import costs
from neuralmatrix.hardware.isa import Buffer, Instruction, Opcode
from neuralmatrix.hardware.timeline import Deadlock, simulate
from neuralmatrix.runtime.emulation.emulator import Emulator, RunStats, Watch

pytestmark = pytest.mark.gxx
BOARD = load_board("pynq-z2")
END = Instruction(Opcode.END, {})
ARENA = 4096


def run(program: list[Instruction], const: int = 4096, **options) -> RunStats:
    words = as_words(program)
    zeros = np.zeros(const, np.uint8)
    return Emulator(BOARD.array, BOARD.timing, zeros, words, ARENA).run(**options)


def changed(base: Instruction, **values: int) -> Instruction:
    return Instruction(base.opcode, {**base.values, **values})


LOAD = fill(Buffer.IBUF, 4, 0)
STORE = insn(Opcode.STORE, n2=1, n1=1, n0=4, s0=LANES)
EPILOGUE = insn(Opcode.EPILOGUE, lo=-128, hi=127)
_ONES = dict.fromkeys(("first", "last", "m1", "m0", "nb", "cb", "kh", "kw"), 1)
COMPUTE = insn(Opcode.COMPUTE, **_ONES)
WINDOW = changed(COMPUTE, mode=1, win_h=3, win_w=3, stride_h=1, stride_w=1)

WRONG = [
    (changed(LOAD, dest=7), "(LOAD): dest: found 7, allowed is 0..6"),
    (changed(LOAD, n1=0), "(LOAD): n1: found 0, allowed is 1..65535"),
    (changed(LOAD, dst=8190), "(LOAD): last word written: found 8193, allowed is 0..8191"),
    (changed(LOAD, addr=4040), "byte 4040 on that leaves CONST, allowed is 0..4095"),
    (changed(LOAD, region=1, s0=-LANES), "byte 0 on that leaves ARENA, allowed is 0..4095"),
    (changed(LOAD, lane_stride=300), "leaves CONST"),
    (changed(LOAD, wait_load=1), "(LOAD): wait_load: found 1, allowed is 0..0"),
    (changed(STORE, src=1022), "(STORE): last row read: found 1025, allowed is 0..1023"),
    (changed(STORE, addr=4048), "(STORE): addr: found a transfer from byte 4048"),
    (changed(STORE, addr=8), "no multiple of 16 bytes, allowed are whole words"),
    (changed(STORE, n1=2, s1=100), "no multiple of 16 bytes, allowed are whole words"),
    (changed(EPILOGUE, seg_kind=1), "(EPILOGUE): seg_count: found 0, allowed is 1..64"),
    (changed(EPILOGUE, seg_kind=3, seg_count=1), "seg_cells: found 0, allowed is 1..256"),
    (changed(EPILOGUE, seg_cells=257), "(EPILOGUE): seg_cells: found 257, allowed is 0..256"),
    (changed(EPILOGUE, seg_count=17, seg_cells=129, seg_base=509), "last map row: found 512"),
    (changed(EPILOGUE, stat_lanes=17), "(EPILOGUE): stat_lanes: found 17, allowed is 0..16"),
    (changed(EPILOGUE, stat=3, u_en=1), "u_en (with MOMENTS): found 1, allowed is 0..0"),
    (changed(EPILOGUE, seg_count=64, seg_base=510), "last segment row: found 513"),
    (changed(COMPUTE, m0=0), "(COMPUTE): m0: found 0, allowed is 1..65535"),
    (changed(COMPUTE, x_base=8191, m1=2, x_m1=1), "last word of x: found 8192"),
    (changed(COMPUTE, w_base=4090), "last weight word: found 4105, allowed is 0..4095"),
    (changed(COMPUTE, p_base=512), "last parameter row: found 512, allowed is 0..511"),
    (changed(COMPUTE, acc_base=1024), "last accumulator row: found 1024"),
    (changed(COMPUTE, o_base=1023, m0=2), "last output row: found 1024, allowed is 0..1023"),
    (changed(COMPUTE, nb=2, first=0), "first (with nb > 1): found 0, allowed is 1..1"),
    (changed(WINDOW, win_h=5), "(COMPUTE): win_h: found 5, allowed is 1..4"),
    (changed(WINDOW, stride_w=0), "(COMPUTE): stride_w: found 0, allowed is 1..255"),
    (changed(WINDOW, m0=600), "words in an input row: found 602, allowed is 1..512"),
    (Instruction(Opcode.END, {"opcode": 9}), "opcode: found 9, allowed is 0..4"),
]


@pytest.mark.parametrize(("bad", "text"), WRONG, ids=lambda v: v if isinstance(v, str) else "")
def test_addresses_are_refused_by_name(bad: Instruction, text: str) -> None:
    words = as_words([EPILOGUE, bad, END])
    words[1, 0] = (words[1, 0] & ~np.uint32(15)) | bad.values.get("opcode", int(bad.opcode))
    emulator = Emulator(BOARD.array, BOARD.timing, np.zeros(4096, np.uint8), words, ARENA)
    with pytest.raises(BadProgram) as error:
        emulator.run()
    assert text in str(error.value)
    assert str(error.value).startswith("instruction 1 (")
    assert str(error.value).endswith("; the program is corrupted, compile it again")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("t", {"t_en": 1, "t_m0": 600}),
        ("u", {"u_en": 1, "u_m0": 600}),
        ("statistic", {"stat": 1}),
        ("statistic", {"stat": 3}),
    ],
)
def test_rows_that_an_epilogue_asks_for(field: str, values: dict[str, int]) -> None:
    base = 1024 - (5 if values.get("stat") == 3 else 2)
    compute = changed(COMPUTE, m0=3, r_base=base, stat_first=1, stat_last=1)
    with pytest.raises(BadProgram, match=f"last (row of {field}|{field} row): found"):
        run([changed(EPILOGUE, **values), compute, END])


SUM, MAX = changed(EPILOGUE, stat=1), changed(EPILOGUE, stat=2)
BEGIN = changed(COMPUTE, m0=3, stat_first=1)
GO_ON = changed(COMPUTE, m0=3, stat_last=1)


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ([SUM, GO_ON], "1 (COMPUTE): rows (with stat_first 0): found 3, allowed is 0..0"),
        ([SUM, BEGIN, changed(GO_ON, m0=2)], "found 2, allowed is 3..3"),
        ([SUM, BEGIN, MAX, GO_ON], "stat (with stat_first 0): found 2, allowed is 1..1"),
        ([SUM, BEGIN, GO_ON, GO_ON], "3 (COMPUTE): rows (with stat_first 0): found 3"),
    ],
)
def test_a_statistic_goes_on_from_its_beginning(program: list[Instruction], text: str) -> None:
    run([SUM, BEGIN, EPILOGUE, COMPUTE, SUM, GO_ON, END])
    with pytest.raises(BadProgram) as error:
        run([*program, END])
    assert text in str(error.value)


def test_nothing_before_the_first_epilogue() -> None:
    with pytest.raises(BadProgram, match="EPILOGUE before this: found 0"):
        run([COMPUTE, END])


def test_a_program_needs_an_end() -> None:
    with pytest.raises(BadProgram, match="found no END, allowed is one at the end"):
        run([EPILOGUE])


def test_the_last_byte_may_be_used() -> None:
    run([changed(LOAD, addr=4096 - 4 * LANES), changed(STORE, addr=ARENA - 4 * LANES), END])
    run([changed(LOAD, addr=37, n0=2), END], const=37 + 2 * LANES)


DEADLOCKS = [
    (
        [changed(LOAD, wait_store=1), changed(STORE, wait_load=1), END],
        "LOAD at instruction 0 (LOAD) waits for a token of STORE; COMPUTE has an empty queue; "
        "STORE at instruction 1 (STORE) waits for a token of LOAD",
    ),
    (
        [changed(EPILOGUE, wait_load=1, wait_store=1), END],
        "COMPUTE at instruction 0 (EPILOGUE) waits for a token of LOAD, STORE",
    ),
    (
        [changed(LOAD, signal_compute=1)] * 65 + [END],
        "LOAD after instruction 64 has no room for its token to COMPUTE",
    ),
    (
        [changed(LOAD, wait_compute=1)] * 65 + [changed(EPILOGUE, signal_load=1), END],
        "FETCH at instruction 32 waits for room in the queue of LOAD",
    ),
]


@pytest.mark.parametrize(("program", "text"), DEADLOCKS, ids=["ring", "nobody", "room", "fetch"])
def test_deadlocks_are_explained(program: list[Instruction], text: str) -> None:
    with pytest.raises(DeviceTimeout) as error:
        run(program)
    assert str(error.value).startswith("the program dead-locks: ")
    assert text in str(error.value)
    with pytest.raises(Deadlock):
        simulate(costs(as_words(program), BOARD.array, BOARD.timing), BOARD.array, BOARD.timing)


@pytest.mark.parametrize("seed", range(12))
def test_overlap_in_time_equals_the_estimate(seed: int) -> None:
    """Parallel units, short queues and a slow DRAM give the estimate's cycles exactly."""
    rng = np.random.default_rng(seed)
    array = replace(BOARD.array, **({"queue_depth": 2, "token_depth": 1} if seed % 2 else {}))
    timing = replace(
        BOARD.timing,
        ddr_bytes_per_256_cycles=int(rng.integers(200, 5000)),
        burst_beats=int(rng.choice([1, 16, 256])),
        dram_latency=int(rng.integers(0, 60)),
        load_port_bytes=int(rng.choice([4, 8, 16])),
    )
    program = [EPILOGUE]
    for _ in range(30):
        load = changed(LOAD, n0=int(rng.integers(1, 200)), signal_compute=1)
        compute = changed(COMPUTE, m0=int(rng.integers(1, 200)), wait_load=1, signal_store=1)
        store = changed(STORE, n0=int(rng.integers(1, 200)), wait_compute=1)
        program += [changed(load, addr=0, s0=LANES), compute, store]
    words = as_words([*program, END])
    emulator = Emulator(array, timing, np.zeros(4096, np.uint8), words, ARENA)
    stats = emulator.run(timeline=True)
    wanted = simulate(costs(words, array, timing), array, timing)
    assert stats.cycles == wanted.cycles
    for mine, theirs in (("start", "start"), ("end", "end"), ("reason", "waited_for")):
        assert np.array_equal(stats.timeline[mine], getattr(wanted, theirs)), mine
    assert (stats.timeline["dram"] >= 0).all()


def test_a_slow_dram_is_named_in_the_timeline() -> None:
    slow = replace(BOARD.timing, ddr_bytes_per_256_cycles=64)
    words = as_words([changed(LOAD, n0=100), changed(STORE, n0=100), END])
    stats = Emulator(BOARD.array, slow, np.zeros(4096, np.uint8), words, ARENA).run(timeline=True)
    traffic = 100 * LANES * 256 // 64
    assert stats.busy["dram"] == 2 * traffic
    load, store, _ = stats.timeline["dram"]
    assert 0 < load < store
    assert stats.timeline["end"][1] >= 2 * traffic


def test_watches_copy_the_arena_as_it_was() -> None:
    rng = np.random.default_rng(1)
    first = compute_case(rng, [random_epilogue(rng, out_wide=1), gemm(rng)])
    body = [random_epilogue(rng, out_wide=1), window(rng, o_base=200)]
    chained = in_order([*first.program, *body, *first.program[-2:]])
    stores = [k for k, i in enumerate(chained) if i.opcode == Opcode.STORE]
    watches = [Watch(k, 100, 12000) for k in reversed(stores)] + [Watch(stores[0], 0, 0)]
    emulator = Emulator(first.array, BOARD.timing, first.const, as_words(chained), 1 << 18)
    emulator.arena[:] = first.arena
    stats = emulator.run(watches)
    for watch, copied in zip(watches, stats.watched, strict=True):
        model = Model(first.array, first.const, first.arena)
        wanted = model.run(chained[: watch.insn + 1])[watch.offset :][: watch.nbytes]
        assert np.array_equal(copied, wanted)
    assert not np.array_equal(stats.watched[0], stats.watched[2])


def test_a_watch_outside_the_arena_is_refused() -> None:
    with pytest.raises(BadInput, match="allowed are bytes 0..4096 of the arena"):
        run([END], watches=[Watch(0, 4000, 97)])


def test_runs_repeat_and_threads_do_not_meet() -> None:
    """Every run starts from the initial state; emulators share only the code."""
    cases = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        cases.append(compute_case(rng, [random_epilogue(rng), gemm(rng), window(rng)]))

    def work(k: int) -> bool:
        case = cases[k % len(cases)]
        words = as_words(in_order(case.program))
        emulator = Emulator(case.array, BOARD.timing, case.const, words, case.arena.nbytes)
        wanted = Model(case.array, case.const, case.arena).run(case.program)
        same = True
        for _ in range(5):
            emulator.arena[:] = case.arena
            emulator.run()
            same = same and np.array_equal(emulator.arena, wanted)
        return same

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(12)))


def test_constants_of_any_size_and_form() -> None:
    """Views, other dtypes and sizes of partial beats give the same bytes."""
    rng = np.random.default_rng(2)
    case = compute_case(rng, [random_epilogue(rng), gemm(rng)])
    words = as_words(in_order(case.program))
    found = []
    for const in (case.const, case.const.view(np.int32), np.append(case.const, np.uint8(7))):
        emulator = Emulator(case.array, BOARD.timing, const, words, case.arena.nbytes)
        emulator.arena[:] = case.arena
        emulator.run()
        found.append(emulator.arena.copy())
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])
