# SPDX-License-Identifier: Apache-2.0
"""A kernel's s_axilite register file as Verilog, made from the table that the driver uses.

In: ``neuralmatrix.hardware.registers``.  Out: a module with the address map of Vitis HLS:
ap_ctrl_hs, interrupt enables, arguments that the host writes, results that the kernel writes; and
the table of words that the module's bench reads.
"""

from __future__ import annotations

from collections.abc import Iterator

from neuralmatrix.hardware.registers import KERNELS, Argument, Register, registers

ADDRESS_BITS = 8

_HEAD = """\
// SPDX-License-Identifier: Apache-2.0
// The control registers of {kernel}, from neuralmatrix/hardware/registers.py.
// `arguments`: what the host wrote, 32 bits a word, in the order of the kernel's signature.
// `results`, `valid`: what the kernel reports, in the same order, and when.
module {name} (
    input clk,
    input rst_n,
    input awvalid,
    output awready,
    input [{top}:0] awaddr,
    input wvalid,
    output wready,
    input [31:0] wdata,
    input [3:0] wstrb,
    output bvalid,
    input bready,
    input arvalid,
    output arready,
    input [{top}:0] araddr,
    output rvalid,
    input rready,
    output reg [31:0] rdata,
    output irq,
    output start,
    input done,
    input idle,
    input ready,
    output [{arguments}:0] arguments,
    input [{results}:0] results,
    input [{reports}:0] valid
);
    // One write and one read at a time: address, data, response.
    reg [1:0] writing;
    reg reading;
    reg [{top}:0] at;
    wire write = writing == 1 && wvalid;
    wire read = arvalid && arready;
    wire [15:0] low = {{{{8{{wstrb[1]}}}}, {{8{{wstrb[0]}}}}}};
    wire [31:0] mask = {{{{8{{wstrb[3]}}}}, {{8{{wstrb[2]}}}}, low}};
    assign awready = writing == 0;
    assign wready = writing == 1;
    assign bvalid = writing == 2;
    assign arready = !reading;
    assign rvalid = reading;
    always @(posedge clk) begin
        if (!rst_n) begin
            writing <= 0;
            reading <= 0;
        end else begin
            case (writing)
                0: if (awvalid) writing <= 1;
                1: if (wvalid) writing <= 2;
                default: if (bready) writing <= 0;
            endcase
            reading <= read || (reading && !rready);
        end
        if (awvalid && awready) at <= awaddr;
    end

    // ap_ctrl_hs, restart, and the interrupts of done and ready.
    reg started, restart, finished, enabled;
    reg [1:0] watched, pending;
    assign start = started;
    assign irq = enabled && |pending;
    always @(posedge clk) begin
        if (!rst_n) begin
            started <= 0;
            restart <= 0;
            finished <= 0;
            enabled <= 0;
            watched <= 0;
            pending <= 0;
        end else begin
            if (write && at == 8'h00 && wstrb[0]) restart <= wdata[7];
            if (write && at == 8'h00 && wstrb[0] && wdata[0]) started <= 1;
            else if (ready) started <= restart;
            finished <= done || (finished && !(read && araddr == 8'h00));
            if (write && at == 8'h04 && wstrb[0]) enabled <= wdata[0];
            if (write && at == 8'h08 && wstrb[0]) watched <= wdata[1:0];
            pending <= (pending ^ (write && at == 8'h0c && wstrb[0] ? wdata[1:0] : 2'd0))
                | (watched & {{ready, done}});
        end
    end
"""

_ARGUMENT = """\
    reg [31:0] {name};
    assign arguments[{high}:{low}] = {name};
    always @(posedge clk)
        if (!rst_n) {name} <= 0;
        else if (write && at == {offset}) {name} <= (wdata & mask) | ({name} & ~mask);
"""

_RESULT = """\
    reg [31:0] {name};
    always @(posedge clk)
        if (!rst_n) {name} <= 0;
        else if (valid[{report}]) {name} <= results[{high}:{low}];
"""

_VALID = """\
    reg {name};
    always @(posedge clk)
        if (!rst_n) {name} <= 0;
        else {name} <= valid[{report}] || ({name} && !(read && araddr == {offset}));
"""

_READ = """\

    always @(posedge clk)
        if (read)
            case (araddr)
                8'h00: rdata <= {{24'd0, restart, 3'd0, ready, idle, finished, started}};
                8'h04: rdata <= {{31'd0, enabled}};
                8'h08: rdata <= {{30'd0, watched}};
                8'h0c: rdata <= {{30'd0, pending}};
{cases}
                default: rdata <= 0;
            endcase
endmodule
"""


def module_name(kernel: str) -> str:
    """Name the module of a kernel's registers."""
    return f"registers_{kernel}"


def _owners(kernel: str) -> Iterator[tuple[Register, Argument]]:
    """List each word of the address map with the argument it belongs to."""
    found = {argument.name: argument for argument in KERNELS[kernel]}
    for word in registers(kernel):
        base = word.name.removesuffix("_ctrl")
        yield word, found.get(base) or found[base.rpartition("_")[0]]


def _hex(offset: int) -> str:
    return f"8'h{offset:02x}"


def _words(kernel: str) -> Iterator[str]:
    """Make the registers in the order of the address map."""
    written = read = 0
    reports = [argument for argument in KERNELS[kernel] if argument.output]
    for word, argument in _owners(kernel):
        facts = {"name": f"r_{word.name}", "offset": _hex(word.offset)}
        if word.writable:
            yield _ARGUMENT.format(**facts, low=32 * written, high=32 * written + 31)
            written += 1
        elif word.name.endswith("_ctrl"):
            yield _VALID.format(**facts, report=reports.index(argument))
        else:
            place = {"low": 32 * read, "high": 32 * read + 31}
            yield _RESULT.format(**facts, **place, report=reports.index(argument))
            read += 1


def verilog(kernel: str) -> str:
    """Make the text of a kernel's register file.

    >>> "module registers_fetch (" in verilog("fetch")
    True
    """
    words = registers(kernel)
    writable = sum(word.writable for word in words)
    reports = sum(argument.output for argument in KERNELS[kernel])
    head = _HEAD.format(
        kernel=kernel,
        name=module_name(kernel),
        top=ADDRESS_BITS - 1,
        arguments=max(32 * writable, 1) - 1,
        results=32 * (len(words) - writable - reports) - 1,
        reports=reports - 1,
    )
    cases = "\n".join(
        f"                {_hex(word.offset)}: rdata <= r_{word.name};" for word in words
    )
    return head + "".join(_words(kernel)) + _READ.format(cases=cases)


def bench_table(kernel: str) -> str:
    """List the words for the bench: offset, kind (0 argument, 1 result, 2 valid), report."""
    reports = [argument for argument in KERNELS[kernel] if argument.output]
    rows = []
    for word, argument in _owners(kernel):
        kind = 0 if word.writable else 2 if word.name.endswith("_ctrl") else 1
        report = reports.index(argument) if argument.output else 0
        rows.append(f"    {{0x{word.offset:02x}, {kind}, {report}}},")
    head = ["#include <stdint.h>", "struct Word { uint32_t offset; int kind, report; };"]
    return "\n".join([*head, "static const Word WORDS[] = {", *rows, "};", ""])
