# SPDX-License-Identifier: Apache-2.0
"""yosys on one module: how many cells of a family it takes.

In: Verilog and a family.  Out: counts of cells.
"""

from __future__ import annotations

import re
from pathlib import Path

from . import tools

# Without wide LUTs: yosys makes LUT7 and LUT8 of several LUT6 to save levels, where area is asked.
# Equal cells are merged at the end: yosys leaves a LUT for the enable of each single flip-flop.
SCRIPT = (
    "read_verilog {v}; "
    "synth_xilinx -family {family} -flatten -noiopad -noclkbuf -nowidelut -top {name}; "
    "opt_merge -share_all; opt_clean; "
    "tee -o {stat} stat -tech xilinx"
)

PACKING = "xc7"

# What is counted: a key of the counts file, and the names of the cells that it adds up.
CELLS = {
    "lut_primitives": r"LUT[1-6]",
    "ff": r"FD[RSCP]E",
    "srl": r"SRL16E|SRLC32E",
    "lutram": r"RAM(32|64|128|256)(X1)?[A-Z0-9]*",
    "dsp": r"DSP48E[12]",
    "carry": r"CARRY[48]",
    "bram18": r"RAMB18E[12]",
    "bram36": r"RAMB36E[12]",
    "muxf": r"MUXF[789]",
}
# LUTs that a cell of distributed RAM takes.
RAM_LUTS = {
    "RAM16X1D": 1,
    "RAM32X1D": 2,
    "RAM32X1S": 1,
    "RAM64X1D": 2,
    "RAM64X1S": 1,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
}


def synthesize(top: str, text: str, family: str, folder: Path) -> dict[str, int]:
    """The cells of a module, by the keys of the counts file.

    A report in the folder that this yosys made of the same text is read again.
    """
    verilog = folder / f"{top}.counted.v"
    text = f"// {tools.said([tools.yosys(), '-V'])}: {SCRIPT}\n{text}"
    if not verilog.exists() or verilog.read_text(encoding="utf-8") != text:
        for report in folder.glob(f"{top}.counted.*.stat"):
            report.unlink()
        verilog.write_text(text, encoding="utf-8")
    # The likelier family first: one run is enough then.
    for tried in (PACKING, family) if " * " in text else (family, PACKING):
        found = mapped(verilog, top, tried)
        if mapping(family, found) == tried:
            break
    return found


def mapping(family: str, cells: dict[str, int]) -> str:
    """The family whose cells are counted.

    Of xc7 alone does yosys put registers and sums into DSPs, so that it counts units with DSPs;
    LUTs are of six inputs in both.
    """
    return PACKING if cells["dsp"] else family


def mapped(verilog: Path, top: str, family: str) -> dict[str, int]:
    """The cells of one run of yosys."""
    stat = verilog.with_suffix(f".{family}.stat")
    script = SCRIPT.format(v=verilog.name, family=family, name=top, stat=stat.name)
    log = verilog.with_suffix(f".{family}.yosys.log")
    if not stat.exists():
        tools.run([tools.yosys(), "-q", "-p", script], log, cwd=verilog.parent)
    return cells(stat.read_text(encoding="utf-8"))


def cells(text: str) -> dict[str, int]:
    """The counts of yosys's report.

    ``lut``: the estimate of LUT6 after pairing (yosys's LC), with shift registers and LUT RAM.
    """
    # Older releases print a cell's name first, newer ones its number.
    found = {a: int(b) for a, b in re.findall(r"^\s+([A-Z]\w+)\s+(\d+)\s*$", text, re.M)}
    found |= {b: int(a) for a, b in re.findall(r"^\s+(\d+)\s+([A-Z]\w+)\s*$", text, re.M)}
    counts = {
        key: sum(n for cell, n in found.items() if re.fullmatch(pattern, cell))
        for key, pattern in CELLS.items()
    }
    pairs = re.search(r"LCs:\s+(\d+)", text)
    counts["lutram"] = sum(RAM_LUTS[cell] * n for cell, n in found.items() if cell in RAM_LUTS)
    estimate = int(pairs.group(1)) if pairs else counts["lut_primitives"]
    return {"lut": estimate + counts["srl"] + counts["lutram"], **counts}
