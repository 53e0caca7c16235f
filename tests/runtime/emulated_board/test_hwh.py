# SPDX-License-Identifier: Apache-2.0
"""The hardware hand-off made from a design, as pynq's own parser reads it.

In: every board's design.  Out: cells, addresses, registers, interrupts and clocks as designed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from neuralmatrix.hardware.block_design import design_of
from neuralmatrix.hardware.block_design_cells import CONCAT, INTERRUPTS
from neuralmatrix.hardware.block_design_types import Design
from neuralmatrix.hardware.board import board_names, load_board
from neuralmatrix.hardware.registers import KERNELS, kernel_cell, registers, vlnv
from neuralmatrix.runtime.emulated_board.hwh import hwh, ps_parameters, without_interrupts


@pytest.fixture(params=board_names())
def design(request: pytest.FixtureRequest) -> Design:
    return design_of(load_board(request.param))


def parsed(design: Design, folder: Path) -> Any:
    from pynq.pl_server.embedded_device import RuntimeMetadataParser
    from pynqmetadata.frontends import Metadata

    path = folder / "neuralmatrix.hwh"
    path.write_text(hwh(design), encoding="utf-8")
    return RuntimeMetadataParser(Metadata(input=str(path)))


# ------------------------------------------------------------------------------ the text


def test_every_cell_is_there(design: Design) -> None:
    modules = ElementTree.fromstring(hwh(design)).findall(".//MODULE")
    assert [(m.get("INSTANCE"), m.get("VLNV")) for m in modules] == [
        (cell.name, cell.vlnv) for cell in design.cells
    ]


def test_ports_of_the_processing_system(design: Design) -> None:
    parameters, board = ps_parameters(design), load_board(design.board)
    for port in vars(board.ports).values():
        width = design.family.memory_port(port.name).width  # type: ignore[union-attr]
        assert parameters[width] == str(8 * port.bytes_per_cycle)
        component = width.replace("PSU__", "C_").replace("PCW_", "C_").replace("__", "_")
        assert parameters[component] == parameters[width]


def test_no_trace_of_interrupts_where_none_are_wired(design: Design) -> None:
    text = hwh(without_interrupts(design))
    assert INTERRUPTS in hwh(design) and CONCAT in hwh(design)
    assert INTERRUPTS not in text and CONCAT not in text and "SIGIS" not in text


# ------------------------------------------------------------------------------ pynq's view


@pytest.mark.pynq
def test_addresses_and_registers(design: Design, tmp_path: Path) -> None:
    found = parsed(design, tmp_path).ip_dict
    assert set(found) == {*(s.cell for s in design.segments), design.ps.name}
    for segment in design.segments:
        ip = found[segment.cell]
        assert (ip["phys_addr"], ip["addr_range"]) == (segment.offset, segment.range_bytes)
    for kernel in KERNELS:
        ip = found[kernel_cell(kernel)]
        assert ip["type"] == vlnv(kernel)
        offsets = {name: r["address_offset"] for name, r in ip["registers"].items()}
        wanted = {register.name: register.offset for register in registers(kernel)}
        assert offsets == {"CTRL": 0, "GIER": 4, "IP_IER": 8, "IP_ISR": 12, **wanted}
        assert ip["registers"]["CTRL"]["fields"]["AP_DONE"]["bit_offset"] == 1


@pytest.mark.pynq
def test_interrupts_are_in_the_order_of_the_design(design: Design, tmp_path: Path) -> None:
    found = parsed(design, tmp_path)
    assert len(found.interrupt_controllers) == 1
    raw = {"zynq7000": 61, "zynqmp": 121}[design.family.name]
    assert found.interrupt_controllers[INTERRUPTS]["raw_irq"] == raw
    for number, cell in enumerate(design.interrupts):
        pin = found.ip_dict[cell]["interrupts"]["interrupt"]
        assert (pin["controller"], pin["index"]) == (INTERRUPTS, number)


@pytest.mark.pynq
def test_polling_design(design: Design, tmp_path: Path) -> None:
    found = parsed(without_interrupts(design), tmp_path)
    assert not found.interrupt_controllers and not found.interrupt_pins
    assert all(not ip["interrupts"] for ip in found.ip_dict.values())


@pytest.mark.pynq
def test_clocks(design: Design, tmp_path: Path) -> None:
    clocks = parsed(design, tmp_path).clock_dict
    assert [clocks[i]["enable"] for i in range(4)] == [1, 0, 0, 0]
    assert (clocks[0]["divisor0"], clocks[0]["divisor1"]) == design.clock.divisors
