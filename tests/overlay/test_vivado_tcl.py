# SPDX-License-Identifier: Apache-2.0
"""Vivado's scripts, run against the recording stubs for every board.

The recording must equal the Design, and a wrong name, option or timing must stop the script.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from pathlib import Path

import pytest
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.block_design_types import Design
from neuralmatrix.hardware.board import board_names, load_board
from tcl_runner import ROOT, Recording, needs_tclsh, run_script

from overlay.tcl_data import tcl_data, word

pytestmark = needs_tclsh

BOARDS = board_names()
SCRIPTS = ROOT / "overlay"


def data_of(name: str) -> str:
    board = load_board(name)
    return tcl_data(design_of(board), board)


def run_vivado(
    folder: Path,
    name: str = "pynq-z2",
    data: str | None = None,
    scripts: Path = SCRIPTS,
    **found: str,
) -> Recording:
    """Run vivado.tcl for a board, with ``data`` instead of its data file."""
    (folder / "data.tcl").write_text(data if data is not None else data_of(name))
    found = {"pll_mhz": str(load_board(name).pll_mhz), **found}
    arguments = [str(folder / "data.tcl"), str(folder / "ips"), str(folder / "out"), "2"]
    return run_script("vivado", scripts / "vivado.tcl", arguments, folder, **found)


@pytest.fixture(scope="module", params=BOARDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Return a board's design, its recording and the folder of the run."""
    folder = tmp_path_factory.mktemp(request.param)
    recording = run_vivado(folder, request.param)
    assert recording.code == 0, recording.errors
    return design_of(load_board(request.param)), recording, folder


Run = tuple[Design, Recording, Path]


def plain(item: str) -> str:
    """Return the name of a stub's object."""
    return item.partition("=")[2]


# ------------------------------------------------------------------------------ the design


def test_cells_are_the_designs(run: Run) -> None:
    design, recording, _ = run
    made = {c.arguments[0]: c.options["-vlnv"] for c in recording.of("create_bd_cell")}
    assert made == {cell.name: cell.vlnv for cell in design.cells}


def test_parameters_are_the_designs(run: Run) -> None:
    design, recording, _ = run
    set_: dict[str, dict[str, str]] = defaultdict(dict)
    for call in recording.of("set_property"):
        thing, name, value = call.arguments
        if thing.startswith("cell="):
            set_[plain(thing)][name] = value
    expected = {c.name: {f"CONFIG.{p.name}": p.value for p in c.config} for c in design.cells}
    assert set_ == {name: config for name, config in expected.items() if config}


def test_buses_and_wires_are_the_designs(run: Run) -> None:
    design, recording, _ = run
    buses = [tuple(map(plain, c.arguments)) for c in recording.of("connect_bd_intf_net")]
    assert buses == [(net.master, net.slave) for net in design.interfaces]
    wires = [tuple(map(plain, c.arguments)) for c in recording.of("connect_bd_net")]
    assert wires == [(net.source, *net.sinks) for net in design.nets]


def test_addresses_are_the_designs(run: Run) -> None:
    design, recording, _ = run
    registers, dram = {}, defaultdict(list)
    for call in recording.of("assign_bd_address"):
        space, segment = plain(call.options["-target_address_space"]), plain(call.arguments[0])
        if "-offset" in call.options:
            assert space == design.space
            offset, size = call.options["-offset"], call.options["-range"]
            registers[segment] = (int(offset, 16), int(size, 16))
        else:
            dram[space].append(segment)
    assert registers == {s.segment: (s.offset, s.range_bytes) for s in design.segments}
    assert dram == {w.space: list(w.segments) for w in design.dram}
    shut = [
        (plain(c.options["-target_address_space"]), plain(c.arguments[0]))
        for c in recording.of("exclude_bd_addr_seg")
    ]
    assert shut == [(w.space, name) for w in design.dram for name in w.excluded]


