# SPDX-License-Identifier: Apache-2.0
"""What goes wrong in synthesis is found in the tool's log and report, and each has a remedy.

In: a log and a report in the form of Vitis HLS, written for these tests.  Out: symptoms.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.registers import KERNELS
from neuralmatrix.paths import hls_dir
from test_csynth import fake_of, write_all, write_new

from overlay.csynth import compare, report
from overlay.csynth_xml import Access, Memory, Report, read_report
from overlay.symptoms import ADVICE, MARK, in_log, memories_asked_for, not_applied, symptoms

BOARD = load_board("kv260")

GOOD = """\
****** Vitis HLS - High-Level Synthesis from C, C++ and OpenCL v2024.1 (64-bit)
INFO: [HLS 200-10] Running 'vitis_hls'
WARNING: [HLS 207-5292] unused parameter 'now' (load.cpp:170:40)
neuralmatrix: synthesizing load
INFO: [HLS 200-10] Analyzing design file 'load.cpp' ...
INFO: [HLS 214-131] Inlining function 'nm::align' into 'nm::copy_words' (load.cpp:60:5)
INFO: [HLS 214-115] Multiple burst reads in loop 'WORD_BEATS_IN' has been inferred on bundle 'l'.
INFO: [SCHED 204-61] Pipelining loop 'WORD_BEATS_IN'.
INFO: [HLS 200-1470] Pipelining result : Target II = 1, Final II = 1, Depth = 9, loop 'BEATS'
INFO: [HLS 200-789] **** Estimated Fmax: 136.99 MHz
neuralmatrix: synthesizing compute
INFO: [HLS 200-1470] Pipelining result : Target II = 1, Final II = 1, Depth = 37, loop 'STEPS'
"""

# A line of the log, as the tool writes it, the kind of its symptom, and what must be shown.
LINES = (
    (
        "WARNING: [HLS 200-880] The II Violation in module 'compute_Pipeline_STEPS' (loop 'STEPS'):"
        " Unable to enforce a carried dependence constraint (II = 1, distance = 1, offset = 1)"
        " between 'store' operation 0 bit ('acc_addr_write_ln40', lanes.h:40) on array 'acc' and"
        " 'load' operation 1024 bit ('acc_load', lanes.h:31) on array 'acc'.",
        "interval",
        "loop 'STEPS'): Unable to enforce a carried dependence",
    ),
    (
        "WARNING: [HLS 200-885] The II Violation in module 'load_Pipeline_WORD_BEATS_IN'"
        " (loop 'WORD_BEATS_IN'): Unable to schedule bus request operation"
        " ('load_port_load_1_req', words.h:105) on port 'load_port' (words.h:105) due to"
        " limited memory ports (II = 2). Please consider using a"
        " memory core with more ports or partitioning the array.",
        "interval",
        "due to limited memory ports",
    ),
    (
        "WARNING: [v++ 200-885] The II Violation in module 'store_Pipeline_BEATS' (loop 'BEATS'):"
        " Unable to schedule 'load' operation on array 'o_lo' due to limited memory ports.",
        "interval",
        "on array 'o_lo'",
    ),
    (
        "WARNING: [HLS 200-936] Cannot unroll loop 'FINISH_WRITE' (lanes.h:120) in function"
        " 'compute': cannot completely unroll a loop with a variable trip count.",
        "unpipelined",
        "Cannot unroll loop 'FINISH_WRITE'",
    ),
    (
        "WARNING: [HLS 200-970] Unable to pipeline loop 'STEPS': it holds a loop that is not"
        " unrolled.",
        "unpipelined",
        "Unable to pipeline loop 'STEPS'",
    ),
    (
        "WARNING: [HLS 207-5560] Array_Partition/Array_Reshape pragma is ignored, because variable"
        " is scalar type (mac.h:60:9)",
        "partition",
        "because variable is scalar type (mac.h:60:9)",
    ),
    (
        "WARNING: [HLS 214-345] Pragma conflict happens on 'ARRAY_RESHAPE' and 'ARRAY_PARTITION'"
        " pragmas: same variable 'lines' (compute.cpp:205:1)",
        "partition",
        "same variable 'lines'",
    ),
    (
        "WARNING: [HLS 207-5569] unexpected pragma parameter 'imp' (compute.cpp:210:9)",
        "pragma",
        "unexpected pragma parameter 'imp'",
    ),
    (
        "WARNING: [HLS 207-5570] unknown HLS pragma ignored (hls.h:19:1)",
        "pragma",
        "unknown HLS pragma ignored",
    ),
    (
        "ERROR: [HLS 207-4011] expected identifier: pragma INLINE_ is not supported (hls.h:19)",
        "pragma",
        "pragma INLINE_ is not supported",
    ),
    (
        "WARNING: [HLS 200-1449] bind_storage on 'acc' is ignored: uram needs an output register",
        "storage",
        "bind_storage on 'acc' is ignored",
    ),
    (
        "INFO: [HLS 214-229] Could not analyze pattern (load.cpp:70:5)",
        "burst",
        "Could not analyze pattern (load.cpp:70:5)",
    ),
    ("INFO: [HLS 214-230] Stride is incompatible (store.cpp:77:9)", "burst", "Stride is incomp"),
    (
        "WARNING: [HLS 200-1016] The critical path in module 'compute_Pipeline_STEPS' consists of"
        " the following:\n"
        "\t'load' operation 32 bit ('pass_ln88', walk.h:88) on local variable 'pass' [41]  (0 ns)\n"
        "\t'icmp' operation 1 bit ('icmp_ln90', walk.h:90) [55]  (2.552 ns)\n"
        "\t'select' operation 32 bit ('next', walk.h:91) [57]  (0.698 ns)\n"
        "INFO: [HLS 200-111] Finished Scheduling",
        "period",
        "'icmp' operation 1 bit ('icmp_ln90', walk.h:90) [55] (2.552 ns), 'select' operation",
    ),
)


def test_a_good_log_shows_nothing() -> None:
    assert in_log(GOOD) == []
    assert in_log("") == []


@pytest.mark.parametrize(("line", "kind", "shown"), LINES, ids=lambda value: str(value)[:28])
def test_each_symptom_is_found_in_the_log(line: str, kind: str, shown: str) -> None:
    (found,) = in_log(f"{GOOD}{line}\n")
    assert (found.kernel, found.kind) == ("compute", kind)
    assert shown in found.found
    assert found.text == f"compute: {found.found}; {ADVICE[found.kind]}"


def test_every_kind_has_a_remedy_and_is_tried() -> None:
    assert {kind for _, kind, _ in LINES} == set(ADVICE)
    assert all(len(advice.split()) > 8 for advice in ADVICE.values())


def test_symptoms_belong_to_the_kernel_that_was_synthesized() -> None:
    log = f"{LINES[5][0]}\n{GOOD}".replace("load\nINFO", f"load\n{LINES[1][0]}\nINFO", 1)
    assert [(s.kernel, s.kind) for s in in_log(log)] == [("all", "partition"), ("load", "interval")]


def test_the_same_line_is_shown_once_and_a_flood_is_cut() -> None:
    assert len(in_log(GOOD + 5 * f"{LINES[0][0]}\n")) == 1
    flood = "".join(f"{LINES[7][0].replace('imp', f'p{i}')}\n" for i in range(100))
    assert len(in_log(GOOD + flood)) == 12


def test_the_script_prints_what_the_log_is_cut_at() -> None:
    text = (hls_dir().parent / "overlay" / "hls.tcl").read_text()
    assert f'puts "{MARK}$kernel"' in text


# ------------------------------------------------------------------ partitions


def confirmations(kernel: str, leave_out: str = "") -> str:
    source = (hls_dir() / "src" / f"{kernel}.cpp").read_text()
    lines = [f"{MARK}{kernel}"]
    for what, name in re.findall(r"^\s*NM_(PARTITION|RESHAPE)\(([\w.]+), ", source, re.MULTILINE):
        if name != leave_out:
            kind = {"PARTITION": "partition", "RESHAPE": "reshape"}[what]
            lines.append(
                f"INFO: [HLS 214-248] Applying array_{kind} to '{name}': Complete {kind}ing on "
                f"dimension 1. ({kernel}.cpp:200:0)"
            )
    return "\n".join(lines)


def test_partitions_that_the_log_confirms() -> None:
    assert not_applied("compute", confirmations("compute")) == []
    assert not_applied("compute", GOOD) == [], "this version confirms none"


def test_a_partition_that_the_log_does_not_confirm() -> None:
    source = (hls_dir() / "src" / "compute.cpp").read_text()
    name = re.findall(r"^\s*NM_PARTITION\(([\w.]+), ", source, re.MULTILINE)[-1]
    (found,) = not_applied("compute", confirmations("compute", leave_out=name))
    assert found.kind == "partition" and found.found.endswith(f"of array {name}")


# ------------------------------------------------------------------ the report

ACCESSES = """
<item name="All M_AXI Variable Accesses"><table>
<keys size="9">HW Interface, Variable, Access Location, Direction, Burst Status, Length, Loop, \
Loop Location, Resolution, Problem</keys>
<column name="m_axi_load_port">dram, words.h:105:30, read, Fail, , GATHER, load.cpp:88:9, 214-230, \
Stride is incompatible</column>
<column name="m_axi_load_port">dram, words.h:165:20, read, Inferred, variable, WORD_BEATS_IN, \
load.cpp:70:5, , </column>
</table></item>"""
STORAGE = """
<RTLDesignHierarchy><TopModule><ModuleName>compute</ModuleName><BindInstances>
<BindNode BINDTYPE="storage" BRAM="0" DISPLAY="bind_storage ram_s2p" ID="" IMPL="{impl}"
 LATENCY="1" LOOP="" OPTYPE="ram_s2p" PRAGMA="yes" RTLNAME="acc_U" SOURCE="compute.cpp:201"
 STORAGESIZE="1024 4096 1" STORAGESUBTYPE="memory" URAM="15" VARIABLE="{variable}"/>
