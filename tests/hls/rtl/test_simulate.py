# SPDX-License-Identifier: Apache-2.0
"""Verilator holds the modules against the g++ build, and finds every mistake planted in a kernel.

In: the kernels, and copies of them with one change each.  Out: numbers of differing vectors.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from neuralmatrix.paths import hls_dir
from rtl import flow
from rtl.catalog import UNITS
from rtl.unit import StandIn, Unit, port
from rtl_units import needs_clang, needs_gxx, needs_verilator
from slow import slow_after

pytestmark = [needs_clang, needs_gxx, needs_verilator]
HLS = hls_dir()
SNIPPETS = Path(__file__).with_name("snippets")
COUNT = len(re.findall(r"^SNIPPET\(", SNIPPETS.with_suffix(".cpp").read_text("utf-8"), re.M)) - 3


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rtl")


def differing(unit: Unit | StandIn, build: Path, vectors: int, hls: Path = HLS) -> tuple[int, int]:
    """The vectors simulated, and how many of them differ."""
    job = flow.Job((unit,), ("xc7",), ("pynq-z2",), build, vectors, 1, hls=hls, say=lambda _: None)
    found = flow.verilog(job)
    flow.simulated(job, found)
    return found[0].simulated["vectors"], found[0].simulated["differing"]


@pytest.mark.slow
def test_every_kind_of_instruction_becomes_verilog(build: Path) -> None:
    ports = (
        port("a", "in", "i16*4"),
        port("b", "in", "u8*4"),
        port("c", "in", "i64*2"),
        port("out", "out", f"i32*{4 * COUNT}"),
        port("wide", "out", f"i64*{COUNT}"),
    )
    unit = Unit("all_snippets", "snippets", str(SNIPPETS), lambda board: ports)
    assert differing(unit, build, 2000) == (2000, 0)


class Mistake(NamedTuple):
    """One change of a kernel, and the unit whose simulation must find it."""

    unit: str
    file: str
    right: str
    wrong: str


MISTAKES = {
    "wrong saturation": Mistake(
        "segment_part", "include/nm/lane.h", "int16_t(32767)", "int16_t(32766)"
    ),
    "wrong shift": Mistake("align_word", "include/nm/types.h", "(b2) << 16", "(b2) << 15"),
    "dropped half": Mistake("finish_part", "include/nm/types.h", "<< n) >> 1", "<< n) >> 2"),
    "wrong operand": Mistake("pass_step", "include/nm/walk.h", "e_x_kw(i)", "e_x_kh(i)"),
    "wrong sign": Mistake("raster_step", "include/nm/walk.h", "line += step1", "line -= step1"),
    "off by one": Mistake(
        "word_step", "include/nm/walk.h", "compute_win_w(i) - 1;\n            skip_h",
        "compute_win_w(i) - 2;\n            skip_h",
    ),
    "wrong operator": Mistake("join_row", "include/nm/stats.h", "v[c] > v[c +", "v[c] < v[c +"),
    "wrong mask": Mistake("segment_part", "include/nm/lane.h", ">> 48) & 31", ">> 48) & 15"),
    "swapped axes": Mistake(
        "weight_step", "include/nm/fill.h", "(c + ROWS - r)", "(r + ROWS - c)"
    ),
    "wrong limit": Mistake("load_inside_region", "src/load.cpp", "high) < limit", "high) <= limit"),
}  # fmt: skip


@pytest.mark.parametrize("name", slow_after(2, MISTAKES))
def test_a_mistake_in_a_kernel_is_found(name: str, build: Path, tmp_path: Path) -> None:
    mistake = MISTAKES[name]
    for folder in ("include", "src", "rtl"):
        shutil.copytree(HLS / folder, tmp_path / folder)
    path = tmp_path / mistake.file
    text = path.read_text(encoding="utf-8")
    assert mistake.right in text, f"{mistake.file} has no {mistake.right!r} any more"
    path.write_text(text.replace(mistake.right, mistake.wrong), encoding="utf-8")
    vectors, found = differing(UNITS[mistake.unit], build, 1000, tmp_path)
    assert vectors == 1000
    assert found > 0
