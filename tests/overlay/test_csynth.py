# SPDX-License-Identifier: Apache-2.0
"""overlay/csynth.py on reports in the layouts of Vitis HLS 2022.2 and of 2023.1 and later.

In: reports made by the tests, in those layouts, with invented numbers.  Out: nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from neuralmatrix.errors import BuildFailed
from neuralmatrix.hardware.board import load_board
from neuralmatrix.hardware.instruction_costs import constants
from neuralmatrix.hardware.registers import KERNELS, registers
from neuralmatrix.hardware.resources import KINDS, resources
from neuralmatrix.paths import hls_dir

from overlay.csynth import JSON, compare, main, report, targets
from overlay.csynth_xml import Burst, Loop, Report, Span, read_report
from overlay.hls_data import report_folder

BOARD = load_board("pynq-z2")
LAYOUTS = ("2022.2", "2024.2")


@dataclass(frozen=True)
class FakeLoop:
    """A loop of a report, with texts as the tool writes them."""

    name: str
    ii: str = "1"
    depth: str = "3"
    trips: str = "16"
    latency: str = "18"
    inner: tuple[FakeLoop, ...] = ()
    issue: str = "-"
    reason: str = "-"


@dataclass(frozen=True)
class Fake:
    """A kernel's synthesis: loops of the top itself, and pipelined ones in modules of their own."""

    kernel: str
    own: tuple[FakeLoop, ...] = ()
    outlined: tuple[FakeLoop, ...] = ()
    period: str = "7.300"
    area: dict[str, int] = field(
        default_factory=lambda: {"BRAM_18K": 5, "DSP": 2, "FF": 1000, "LUT": 2000, "URAM": 0}
    )
    burst_loops: tuple[str, ...] = ()
    moved_register: int = 0  # bytes
    pragma: str = "valid"


def span(text: str) -> str:
    if "~" not in text:
        return text
    least, most = text.split(" ~ ")
    return f"<range><min>{least}</min><max>{most}</max></range>"


def loop_xml(loop: FakeLoop, named: bool) -> str:
    pipelined = f"<PipelineII>{loop.ii}</PipelineII><PipelineDepth>{loop.depth}</PipelineDepth>"
    return (
        f"<{loop.name}>{f'<Name>{loop.name}</Name>' if named else ''}<Slack>7.30</Slack>"
        f"<TripCount>{span(loop.trips)}</TripCount><Latency>{span(loop.latency)}</Latency>"
        f"<AbsoluteTimeLatency>180</AbsoluteTimeLatency>{pipelined if loop.ii else ''}"
        f"<InstanceList></InstanceList>{''.join(loop_xml(i, named) for i in loop.inner)}"
        f"</{loop.name}>"
    )


def performance(loops: tuple[FakeLoop, ...], period: str, named: bool) -> str:
    issues = "".join(
        f"<{loop.name}><Name>{loop.name}</Name><IssueType>{loop.issue}</IssueType>"
        f"<ViolationType>{loop.reason}</ViolationType></{loop.name}>"
        for loop in loops
    )
    found = f"<SummaryOfLoopLatency>{''.join(loop_xml(i, named) for i in loops)}"
    return (
        "<PerformanceEstimates><PipelineType>no</PipelineType><SummaryOfTimingAnalysis>"
        f"<unit>ns</unit><EstimatedClockPeriod>{period}</EstimatedClockPeriod>"
        "</SummaryOfTimingAnalysis><SummaryOfOverallLatency><unit>clock cycles</unit>"
        "<Best-caseLatency>12</Best-caseLatency><Average-caseLatency>undef</Average-caseLatency>"
        "<Worst-caseLatency>undef</Worst-caseLatency></SummaryOfOverallLatency>"
        f"{found + '</SummaryOfLoopLatency>' if loops else ''}"
        f"<SummaryOfViolations><SummaryOfLoopViolations>{issues}</SummaryOfLoopViolations>"
        "</SummaryOfViolations></PerformanceEstimates>"
    )


def head(version: str, top: str) -> str:
    return (
        f"<ReportVersion><Version>{version}</Version></ReportVersion><UserAssignments>"
        f"<unit>ns</unit><Part>xc7z020-clg400-1</Part><TopModelName>{top}</TopModelName>"
        "<TargetClockPeriod>10.00</TargetClockPeriod><ClockUncertainty>2.70</ClockUncertainty>"
        "</UserAssignments>"
    )


def area(fake: Fake) -> str:
    used = "".join(f"<{name}>{count}</{name}>" for name, count in fake.area.items())
    room = {"BRAM_18K": 280, "DSP": 220, "FF": 106400, "LUT": 53200, "URAM": 0}
    available = "".join(f"<{name}>{count}</{name}>" for name, count in room.items())
    return (
        f"<AreaEstimates><Resources>{used}</Resources>"
        f"<AvailableResources>{available}</AvailableResources></AreaEstimates>"
    )


