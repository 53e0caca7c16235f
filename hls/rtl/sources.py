# SPDX-License-Identifier: Apache-2.0
"""The C++ sources of a unit: the wrapper, and the headers that it reaches.

In: a source of ``kernels/`` and a board.  Out: LLVM IR, include folders, and a hash of the text of
all of them, in which comments and blanks do not count.  The hash needs no tool.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

from neuralmatrix.hardware.board import Board
from neuralmatrix.hardware.cpp_headers import config_header

from . import tools

HERE = Path(__file__).resolve().parent
HLS = HERE.parent
KERNELS = HERE / "kernels"
CONFIG = "nm/config.h"
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)
OWN = (HERE / "include", HERE)
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)

# Straight-line code: all of it inlined and unrolled, nothing turned into vectors or tables.
CLANG = (
    "-std=c++17 -O2 -fwrapv -D__SYNTHESIS__ -Wno-unknown-pragmas -fno-vectorize "
    "-fno-slp-vectorize -fno-exceptions -fno-rtti -fno-discard-value-names -fno-stack-protector "
    "-fno-unwind-tables -fno-asynchronous-unwind-tables -fno-jump-tables "
    "-mllvm -unroll-threshold=100000000 -mllvm -unroll-max-iteration-count-to-analyze=1000 "
    "-mllvm -inline-threshold=1000000 -S -emit-llvm"
).split()


def wrapper(source: str) -> Path:
    """The C++ file of a source: a name in ``kernels/``, or a path without its suffix."""
    return KERNELS / f"{source}.cpp"


def board_include(board: Board, build: Path) -> Path:
    """A folder with the board's ``nm/config.h``, which goes before ``hls/include``."""
    path = build / board.name / "include" / CONFIG
    text = config_text(board)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return path.parents[1]


def config_text(board: Board) -> str:
    return config_header(board.array, board.timing, board.uram_buffers)


def include_folders(board: Board, build: Path, device: bool, hls: Path = HLS) -> list[str]:
    """Options for a compiler; the stand-ins of vendor headers are for the device's branch."""
    folders = [board_include(board, build), hls / "include", hls, HERE]
    return [f"-I{folder}" for folder in [HERE / "include", *folders][0 if device else 1 :]]


def llvm_ir(source: str, board: Board, build: Path, hls: Path = HLS) -> Path:
    """The wrappers of a source as the device sees them, as LLVM IR."""
    to = build / board.name / f"{wrapper(source).stem}.ll"
    include = include_folders(board, build, device=True, hls=hls)
    command = [tools.clang(), *CLANG, *include, wrapper(source), "-o", to]
    tools.run(command, to.with_suffix(".clang.log"))
    return to


# ---------------------------------------------------------------- the hash


def digest(source: str, board: Board) -> str:
    """SHA-256 of all that a source includes, as it is for a board."""
    return _hash(_parts(wrapper(source), board))


def digest_stand_in(bench: Path, verilog: str, board: Board) -> str:
    """SHA-256 of a stand-in's Verilog, its test bench, and the kernels that this includes."""
    return _hash({**_parts(bench, board), "": _plain(verilog)})


def _parts(path: Path, board: Board) -> dict[str, str]:
    parts: dict[str, str] = {}
    _collect(path, board, parts)
    return parts


def _hash(parts: dict[str, str]) -> str:
    text = "\n".join(f"{name}\n{parts[name]}" for name in sorted(parts))
    return hashlib.sha256(text.encode()).hexdigest()


def _collect(path: Path, board: Board, parts: dict[str, str]) -> None:
    name = path.relative_to(HLS).as_posix() if path.is_relative_to(HLS) else path.name
    if name in parts:
        return
    text = config_text(board) if name.endswith(CONFIG) else _text(path)
    parts[name] = _plain(text)
    for included in INCLUDE.findall(text):
        for folder in (path.parent, *(HLS / part for part in ("include", "src", ".")), *OWN):
            if (folder / included).is_file():
                _collect((folder / included).resolve(), board, parts)
                break


@cache
def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@cache
def _plain(text: str) -> str:
    """The text without comments; blanks count only between words."""
    lines = (" ".join(line.split()) for line in COMMENT.sub(" ", text).split("\n"))
    return "\n".join(line for line in lines if line)
