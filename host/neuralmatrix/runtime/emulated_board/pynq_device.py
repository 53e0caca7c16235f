# SPDX-License-Identifier: Apache-2.0
"""The emulated board as pynq sees it: a ``pynq.Device`` below the unmodified package.

In: pynq's requests to a device: bitstreams, registers, buffers.  Out: their results from an
``EmulatedArray`` and a ``BoardMemory``.  Works under pynq 3.0.1, 3.1.2 and 4.0.0.
Of pynq's own state it sets the active device, the object behind ``Clocks``, and the entry of the
interrupt's UIO device, which the kernel makes on a board.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynq
from pynq.interrupt import _InterruptController
from pynq.pl_server import embedded_device
from pynq.pl_server.xclbin_parser import XclBin
from pynqmetadata.frontends import Metadata

from ...hardware.block_design_cells import INTERRUPTS
from ...hardware.board import Board
from ...hardware.registers import CTRL, kernel_cell
from .array import EmulatedArray
from .bitfile import Circuit, circuit_of, part_of_header
from .memory import BoardMemory, Buffer
from .processing_system import Cma, Uio, clocks_of
from .registers import HlsBlock, InterruptController, PsRegisters

ARCHITECTURES = {"zynq7000": "armv7l", "zynqmp": "aarch64"}
PS_REGISTERS_FROM = 0xF800_0000
_WORD = 4


class EmulatedDevice(pynq.Device):  # type: ignore[misc]
    """One board.  ``load(circuit)`` makes the array that a bitstream describes."""

    emulated = True

    def __init__(
        self,
        board: Board,
        memory: BoardMemory,
        ps: PsRegisters,
        load: Callable[[Circuit, Callable[[bool], None]], EmulatedArray],
        refuse: Callable[[], bool],
        bound_interrupts: bool,
    ) -> None:
        super().__init__(f"emulated-{board.name}-{id(self):x}")
        self.capabilities = {"REGISTER_RW": True, "MEMORY_MAPPED": False, "CALLABLE": False}
        self.name = board.device_name
        self.arch = ARCHITECTURES[board.family]
        self.timestamp: str | None = None
        self.board, self.ps = board, ps
        self.downloads = 0
        self.array: EmulatedArray | None = None
        self._load, self._bound = load, bound_interrupts
        self._cma = Cma(self, memory, refuse)
        self._memory = memory
        self._uio: dict[int, Uio] = {}
        self._blocks: list[tuple[int, int, HlsBlock | InterruptController]] = []

    def activate(self) -> None:
        """Make this pynq's active device unless it is already."""
        if getattr(pynq.Device, "_active_device", None) is self:
            return
        pynq.Device.active_device = self
        pynq.Clocks._real_instance = clocks_of(self.board)
        _InterruptController._uio_devices.update(self._uio)

    def close(self) -> None:
        """Stop the array; pynq has no device afterwards if this one was active."""
        self.reset_fabric()
        if getattr(pynq.Device, "_active_device", None) is self:
            del pynq.Device._active_device
            del pynq.Clocks._real_instance

    # -------------------------------------------------------------------- bitstreams

    def get_bitfile_metadata(self, bitfile_name: str, partial: bool = False) -> Any:
        """Read the metadata of the .hwh next to a bitstream, as pynq's devices do."""
        path = Path(bitfile_name).with_suffix(".hwh")
        if partial or not path.is_file():
            raise RuntimeError("Unable to find metadata for bitstream")
        parser = embedded_device.RuntimeMetadataParser(Metadata(input=str(path)))
        xclbin = embedded_device.DEFAULT_XCLBIN  # memories, which boards read from xclbinutil
        embedded_device._unify_dictionaries(parser, XclBin(xclbin_data=xclbin))
        parser.refresh_hierarchy_dict()
        parser.xclbin_data = xclbin
        return parser

    def download(self, bitstream: Any, parser: Any = None) -> None:
        """Load a bitstream; the array that ran until now stops first."""
        header = embedded_device.parse_bit_header(Path(bitstream.bitfile_name).read_bytes())
        wanted = part_of_header(self.board.part.name)
        if header["part"] != wanted:
            raise OSError(
                f"the FPGA manager refuses a bitstream for {header['part']}, the part is {wanted}"
            )
        parser = parser or self.parser
        self.reset_fabric()
        self.downloads += 1
        # A bitstream of Vivado is taken for the array of the board file.
        circuit = circuit_of(header["data"]) or Circuit(self.board.array, self.board.timing)
        self._connect(circuit, parser)
        if self.board.family == "zynqmp":
            embedded_device.EmbeddedDevice.set_axi_port_width(self, parser)
        self.post_download(bitstream, parser, self.name)

    def reset_fabric(self) -> None:
        """Stop the array and disable all registers."""
        if self.array is not None:
            self.array.stop()
        self.array, self._blocks = None, []

    def _connect(self, circuit: Circuit, parser: Any) -> None:
        array = self.array = self._load(circuit, self._changed)
        known: dict[str, HlsBlock | InterruptController] = {INTERRUPTS: array.controller}
        known.update((kernel_cell(kernel), block) for kernel, block in array.blocks.items())
        for name, ip in parser.ip_dict.items():
            if name in known and "phys_addr" in ip:
                self._blocks.append((ip["phys_addr"], ip["addr_range"], known[name]))
        for controller in parser.interrupt_controllers.values():
            uio = self._uio.setdefault(controller["raw_irq"], Uio(self._bound))
            uio.level = lambda: array.controller.level
        _InterruptController._uio_devices.update(self._uio)

    def _changed(self, level: bool) -> None:
        for uio in self._uio.values():
            uio.changed(level)

    def gen_cache(self, bitstream: Any, parser: Any = None) -> None:
        """Do nothing: boards keep metadata on disk, this one reads them again."""

    # -------------------------------------------------------------------- registers

    def read_registers(self, address: int, length: int) -> bytes:
        """Read words from any address that answers."""
        words = (self._read(at) for at in range(address, address + length, _WORD))
        return b"".join(word.to_bytes(_WORD, "little") for word in words)[:length]

    def write_registers(self, address: int, data: bytes) -> None:
        """Write words to any address that answers."""
        data = bytes(data)
        for at in range(0, len(data), _WORD):
            self._write(address + at, int.from_bytes(data[at : at + _WORD], "little"))

    def _block(self, address: int) -> tuple[int, HlsBlock | InterruptController]:
        for base, size, block in self._blocks:
            if base <= address < base + size:
                return address - base, block
        raise RuntimeError(f"bus error: no register answers at {address:#x}")

    def _read(self, address: int) -> int:
        if address >= PS_REGISTERS_FROM:
            return self.ps.read(address)
        offset, block = self._block(address)
        assert self.array is not None
        if offset == CTRL:
            time.sleep(0)  # polling lets the array's thread run
        with self.array.registers():
            return block.read(offset)

    def _write(self, address: int, value: int) -> None:
        if address >= PS_REGISTERS_FROM:
            return self.ps.write(address, value)
        offset, block = self._block(address)
        assert self.array is not None
        if block is self.array.controller and offset == InterruptController.IER:
            for uio in self._uio.values():
                uio.opened()
        with self.array.registers():
            block.write(offset, value)

    # -------------------------------------------------------------------- memory

    @property
    def default_memory(self) -> Cma:
        """The board's DRAM, available after a bitstream is loaded."""
        if not hasattr(self, "mem_dict"):
            raise RuntimeError("Overlay is not downloaded")
        return self._cma

    def get_memory(self, _description: Any) -> Cma:
        """Return the only memory."""
        return self._cma

    def flush(self, bo: Buffer, offset: int, _pointer: int, size: int) -> None:
        """Flush a range; called by ``PynqBuffer.flush``."""
        self._memory.flush(bo, offset, size)

    def invalidate(self, bo: Buffer, offset: int, _pointer: int, size: int) -> None:
        """Invalidate a range; called by ``PynqBuffer.invalidate``."""
        self._memory.invalidate(bo, offset, size)