def test_preset_then_parameters_then_validation(run: Run) -> None:
    design, recording, _ = run
    (preset,) = recording.of("apply_bd_automation")
    assert preset.options["-rule"] == design.family.ps.rule
    assert "apply_board_preset 1" in preset.options["-config"]
    order = [call.command for call in recording.calls]
    assert order.index("apply_bd_automation") < order.index("connect_bd_net")
    assert order.index("validate_bd_design") < order.index("save_bd_design")
    assert order.index("save_bd_design") < order.index("launch_runs")


def test_project_is_the_boards(run: Run) -> None:
    design, recording, folder = run
    (project,) = recording.of("create_project")
    assert project.options["-part"] == design.part
    properties = {c.arguments[1]: c.arguments[2] for c in recording.of("set_property")}
    assert properties["board_part"] == design.board_part
    assert properties["ip_repo_paths"] == str(folder / "ips")
    assert properties["top"] == "neuralmatrix_wrapper"
    assert properties["strategy"] == "Performance_ExplorePostRoutePhysOpt"


def test_results_are_written(run: Run) -> None:
    _, recording, folder = run
    out = folder / "out"
    names = {"neuralmatrix.bit", "neuralmatrix.hwh", "timing.rpt", "utilization.rpt", "power.rpt"}
    assert all((out / name).read_text() for name in names)
    assert (out / "results.txt").read_text() == "worst_slack_ns 0.03\nvivado 2024.1\n"
    order = [call.command for call in recording.calls]
    assert order.index("report_timing_summary") < order.index("write_bitstream")


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("found", "text"),
    (
        ({"setup_slack": "-0.213"}, "worst slack is -0.213 ns for setup and 0.03 ns for hold"),
        ({"hold_slack": "-0.01"}, "worst slack is 0.25 ns for setup and -0.01 ns for hold"),
        ({"setup_slack": ""}, "no setup path is constrained"),
        ({"timing_met": "0"}, "lacks the sentence that all constraints are met"),
        ({"failing_run": "synth_1"}, "synth_1 stopped: synth_design ERROR; see"),
        ({"failing_run": "impl_1"}, "impl_1 stopped"),
        ({"board_parts": "xilinx.com:zcu104:part0:1.1"}, "board files of tul.com.tw:pynq-z2:part0:"
         "1.0 are not installed: get them from the PYNQ-Z2 page of TUL (pynq-z2.zip); set "
         "NEURALMATRIX_BOARD_REPO"),
        ({"missing_ips": "xilinx.com:ip:blk_mem_gen"}, "IP xilinx.com:ip:blk_mem_gen is not in"),
        ({"missing_ips": "neuralmatrix:hls:load"}, "neuralmatrix with the HLS step"),
        ({"pll_mhz": "1100"}, "preset's PLL runs at 1100.000 MHz, the board file says 1000"),
        ({"pll_mhz": "1030"}, "the PS makes 103.000000 MHz of the 100 MHz of the board file"),
        ({"failing_command": "validate_bd_design"}, "validate_bd_design: failed"),
    ),
)  # fmt: skip
def test_what_stops_the_build(tmp_path: Path, found: dict[str, str], text: str) -> None:
    recording = run_vivado(tmp_path, **found)
    assert recording.code == 1 and text in recording.message
    assert not (tmp_path / "out" / "neuralmatrix.bit").exists()


@pytest.mark.parametrize(
    "found", ({"setup_slack": "-0.213"}, {"hold_slack": "-0.01"}, {"timing_met": "0"})
)
def test_missed_timing_leaves_its_reports(tmp_path: Path, found: dict[str, str]) -> None:
    recording = run_vivado(tmp_path, **found)
    out = tmp_path / "out"
    assert (out / "missed.txt").read_text().startswith("timing is not met at 100 MHz: ")
    assert all((out / name).read_text() for name in ("timing.rpt", "utilization.rpt", "power.rpt"))
    assert recording.code == 1 and not (out / "results.txt").exists()