def table(item: str, keys: str, rows: list[tuple[str, str]]) -> str:
    columns = "".join(f'<column name="{name}">{text}</column>' for name, text in rows)
    count = len(keys.split(","))
    return f'<item name="{item}"><table><keys size="{count}">{keys}</keys>{columns}</table></item>'


def tables(fake: Fake) -> str:
    slave = [
        ("s_axi_control", f"{r.name}, 0x{r.offset + fake.moved_register:02x}, 32, W, Data signal, ")
        for r in registers(fake.kernel)
    ]
    bursts = [("m_axi_port", f"read, variable, 64, {name}, x.cpp:7:1") for name in fake.burst_loops]
    return (
        '<ReportHWInterface><section name="HW Interfaces" level="0">'
        + table(
            "S_AXILITE Registers",
            "Interface, Register, Offset, Width, Access, Description, Bit Fields",
            slave,
        )
        + '</section></ReportHWInterface><ReportBurst><section name="Bursts" level="0">'
        + table(
            "Inferred Burst Summary",
            "HW Interface, Direction, Length, Width, Loop, Loop Location",
            bursts,
        )
        + '</section></ReportBurst><PragmaReport><Pragma type="pipeline" location="x.cpp:9" '
        f'status="{fake.pragma}" parentFunction="{fake.kernel}" options="II = 1"/></PragmaReport>'
    )


def write_old(fake: Fake, folder: Path) -> None:
    """Write the layout of 2022.2: a file per module, loops without their name inside."""
    folder.mkdir(parents=True, exist_ok=True)
    modules = {fake.kernel: fake.own}
    modules |= {f"{fake.kernel}_Pipeline_{loop.name}": (loop,) for loop in fake.outlined}
    for name, loops in modules.items():
        text = head("2022.2", name) + performance(loops, fake.period, False) + area(fake)
        (folder / f"{name}_csynth.xml").write_text(f"<profile>{text}</profile>")


def write_new(fake: Fake, folder: Path) -> None:
    """Write the layout of 2023.1 and later: one file, with tables of ports and pragmas."""
    folder.mkdir(parents=True, exist_ok=True)
    modules = {fake.kernel: fake.own}
    modules |= {f"{fake.kernel}_Pipeline_{loop.name}": (loop,) for loop in fake.outlined}
    parts = "".join(
        f"<Module><Name>{name}</Name><Loops/>{performance(loops, '6.0', True)}</Module>"
        for name, loops in modules.items()
    )
    text = head("2024.2", fake.kernel) + performance((), fake.period, True) + area(fake)
    text += f"<ModuleInformation>{parts}</ModuleInformation>{tables(fake)}"
    (folder / "csynth.xml").write_text(f"<profile>{text}</profile>")


WRITE = {"2022.2": write_old, "2024.2": write_new}


def fake_of(kernel: str, **changed: object) -> Fake:
    """Make a kernel that meets all its pragmas."""
    loops = tuple(FakeLoop(label, str(ii)) for label, ii in targets(kernel).items())
    bursts = tuple(
        loop.name for loop in loops if loop.name in ("WORD_BEATS_IN", "READ_BEATS", "WORD_BEATS")
    )
    return replace(Fake(kernel, (), loops, burst_loops=bursts), **changed)


def write_all(work: Path, layout: str = "2024.2", **changed: dict[str, object]) -> None:
    for kernel in KERNELS:
        fake = fake_of(kernel, **changed.get(kernel, {}))
        WRITE[layout](fake, report_folder(work, kernel))


def slow(kernel: str, label: str, **changed: str) -> tuple[FakeLoop, ...]:
    """Make the kernel's loops, one of them slower than required."""
    return tuple(
        replace(loop, **changed) if loop.name == label else loop
        for loop in fake_of(kernel).outlined
    )


# ------------------------------------------------------------------ reading


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_report_is_read(layout: str, tmp_path: Path) -> None:
    nested = FakeLoop("INSNS", "", "", "1 ~ 4096", "undef", (FakeLoop("BLOCKS", "", "", "?"),))
    steps = FakeLoop("STEPS", "2", "41", "16 ~ 65536", "57 ~ 65577", (), "II Violation", "Resource")
    fake = Fake("compute", (nested,), (steps,), period="8.125", burst_loops=("WORD_BEATS_IN",))
    WRITE[layout](fake, tmp_path)
    found = read_report(tmp_path, "compute")
    assert (found.kernel, found.version, found.part) == ("compute", layout, "xc7z020-clg400-1")
    assert (found.target_ns, found.uncertainty_ns, found.estimated_ns) == (10.0, 2.7, 8.125)
    assert found.latency == Span(12, None)
    assert found.used == {"lut": 2000, "ff": 1000, "dsp": 2, "bram36": 2.5, "uram": 0}
    assert found.available["bram36"] == 140
    assert found.loops == (
        Loop("INSNS", None, None, Span(1, 4096), Span(None, None), ""),
        Loop("BLOCKS", None, None, Span(None, None), Span(18, 18), ""),
        Loop("STEPS", 2, 41, Span(16, 65536), Span(57, 65577), "II Violation (Resource)"),
    )
    if layout == "2022.2":
        assert found.registers == {} and found.bursts is None
    else:
        assert found.registers["busy_1"] == 0x10
        assert found.bursts == (Burst("read", "WORD_BEATS_IN", "variable", "64"),)


