# SPDX-License-Identifier: Apache-2.0
"""The block design, compared with board files, the registers' table and the kernels' signatures."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from neuralmatrix.errors import BadInput
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.block_design_cells import memories
from neuralmatrix.hardware.block_design_types import Design
from neuralmatrix.hardware.board import board_from_file, board_names, family_of, load_board
from neuralmatrix.hardware.processing_system import load_family
from neuralmatrix.hardware.registers import ADDRESS_RANGE, KERNELS, vlnv
from neuralmatrix.paths import boards_dir, hls_dir

BOARDS = board_names()
FAMILIES = ("zynq7000", "zynqmp")


@pytest.fixture(params=BOARDS)
def design(request: pytest.FixtureRequest) -> Design:
    return design_of(load_board(request.param))


def signature(kernel: str) -> dict[str, str]:
    """Return the arguments of a kernel's C++ function: name -> type."""
    text = (hls_dir() / "src" / f"{kernel}.cpp").read_text()
    found = re.search(rf'extern "C" void\s+{kernel}\((.*?)\) {{', text, re.DOTALL)
    assert found is not None
    arguments = (a.strip() for a in found.group(1).split(","))
    parts = (re.fullmatch(r"(.+?[\s&*])(\w+)((?:\[[^]]*\])*)", a) for a in arguments)
    return {p.group(2): p.group(1).strip() + p.group(3) for p in parts if p is not None}


def pins(design: Design) -> Counter[str]:
    """Count how often a bus or a wire names each pin of a kernel."""
    named = [pin for net in design.interfaces for pin in (net.master, net.slave)]
    named += [pin for net in design.nets for pin in net.sinks]
    named += [net.source for net in design.nets]
    return Counter(named)


def test_kernels_are_the_registers_tables(design: Design) -> None:
    kernels = {c.name: c.vlnv for c in design.cells if c.vlnv.startswith("neuralmatrix:")}
    assert kernels == {f"{name}_0": vlnv(name) for name in KERNELS}


def test_names_are_unique_and_versions_have_two_parts(design: Design) -> None:
    names = [cell.name for cell in design.cells]
    assert len(set(names)) == len(names)
    # pynq's metadata parser accepts versions N.N alone.
    assert all(re.fullmatch(r"[\w.]+:\w+:\w+:\d+\.\d+", cell.vlnv) for cell in design.cells)
    assert design.ps.name == design.family.ps.cell


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_argument_of_a_kernel_is_connected_once(kernel: str) -> None:
    named = pins(design_of(load_board("pynq-z2")))
    cell = f"{kernel}_0"
    expected = {f"{cell}/{pin}" for pin in ("s_axi_control", "ap_clk", "ap_rst_n", "interrupt")}
    scalars = {argument.name for argument in KERNELS[kernel]}
    for name, kind in signature(kernel).items():
        if kind.endswith("]"):
            expected.add(f"{cell}/{name}_PORTA")
        elif "Queue" in kind or name == "now":
            expected.add(f"{cell}/{name}")
        else:
            assert name in scalars, f"{name} is neither a stream, a memory nor a register"
        if "Beat" in kind:
            expected.add(f"{cell}/m_axi_{kernel}_port")
    assert {pin for pin in named if pin.startswith(f"{cell}/")} == expected
    assert all(named[pin] == 1 for pin in expected)


def test_no_pin_is_driven_twice(design: Design) -> None:
    assert {pin: count for pin, count in pins(design).items() if count > 1} == {}
    cells = {cell.name for cell in design.cells}
    assert all(pin.partition("/")[0] in cells for pin in pins(design))


def test_registers_lie_as_the_driver_expects(design: Design) -> None:
    base = {"zynq7000": 0x4000_0000, "zynqmp": 0xA000_0000}[design.family.name]
    cells = ["fetch_0", "load_0", "compute_0", "store_0", "axi_intc_0"]
    expected = {cell: base + i * ADDRESS_RANGE for i, cell in enumerate(cells)}
    assert {s.cell: s.offset for s in design.segments} == expected
    assert all(s.range_bytes == ADDRESS_RANGE for s in design.segments)
    end = max(s.offset + s.range_bytes for s in design.segments)
    assert end <= design.family.control.end_address