def test_other_failures_are_no_missed_timing(tmp_path: Path) -> None:
    assert run_vivado(tmp_path, failing_run="impl_1").code == 1
    assert not (tmp_path / "out" / "missed.txt").exists()


@pytest.mark.parametrize("name", BOARDS)
def test_every_board_builds_at_its_fallback_clock(tmp_path: Path, name: str) -> None:
    board = load_board(name).fallback
    data = tcl_data(design_of(board), board)
    recording = run_vivado(tmp_path, name, data)
    assert recording.code == 0, recording.errors


@pytest.mark.slow
@pytest.mark.parametrize(
    ("board", "old", "new", "text"),
    (
        ("pynq-z2", "PCW_USE_S_AXI_HP0 1", "PCW_USE_S_AXI_HP7 1", "no parameter PCW_USE_S_AXI_HP7"),
        ("pynq-z2", "PCW_USE_S_AXI_HP0 1", "PCW_USE_S_AXI_HP0 0", "has no pin S_AXI_HP0"),
        ("pynq-z2", "{IO PLL}", "IOPLL", "CLKSRC cannot be \"IOPLL\""),
        ("pynq-z2", "Write_Width_B 128", "Write_Width_B 64", "ram_ibuf: its widths differ"),
        ("pynq-z2", "32bit_Address true", "32bit_Address false", "need Enable_32bit_Address true"),
        ("pynq-z2", "TDATA_NUM_BYTES 64", "TDATA_NUM_BYTES 32", "to_load is 64 bytes wide"),
        ("pynq-z2", "Output_Width 64", "Output_Width 32", "cycles_0/Q is 32 bits wide"),
        ("pynq-z2", "peripheral_aresetn", "peripheral_reset", "resets with the other level"),
        ("kv260", "READ_LATENCY_B 1", "READ_LATENCY_B 2", "take data after one cycle"),
        ("pynq-z2", "DATA_WIDTH 64", "DATA_WIDTH 128", "cannot be \"128\"; allowed are 32 64"),
        ("pynq-z2", "FIFO_DEPTH 64", "FIFO_DEPTH 8", "FIFO_DEPTH cannot be \"8\""),
        ("pynq-z2", "TDATA_NUM_BYTES", "TDATA_WIDTH", "has no parameter TDATA_WIDTH"),
        ("pynq-z2", "NUM_MI 5", "NUM_MI 4", "control_0 has no pin M04_AXI"),
        ("pynq-z2", "NUM_PORTS 4", "NUM_PORTS 5", "not connected: xlconcat_0/In4"),
        ("pynq-z2", "C_IRQ_CONNECTION 1", "C_IRQ_CONNECTION 0", "axi_intc_0 has no pin irq"),
        ("pynq-z2", "load_0/queue}", "load_0/fifo}", "load_0 has no pin fifo"),
        ("pynq-z2", "ram_ibuf/BRAM_PORTB", "ram_wbuf/BRAM_PORTB", "BRAM_PORTB is connected twice"),
        ("pynq-z2", "fetch_0/to_load queue_load/S", "fetch_0/to_load queue_load/M", "both Master"),
        ("pynq-z2", "queue_load/M_AXIS load_0/queue", "queue_load/M_AXIS load_0/ibuf_PORTA",
         "is axis, load_0/ibuf_PORTA is bram"),
        ("pynq-z2", " fetch_0/ap_rst_n", "", "not connected: fetch_0/ap_rst_n"),
        ("pynq-z2", " fetch_0/now", "", "not connected: fetch_0/now"),
        ("pynq-z2", "0x40010000", "0x40008000", "is no multiple of its range"),
        ("pynq-z2", "0x40010000", "0x40000000", "overlaps fetch_0/s_axi_control/Reg"),
        ("pynq-z2", "HP0_DDR_LOWOCM", "HP0_DDR_LOW", "HP0_DDR_LOW is not offered by the PS"),
        ("pynq-z2", "axi_intc:4.1", "axi_intr:4.1", "IP xilinx.com:ip:axi_intr is not in the"),
        ("pynq-z2", "hls:load:1.0", "hls:load:2.0", "found neuralmatrix:hls:load:1.0: delete"),
        ("pynq-z2", "{FIXED_IO, DDR}", "FIXED_IO", "DDR of processing_system7_0 is left unconn"),
        ("pynq-z2", "PCW_EN_CLK0_PORT 1", "PCW_EN_CLK0_PORT 0", "has no pin FCLK_CLK0"),
        ("pynq-z2", "PCW_EN_RST0_PORT 1", "PCW_EN_RST0_PORT 0", "has no pin FCLK_RESET0_N"),
        ("pynq-z2", "CLKSRC {IO PLL}", "CLKSRC {DDR PLL}", "the PS makes 96.969727 MHz of the 100"),
        ("zcu104", "PSU__FPGA_PL0_ENABLE 1", "PSU__FPGA_PL0_ENABLE 0", "has no pin pl_clk0"),
        ("zcu104", "SRCSEL IOPLL", "SRCSEL RPLL", "the PS makes 177.777833 MHz of the 187.5"),
        ("zcu104", "MAXIGP0__DATA_WIDTH 32", "MAXIGP0__DATA_WIDTH 17", "cannot be \"17\""),
        ("zcu104", "SAXIGP2/HP0_DDR_LOW}", "SAXIGP3/HP1_DDR_LOW}",
         "HP1_DDR_LOW is not reached from load_0/Data_m_axi_load_port"),
        ("zcu104", "zynq_ultra_ps_e_0/SAXIGP2/HP0_QSPI ", "",
         "HP0_QSPI is neither mapped nor excluded in load_0/Data_m_axi_load_port"),
        ("zcu104", "zynq_ultra_ps_e_0/SAXIGP2/HP0_LPS_OCM ",
         "zynq_ultra_ps_e_0/SAXIGP2/HP0_LPS_OCM zynq_ultra_ps_e_0/SAXIGP2/HP0_DDR_LOW ",
         "HP0_DDR_LOW is both mapped and excluded"),
        ("zcu104", "PSU__USE__M_AXI_GP1 0", "PSU__USE__M_AXI_GP1 1", "M_AXI_HPM1_FPD"),
        ("zcu104", "PSU__USE__IRQ0 1", "PSU__USE__IRQ0 0", "has no pin pl_ps_irq0"),
        ("kv260", "clock {\n        mhz 200", "clock {\n        mhz 180", "the PS makes 200"),
    ),
)  # fmt: skip
def test_a_wrong_design_is_refused(
    tmp_path: Path, board: str, old: str, new: str, text: str
) -> None:
    data = data_of(board)
    assert old in data
    recording = run_vivado(tmp_path, board, data.replace(old, new, 1))
    assert recording.code == 1 and text in recording.message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "old", "new", "text"),
    (
        ("design.tcl", "create_bd_cell -type", "create_bd_cell -kind", "unknown option -kind"),
        ("design.tcl", "validate_bd_design", "check_bd_design", "check_bd_design is no command"),
        ("design.tcl", "-offset $offset -range $range", "-offset $offset -size $range", "-size"),
        ("design.tcl", "    validate_bd_design\n", "", "the design was not validated"),
        ("vivado.tcl", "launch_runs $run -jobs", "launch_runs $run -threads", "-threads"),
        ("vivado.tcl", "generate_target all", "generate_target everything", "unknown target"),
        ("vivado.tcl", "ip_repo_paths", "ip_repo_path", "unknown property of a project"),
        ("vivado.tcl", "get_runs $name", "get_runs impl_2", "unknown run impl_2"),
        ("vivado.tcl", "report_utilization -file", "report_utilization", "takes 0 to 0 words"),
        ("vivado.tcl", "    update_ip_catalog\n", "", "hls:fetch is not in the catalogue"),
        ("vivado.tcl", "add_files -norecurse [make_wrapper -top $file]", "make_wrapper -top $file",
         "top neuralmatrix_wrapper is in none of the files added"),
        ("vivado.tcl", "    set_property top ${name}_wrapper [get_filesets sources_1]\n", "",
         "the design has no top"),
        ("vivado.tcl", "    finish_run synth_1 $jobs\n    finish_run impl_1 $jobs\n",
         "    finish_run impl_1 $jobs\n    finish_run synth_1 $jobs\n", "synth_1 needs to be"),
        ("vivado.tcl", "    wait_on_run $run\n", "", "synth_1 stopped"),
        ("vivado.tcl", "    open_run impl_1\n", "", "no implemented design is open"),
        ("vivado.tcl", "open_run impl_1", "open_run synth_1", "no implemented design is open"),
    ),
)  # fmt: skip
def test_a_wrong_script_is_refused(
    tmp_path: Path, script: str, old: str, new: str, text: str
) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("design.tcl", "vivado.tcl"):
        shutil.copy(SCRIPTS / name, scripts)
    source = (scripts / script).read_text()
    assert old in source
    (scripts / script).write_text(source.replace(old, new))
    recording = run_vivado(tmp_path, scripts=scripts)
    assert recording.code == 1 and text in recording.message


