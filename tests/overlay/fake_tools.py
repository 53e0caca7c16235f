# SPDX-License-Identifier: Apache-2.0
"""Executables in place of Vitis HLS and Vivado: they write the files that our scripts read.

In: faults, as FAKE_ environment variables.  Out: a folder for the PATH.
"""

from __future__ import annotations

import sys
from pathlib import Path

from neuralmatrix.hardware.registers import KERNELS

from overlay.csynth import targets

UTILIZATION = """
1. Slice Logic
--------------

+-------------------------+-------+-------+------------+-----------+-------+
|        Site Type        |  Used | Fixed | Prohibited | Available | Util% |
+-------------------------+-------+-------+------------+-----------+-------+
| {lut}              | 44100 |     0 |          0 |     53200 | 82.89 |
|   LUT as Logic          | 40000 |     0 |          0 |     53200 | 75.19 |
| {ff}         | 50111 |     0 |          0 |    106400 | 47.10 |
+-------------------------+-------+-------+------------+-----------+-------+

2. Memory
---------

+-------------------+-------+-------+------------+-----------+-------+
|     Site Type     |  Used | Fixed | Prohibited | Available | Util% |
+-------------------+-------+-------+------------+-----------+-------+
| Block RAM Tile    | 118.5 |     0 |          0 |       140 | 84.64 |
|   RAMB36/FIFO*    |   110 |     0 |          0 |       140 | 78.57 |
+-------------------+-------+-------+------------+-----------+-------+

3. DSP
------

+----------------+------+-------+------------+-----------+-------+
|    Site Type   | Used | Fixed | Prohibited | Available | Util% |
+----------------+------+-------+------------+-----------+-------+
| DSPs           |  212 |     0 |          0 |       220 | 96.36 |
+----------------+------+-------+------------+-----------+-------+
"""

POWER = """
1. Summary
----------

+--------------------------+--------------+
| Total On-Chip Power (W)  | 1.802        |
| Design Power Budget (W)  | Unspecified* |
| Dynamic (W)              | 1.655        |
| Device Static (W)        | 0.147        |
| Junction Temperature (C) | 45.8         |
| Confidence Level         | Low          |
+--------------------------+--------------+
"""

# The part of a synthesis report that is read.
CSYNTH = """<profile>
<ReportVersion><Version>2024.2</Version></ReportVersion>
<UserAssignments><TopModelName>{kernel}</TopModelName><Part>{part}</Part>
<TargetClockPeriod>{period}</TargetClockPeriod><ClockUncertainty>1.0</ClockUncertainty>
</UserAssignments>
<PerformanceEstimates><SummaryOfTimingAnalysis><EstimatedClockPeriod>{estimated}
</EstimatedClockPeriod></SummaryOfTimingAnalysis>
<SummaryOfLoopLatency>{loops}</SummaryOfLoopLatency></PerformanceEstimates>
<AreaEstimates><Resources><LUT>100</LUT><FF>100</FF><DSP>10</DSP><BRAM_18K>2</BRAM_18K></Resources>
<AvailableResources><LUT>53200</LUT><FF>106400</FF><DSP>220</DSP><BRAM_18K>280</BRAM_18K>
</AvailableResources></AreaEstimates>
</profile>
"""

LOOP = (
    "<{name}><Name>{name}</Name><TripCount>16</TripCount><PipelineII>{ii}</PipelineII>"
    "<PipelineDepth>9</PipelineDepth></{name}>"
)
LOOPS = {kernel: list(targets(kernel)) for kernel in KERNELS}

_START = f"""#!{sys.executable}
import os, sys
from pathlib import Path
wrong = os.environ.get("FAKE_WRONG", "")
"""

_VERSION = """
if sys.argv[1:] in (["-version"], ["--version"]):
    print("{name} v2024.2 (64-bit)")
    sys.exit(0)
"""

_HLS = """
folder = Path(os.environ["NEURALMATRIX_HLS_DATA"]).parent
assert (folder / "include" / "nm" / "config.h").is_file()
print("INFO: csim")
if wrong == "hls":
    print("ERROR: [HLS 200-70] Compilation errors found")
    sys.exit(1)
for kernel in ("fetch", "load", "compute", "store"):
    report = folder / kernel / "solution" / "syn" / "report"
    report.mkdir(parents=True)
    slow = wrong if kernel == "compute" else ""
    ii = {"STEPS": 2} if slow == "interval" else {}
    loops = "".join(LOOP.format(name=name, ii=ii.get(name, 1)) for name in LOOPS[kernel])
    text = CSYNTH.format(kernel=kernel, part="part", period="5.0", loops=loops,
                         estimated=6.5 if slow == "period" else 4.0)
    (report / "csynth.xml").write_text(text)
    ip = folder / kernel / "solution" / "impl" / "ip"
    ip.mkdir(parents=True)
    if wrong != f"no ip {kernel}":
        (ip / "component.xml").write_text("<component/>")
"""

_VIVADO = """
data, ips, out, jobs = sys.argv[-4:]
assert sys.argv[-5] == "-tclargs"
assert all((Path(ips) / k / "component.xml").is_file() for k in ("fetch", "load", "compute"))
assert Path(data).read_text().startswith("set DESIGN {")
if wrong == "silent":
    sys.exit(3)
print(f"INFO: {jobs} jobs")
out = Path(out)
mhz = Path(data).read_text().partition("clock {")[2].split()[1]
print(f"INFO: clock {mhz}")
if wrong in ("timing", f"timing at {mhz}"):
    text = f"timing is not met at {mhz} MHz: worst slack is -0.4 ns for setup"
    (out / "missed.txt").write_text(text)
    (out / "timing.rpt").write_text("Timing constraints are not met.")
    (out / "utilization.rpt").write_text(UTILIZATION)
    print("some words")
    print(f"ERROR: {text}")
    sys.exit(1)
if wrong == "hangs":
    import time
    time.sleep(600)
(out / "power.rpt").write_text(POWER)
slack = {"slack": "-0.1", "no slack": "?"}.get(wrong, "0.021")
(out / "results.txt").write_text(f"worst_slack_ns {slack}\\nvivado 2024.2\\n")
(out / "utilization.rpt").write_text("" if wrong == "no report" else UTILIZATION)
(out / "timing.rpt").write_text("All user specified timing constraints are met.")
(out / "neuralmatrix.bit").write_bytes(b"" if wrong == "empty bit" else BIT)
if wrong != "no hwh":
    (out / "neuralmatrix.hwh").write_text("<" if wrong == "broken hwh" else HWH)
"""


def _write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def write_tools(
    folder: Path,
    hwh: str,
    *,
    slices: bool = True,
    hls: str = "vitis_hls",
    bit: bytes = b"bits",
) -> None:
    """Write a ``vivado`` and, called ``hls``, a Vitis HLS into ``folder``.

    ``hwh`` is Vivado's hand-off, ``bit`` its bitstream, ``slices`` whether cells are named as in 7
    series or as in UltraScale+.
    """
    folder.mkdir()
    kind = "Slice" if slices else "CLB"
    utilization = UTILIZATION.format(lut=f"{kind} LUTs*", ff=f"{kind} Registers")
    head = f"{_START}CSYNTH = {CSYNTH!r}\nLOOP = {LOOP!r}\nLOOPS = {LOOPS!r}\nHWH = {hwh!r}\n"
    head += f"UTILIZATION = {utilization!r}\nPOWER = {POWER!r}\nBIT = {bit!r}\n"
    _write(folder / hls, head + _VERSION.format(name="Vitis HLS") + _HLS)
    _write(folder / "vivado", head + _VERSION.format(name="Vivado") + _VIVADO)