<BindNode BINDTYPE="op" DSP="1" IMPL="dsp48" OPTYPE="mul" RTLNAME="mul_U" VARIABLE="acc"/>
</BindInstances></TopModule></RTLDesignHierarchy>"""


def with_report(folder: Path, kernel: str, more: str) -> Report:
    write_new(fake_of(kernel), folder)
    path = folder / "csynth.xml"
    path.write_text(path.read_text().replace("</profile>", f"{more}</profile>"))
    return read_report(folder, kernel)


def test_accesses_that_are_no_bursts(tmp_path: Path) -> None:
    found = with_report(tmp_path, "load", ACCESSES)
    assert found.accesses == (
        Access("dram", "read", "GATHER", "Fail", "Stride is incompatible"),
        Access("dram", "read", "WORD_BEATS_IN", "Inferred", ""),
    )
    (symptom,) = symptoms(BOARD, [found], "")
    assert symptom.kind == "burst"
    assert symptom.found == "read of dram in loop GATHER: Stride is incompatible"


@pytest.mark.parametrize("variable", ("acc", "state_acc", "state.acc", "acc_U"))
@pytest.mark.parametrize(
    ("board", "impl", "wrong"),
    (
        ("kv260", "uram", ""), ("kv260", "URAM", ""), ("kv260", "auto", ""),
        ("kv260", "bram", "array state.acc lies in bram, wanted is uram"),
        ("pynq-z2", "bram", ""),
        ("pynq-z2", "lutram", "array state.acc lies in lutram, wanted is bram"),
    ),
)  # fmt: skip
def test_memories_are_where_the_board_file_wants_them(
    tmp_path: Path, board: str, impl: str, wrong: str, variable: str
) -> None:
    asked = memories_asked_for(load_board(board), "compute")
    if "state.acc" not in asked:
        pytest.skip("the accumulators name no memory")
    found = with_report(tmp_path, "compute", STORAGE.format(impl=impl, variable=variable))
    assert found.memories == (Memory(variable, impl),)
    texts = [s.found for s in symptoms(load_board(board), [found], "") if s.kind == "storage"]
    assert texts == ([wrong] if wrong else [])


def test_reports_of_older_versions_show_none(tmp_path: Path) -> None:
    write_all(tmp_path, "2022.2")
    found = [read_report(tmp_path / k / "solution" / "syn" / "report", k) for k in KERNELS]
    assert symptoms(BOARD, found, GOOD) == []


# ------------------------------------------------------------------ in the build's report


def test_notes_of_the_comparison_say_what_to_do(tmp_path: Path) -> None:
    board = load_board("pynq-z2")
    write_all(tmp_path / "hls")
    (tmp_path / "hls.log").write_text(f"{GOOD}{LINES[0][0]}\n")
    text = report(board, tmp_path / "hls")
    assert "note: compute: II Violation in module" in text and "NM_NO_HAZARD" in text
    other = tmp_path / "other.log"
    other.write_text(GOOD)
    assert "note: " not in report(board, tmp_path / "hls", other)
    reports = [read_report(tmp_path / "hls" / k / "solution/syn/report", k) for k in KERNELS]
    assert compare(board, reports).notes == ()
    pragma = replace(reports[0], rejected_pragmas=("bind_storage x (load load.cpp:3)",))
    (note,) = compare(board, [pragma]).notes
    assert "a pragma was ignored: bind_storage x" in note and ADVICE["pragma"] in note
