# SPDX-License-Identifier: Apache-2.0
"""``python hls/threads [PROGRAM.nmx ...] [--random N]``: do programs end on concurrent kernels?

In: program files; a number of random programs of tokens.  Out: what the kernels, compiled as
threads with bounded streams, make of each; 1 if one that the verifier accepts does not end, or
ends with other bytes than in emulation.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

import neuralmatrix as nm
import numpy as np
from concurrent_kernels import ConcurrentKernels, beside_emulation
from neuralmatrix.errors import BadProgram
from neuralmatrix.program.program import Program
from neuralmatrix.program.verify import verify_program
from token_programs import BOARD, random_program


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("programs", nargs="*", type=Path, help="program files (.nmx)")
    parser.add_argument("--random", type=int, default=0, metavar="N", help="programs of tokens")
    parser.add_argument("--seed", type=int, default=0, help="of the first random program")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = sum(compared(path, Path(folder)) for path in args.programs)
        wrong += (
            tried(range(args.seed, args.seed + args.random), Path(folder)) if args.random else 0
        )
    return 1 if wrong else 0


def compared(path: Path, folder: Path) -> bool:
    """Run one program both ways and print the outcome; return whether they differ."""
    program = nm.load(path)
    kernels = ConcurrentKernels(program.array, folder / program.array.fingerprint)
    found, equal = beside_emulation(program, kernels)
    print(f"{path.name}: {found.said}; arena {'equal to' if equal else 'NOT that of'} emulation")
    return not equal


def accepted(program: Program) -> bool:
    try:
        verify_program(program)
    except BadProgram:
        return False
    return True


def tried(seeds: range, folder: Path) -> int:
    """Print counts of random programs; return how many are accepted and do not end."""
    kernels = ConcurrentKernels(BOARD.array, folder / "random")
    programs = [random_program(seed) for seed in seeds]
    found = kernels.run(programs, [np.zeros(p.arena_bytes, np.uint8) for p in programs])
    verdicts = [accepted(program) for program in programs]
    for seed, good, outcome in zip(seeds, verdicts, found, strict=True):
        if good and not outcome.ended:
            print(f"seed {seed}: accepted by the verifier; {outcome.said}")
    counts = Counter(zip(verdicts, (outcome.ended for outcome in found), strict=True))
    for (good, ends), count in sorted(counts.items()):
        print(f"{count} {'accepted' if good else 'refused'}, {'end' if ends else 'dead-lock'}")
    return counts[True, False]


if __name__ == "__main__":
    sys.exit(main())