def test_interrupts_reach_the_processor_in_order(design: Design) -> None:
    wires = {net.source: net.sinks for net in design.nets}
    assert design.interrupts == ("fetch_0", "load_0", "compute_0", "store_0")
    for i, cell in enumerate(design.interrupts):
        assert wires[f"{cell}/interrupt"] == (f"xlconcat_0/In{i}",)
    assert wires["xlconcat_0/dout"] == ("axi_intc_0/intr",)
    assert wires["axi_intc_0/irq"] == (f"{design.ps.name}/{design.family.interrupt_pin}",)
    assert design.cell("xlconcat_0").value("NUM_PORTS") == "4"
    # The controller's plain pin exists only with the single, not the bus, connection.
    assert design.cell("axi_intc_0").value("C_IRQ_CONNECTION") == "1"


def test_one_clock_drives_everything(design: Design) -> None:
    clocks = [net for net in design.nets if net.source == design.clock.pin]
    assert len(clocks) == 1
    clocked = {pin.partition("/")[0] for pin in clocks[0].sinks}
    # Memories are clocked through their buses, the concatenation has no clock.
    unclocked = {c.name for c in design.cells if c.ip.endswith((":blk_mem_gen", ":xlconcat"))}
    assert clocked == {cell.name for cell in design.cells} - unclocked


def test_ports_are_the_board_files(design: Design) -> None:
    board, family = load_board(design.board), design.family
    slaves = {net.master: net.slave for net in design.interfaces}
    for unit, port in vars(board.ports).items():
        bridge = slaves[f"{unit}_0/m_axi_{unit}_port"].partition("/")[0]
        assert slaves[f"{bridge}/M00_AXI"] == f"{design.ps.name}/{port.name}"
        names = family.memory_port(port.name)
        assert names is not None
        assert design.ps.value(names.enable) == "1"
        assert design.ps.value(names.width) == str(8 * port.bytes_per_cycle)
    used = {port.name for port in vars(board.ports).values()}
    off = [port for port in family.memory_ports if port.name not in used]
    assert off and all(design.ps.value(port.enable) == "0" for port in off)


def test_memories_are_the_arrays(design: Design) -> None:
    board = load_board(design.board)
    array = board.array
    words = {"ibuf": array.ibuf_words, "wbuf": array.wbuf_words, "pbuf": 8 * array.pbuf_rows}
    words |= {"t_lo": array.tbuf_rows, "u_hi": array.ubuf_rows, "o_lo": array.obuf_rows}
    for memory in memories(board):
        cell = design.cell(memory.cell)
        assert cell.value("Write_Width_A") == cell.value("Read_Width_B") == str(8 * array.cols)
        assert cell.value("Write_Depth_A") == str(words.get(memory.argument, memory.words))
        uram = memory.buffer in board.uram_buffers
        assert cell.value("PRIM_type_to_Implement") == ("URAM" if uram else None)
        assert cell.value("Operating_Mode_A") == ("NO_CHANGE" if uram else None)
        # A word is available in the cycle after its address, as the kernels' ports expect.
        for side in "AB":
            outputs = cell.value(f"Register_Port{side}_Output_of_Memory_Primitives")
            assert outputs == "false" and cell.value(f"READ_LATENCY_{side}") in (None, "1")
    assert len(memories(board)) == 9


def test_queues_are_as_deep_as_the_array_says(design: Design) -> None:
    array = load_board(design.board).array
    fifos = [cell for cell in design.cells if cell.ip.endswith(":axis_data_fifo")]
    depths = {"64": array.queue_depth, "1": array.token_depth}
    assert Counter(cell.value("TDATA_NUM_BYTES") for cell in fifos) == {"64": 3, "1": 6}
    for cell in fifos:
        width, depth = cell.value("TDATA_NUM_BYTES"), cell.value("FIFO_DEPTH")
        assert width is not None and depth is not None
        assert int(depth) >= depths[width] and int(depth).bit_count() == 1


@pytest.mark.parametrize(("asked", "depth"), ((1, 16), (16, 16), (17, 32), (100, 128)))
def test_queue_depths_are_rounded_to_what_the_ip_offers(asked: int, depth: int) -> None:
    board = load_board("pynq-z2")
    board = replace(board, array=replace(board.array, queue_depth=asked))
    assert design_of(board).cell("queue_load").value("FIFO_DEPTH") == str(depth)


def test_dram_windows_cover_the_boards_memory(design: Design) -> None:
    board, family = load_board(design.board), design.family
    assert {w.space for w in design.dram} == {
        f"{unit}_0/Data_m_axi_{unit}_port" for unit in ("load", "store", "fetch")
    }
    high = board.dram.mbytes > family.dram_low_mbytes
    for window in design.dram:
        assert len(window.segments) == (2 if high else 1)
        assert not set(window.segments) & set(window.excluded)


