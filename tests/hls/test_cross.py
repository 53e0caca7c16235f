# SPDX-License-Identifier: Apache-2.0
"""hls/tb on the boards' processors: 32-bit ARM and aarch64, under qemu.

In: the C++ sources.  Out: each bench's verdict and digest, equal to this machine's.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest
from neuralmatrix.paths import hls_dir

pytestmark = [pytest.mark.gxx, pytest.mark.slow]
HLS = hls_dir()
BENCHES = sorted(path.stem for path in (HLS / "tb").glob("tb_*.cpp"))
# Less optimised than elsewhere, to save time on three machines.
FLAGS = "-std=c++14 -O1 -fwrapv -Wall -Wextra -Wvla -Werror -Wno-unused-label".split()
# Debian's compiler and package, and qemu's name of the machine.
TARGETS = {"arm-linux-gnueabihf": "arm", "aarch64-linux-gnu": "aarch64"}
NATIVE = "native"


def emulator(target: str) -> str:
    names = (f"qemu-{TARGETS[target]}-static", f"qemu-{TARGETS[target]}")
    return next((name for name in names if shutil.which(name)), "")


def needs(target: str) -> None:
    """Skip if the machine's compiler or emulator is not installed."""
    if shutil.which(f"{target}-g++") is None:
        pytest.skip(f"no {target}-g++: apt-get install g++-{target}")
    if not emulator(target):
        pytest.skip(f"no qemu-{TARGETS[target]}: apt-get install qemu-user-static")


def compile_cpp(target: str, sources: list[Path], output: Path, *flags: str) -> None:
    compiler = "g++" if target == NATIVE else f"{target}-g++"
    command = [compiler, *FLAGS, *flags, "-I", str(HLS / "include"), *map(str, sources)]
    done = subprocess.run([*command, "-o", str(output)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def execute(target: str, program: Path) -> subprocess.CompletedProcess[str]:
    launcher = [] if target == NATIVE else [emulator(target)]
    command = [*launcher, str(program)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


class Builder:
    """Compiles the kernels, and compiles and runs each bench, once per machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects = functools.cache(self._objects)
        self.output = functools.cache(self._output)

    def _objects(self, target: str) -> list[Path]:
        folder = self.folder / target
        folder.mkdir()
        sources = sorted((HLS / "src").glob("*.cpp"))
        for source in sources:
            compile_cpp(target, [source], folder / f"{source.stem}.o", "-c")
        return [folder / f"{source.stem}.o" for source in sources]

    def _output(self, target: str, bench: str) -> str:
        program = self.folder / f"{target}-{bench}"
        sources = [HLS / "tb" / f"{bench}.cpp", *self.objects(target)]
        compile_cpp(target, sources, program, "-static")
        done = execute(target, program)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compare with")
    return Builder(tmp_path_factory.mktemp("cross"))


@pytest.mark.parametrize("bench", BENCHES)
@pytest.mark.parametrize("target", TARGETS)
def test_bench_gives_the_same_bytes(target: str, bench: str, builder: Builder) -> None:
    needs(target)
    found = builder.output(target, bench)
    assert "passed, digest " in found
    assert found == builder.output(NATIVE, bench)


def test_what_only_goes_wrong_there_is_found(builder: Builder, tmp_path: Path) -> None:
    """A plain char has no sign on ARM: only the bench on ARM detects this mistake."""
    target = "arm-linux-gnueabihf"
    needs(target)
    text = (HLS / "include" / "nm" / "cpu.h").read_text(encoding="utf-8")
    right, wrong = "* 256 + word[r]);", "* 256 + char(word[r]));"
    assert right in text
    (tmp_path / "nm").mkdir()
    (tmp_path / "nm" / "cpu.h").write_text(text.replace(right, wrong), encoding="utf-8")
    codes = {}
    for machine in (NATIVE, target):
        others = [path for path in builder.objects(machine) if path.stem != "compute"]
        sources = [HLS / "tb" / "tb_compute.cpp", HLS / "src" / "compute.cpp", *others]
        program = tmp_path / machine
        compile_cpp(machine, sources, program, "-static", "-I", str(tmp_path))
        codes[machine] = execute(machine, program).returncode
    assert codes == {NATIVE: 0, target: 1}
