# SPDX-License-Identifier: Apache-2.0
"""The hardware hand-off (.hwh) of a design, limited to what pynq reads.

In: a ``Design``.  Out: the XML text.
Vivado writes the .hwh of a built overlay; this one is the emulated board's.  pynq reads from
it: cells with their VLNV and parameters, registers, the processor's address map, which interrupt
pin is wired where, and the PS parameters that clocks and port widths are set by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from xml.etree.ElementTree import Element, SubElement, tostring

from ...hardware.block_design_cells import CONCAT, INTERRUPTS
from ...hardware.block_design_types import Cell, Design, InterfaceNet, Net, Segment
from ...hardware.registers import (
    AP_DONE,
    AP_IDLE,
    AP_READY,
    AP_START,
    CTRL,
    GIE,
    IER,
    ISR,
    KERNELS,
    Register,
    registers,
    vlnv,
)

Fields = tuple[tuple[str, int, int], ...]  # name, lowest bit, bits

PL_CLOCKS = 4
_BUS = {"aximm": "xilinx.com:interface:aximm:1.0", "axis": "xilinx.com:interface:axis:1.0"}
_BIT = {AP_START: 0, AP_DONE: 1, AP_IDLE: 2, AP_READY: 3}

# Name, offset, whether the host writes it, fields: what Vitis HLS generates for ap_ctrl_hs.
BLOCK_REGISTERS: tuple[tuple[Register, Fields], ...] = (
    (
        Register("CTRL", CTRL, True),
        (
            ("AP_START", _BIT[AP_START], 1),
            ("AP_DONE", _BIT[AP_DONE], 1),
            ("AP_IDLE", _BIT[AP_IDLE], 1),
            ("AP_READY", _BIT[AP_READY], 1),
            ("RESERVED_1", 4, 3),
            ("AUTO_RESTART", 7, 1),
            ("RESERVED_2", 8, 1),
            ("INTERRUPT", 9, 1),
            ("RESERVED_3", 10, 22),
        ),
    ),
    (Register("GIER", GIE, True), (("Enable", 0, 1), ("RESERVED", 1, 31))),
    (
        Register("IP_IER", IER, True),
        (("CHAN0_INT_EN", 0, 1), ("CHAN1_INT_EN", 1, 1), ("RESERVED_0", 2, 30)),
    ),
    (
        Register("IP_ISR", ISR, True),
        (("CHAN0_INT_ST", 0, 1), ("CHAN1_INT_ST", 1, 1), ("RESERVED_0", 2, 30)),
    ),
)


def without_interrupts(design: Design) -> Design:
    """Return the design without interrupts, on which a driver has to poll."""
    gone = {CONCAT, INTERRUPTS}

    def kept(pins: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(pin for pin in pins if pin.partition("/")[0] not in gone)

    nets = [replace(net, sinks=kept(net.sinks)) for net in design.nets if kept((net.source,))]
    return replace(
        design,
        cells=tuple(cell for cell in design.cells if cell.name not in gone),
        interfaces=tuple(n for n in design.interfaces if len(kept((n.master, n.slave))) == 2),
        nets=tuple(net for net in nets if net.sinks),
        segments=tuple(s for s in design.segments if s.cell not in gone),
        interrupts=(),
    )


# ------------------------------------------------------------------------------ parameters


def _numbered(name: str, number: int) -> str:
    """Rename a parameter of clock 0 to that of another clock."""
    return re.sub(r"(FCLK|FPGA|PL)0_", rf"\g<1>{number}_", name, count=1)


def _clock_parameters(design: Design) -> Iterator[tuple[str, str]]:
    """List the parameters of the four fabric clocks; all but the first are off."""
    source = design.family.clock
    for number in range(PL_CLOCKS):
        on = number == 0
        divisors = design.clock.divisors if on else (1, 1)
        yield _numbered(source.enable, number), str(int(on))
        yield _numbered(source.source, number), source.source_value
        for name, value in zip(source.divisors, divisors, strict=True):
            yield _numbered(name, number), str(value)
        if on:
            yield source.actual, f"{design.clock.mhz:f}"


def _component_name(name: str) -> str:
    """Convert PSU__SAXIGP2__DATA_WIDTH to the hand-off's name C_SAXIGP2_DATA_WIDTH."""
    return re.sub(r"^(PSU|PCW)_+", "C_", name).replace("__", "_")


def ps_parameters(design: Design) -> dict[str, str]:
    """Return the processing system's parameters: those set, and those Vivado derives."""
    found = {parameter.name: parameter.value for parameter in design.ps.config}
    widths = {n: v for n, v in found.items() if n.endswith("_DATA_WIDTH")}
    found.update(_clock_parameters(design))
    found.update((_component_name(name), value) for name, value in widths.items())
    return found


# ------------------------------------------------------------------------------ registers


def _property(parent: Element, name: str, value: object) -> None:
    SubElement(parent, "PROPERTY", NAME=name, VALUE=str(value))


def _access(writable: bool) -> str:
    return "read-write" if writable else "read-only"


def _register(parent: Element, register: Register, fields: Fields) -> None:
    node = SubElement(parent, "REGISTER", NAME=register.name)
    _property(node, "DESCRIPTION", register.name)
    _property(node, "ADDRESS_OFFSET", f"0x{register.offset:X}")
    _property(node, "SIZE", 32)
    _property(node, "ACCESS", _access(register.writable))
    _property(node, "IS_ENABLED", "true")
    _property(node, "RESET_VALUE", "0x0")
    inside = SubElement(node, "FIELDS")
    for name, low, bits in fields:
        field = SubElement(inside, "FIELD", NAME=name)
        _property(field, "DESCRIPTION", name)
        _property(field, "ACCESS", _access(register.writable))
        _property(field, "BIT_OFFSET", low)
        _property(field, "BIT_WIDTH", bits)


