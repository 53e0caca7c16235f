# SPDX-License-Identifier: Apache-2.0
"""Installation as on a board: old setuptools, no network, only numpy and pynq.

In: a virtual environment with the versions of a PYNQ image, made once.  Out: the installed
package's files, what pynq finds of it, and a run on the emulated board.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from make_overlay_folder import overlay_folder
from neuralmatrix.hardware import overlay_folder as overlays
from neuralmatrix.paths import cache_dir
from neuralmatrix.program.program import Program
from neuralmatrix.runtime.session import Session

VARIABLE = "NEURALMATRIX_TEST_INSTALL"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        VARIABLE not in os.environ,
        reason=f"makes an environment with pynq, which takes minutes: set {VARIABLE}=1",
    ),
]
# pynq as the images bring it, and what each image pins; 3.1's tools do not run on Python 3.12.
OLD = sys.version_info[:2] < (3, 12)
PYNQ = ["pynq==3.1.2", "pycparser<3"] if OLD else ["pynq==4.0.0"]
TOOLS = (
    ["pip==22.0.2", "setuptools==59.6.0", "wheel==0.37.1"] if OLD else ["setuptools<81", "wheel"]
)
PIP = ["--disable-pip-version-check", "--retries", "1", "--timeout", "20"]
LEFT_OUT = ("build", "dist", "__pycache__", "*.egg-info", ".*")
NOT_NEEDED = ("onnx", "rich", "torch", "typer")
RUN = """
import json, sys
import numpy as np
import neuralmatrix as nm

program = nm.load(sys.argv[1])
with nm.Session(program, device="pynq") as session:
    outputs = session.run(dict(np.load(sys.argv[2])))
    origin = session.stats.origin
np.savez(sys.argv[3], **outputs)
loaded = sorted(name for name in sys.modules if name in {names!r})
print(json.dumps({{"file": nm.__file__, "loaded": loaded, "origin": origin}}))
"""
SEEN = """
import json
from pynqutils.setup_utils import ExtensionsManager
groups = ("pynq.lib", "pynq.notebooks", "pynq.overlays")
found = {group: ExtensionsManager(group).printable for group in groups}
print(json.dumps([found, ExtensionsManager("pynq.notebooks").paths]))
"""
NAMED = """
import json, sys, types
import pynq
from pynq.bitstream import Bitstream
pynq.Device._active_device = types.SimpleNamespace(name=sys.argv[1])
try:
    print(json.dumps(Bitstream("neuralmatrix.bit").bitfile_name))
except OSError as error:
    print(json.dumps(str(error)))
"""
DRIVERS = """
import json
from neuralmatrix.runtime.emulated_board.board import EmulatedBoard
import pynq
with EmulatedBoard("pynq-z1") as board:
    import os
    os.environ["NEURALMATRIX_OVERLAY_DIR"] = str(board.overlay)
    overlay = pynq.Overlay("neuralmatrix.bit")
    kernels = ("fetch", "load", "compute", "store")
    print(json.dumps([type(getattr(overlay, f"{name}_0")).__name__ for name in kernels]))
"""


@dataclass(frozen=True)
class Image:
    """An environment like a PYNQ image's, with the package installed, and the package's source."""

    python: Path
    source: Path
    package: Path

    def run(self, script: str, *words: object, **environ: str) -> str:
        """Return the last line that a script prints."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NEURAL"))}
        kept |= {"NEURALMATRIX_CACHE": str(cache_dir()), **environ}
        done = subprocess.run(
            [str(self.python), "-W", "ignore", "-c", script, *map(str, words)],
            cwd=self.source.parent,
            env=kept,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]


def pip(python: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "pip", *map(str, words), *PIP]
    return subprocess.run(command, capture_output=True, text=True)


def install(python: Path, *words: object) -> None:
    """Install tools from an index; skip where there is none."""
    done = pip(python, "install", "-q", *words)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1]
        pytest.skip(f"pip cannot install {' '.join(map(str, words))}: {reason}")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """Install the package from a copy of the sources that includes a built overlay."""
    folder = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    install(python, *PYNQ)
    install(python, *TOOLS)
    source = folder / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    built = overlay_folder(source / "overlay" / "build" / "pynq-z2")
    (built / "vivado").mkdir()
    (built / "vivado" / "neuralmatrix.xpr").write_text("a project")
    done = pip(python, "install", "--no-build-isolation", "--no-deps", source)
    assert done.returncode == 0, done.stderr
    package = next((folder / "venv").glob("lib/*/site-packages/neuralmatrix"))
    return Image(python, source, package)


