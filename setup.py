# SPDX-License-Identifier: Apache-2.0
"""The package definition, readable by the setuptools 59 of PYNQ 3.1 images.

In: host/neuralmatrix, hls, overlay/boards, and overlay/build where overlays have been built.
Out: a wheel that holds them all.  With NEURALMATRIX_PREBUILT=1 it also holds the emulation of every
array, built for this kind of machine, so that its users need no compiler; it then fits this
platform alone, and any Python.
A checkout installed with ``pip install -e`` finds hls and overlay in the repository.
"""

import os
import re
import shutil
import sys
from pathlib import Path

import setuptools
from setuptools import Distribution, find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
PREBUILT = os.environ.get("NEURALMATRIX_PREBUILT") == "1"
CARRIED = {
    "_hls": ("hls", ("include/**/*.h", "src/*.cpp", "src/*.h", "emulation/*")),
    "_boards": ("overlay/boards", ("*.json", "arrays/*.json", "families/*.json")),
    "_overlays": ("overlay/build", ("*/neuralmatrix.*", "*/overlay.json", "*/selftest.*")),
}


class BuildPy(build_py):
    """Copies the kernels' sources, the board files and built overlays into the wheel."""

    def run(self):
        super().run()
        if getattr(self, "editable_mode", False):
            return
        for target, (source, patterns) in CARRIED.items():
            for pattern in patterns:
                for path in sorted((ROOT / source).glob(pattern)):
                    if path.is_file():
                        self._carry(path, Path(target) / path.relative_to(ROOT / source))
        if PREBUILT:
            make_emulations(Path(self.build_lib) / "neuralmatrix" / "_emulation")

    def _carry(self, path, relative):
        destination = Path(self.build_lib) / "neuralmatrix" / relative
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, destination)


def make_emulations(folder):
    """Build the libraries; what the package needs for that is in the standard library."""
    sys.path.insert(0, str(ROOT / "host"))
    from neuralmatrix.runtime.emulation.prebuilt import make_all

    make_all(folder)


class WithLibraries(Distribution):
    """A distribution of one platform."""

    def has_ext_modules(self):
        return True


def wheel_of_any_python():
    """Return the command that tags the wheel: its libraries are loaded by ctypes."""
    try:
        from setuptools.command.bdist_wheel import bdist_wheel
    except ImportError:  # before setuptools 70
        from wheel.bdist_wheel import bdist_wheel

    class Wheel(bdist_wheel):
        def get_tag(self):
            return ("py3", "none", super().get_tag()[2])

    return Wheel


def version():
    text = (ROOT / "host" / "neuralmatrix" / "_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text).group(1)


# PEP 639 came with setuptools 77; the setuptools of PYNQ images knows only the older field.
MODERN = int(setuptools.__version__.split(".")[0]) >= 77
LICENSE = {"license_expression" if MODERN else "license": "Apache-2.0"}
ONNX = ["onnx>=1.15"]
TORCH = ["torch>=2.1", "onnxscript>=0.1", *ONNX]
SERVE = [  # pure Python on boards; elsewhere with a faster parser, which uvicorn finds by itself
    "starlette>=0.37",
    "uvicorn>=0.23",
    "prometheus-client>=0.17",
    "httptools>=0.6; platform_machine == 'x86_64'",
]
CLUSTER = ["distributed>=2023.1"]
DEV = [
    *ONNX,
    *SERVE,
    *CLUSTER,
    "tritonclient[http]>=2.40",
    "onnxruntime>=1.16",
    "pytest>=7",
    "pytest-xdist>=3",
    "hypothesis>=6",
    "ruff>=0.4",
    "clang-format==21.1.8",  # versions before 16 format some lines in another way
    "mypy>=1.8",
    "scikit-learn>=1.2",
    "pillow>=9",
    "plotly>=5",
    "pre-commit>=3",
    "pyyaml>=6",
]
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.27"]

setup(
    name="neuralmatrix",
    version=version(),
    description="Whole neural networks as matrix products on one array of a PYNQ board",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.10",
    package_dir={"": "host"},
    packages=find_packages("host"),
    package_data={
        "neuralmatrix": [
            "py.typed",
            "hardware/counts.json",
            "demo/data/*",
            "demo/notebooks/*.ipynb",
        ]
    },
    install_requires=["numpy>=1.21,<3", "typer>=0.12.5", "rich>=12.6"],
    extras_require={
        "onnx": ONNX,
        "torch": TORCH,
        "hls4ml": ["hls4ml>=1.3", *ONNX],
        # pynq 4.0.0 pins grpcio-tools to protobuf 5; told late, pip tries all older pynqs instead
        "pynq": ["pynq>=3.0.1", "protobuf<6"],
        "report": ["plotly>=5"],
        "serve": SERVE,
        "cluster": CLUSTER,
        "dev": DEV,
        "docs": DOCS,
    },
    entry_points={
        "console_scripts": ["neuralmatrix = neuralmatrix.__main__:main"],
        "hls4ml.backends": ["neuralmatrix = neuralmatrix.hls4ml.plugin:register"],
        "pynq.lib": ["neuralmatrix = neuralmatrix.runtime.pynq.ip_drivers"],
        "pynq.notebooks": ["neuralmatrix = neuralmatrix.demo.notebooks"],
        "pynq.overlays": ["neuralmatrix = neuralmatrix.runtime.pynq.overlay_path"],
    },
    cmdclass={"build_py": BuildPy, **({"bdist_wheel": wheel_of_any_python()} if PREBUILT else {})},
    distclass=WithLibraries if PREBUILT else Distribution,
    zip_safe=False,
    keywords=[
        "accelerator",
        "compiler",
        "FPGA",
        "graph neural networks",
        "high-level synthesis",
        "neural networks",
        "ONNX",
        "PYNQ",
        "quantization",
        "systolic array",
        "transformers",
    ],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: C++",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Software Development :: Compilers",
        "Topic :: Software Development :: Embedded Systems",
        "Typing :: Typed",
    ],
    **LICENSE,
)
