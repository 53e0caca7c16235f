# SPDX-License-Identifier: Apache-2.0
"""The block design of an overlay, as data.

In: a ``Board``.  Out: ``Design``: cells, connections, clock, resets, interrupts and addresses.
Vivado's script and the emulated board are both made from it.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import BadInput
from .block_design_cells import (
    CONCAT,
    CONTROL,
    COUNTER,
    INSTRUCTION_QUEUES,
    INTERRUPTS,
    RESET,
    TOKEN_QUEUES,
    bridge,
    cells,
    memories,
)
from .block_design_types import Clock, Design, DramWindow, InterfaceNet, Net, Segment
from .board import Board, family_of
from .processing_system import ControlPort, Family, MemoryPort
from .registers import ADDRESS_RANGE, KERNELS, kernel_cell

NAME = "neuralmatrix"


# ------------------------------------------------------------------------------ buses


def _streams() -> Iterator[InterfaceNet]:
    for name, (source, sink) in {**INSTRUCTION_QUEUES, **TOKEN_QUEUES}.items():
        yield InterfaceNet(f"{kernel_cell(source[0])}/{source[1]}", f"{name}/S_AXIS")
        yield InterfaceNet(f"{name}/M_AXIS", f"{kernel_cell(sink[0])}/{sink[1]}")


def _buffers(board: Board) -> Iterator[InterfaceNet]:
    for memory in memories(board):
        for kernel, side in ((memory.writer, "A"), (memory.reader, "B")):
            master = f"{kernel_cell(kernel)}/{memory.argument}_PORTA"
            yield InterfaceNet(master, f"{memory.cell}/BRAM_PORT{side}")


def _slaves() -> Iterator[tuple[str, str, str]]:
    """List cell, interface pin and register block of all that has registers, by address."""
    for kernel in KERNELS:
        yield kernel_cell(kernel), "s_axi_control", "s_axi_control/Reg"
    yield INTERRUPTS, "s_axi", "S_AXI/Reg"


def _register_buses(ps: str, port: ControlPort) -> Iterator[InterfaceNet]:
    yield InterfaceNet(f"{ps}/{port.name}", f"{CONTROL}/S00_AXI")
    for i, (cell, pin, _) in enumerate(_slaves()):
        yield InterfaceNet(f"{CONTROL}/M{i:02d}_AXI", f"{cell}/{pin}")


def _memory_buses(board: Board, ps: str) -> Iterator[InterfaceNet]:
    for unit, port in vars(board.ports).items():
        master = f"{kernel_cell(unit)}/m_axi_{unit}_port"
        yield InterfaceNet(master, f"{bridge(unit)}/S00_AXI")
        yield InterfaceNet(f"{bridge(unit)}/M00_AXI", f"{ps}/{port.name}")


def _interfaces(board: Board, family: Family) -> Iterator[InterfaceNet]:
    yield from _streams()
    yield from _buffers(board)
    yield from _register_buses(family.ps.cell, family.control)
    yield from _memory_buses(board, family.ps.cell)


# ------------------------------------------------------------------------------ wires


def _used_ports(board: Board, family: Family) -> list[MemoryPort]:
    used = {port.name for port in vars(board.ports).values()}
    return [port for port in family.memory_ports if port.name in used]


def _control_sides() -> list[str]:
    return ["", "S00_", *(f"M{i:02d}_" for i, _ in enumerate(_slaves()))]


def _clocked(board: Board, family: Family) -> Iterator[str]:
    ps = family.ps.cell
    yield f"{ps}/{family.control.clock_pin}"
    yield from (f"{ps}/{port.clock_pin}" for port in _used_ports(board, family))
    yield from (f"{kernel_cell(kernel)}/ap_clk" for kernel in KERNELS)
    yield from (f"{name}/s_axis_aclk" for name in (*INSTRUCTION_QUEUES, *TOKEN_QUEUES))
    yield from (f"{CONTROL}/{side}ACLK" for side in _control_sides())
    yield from (f"{bridge(unit)}/aclk" for unit in vars(board.ports))
    yield from (f"{RESET}/slowest_sync_clk", f"{INTERRUPTS}/s_axi_aclk", f"{COUNTER}/CLK")


def _reset_peripherals() -> Iterator[str]:
    yield from (f"{kernel_cell(kernel)}/ap_rst_n" for kernel in KERNELS)
    yield from (f"{name}/s_axis_aresetn" for name in (*INSTRUCTION_QUEUES, *TOKEN_QUEUES))
    yield from (f"{CONTROL}/{side}ARESETN" for side in _control_sides()[1:])
    yield f"{INTERRUPTS}/s_axi_aresetn"


def _reset_buses(board: Board) -> Iterator[str]:
    yield f"{CONTROL}/ARESETN"
    yield from (f"{bridge(unit)}/aresetn" for unit in vars(board.ports))


def _nets(board: Board, family: Family) -> Iterator[Net]:
    ps = family.ps.cell
    yield Net(f"{ps}/{family.clock.pin}", tuple(_clocked(board, family)))
    yield Net(f"{ps}/{family.reset_pin}", (f"{RESET}/ext_reset_in",))
    yield Net(f"{RESET}/peripheral_aresetn", tuple(_reset_peripherals()))
    yield Net(f"{RESET}/interconnect_aresetn", tuple(_reset_buses(board)))
    yield Net(f"{COUNTER}/Q", tuple(f"{kernel_cell(kernel)}/now" for kernel in KERNELS))
    for i, kernel in enumerate(KERNELS):
        yield Net(f"{kernel_cell(kernel)}/interrupt", (f"{CONCAT}/In{i}",))
    yield Net(f"{CONCAT}/dout", (f"{INTERRUPTS}/intr",))
    yield Net(f"{INTERRUPTS}/irq", (f"{ps}/{family.interrupt_pin}",))


# ------------------------------------------------------------------------------ addresses


def _segments(family: Family) -> Iterator[Segment]:
    for i, (cell, pin, block) in enumerate(_slaves()):
        offset = family.control.base_address + i * ADDRESS_RANGE
        yield Segment(cell, pin, f"{cell}/{block}", offset, ADDRESS_RANGE)


def _windows(board: Board, family: Family) -> Iterator[DramWindow]:
    """List the DRAM windows; high DRAM is mapped only where the board has some."""
    high = family.dram_high_segment
    wanted, other = [family.dram_segment], list(family.excluded_segments)
    if high:
        (wanted if board.dram.mbytes > family.dram_low_mbytes else other).append(high)
    for unit, used in vars(board.ports).items():
        port = next(p for p in family.memory_ports if p.name == used.name)
        head = f"{family.ps.cell}/{port.segments}"
        space = f"{kernel_cell(unit)}/Data_m_axi_{unit}_port"
        yield DramWindow(
            space, tuple(head + name for name in wanted), tuple(head + name for name in other)
        )


def _clock(board: Board, family: Family) -> Clock:
    divisors = family.divisors(board.pll_mhz, board.clock_mhz)
    if divisors is None:
        raise BadInput(f"{board.name}: no dividers make {board.clock_mhz:g} MHz; fix the file")
    pin = f"{family.ps.cell}/{family.clock.pin}"
    return Clock(pin, board.clock_mhz, board.pll_mhz, divisors)


def design_of(board: Board) -> Design:
    """Make the block design of ``board``.

    >>> design_of(load_board("pynq-z2")).segments[0].offset == 0x4000_0000
    True
    """
    family = family_of(board)
    return Design(
        name=NAME,
        board=board.name,
        part=board.part.name,
        board_part=board.board_part,
        family=family,
        clock=_clock(board, family),
        space=f"{family.ps.cell}/{family.control.space}",
        cells=tuple(cells(board, family)),
        interfaces=tuple(_interfaces(board, family)),
        nets=tuple(_nets(board, family)),
        interrupts=tuple(kernel_cell(kernel) for kernel in KERNELS),
        segments=tuple(_segments(family)),
        dram=tuple(_windows(board, family)),
    )
