# SPDX-License-Identifier: Apache-2.0
"""The kernels' own sources as four threads with bounded streams: what is accepted also ends.

They share nothing with the timeline's rules, so that they can contradict the verifier.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import neuralmatrix as nm
import numpy as np
import pytest
from neuralmatrix.errors import BadProgram, DeviceTimeout
from neuralmatrix.paths import hls_dir
from neuralmatrix.program.program import Program
from neuralmatrix.program.verify import verify_program
from neuralmatrix.runtime.emulation.emulator import Emulator

THREADS = hls_dir() / "threads"
DATA = Path(nm.__file__).parent / "demo" / "data"
RANDOM = range(60)  # seeds; make threads runs 3,000
SEED_OF_THE_HOLE = 2157  # the one program of 3,000 that independent deliveries would accept

pytestmark = [
    pytest.mark.gxx,
    pytest.mark.skipif(not THREADS.is_dir(), reason="the threads are in the repository only"),
]


@pytest.fixture(scope="module", autouse=True)
def path() -> Iterator[None]:
    """Import the modules of hls/threads as its command does."""
    sys.path.insert(0, str(THREADS))
    yield
    sys.path.remove(str(THREADS))


@pytest.fixture(scope="module")
def kernels(path: None, tmp_path_factory: pytest.TempPathFactory) -> Any:
    board = nm.load(DATA / "digits.16x16-z7.nmx").array
    made = import_module("concurrent_kernels").ConcurrentKernels
    return made(board, tmp_path_factory.mktemp("threads"))


def accepted(program: Program) -> bool:
    try:
        verify_program(program)
    except BadProgram as error:
        assert "dead-locks" in str(error)
        return False
    return True


def outcomes(kernels: Any, programs: list[Program]) -> list[bool]:
    found = kernels.run(programs, [np.zeros(p.arena_bytes, np.uint8) for p in programs])
    assert all(each.said.startswith(("ended", "dead-lock")) for each in found)
    return [each.ended for each in found]


@pytest.mark.parametrize("name", ["digits", "transformer"])
def test_a_compiled_program_ends_with_the_bytes_of_emulation(kernels: Any, name: str) -> None:
    program = nm.load(DATA / f"{name}.16x16-z7.nmx")
    found, equal = import_module("concurrent_kernels").beside_emulation(program, kernels)
    assert equal, found.said


def test_random_programs_end_where_the_verifier_says_so(kernels: Any) -> None:
    programs = [import_module("token_programs").random_program(seed) for seed in RANDOM]
    verdicts = [accepted(program) for program in programs]
    assert 0 < sum(verdicts) < len(verdicts)
    assert outcomes(kernels, programs) == verdicts


def test_two_tokens_owed_with_a_full_stream(kernels: Any) -> None:
    """COMPUTE sends LOAD's token first and blocks, while LOAD waits for what STORE would send."""
    tokens = import_module("token_programs")
    depth = tokens.BOARD.array.token_depth
    programs = [tokens.two_tokens_owed(before) for before in (depth, depth - 1)]
    assert outcomes(kernels, programs) == [False, True]
    assert [accepted(program) for program in programs] == [False, True]


def test_a_rare_order_is_refused(kernels: Any) -> None:
    program = import_module("token_programs").random_program(SEED_OF_THE_HOLE)
    assert outcomes(kernels, [program]) == [False]
    assert not accepted(program)


def test_emulation_names_the_full_stream() -> None:
    tokens = import_module("token_programs")
    program = tokens.two_tokens_owed(tokens.BOARD.array.token_depth)
    e = Emulator(
        program.array, program.timing, program.const, program.instructions, program.arena_bytes
    )
    blocked = "COMPUTE after instruction 65 has no room for its token to LOAD;"
    with pytest.raises(DeviceTimeout, match=blocked):
        e.run()
