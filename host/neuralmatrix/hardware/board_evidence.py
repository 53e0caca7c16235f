# SPDX-License-Identifier: Apache-2.0
"""What has been verified about the boards, by which test, and what has not.

In: nothing.  Out: the tables that docs/boards.md shows; a test checks that the evidence exists.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verification:
    """A row of the table: ``what`` was checked ``how``, for which ``boards``, by which ``test``."""

    what: str
    how: str
    boards: str
    test: str


VERIFIED = (
    Verification(
        "kernels: test benches",
        "compiled by g++ and clang++; the same benches as csim",
        "all three arrays",
        "tests/hls/test_benches.py",
    ),
    Verification(
        "kernels: whole networks",
        "every byte equal to the integer reference, random networks among them",
        "the arrays of PYNQ-Z2 and KV260",
        "tests/end_to_end/test_bit_exact.py",
    ),
    Verification(
        "kernels: word sizes of the boards' processors",
        "cross-compiled benches under qemu-user, 32-bit ARM and aarch64",
        "the array of PYNQ-Z1 and Z2",
        "tests/hls/test_cross.py",
    ),
    Verification(
        "kernels: C++ subset that HLS accepts",
        "lint of the syntax tree: no heap, recursion, float, endless loop; every argument with its "
        "interface",
        "all",
        "tests/hls/test_lint.py",
    ),
    Verification(
        "block design",
        "one description as data: cells, widths, addresses, clocks and interrupts compared with "
        "the board file and with what the driver expects",
        "all",
        "tests/hardware/test_block_design.py",
    ),
    Verification(
        "scripts for Vivado",
        "run in tclsh against stubs that record every command and refuse unknown commands, options "
        "and IP parameters",
        "all",
        "tests/overlay/test_vivado_tcl.py",
    ),
    Verification(
        "scripts for Vitis HLS",
        "as those for Vivado",
        "all",
        "tests/overlay/test_hls_tcl.py",
    ),
    Verification(
        "hand-off file (.hwh)",
        "generated from the same description, parsed by pynq 4.0.0, 3.1.2 and 3.0.1",
        "all",
        "tests/runtime/emulated_board/test_hwh.py",
    ),
    Verification(
        "emulated board",
        "registers, interrupts, caches, clocks and contiguous memory, driven register by register "
        "through pynq 4.0.0, 3.1.2 and 3.0.1",
        "PYNQ-Z2, ZCU104, KV260",
        "tests/runtime/emulated_board/test_emulated_board.py",
    ),
    Verification(
        "driver",
        "through pynq 4.0.0, 3.1.2 and 3.0.1 on the emulated board: a CNN, a transformer, a graph "
        "network; every output byte equal to emulation",
        "PYNQ-Z2",
        "tests/runtime/pynq/test_driver.py",
    ),
    Verification(
        "driver: failures",
        "faults injected into the emulated board; each gives its error, and the next run works",
        "PYNQ-Z2",
        "tests/runtime/pynq/test_faults.py",
    ),
    Verification(
        "power sensors",
        "read from folders with the layout of the kernel's drivers",
        "boards with sensors",
        "tests/measure/test_hwmon.py",
    ),
)
NOT_VERIFIED = (
    ("csynth: initiation intervals, latency, clock period", "needs Vitis HLS"),
    ("synthesis, placement, routed timing, the bitstream itself", "needs Vivado"),
    ("real utilisation", "needs Vivado; this page has estimates"),
    ("cycles on hardware, DRAM bandwidth and latency", "needs a board"),
    ("interrupts, cache maintenance and clocks of a real processing system", "needs a board"),
    ("power, sensor names on real images", "needs a board"),
)
