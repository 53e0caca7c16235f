# SPDX-License-Identifier: Apache-2.0
"""Hardware evidence for the kernels with open tools alone: C++ headers -> Verilog -> counts.

python -m rtl ir           clang: the wrapped functions, the device's branch, unrolled
python -m rtl verilog      and from there pipelined Verilog, one module per unit
python -m rtl simulate     and Verilator: each module against the g++ build of its wrapper
python -m rtl synthesise   Verilog, and yosys: its cells
python -m rtl table        what the counts file says
python -m rtl all          simulate and synthesise
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from . import counts, flow, tools
from .catalog import UNITS
from .delays import FABRICS
from .llvm import RtlError
from .unit import BOARDS

VECTORS = 20_000
QUICK = ("products_of_chain", "index_part", "pass_step", "join_row")
QUICK_VECTORS = 2_000
STEPS = ("ir", "verilog", "simulate", "synthesise", "table", "all")
# The programs that a step needs, so that one that is missing is told before any work.
NEEDS = {
    "simulate": (tools.gxx, tools.verilator),
    "synthesise": (tools.yosys,),
    "all": (tools.gxx, tools.verilator, tools.yosys),
}


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rtl", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--units", nargs="+", choices=UNITS, metavar="UNIT", help="default: all")
    parser.add_argument("--families", nargs="+", choices=FABRICS, default=list(FABRICS))
    parser.add_argument("--boards", nargs="+", choices=BOARDS, default=list(BOARDS))
    parser.add_argument("--quick", action="store_true", help="a few units, fewer vectors, xc7")
    parser.add_argument("--vectors", type=int, help=f"per unit; default: {VECTORS}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--build", type=Path, default=Path("build/rtl"), help="default: build/rtl")
    parser.add_argument("--json", type=Path, help="counts file to write; its entries are kept")
    parser.add_argument("--fresh", action="store_true", help="run what the counts file knows, too")
    return parser.parse_args(arguments)


def job_of(args: argparse.Namespace) -> flow.Job:
    names = args.units or (QUICK if args.quick else list(UNITS))
    build = args.build.resolve()
    build.mkdir(parents=True, exist_ok=True)
    reuse = args.step not in ("ir", "verilog") and not args.fresh and not args.quick
    return flow.Job(
        units=tuple(UNITS[name] for name in names),
        families=("xc7",) if args.quick else tuple(args.families),
        boards=tuple(args.boards),
        build=build,
        vectors=args.vectors or (QUICK_VECTORS if args.quick else VECTORS),
        jobs=args.jobs,
        known=counts.known(counts.read(args.json or counts.COMMITTED)) if reuse else flow.Known(),
        say=lambda text: print(text, flush=True),
    )


def work(args: argparse.Namespace) -> int:
    """Runs a step and what it needs; 1 if a vector differs."""
    if args.step == "table":
        data = counts.read(args.json or counts.COMMITTED)
        if data is None:
            raise RtlError("there is no counts file; run all --json FILE")
        print(counts.table(data), counts.paths(data), sep="\n\n")
        return 0
    for need in (tools.clang, *NEEDS.get(args.step, ())):
        need()
    if args.json and (args.units or args.boards != list(BOARDS) or args.families != list(FABRICS)):
        counts.check_tools(counts.read(args.json))
    job = job_of(args)
    if args.step == "ir":
        flow.ir(job)
        return 0
    found = flow.verilog(job)
    if args.step in ("simulate", "all"):
        flow.simulated(job, found)
    if args.step in ("synthesise", "all"):
        flow.synthesized(job, found)
    if args.step != "verilog":
        data = counts.document(
            found, tools.versions(), counts.read(args.json) if args.json else None
        )
        print(counts.table(data))
        if args.json:
            counts.write(args.json, data)
    return int(any(each.simulated.get("differing") for each in found))


def main(arguments: list[str]) -> int:
    try:
        return work(parsed(arguments))
    except RtlError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