def _register_block(module: Element, kernel: str, segment: Segment) -> None:
    blocks = SubElement(module, "ADDRESSBLOCKS")
    block = SubElement(
        blocks,
        "ADDRESSBLOCK",
        ACCESS="read-write",
        INTERFACE=segment.interface,
        NAME="Reg",
        RANGE=str(segment.range_bytes),
        USAGE="register",
    )
    inside = SubElement(block, "REGISTERS")
    for register, fields in BLOCK_REGISTERS:
        _register(inside, register, fields)
    for register in registers(kernel):
        _register(inside, register, ((register.name, 0, 32),))


# ------------------------------------------------------------------------------ wires and buses


def _pins(nets: tuple[Net, ...], cell: str) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """List a cell's pins: name, direction, and the ``CELL/PIN`` at the other ends."""
    for net in nets:
        owner, _, pin = net.source.partition("/")
        if owner == cell:
            yield pin, "O", net.sinks
        for sink in net.sinks:
            owner, _, pin = sink.partition("/")
            if owner == cell:
                yield pin, "I", (net.source,)


def _wires(module: Element, design: Design, cell: Cell) -> None:
    """List the interrupt wires; pynq ignores clocks and resets."""
    ports = SubElement(module, "PORTS")
    wired = {f"{name}/interrupt" for name in design.interrupts}
    wired |= {f"{CONCAT}/dout", f"{INTERRUPTS}/irq"}
    nets = tuple(net for net in design.nets if net.source in wired)
    for pin, direction, ends in _pins(nets, cell.name):
        port = SubElement(ports, "PORT", DIR=direction, NAME=pin, SIGIS="INTERRUPT")
        if pin == "interrupt":
            port.set("SENSITIVITY", "LEVEL_HIGH")
        connections = SubElement(port, "CONNECTIONS")
        for end in ends:
            other, _, other_pin = end.partition("/")
            SubElement(connections, "CONNECTION", INSTANCE=other, PORT=other_pin)


def _is_stream(net: InterfaceNet) -> bool:
    return net.master.endswith("M_AXIS") or net.slave.endswith("S_AXIS")


def _buses(module: Element, design: Design, cell: Cell) -> None:
    """List the AXI interfaces, including the kernels' memory ports and streams."""
    buses = SubElement(module, "BUSINTERFACES")
    for net in design.interfaces:
        if "BRAM" in net.slave:
            continue
        kind = _BUS["axis" if _is_stream(net) else "aximm"]
        name = net.master.replace("/", "_")
        for end, role in ((net.master, "MASTER"), (net.slave, "SLAVE")):
            owner, _, pin = end.partition("/")
            if owner == cell.name:
                bus = SubElement(
                    buses, "BUSINTERFACE", BUSNAME=name, NAME=pin, TYPE=role, VLNV=kind
                )
                SubElement(bus, "PORTMAPS")


# ------------------------------------------------------------------------------ the file


def _memory_map(module: Element, design: Design) -> None:
    inside = SubElement(module, "MEMORYMAP")
    for segment in design.segments:
        SubElement(
            inside,
            "MEMRANGE",
            ADDRESSBLOCK="Reg",
            BASENAME="C_BASEADDR",
            BASEVALUE=f"0x{segment.offset:08X}",
            HIGHNAME="C_HIGHADDR",
            HIGHVALUE=f"0x{segment.offset + segment.range_bytes - 1:08X}",
            INSTANCE=segment.cell,
            IS_DATA="TRUE",
            IS_INSTRUCTION="TRUE",
            MASTERBUSINTERFACE=design.family.control.name,
            MEMTYPE="REGISTER",
            SLAVEBUSINTERFACE=segment.interface,
        )


def _module(parent: Element, design: Design, cell: Cell) -> None:
    kernels = {vlnv(kernel): kernel for kernel in KERNELS}
    is_ps = cell is design.ps
    kind = cell.vlnv.split(":")[2]
    module = SubElement(
        parent,
        "MODULE",
        FULLNAME=f"/{cell.name}",
        HWVERSION=cell.vlnv.rpartition(":")[2],
        INSTANCE=cell.name,
        IPTYPE="PERIPHERAL",
        IS_ENABLE="1",
        IS_PL=str(not is_ps).upper(),
        MODTYPE=kind,
        VLNV=cell.vlnv,
    )
    segment = next((s for s in design.segments if s.cell == cell.name), None)
    if cell.vlnv in kernels and segment is not None:
        _register_block(module, kernels[cell.vlnv], segment)
    inside = SubElement(module, "PARAMETERS")
    own = {parameter.name: parameter.value for parameter in cell.config}
    for name, value in (ps_parameters(design) if is_ps else own).items():
        SubElement(inside, "PARAMETER", NAME=name, VALUE=value)
    _wires(module, design, cell)
    _buses(module, design, cell)
    if is_ps:
        _memory_map(module, design)


def hwh(design: Design) -> str:
    """Make the text of ``neuralmatrix.hwh``."""
    root = Element("EDKSYSTEM", EDWVERSION="1.2", VIVADOVERSION="none: made for emulation")
    arch = {"zynq7000": "zynq", "zynqmp": "zynquplus"}[design.family.name]
    SubElement(root, "SYSTEMINFO", ARCH=arch, DEVICE=design.part, NAME=design.name)
    SubElement(root, "EXTERNALPORTS")
    SubElement(root, "EXTERNALINTERFACES")
    modules = SubElement(root, "MODULES")
    for cell in design.cells:
        _module(modules, design, cell)
    head = '<?xml version="1.0" encoding="UTF-8" standalone="no" ?>\n'
    return head + tostring(root, encoding="unicode") + "\n"