def test_clock_comes_of_dividers(design: Design) -> None:
    clock = design.clock
    assert clock.pll_mhz / (clock.divisors[0] * clock.divisors[1]) == clock.mhz
    assert design.ps.value(design.family.clock.frequency) == f"{clock.mhz:g}"


@pytest.mark.parametrize(
    ("clock_mhz", "divisors"), ((100.0, (5, 2)), (50.0, (5, 4)), (250.0, (2, 2)), (300.0, None))
)
def test_dividers_are_shared_evenly_the_larger_one_first(
    clock_mhz: float, divisors: tuple[int, int] | None
) -> None:
    family = load_family(boards_dir(), "zynq7000")
    assert family.divisors(1000.0, clock_mhz) == divisors


def test_pynq_z1_loads_the_bitstream_of_z2() -> None:
    one, two = load_board("pynq-z1"), load_board("pynq-z2")
    assert one.overlay == two.overlay == two.name
    designs = [replace(design_of(board), board="", board_part="") for board in (one, two)]
    assert designs[0] == designs[1]
    assert all(load_board(n).overlay == n for n in BOARDS if n != "pynq-z1")


# ------------------------------------------------------------------------------ bad files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(boards_dir(), tmp_path / "boards")
    return tmp_path / "boards"


def change(path: Path, *keys: str, value: Any) -> None:
    data = json.loads(path.read_text())
    place = data
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("keys", "value", "text"),
    (
        (
            ("clock_mhz",),
            150.0,
            r"clock_mhz = 150 \(no dividers of 1 to 63 .* 142.857143\)",
        ),
        (("pll_mhz",), 1001.0, r"clock_mhz = 100 \(no dividers .* 1001 MHz"),
        (("ports", "load", "name"), "S_AXI_HP9", r"ports.load.name = 'S_AXI_HP9' .* S_AXI_HP3"),
        (("ports", "load", "name"), "S_AXI_HP1", r"must differ: one unit per port"),
        (("ports", "load", "bytes_per_cycle"), 16, r"bytes_per_cycle = 16 .* one of 4, 8"),
        (("burst_beats",), 64, r"burst_beats = 64 \(must be at most 16\)"),
        (("part", "dsp_type"), "DSP48E2", r"part.dsp_type = 'DSP48E2' \(must be 'DSP48E1'\)"),
        (("part", "uram"), 4, r"part.uram = 4 \(the family has none\)"),
        (("uram_buffers",), ["ibuf"], r"uram_buffers = ibuf \(the part has no UltraRAM\)"),
        (("uram_buffers",), ["bbuf"], r"uram_buffers = bbuf \(must be among ibuf"),
        (("overlay",), "pynq-z9", r"overlay: found 'pynq-z9', allowed is the name of a board"),
        (("overlay",), "../x", r"overlay: found '../x', allowed is the name of a board"),
        (("overlay",), "zcu104", r"'zcu104' has another family, part, clock_mhz"),
    ),
)
def test_values_that_the_family_refuses(
    folder: Path, keys: tuple[str, ...], value: Any, text: str
) -> None:
    change(folder / "pynq-z2.json", *keys, value=value)
    with pytest.raises(BadInput, match=text):
        board_from_file(folder / "pynq-z2.json")


def test_a_twin_must_load_its_own_bitstream(folder: Path) -> None:
    change(folder / "pynq-z2.json", "overlay", value="pynq-z1")
    with pytest.raises(BadInput, match="'pynq-z2' has another overlay"):
        board_from_file(folder / "pynq-z1.json")


@pytest.mark.parametrize("name", FAMILIES)
def test_family_files_agree_with_themselves(name: str) -> None:
    family = load_family(boards_dir(), name)
    assert family.control.base_address < family.control.end_address
    assert len({port.name for port in family.memory_ports}) == 4
    assert not family.coherent and family.burst_beats == 16
    assert family_of(load_board("pynq-z2")).name == "zynq7000"


@pytest.mark.parametrize(
    ("text", "match"),
    (
        ("{", "zynq7000.json: not readable"),
        ('{"name": 3}', r"zynq7000.json.title: found 'nothing'|zynq7000.json.name"),
    ),
)
def test_damaged_family_file(folder: Path, text: str, match: str) -> None:
    (folder / "families" / "zynq7000.json").write_text(text)
    with pytest.raises(BadInput, match=match):
        board_from_file(folder / "pynq-z2.json")


def test_family_file_of_another_name(folder: Path) -> None:
    files = folder / "families"
    (files / "zynq7000.json").write_text((files / "zynqmp.json").read_text())
    with pytest.raises(BadInput, match="name: found 'zynqmp', allowed is 'zynq7000'"):
        board_from_file(folder / "pynq-z2.json")
