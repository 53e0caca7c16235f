# SPDX-License-Identifier: Apache-2.0
"""The cells of a block design: processing system, kernels, queues, buffers, infrastructure.

In: a ``Board`` and its ``Family``.  Out: ``Cell``s, and the names that wires refer to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .block_design_types import Cell
from .board import Board
from .processing_system import Family, Parameter
from .registers import KERNELS, kernel_cell, vlnv

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
        """The cell's name; an argument's name alone can be that of a primitive, such as IBUF."""
        return f"ram_{self.argument}"


def memories(board: Board) -> tuple[Memory, ...]:
    """List the buffers that two kernels share."""
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
    """Make a block memory as HLS ports with byte addresses expect it: no output registers, no
    safety circuit, both ports on the one clock."""
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
    """Make a queue; depths of axis_data_fifo are powers of two."""
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


def bridge(unit: str) -> str:
    """Name the cell between a kernel's memory port and the processing system."""
    return f"memory_{unit}"


def _infrastructure() -> Iterator[Cell]:
    yield Cell(RESET, "xilinx.com:ip:proc_sys_reset:5.0")
    slaves = len(KERNELS) + 1
    config = _parameters(NUM_SI=1, NUM_MI=slaves)
    yield Cell(CONTROL, "xilinx.com:ip:axi_interconnect:2.1", config)
    for unit in ("load", "store", "fetch"):
        yield Cell(bridge(unit), "xilinx.com:ip:smartconnect:1.0", _parameters(NUM_SI=1, NUM_MI=1))
    yield Cell(CONCAT, "xilinx.com:ip:xlconcat:2.1", _parameters(NUM_PORTS=len(KERNELS)))
    yield Cell(INTERRUPTS, "xilinx.com:ip:axi_intc:4.1", _parameters(C_IRQ_CONNECTION=1))
    config = _parameters(Output_Width=COUNTER_BITS)
    yield Cell(COUNTER, "xilinx.com:ip:c_counter_binary:12.0", config)


def cells(board: Board, family: Family) -> Iterator[Cell]:
    """List every cell of the design, the processing system first."""
    yield _ps(board, family)
    for kernel in KERNELS:
        yield Cell(kernel_cell(kernel), vlnv(kernel))
    yield from _fifos(board)
    for memory in memories(board):
        yield _memory(board, memory)
    yield from _infrastructure()
