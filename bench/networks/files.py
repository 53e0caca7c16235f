# SPDX-License-Identifier: Apache-2.0
"""Types of files: Magika on files of the Python installation and of this repository.

In: files whose names tell their type.  Out: ``NETWORKS``.
"""

from __future__ import annotations

import hashlib
import json
import sysconfig
from functools import lru_cache
from pathlib import Path

import numpy as np

from . import base
from .base import Array, Feed, Loaded, Network, Run, Score

FOLDER = "models/standard_v3_3"
PADDING, BEGIN, END, BLOCK = 256, 1024, 1024, 4096
TYPES = {
    ".py": "python", ".pyc": "pythonbytecode", ".so": "elf", ".c": "c", ".json": "json",
    ".txt": "txt", ".png": "png", ".gif": "gif", ".h": "c", ".xml": "xml", ".html": "html",
    ".js": "javascript", ".css": "css", ".svg": "svg", ".md": "markdown", ".ttf": "ttf",
    ".jpg": "jpeg", ".sh": "shell", ".csv": "csv", ".zip": "zip", ".toml": "toml",
    ".yaml": "yaml", ".rst": "rst", ".cpp": "cpp",
}  # fmt: skip
PER_TYPE = 10


def bytes_of(content: bytes) -> Array:
    """Return the network's input: the first and last 1,024 bytes without white space."""
    begin = content[:BLOCK].lstrip()[:BEGIN]
    end = content[-BLOCK:].rstrip()[-END:]
    head = np.full(BEGIN, PADDING, np.int32)
    tail = np.full(END, PADDING, np.int32)
    head[: len(begin)] = np.frombuffer(begin, np.uint8)
    tail[END - len(end) :] = np.frombuffer(end, np.uint8)
    return np.concatenate([head, tail])


@lru_cache(maxsize=1)
def found_files() -> dict[str, list[Path]]:
    """Return files of 200 bytes and more by ending, in an order without meaning."""
    roots = {Path(sysconfig.get_paths()["stdlib"]), Path(sysconfig.get_paths()["purelib"])}
    paths = [path for root in sorted(roots) for path in root.rglob("*") if path.suffix in TYPES]
    paths = [p for p in paths if p.is_file() and p.stat().st_size >= 200]
    paths.sort(key=lambda path: hashlib.sha256(str(path.name).encode()).digest())
    return {ending: [p for p in paths if p.suffix == ending] for ending in TYPES}


def sample(part: str) -> tuple[Array, list[str]]:
    """Return inputs (N, 2048) and labels; calibration and test have no file in common."""
    x, labels = [], []
    for ending, paths in found_files().items():
        half = len(paths) // 2
        chosen = paths[half : half + PER_TYPE] if part == "test" else paths[: min(half, 3)]
        x += [bytes_of(path.read_bytes()) for path in chosen]
        labels += [TYPES[ending]] * len(chosen)
    return np.stack(x), labels


def load() -> Loaded:
    """Return Magika: bytes to one of 214 types, with normalisation and a maximum over places."""
    return Loaded(base.onnx_file("magika", f"{FOLDER}/model.onnx"), {"bytes": (1, BEGIN + END)})


def calibration() -> list[Feed]:
    return [{"bytes": sample("calibration")[0]}]


def score(run: Run, reference: Run) -> Score:
    x, labels = sample("test")
    config = base.package_file("magika", f"{FOLDER}/config.min.json")
    names = json.loads(config.read_text())["target_labels_space"]
    best = base.only(run({"bytes": x}), len(x)).argmax(1)
    return base.share([names[k] == label for k, label in zip(best, labels, strict=True)])


NETWORKS = (
    Network("magika", "magika", "Apache-2.0", f"{FOLDER}/model.onnx", "file type named",
            load, calibration, score),
)  # fmt: skip
