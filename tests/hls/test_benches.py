# SPDX-License-Identifier: Apache-2.0
"""hls/tb compiled and run as Vitis csim would, by every available compiler and set of headers.

In: the C++ sources.  Out: the verdict of each bench.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.cpp_headers import config_header
from neuralmatrix.paths import hls_dir

pytestmark = [pytest.mark.gxx, pytest.mark.slow]
HLS = hls_dir()
BENCHES = sorted(path.stem for path in (HLS / "tb").glob("tb_*.cpp"))
COMPILERS = [name for name in ("g++", "clang++") if shutil.which(name)]
# Labels are for the tool's reports; signed sums wrap, as in hardware.
FLAGS = ["-std=c++14", "-O2", "-fwrapv"]
STRICT = ["-Wall", "-Wextra", "-Wvla", "-Werror", "-Wno-unused-label"]


def ap_types() -> Path | None:
    """Find the open ap_int.h and hls_stream.h: $NEURALMATRIX_AP_TYPES, else those of hls4ml."""
    named = os.environ.get("NEURALMATRIX_AP_TYPES")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = folder / "templates" / "vivado" / "ap_types"
    return found if (found / "ap_int.h").is_file() else None


def build(compiler: str, sources: list[Path], target: Path, *flags: str) -> None:
    command = [compiler, *FLAGS, *flags, "-I", str(HLS / "include"), *map(str, sources)]
    done = subprocess.run([*command, "-o", str(target)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def run(bench: Path) -> None:
    done = subprocess.run([str(bench)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the objects of hls/src once per compiler, without a warning."""
    folder = tmp_path_factory.mktemp("kernels")
    for compiler in COMPILERS:
        for source in sorted((HLS / "src").glob("*.cpp")):
            build(compiler, [source], folder / f"{compiler}-{source.stem}.o", "-c", *STRICT)
    return folder


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("bench", BENCHES)
def test_bench(bench: str, compiler: str, kernels: Path, tmp_path: Path) -> None:
    objects = sorted(kernels.glob(f"{compiler}-*.o"))
    build(compiler, [HLS / "tb" / f"{bench}.cpp", *objects], tmp_path / bench, *STRICT)
    run(tmp_path / bench)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_the_bridge_compiles_without_warnings(compiler: str, tmp_path: Path) -> None:
    bridge = HLS / "emulation" / "bridge.cpp"
    build(compiler, [bridge], tmp_path / "bridge.o", "-c", *STRICT)


@pytest.fixture(scope="session")
def open_kernels(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[Path]]:
    """Compile the kernels with the open vendor headers, ignoring the headers' own warnings."""
    headers = ap_types()
    if headers is None:
        pytest.skip("no ap_int.h: install hls4ml or set NEURALMATRIX_AP_TYPES")
    flags = ["-DNM_AP_TYPES", "-w", "-isystem", str(headers)]
    folder, objects = tmp_path_factory.mktemp("open"), []
    for source in sorted((HLS / "src").glob("*.cpp")):
        objects.append(folder / f"{source.stem}.o")
        build(COMPILERS[0], [source], objects[-1], "-c", *flags)
    return flags, objects


@pytest.mark.parametrize("bench", BENCHES)
def test_bench_on_the_open_vendor_headers(
    bench: str, open_kernels: tuple[list[str], list[Path]], tmp_path: Path
) -> None:
    flags, objects = open_kernels
    build(COMPILERS[0], [HLS / "tb" / f"{bench}.cpp", *objects], tmp_path / bench, *flags)
    run(tmp_path / bench)


@pytest.mark.parametrize("board", ["kv260", "ultra96-v2"])
def test_benches_of_other_arrays_and_ports(board: str, tmp_path: Path) -> None:
    """All benches also pass for 32 x 32 PEs and for 16-byte ports: csim runs them per board."""
    found = load_board(board)
    (tmp_path / "nm").mkdir()
    header = config_header(found.array, found.timing, found.uram_buffers)
    (tmp_path / "nm" / "config.h").write_text(header)
    objects = []
    for source in sorted((HLS / "src").glob("*.cpp")):
        objects.append(tmp_path / f"{source.stem}.o")
        build(COMPILERS[0], [source], objects[-1], "-c", "-I", str(tmp_path), *STRICT)
    for bench in BENCHES:
        sources = [HLS / "tb" / f"{bench}.cpp", *objects]
        build(COMPILERS[0], sources, tmp_path / bench, "-I", str(tmp_path), *STRICT)
        run(tmp_path / bench)


@pytest.mark.parametrize("bench", ["tb_compute", "tb_epilogue", "tb_load_store"])
def test_bench_under_sanitizers(bench: str, tmp_path: Path) -> None:
    """Random instructions cause no access beyond an array and no undefined shift."""
    sources = [HLS / "tb" / f"{bench}.cpp", *sorted((HLS / "src").glob("*.cpp"))]
    checks = "-fsanitize=address,undefined,signed-integer-overflow"
    probe = tmp_path / "probe.cpp"
    probe.write_text("int main() { return 0; }\n")
    if subprocess.run(
        [COMPILERS[0], checks, str(probe), "-o", str(tmp_path / "probe")], capture_output=True
    ).returncode:
        pytest.skip("the compiler has no sanitizers")
    build(COMPILERS[0], sources, tmp_path / bench, checks, "-fno-sanitize-recover=all", "-O1")
    run(tmp_path / bench)