def test_automation_after_parameters_is_refused(tmp_path: Path) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for name in ("design.tcl", "vivado.tcl"):
        shutil.copy(SCRIPTS / name, scripts)
    path = scripts / "design.tcl"
    lines = path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if "apply_bd_automation" in line)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    path.write_text("\n".join(lines))
    recording = run_vivado(tmp_path, scripts=scripts)
    assert recording.code == 1 and "would undo them" in recording.message


def test_other_versions_of_ips_and_boards_are_taken(tmp_path: Path) -> None:
    data = data_of("kv260")
    data = data.replace("zynq_ultra_ps_e:3.5", "zynq_ultra_ps_e:3.4")
    data = data.replace("blk_mem_gen:8.4", "blk_mem_gen:8.2")
    parts = "xilinx.com:kv260_som:part0:1.2 xilinx.com:kv260_som:part0:1.3"
    recording = run_vivado(tmp_path, "kv260", data, board_parts=parts)
    assert recording.code == 0, recording.errors
    made = {c.options["-vlnv"] for c in recording.of("create_bd_cell")}
    assert {"xilinx.com:ip:zynq_ultra_ps_e:3.5", "xilinx.com:ip:blk_mem_gen:8.4"} <= made
    properties = {c.arguments[1]: c.arguments[2] for c in recording.of("set_property")}
    assert properties["board_part"] == "xilinx.com:kv260_som:part0:1.3"


def test_folders_with_board_files_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEURALMATRIX_BOARD_REPO", "/one:/two boards")
    (call,) = run_vivado(tmp_path).of("set_param")
    assert call.arguments == ["board.repoPaths", "/one {/two boards}"]


def test_arguments_are_counted(tmp_path: Path) -> None:
    recording = run_script("vivado", SCRIPTS / "vivado.tcl", ["only one"], tmp_path)
    assert recording.code == 2 and "usage: vivado" in recording.errors


@pytest.mark.parametrize("script", ("design.tcl", "vivado.tcl", "hls.tcl"))
def test_scripts_keep_to_the_tcl_of_older_tools(script: str) -> None:
    # Tools before 2023 run Tcl 8.5.
    newer = r"\b(lmap|try|tailcall|coroutine|zlib|dict\s+filter|dict\s+map)\b"
    lines = (SCRIPTS / script).read_text().splitlines()
    assert [line for line in lines if re.match(rf"[^#]*[\[\s]{newer}\s", f" {line}")] == []


def test_words_of_tcl() -> None:
    assert [word(text) for text in ("a", "", "IO PLL", 5)] == ["a", "{}", "{IO PLL}", "5"]
    with pytest.raises(BadInput, match="allowed are values without braces"):
        word("a}b")