def test_latency_with_a_tilde(tmp_path: Path) -> None:
    write_new(Fake("load", (FakeLoop("WORD_BEATS_IN"),)), tmp_path)
    path = tmp_path / "csynth.xml"
    path.write_text(path.read_text().replace("<Latency>18<", "<Latency>30 ~ 541<"))
    assert read_report(tmp_path, "load").loops[0].latency == Span(30, 541)


BROKEN = {
    "empty": ("", "not readable as XML"),
    "cut": ("<profile><ReportVersion>", "not readable as XML"),
    "another tool": ("<profile><x/></profile>", "has no UserAssignments/TopModelName"),
    "another kernel": (
        "<profile><UserAssignments><TopModelName>store</TopModelName></UserAssignments></profile>",
        "is a report of store, wanted is load",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_report_is_named(name: str, tmp_path: Path) -> None:
    text, message = BROKEN[name]
    (tmp_path / "csynth.xml").write_text(text)
    with pytest.raises(BuildFailed, match=message):
        read_report(tmp_path, "load")


@pytest.mark.parametrize("value", ("nan", "inf", "N/A", ""))
@pytest.mark.parametrize("tag", ("EstimatedClockPeriod", "TargetClockPeriod", "LUT"))
def test_numbers_that_are_none(tmp_path: Path, tag: str, value: str) -> None:
    """A period that is not a number must not pass the gate."""
    write_new(Fake("load", (FakeLoop("WORD_BEATS_IN"),)), tmp_path)
    path = tmp_path / "csynth.xml"
    text, changed = re.subn(f"<{tag}>[^<]*</{tag}>", f"<{tag}>{value}</{tag}>", path.read_text())
    assert changed
    path.write_text(text)
    with pytest.raises(BuildFailed, match=r"csynth\.xml: damaged, or not of the layout"):
        read_report(tmp_path, "load")


def test_no_report(tmp_path: Path) -> None:
    with pytest.raises(
        BuildFailed, match=r"neither csynth\.xml nor load_csynth\.xml in .*hls\.log"
    ):
        read_report(tmp_path, "load")


# ------------------------------------------------------------------ required intervals


def test_every_pipelined_loop_has_a_target() -> None:
    """Every way of writing a loop is found."""
    labels = {label for kernel in KERNELS for label in targets(kernel)}
    sources = [*(hls_dir() / "src").glob("*.cpp"), *(hls_dir() / "include" / "nm").glob("*.h")]
    asked = sum(path.read_text().count("NM_PIPELINE(") for path in sources if path.name != "hls.h")
    assert len(labels) == asked >= 10
    assert targets("compute")["STEPS"] == 1
    assert targets("load")["WORD_BEATS_IN"] == targets("store")["WORD_BEATS"] == 1


# ------------------------------------------------------------------ gates


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_good_synthesis_passes(layout: str, tmp_path: Path) -> None:
    write_all(tmp_path, layout)
    text = report(BOARD, tmp_path)
    assert f"Vitis HLS {layout}" in text and "estimate" in text
    for kernel in KERNELS:
        assert kernel in text
    assert "note: " not in text


FAILURES = {
    "period": (
        {"store": {"period": "10.4"}},
        "store: clock period: found 10.4 ns estimated, allowed is 10 ns; build at the fallback",
    ),
    "interval": (
        {"compute": {"outlined": slow("compute", "STEPS", ii="3", issue="II", reason="Memory")}},
        r"compute: loop STEPS: found an initiation interval of 3 \(II \(Memory\)\), wanted is 1;",
    ),
    "interval above 1": (
        {"load": {"outlined": slow("load", "WORD_BEATS_IN", ii="3")}},
        "load: loop WORD_BEATS_IN: found an initiation interval of 3, wanted is 1;",
    ),
    "no pipeline": (
        {"compute": {"outlined": slow("compute", "STEPS", ii="", depth="")}},
        "compute: loop STEPS: found no pipeline, wanted is one iteration every 1 cycles;",
    ),
    "loops that are not to be found": (
        {"store": {"outlined": ()}},
        "store: found none of its pipelined loops in the report, wanted are .*WORD_BEATS",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", FAILURES)
def test_a_missed_gate_stops_with_its_reason(name: str, layout: str, tmp_path: Path) -> None:
    changed, message = FAILURES[name]
    write_all(tmp_path, layout, **changed)
    with pytest.raises(BuildFailed, match=message) as error:
        report(BOARD, tmp_path)
    assert len(str(error.value).split(f"{BOARD.name}:\n")[1].splitlines()) == 1
    assert (tmp_path / JSON).is_file()


def test_all_failures_are_told_at_once(tmp_path: Path) -> None:
    write_all(
        tmp_path, fetch={"period": "11"}, store={"outlined": slow("store", "WORD_BEATS", ii="9")}
    )
    with pytest.raises(BuildFailed) as error:
        report(BOARD, tmp_path)
    assert "fetch: clock period" in str(error.value) and "store: loop WORD_BEATS" in str(
        error.value
    )


def test_a_loop_flattened_into_another_is_still_held(tmp_path: Path) -> None:
    loops = tuple(
        replace(loop, name="RUNS_WORD_BEATS", ii="4") for loop in slow("store", "WORD_BEATS")
    )
    write_all(tmp_path, store={"outlined": loops})
    with pytest.raises(
        BuildFailed, match="loop RUNS_WORD_BEATS: found an initiation interval of 4"
    ):
        report(BOARD, tmp_path)


# ------------------------------------------------------------------ differences


def reports(work: Path) -> list[Report]:
    return [read_report(report_folder(work, kernel), kernel) for kernel in KERNELS]


def test_resources_and_cycles_beside_ours(tmp_path: Path) -> None:
    deep = slow("compute", "STEPS", depth="52")
    write_all(tmp_path, compute={"outlined": deep})
    found = compare(BOARD, reports(tmp_path))
    rows = {(row.kernel, row.what): row for row in found.rows}
    for kind in KINDS:
        ours = sum(getattr(piece, kind) for piece in resources(BOARD).pieces if piece.kernel)
        assert rows["all", kind].estimate == ours
    assert rows["all", "lut"].csynth == 4 * 2000
    assert rows["all", "lut"].ratio == pytest.approx(8000 / rows["all", "lut"].estimate)
    assert rows["all", "uram"].ratio is None
    depth = rows["compute", "STEPS: depth"]
    assert (depth.estimate, depth.csynth) == (constants()["COMPUTE_DEPTH"], 52)
    gather = rows["load", "GATHER: an iteration"]
    assert (gather.estimate, gather.csynth) == (constants()["GATHER_CYCLES"], 1)


NOTES = {
    "margin": ({"load": {"period": "8.9"}}, "load: 8.9 ns leave less than the tool's margin"),
    "absent": (
        {"load": {"outlined": slow("load", "GATHER", name="OTHERS")}},
        "load: loop GATHER is not in the report",
    ),
    "register": ({"store": {"moved_register": 4}}, "dram_1 lies at 0x14, registers.py says 0x10"),
    "burst": ({"load": {"burst_loops": ()}}, "load: no burst in loop WORD_BEATS_IN"),
    "pragma": ({"fetch": {"pragma": "ignored"}}, "fetch: a pragma was ignored: pipeline II"),
    "size": (
        {"compute": {"area": {"BRAM_18K": 2, "DSP": 400, "FF": 1, "LUT": 1, "URAM": 0}}},
        "all: 406 dsp estimated by the tool, the part has 220",
    ),
}


@pytest.mark.parametrize("name", NOTES)
def test_what_is_worth_a_look(name: str, tmp_path: Path) -> None:
    changed, message = NOTES[name]
    write_all(tmp_path, **changed)
    found = compare(BOARD, reports(tmp_path))
    assert not found.failures
    assert any(message in note for note in found.notes), found.notes
    assert f"note: {found.notes[0]}" in report(BOARD, tmp_path)


def test_json(tmp_path: Path) -> None:
    write_all(tmp_path, store={"burst_loops": ()})
    report(BOARD, tmp_path)
    data = json.loads((tmp_path / JSON).read_text())
    assert data["origin"] == "estimated by Vitis HLS"
    assert [each["kernel"] for each in data["reports"]] == list(KERNELS)
    assert data["comparison"]["board"] == "pynq-z2"
    assert data["comparison"]["failures"] == []
    assert {"kernel", "what", "unit", "estimate", "csynth", "ratio"} == set(
        data["comparison"]["rows"][0]
    )
    assert "no burst" in data["comparison"]["notes"][0]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_all(tmp_path)
    assert main(["pynq-z2", str(tmp_path)]) == 0
    assert "our estimate and synthesis" in capsys.readouterr().out
    assert main(["pynq-z2", str(tmp_path / "nowhere")]) == 1
    assert "no report of kernel fetch" in capsys.readouterr().err
    assert main([]) == 2
