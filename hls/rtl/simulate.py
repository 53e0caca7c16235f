# SPDX-License-Identifier: Apache-2.0
"""Verilator on one module, held against the g++ build of the same wrapper.

In: a ``Translated`` unit and a number of vectors.  Out: vectors and how many of them differ.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from neuralmatrix.hardware.board import Board

from . import sources, standins, tools
from .bench import bench
from .llvm import RtlError
from .translate import Translated
from .unit import StandIn

GXX = ("-std=c++17", "-w", "-fwrapv")


def verilated(build: Path) -> list[Path]:
    """Verilator's own library, compiled once per build folder."""
    library = tools.verilator()
    objects = []
    for name in ("verilated", "verilated_threads"):
        to = build / f"{name}.o"
        if not to.exists():
            include = [f"-I{library}", f"-I{library / 'vltstd'}"]
            source = library / f"{name}.cpp"
            command = [tools.gxx(), *GXX, "-O1", *include, "-c", source, "-o", to]
            tools.run(command, to.with_suffix(".log"))
        objects.append(to)
    return objects


def reference(source: str, board: Board, build: Path) -> Path:
    """The g++ build of a source's wrappers: the emulation's branch of the kernels."""
    to = build / board.name / f"{sources.wrapper(source).stem}.o"
    include = sources.include_folders(board, build, device=False)
    command = [tools.gxx(), *GXX, "-O1", *include, "-c", sources.wrapper(source), "-o", to]
    tools.run(command, to.with_suffix(".gxx.log"))
    return to


def _bench(unit: Translated) -> str:
    if isinstance(unit.unit, StandIn):
        head = standins.bench_head(unit.unit)
        return head + standins.bench_path(unit.unit).read_text(encoding="utf-8")
    return bench(unit.unit, unit.ports, unit.module, unit.latency)


def simulate(unit: Translated, build: Path, objects: list[Path], vectors: int) -> dict[str, int]:
    """The number of vectors, and of those in which an output differs."""
    name = unit.unit.name
    folder = unit.folder / f"sim_{name}"
    log = unit.folder / f"{name}.simulate.log"
    shutil.rmtree(folder, ignore_errors=True)  # an earlier model may have had more files
    model = ["verilator", "--cc", "-O3", "-Wno-fatal", "-Wno-lint", "--top-module", name]
    tools.run([*model, "--prefix", f"V{name}", "--Mdir", folder, unit.verilog], log)
    text = _bench(unit)
    # One file: most of a compiler's time goes into the library's headers.
    model_files = sorted(path.name for path in folder.glob(f"V{name}*.cpp"))
    parts = "".join(f'#include "{path}"\n' for path in model_files)
    (folder / "bench.cpp").write_text(parts + text, encoding="utf-8")
    library = tools.verilator()
    include = [f"-I{folder}", f"-I{library}", f"-I{library / 'vltstd'}"]
    if isinstance(unit.unit, StandIn):
        include += [f"-DDUT=V{name}", f"-I{standins.MODULES}"]
        include += [f"-DP_{k}={v}" for k, v in unit.unit.parameters(unit.board).items()]
    include += sources.include_folders(unit.board, build, device=False)
    program = folder / "bench"
    command = [tools.gxx(), *GXX, "-O0", *include, folder / "bench.cpp", *objects, "-lpthread"]
    tools.run([*command, "-o", program], log)
    said = tools.run([program, vectors], log).split()
    if len(said) != 2:
        raise RtlError(f"{name}: the bench printed {' '.join(said)!r}, not two numbers")
    return {"vectors": int(said[0]), "differing": int(said[1])}
