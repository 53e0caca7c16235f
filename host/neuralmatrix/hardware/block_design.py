# SPDX-License-Identifier: Apache-2.0
"""The block design of an overlay, as data.

In: a ``Board``.  Out: ``Design``: cells, connections, clock, resets, interrupts and addresses.
Vivado's script and the emulated board are both made from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import BadInput
from .board import Board, family_of
from .processing_system import ControlPort, Family, MemoryPort, Parameter
from .registers import ADDRESS_RANGE, KERNELS, kernel_cell, vlnv

NAME = "neuralmatrix"

COUNTER_BITS = 64
MEMORY_READ_LATENCY = 1  # cycles that the kernels' memory ports expect
INSTRUCTION_BYTES = 64
TOKEN_BYTES = 1
SHALLOWEST_FIFO = 16  # of axis_data_fifo

INTERRUPTS, CONCAT, COUNTER, RESET = "axi_intc_0", "xlconcat_0", "cycles_0", "reset_0"
CONTROL = "control_0"

# (kernel, stream argument) that is written, and the one that is read.
INSTRUCTION_QUEUES = {
    "queue_load": (("fetch", "to_load"), ("load", "queue")),
    "queue_compute": (("fetch", "to_compute"), ("compute", "queue")),
    "queue_store": (("fetch", "to_store"), ("store", "queue")),
}
TOKEN_QUEUES = {
    "tokens_load_compute": (("load", "to_compute"), ("compute", "from_load")),
    "tokens_load_store": (("load", "to_store"), ("store", "from_load")),
    "tokens_compute_load": (("compute", "to_load"), ("load", "from_compute")),
    "tokens_compute_store": (("compute", "to_store"), ("store", "from_compute")),
    "tokens_store_load": (("store", "to_load"), ("load", "from_store")),
    "tokens_store_compute": (("store", "to_compute"), ("compute", "from_store")),
}


@dataclass(frozen=True)
class Memory:
    """An on-chip buffer between two kernels; both call its argument by the same name."""

    argument: str
    buffer: str  # as board files name it in uram_buffers
    words: int
    writer: str
    reader: str

    @property
    def cell(self) -> str:
        """Its cell; argument names alone can be names of primitives, such as IBUF."""
        return f"ram_{self.argument}"


@dataclass(frozen=True)
class Cell:
    """An instance of an IP and the parameters that differ from its defaults."""

    name: str
    vlnv: str
    config: tuple[Parameter, ...] = ()

    @property
    def ip(self) -> str:
        """The IP without its version, for example ``xilinx.com:ip:axi_intc``."""
        return self.vlnv.rpartition(":")[0]

    def value(self, name: str) -> str | None:
        """The value of a parameter, or None where the default holds."""
        return next((p.value for p in self.config if p.name == name), None)


@dataclass(frozen=True)
class InterfaceNet:
    """A bus from ``CELL/PIN`` to ``CELL/PIN``."""

    master: str
    slave: str


@dataclass(frozen=True)
class Net:
    """Wires from the ``CELL/PIN`` that drives to those that listen."""

    source: str
    sinks: tuple[str, ...]


@dataclass(frozen=True)
class Segment:
    """Registers of a cell as the processor sees them."""

    cell: str
    interface: str  # pin of the cell
    segment: str  # Vivado's name of the register block
    offset: int
    range_bytes: int


@dataclass(frozen=True)
class DramWindow:
    """DRAM as the master port of a kernel sees it."""

    space: str
    segments: tuple[str, ...]
    excluded: tuple[str, ...]


@dataclass(frozen=True)
class Clock:
    """The only clock: what it is, and how the PS makes it."""

    pin: str  # CELL/PIN
    mhz: float
    pll_mhz: float
    divisors: tuple[int, int]


@dataclass(frozen=True)
class Design:
    """A whole block design."""

    name: str
    board: str
    part: str
    board_part: str
    family: Family
    clock: Clock
    space: str  # address space of the processor
    cells: tuple[Cell, ...]  # the processing system first
    interfaces: tuple[InterfaceNet, ...]
    nets: tuple[Net, ...]
    interrupts: tuple[str, ...]  # cells in the order of the interrupt controller's inputs
    segments: tuple[Segment, ...]
    dram: tuple[DramWindow, ...]

    @property
    def ps(self) -> Cell:
        """The processing system."""
        return self.cells[0]

    def cell(self, name: str) -> Cell:
        """The cell called ``name``."""
        return next(cell for cell in self.cells if cell.name == name)


def memories(board: Board) -> tuple[Memory, ...]:
    """The buffers that two kernels share."""
    a = board.array
    load = {
        "ibuf": ("ibuf", a.ibuf_words),
        "wbuf": ("wbuf", a.wbuf_words),
        "pbuf": ("pbuf", 8 * a.pbuf_rows),
        "t_lo": ("tbuf", a.tbuf_rows),
        "t_hi": ("tbuf", a.tbuf_rows),
        "u_lo": ("ubuf", a.ubuf_rows),
        "u_hi": ("ubuf", a.ubuf_rows),
    }
    found = [Memory(name, *facts, "load", "compute") for name, facts in load.items()]
    found += [Memory(name, "obuf", a.obuf_rows, "compute", "store") for name in ("o_lo", "o_hi")]
    return tuple(found)


def _parameters(**values: object) -> tuple[Parameter, ...]:
    return tuple(Parameter(name, str(value)) for name, value in values.items())


# ------------------------------------------------------------------------------ cells


def _ps(board: Board, family: Family) -> Cell:
    used = {port.name: 8 * port.bytes_per_cycle for port in vars(board.ports).values()}
    config = list(family.ps.config)
    for port in family.memory_ports:
        config.append(Parameter(port.enable, str(int(port.name in used))))
        if port.name in used:
            config.append(Parameter(port.width, str(used[port.name])))
    config.append(Parameter(family.clock.source, family.clock.source_value))
    config.append(Parameter(family.clock.frequency, f"{board.clock_mhz:g}"))
    return Cell(family.ps.cell, family.ps.vlnv, tuple(config))


def _memory(board: Board, memory: Memory) -> Cell:
    """A block memory as HLS ports with byte addresses expect it: no output registers, no safety
    circuit, both ports on the one clock."""
    width = 8 * board.array.cols
    config = _parameters(
        Memory_Type="True_Dual_Port_RAM",
        use_bram_block="Stand_Alone",
        Assume_Synchronous_Clk="true",
        EN_SAFETY_CKT="false",
        Enable_32bit_Address="true",
        Use_Byte_Write_Enable="true",
        Byte_Size=8,
        Write_Width_A=width,
        Read_Width_A=width,
        Write_Width_B=width,
        Read_Width_B=width,
        Write_Depth_A=memory.words,
        Enable_A="Use_ENA_Pin",
        Enable_B="Use_ENB_Pin",
        Use_RSTA_Pin="true",
        Use_RSTB_Pin="true",
        Register_PortA_Output_of_Memory_Primitives="false",
        Register_PortB_Output_of_Memory_Primitives="false",
    )
    if memory.buffer in board.uram_buffers:
        config += _parameters(
            PRIM_type_to_Implement="URAM",
            # The only mode that an UltraRAM has.
            Operating_Mode_A="NO_CHANGE",
            Operating_Mode_B="NO_CHANGE",
            READ_LATENCY_A=MEMORY_READ_LATENCY,
            READ_LATENCY_B=MEMORY_READ_LATENCY,
        )
    return Cell(memory.cell, "xilinx.com:ip:blk_mem_gen:8.4", config)


def _fifo(name: str, width_bytes: int, depth: int) -> Cell:
    """Depths of axis_data_fifo are powers of two."""
    depth = max(SHALLOWEST_FIFO, 1 << (depth - 1).bit_length())
    config = _parameters(
        TDATA_NUM_BYTES=width_bytes, FIFO_DEPTH=depth, FIFO_MEMORY_TYPE="distributed"
    )
    return Cell(name, "xilinx.com:ip:axis_data_fifo:2.0", config)


def _fifos(board: Board) -> Iterator[Cell]:
    for name in INSTRUCTION_QUEUES:
        yield _fifo(name, INSTRUCTION_BYTES, board.array.queue_depth)
    for name in TOKEN_QUEUES:
        yield _fifo(name, TOKEN_BYTES, board.array.token_depth)


def _bridge(unit: str) -> str:
    return f"memory_{unit}"


def _infrastructure() -> Iterator[Cell]:
    yield Cell(RESET, "xilinx.com:ip:proc_sys_reset:5.0")
    slaves = len(KERNELS) + 1
    config = _parameters(NUM_SI=1, NUM_MI=slaves)
    yield Cell(CONTROL, "xilinx.com:ip:axi_interconnect:2.1", config)
    for unit in ("load", "store", "fetch"):
        yield Cell(_bridge(unit), "xilinx.com:ip:smartconnect:1.0", _parameters(NUM_SI=1, NUM_MI=1))
    yield Cell(CONCAT, "xilinx.com:ip:xlconcat:2.1", _parameters(NUM_PORTS=len(KERNELS)))
    yield Cell(INTERRUPTS, "xilinx.com:ip:axi_intc:4.1", _parameters(C_IRQ_CONNECTION=1))
    config = _parameters(Output_Width=COUNTER_BITS)
    yield Cell(COUNTER, "xilinx.com:ip:c_counter_binary:12.0", config)


def _cells(board: Board, family: Family) -> Iterator[Cell]:
    yield _ps(board, family)
    for kernel in KERNELS:
        yield Cell(kernel_cell(kernel), vlnv(kernel))
    yield from _fifos(board)
    for memory in memories(board):
        yield _memory(board, memory)
    yield from _infrastructure()


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
    """Cell, interface pin and register block of everything with registers, in address order."""
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
        yield InterfaceNet(master, f"{_bridge(unit)}/S00_AXI")
        yield InterfaceNet(f"{_bridge(unit)}/M00_AXI", f"{ps}/{port.name}")


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
    yield from (f"{_bridge(unit)}/aclk" for unit in vars(board.ports))
    yield from (f"{RESET}/slowest_sync_clk", f"{INTERRUPTS}/s_axi_aclk", f"{COUNTER}/CLK")


def _reset_peripherals() -> Iterator[str]:
    yield from (f"{kernel_cell(kernel)}/ap_rst_n" for kernel in KERNELS)
    yield from (f"{name}/s_axis_aresetn" for name in (*INSTRUCTION_QUEUES, *TOKEN_QUEUES))
    yield from (f"{CONTROL}/{side}ARESETN" for side in _control_sides()[1:])
    yield f"{INTERRUPTS}/s_axi_aresetn"


def _reset_buses(board: Board) -> Iterator[str]:
    yield f"{CONTROL}/ARESETN"
    yield from (f"{_bridge(unit)}/aresetn" for unit in vars(board.ports))


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
    """High DRAM is mapped only where the board has some."""
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
    """The block design of ``board``.

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
        cells=tuple(_cells(board, family)),
        interfaces=tuple(_interfaces(board, family)),
        nets=tuple(_nets(board, family)),
        interrupts=tuple(kernel_cell(kernel) for kernel in KERNELS),
        segments=tuple(_segments(family)),
        dram=tuple(_windows(board, family)),
    )