@pytest.mark.parametrize(
    "name",
    [
        "py.typed",
        "_hls/src/compute.cpp",
        "_hls/include/nm/isa.h",
        "_hls/emulation/bridge.cpp",
        "_boards/pynq-z2.json",
        "_boards/arrays/16x16-z7.json",
        "_boards/families/zynq7000.json",
        "_overlays/pynq-z2/neuralmatrix.bit",
        "_overlays/pynq-z2/neuralmatrix.hwh",
        "_overlays/pynq-z2/overlay.json",
        "_overlays/pynq-z2/selftest.nmx",
        "_overlays/pynq-z2/selftest.npz",
        "demo/data/digits_cnn.onnx",
        "runtime/pynq/ip_drivers.py",
        "measure/bench.py",
    ],
)
def test_what_is_installed(image: Image, name: str) -> None:
    assert (image.package / name).is_file()


def test_what_is_not_installed(image: Image) -> None:
    names = {path.name for path in image.package.rglob("*")}
    assert not names & {"neuralmatrix.xpr", "tests", "tb_mac.cpp"}


def wheel_names(python: Path, source: Path, folder: Path) -> set[str]:
    done = pip(python, "wheel", "--no-build-isolation", "--no-deps", "-w", folder, source)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        return set(wheel.namelist())


def test_a_wheel_from_the_sdist_is_the_same(image: Image, tmp_path: Path) -> None:
    """Only overlays differ, which an sdist does not contain."""
    done = subprocess.run(
        [str(image.python), "setup.py", "-q", "sdist", "-d", str(tmp_path)],
        cwd=image.source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    archive = next(tmp_path.glob("*.tar.gz"))
    with tarfile.open(archive) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    wanted = {"Makefile", "hls/tb/tb_mac.cpp", "overlay/boards/pynq-z2.json", "tests/conftest.py"}
    assert wanted <= inside and not any(name.startswith("overlay/build/") for name in inside)
    direct = wheel_names(image.python, image.source, tmp_path / "direct")
    assert {name for name in direct if "/_overlays/" not in name} == wheel_names(
        image.python, archive, tmp_path / "sdist"
    )


# ------------------------------------------------------------------------------ what pynq sees


def test_pynq_sees_the_entry_points(image: Image) -> None:
    found, paths = json.loads(image.run(SEEN))
    assert all("neuralmatrix (source: neuralmatrix)" in names for names in found.values())
    assert str(image.package / "demo" / "notebooks") in paths
    assert list((image.package / "demo" / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("device", ["Pynq-Z1", "Pynq-Z2"])
def test_pynq_finds_the_bitstream_by_its_name(image: Image, device: str) -> None:
    found = json.loads(image.run(NAMED, device))
    assert found == str(image.package / "_overlays" / "pynq-z2" / overlays.BIT)


@pytest.mark.parametrize("device", ["ZCU104", "Unheard-of"])
def test_pynq_finds_no_bitstream_of_another_board(image: Image, device: str) -> None:
    assert json.loads(image.run(NAMED, device)) == "Bitstream file neuralmatrix.bit does not exist."


@pytest.mark.gxx
def test_an_overlay_by_its_name_has_our_drivers(image: Image) -> None:
    expected = ["FetchKernel", "LoadKernel", "ComputeKernel", "StoreKernel"]
    assert json.loads(image.run(DRIVERS)) == expected


# ------------------------------------------------------------------------------ what runs


@pytest.mark.gxx
def test_numpy_and_pynq_are_enough(image: Image, program: Program, tmp_path: Path) -> None:
    feeds = {"x": np.random.default_rng(8).normal(0, 40, (2, 5, 4, 4)).astype(np.float32)}
    program.save(tmp_path / "net.nmx")
    np.savez(tmp_path / "in.npz", **feeds)
    script = RUN.format(names=NOT_NEEDED)
    paths = [tmp_path / name for name in ("net.nmx", "in.npz", "out.npz")]
    said = json.loads(image.run(script, *paths, NEURALMATRIX_EMULATED_BOARD="pynq-z2"))
    assert said["file"] == str(image.package / "__init__.py")
    assert said["loaded"] == [] and said["origin"] == "emulated board"
    expected = Session(program).run(feeds)["y"]
    assert np.load(tmp_path / "out.npz")["y"].tobytes() == expected.tobytes()


def test_nothing_else_is_installed(image: Image) -> None:
    done = pip(image.python, "list", "--format=json")
    names = {row["name"].lower() for row in json.loads(done.stdout)}
    assert "neuralmatrix" in names and not names & set(NOT_NEEDED)


def test_the_command_says_what_it_lacks(image: Image) -> None:
    for command in (
        [str(image.python), "-m", "neuralmatrix"],
        [image.python.with_name("neuralmatrix")],
    ):
        done = subprocess.run(
            [*map(str, command), "boards"], cwd=image.source.parent, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr == (
            "error: the command line needs rich and typer; pip install rich typer "
            "(Session and load run without them)\n"
        )
