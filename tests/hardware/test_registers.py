# SPDX-License-Identifier: Apache-2.0
"""registers.py and hls/src agree on the registers of every kernel, in number, order and width.

In: the lint's list of ports.  Out: nothing.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from neuralmatrix.hardware.registers import (
    FAULT_ADDRESS,
    FAULT_OPCODE,
    FIRST_ARGUMENT,
    KERNELS,
    Argument,
    registers,
    vlnv,
)
from neuralmatrix.paths import hls_dir

HLS = hls_dir()
LINT = HLS / "lint"
needs_clang = pytest.mark.skipif(
    shutil.which("clang++") is None or not LINT.is_dir(),
    reason="no clang++ (apt-get install clang), or no checkout with hls/lint",
)
POINTER_BITS = 64  # config_interface -m_axi_addr64
BITS = {"uint32_t": 32, "unsigned int": 32, "uint64_t": 64, "unsigned long": 64}


def argument(entry: dict) -> Argument:
    """Describe a port as in registers.py."""
    modes = [pragma["mode"] for pragma in entry["pragmas"]]
    if "m_axi" in modes:
        return Argument(entry["name"], POINTER_BITS)
    output = entry["type"].endswith("*")
    return Argument(entry["name"], BITS[entry["type"].rstrip("* ")], output)


def ports(*sources: Path) -> dict[str, list[dict]]:
    command = [sys.executable, str(LINT), "--ports", *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def described(entries: list[dict]) -> tuple[Argument, ...]:
    slave = [
        entry
        for entry in entries
        if entry["name"] != "return"
        and any(pragma["mode"] == "s_axilite" for pragma in entry["pragmas"])
    ]
    return tuple(map(argument, slave))


@pytest.mark.slow
@needs_clang
def test_registers_are_those_of_the_sources() -> None:
    found = ports()
    assert sorted(found) == sorted(KERNELS)
    for kernel, arguments in KERNELS.items():
        assert described(found[kernel]) == arguments, kernel


KERNEL = """
#include "nm/hls.h"
#include <stdint.h>
extern "C" void store({arguments}) {{
    NM_MAXI(dram, store_port, 8)
    {registers}
    NM_REGISTER(return)
    *{output} = dram[0];
}}
"""
RIGHT = (
    "uint64_t* dram",
    "uint64_t arena_base",
    "uint32_t arena_bytes",
    "uint64_t* busy",
    "uint64_t* ended",
    "uint32_t* retired",
    "uint32_t* fault",
)
MISTAKES = {
    "none": RIGHT,
    "order": (*RIGHT[:3], RIGHT[4], RIGHT[3], *RIGHT[5:]),
    "width": (*RIGHT[:5], "uint64_t* retired", RIGHT[6]),
    "name": (*RIGHT[:5], "uint32_t* ran", RIGHT[6]),
    "direction": (*RIGHT[:2], "uint32_t* arena_bytes", *RIGHT[3:]),
    "missing": RIGHT[:-1],
}


@needs_clang
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_kernel_that_differs_is_found(mistake: str, tmp_path: Path) -> None:
    names = [each.split()[-1] for each in MISTAKES[mistake]]
    text = KERNEL.format(
        arguments=", ".join(MISTAKES[mistake]),
        registers="\n    ".join(f"NM_REGISTER({name})" for name in names),
        output=names[-1],
    )
    unused = '#pragma clang diagnostic ignored "-Wunused-parameter"'
    (tmp_path / "store.cpp").write_text(unused + text)
    (found,) = ports(tmp_path / "store.cpp").values()
    assert (described(found) == KERNELS["store"]) == (mistake == "none")


def test_layout_of_the_address_map() -> None:
    """The map equals the x_*_hw.h headers of Vitis HLS: 64 bits and a gap, outputs with a flag."""
    found = {r.name: (r.offset, r.writable) for r in registers("fetch")}
    assert found == {
        "code_1": (0x10, True),
        "code_2": (0x14, True),
        "count": (0x1C, True),
        "fingerprint_1": (0x24, False),
        "fingerprint_2": (0x28, False),
        "fingerprint_ctrl": (0x2C, False),
        "began_1": (0x34, False),
        "began_2": (0x38, False),
        "began_ctrl": (0x3C, False),
        "fault": (0x44, False),
        "fault_ctrl": (0x48, False),
        "checksum": (0x50, False),
        "checksum_ctrl": (0x54, False),
    }


@pytest.mark.parametrize("kernel", KERNELS)
def test_no_two_registers_share_a_word(kernel: str) -> None:
    offsets = [register.offset for register in registers(kernel)]
    assert offsets == sorted(set(offsets))
    assert offsets[0] == FIRST_ARGUMENT and not any(offset % 4 for offset in offsets)
    assert vlnv(kernel) == f"neuralmatrix:hls:{kernel}:1.0"


def test_fault_bits_are_those_of_the_kernels() -> None:
    text = (HLS / "include" / "nm" / "kernels.h").read_text()
    found = dict(re.findall(r"constexpr uint32_t (FAULT_\w+) = (\d+);", text))
    assert found == {"FAULT_ADDRESS": str(FAULT_ADDRESS), "FAULT_OPCODE": str(FAULT_OPCODE)}
