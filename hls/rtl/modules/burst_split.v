// SPDX-License-Identifier: Apache-2.0
// Splits a request of any number of beats into bursts that AXI3 allows: at most MOST beats, none
// across a border of 4 KiB.  `burst_last` marks the last one of a request.
module burst_split #(
    parameter BYTES = 8,  // of a beat
    parameter MOST = 16
) (
    input clk,
    input rst_n,
    input request_valid,
    output request_ready,
    input [63:0] request_address,  // a multiple of BYTES
    input [31:0] request_beats,  // at least 1
    output burst_valid,
    input burst_ready,
    output [63:0] burst_address,
    output [3:0] burst_length,  // beats less one, as AXI counts
    output burst_last
);
    localparam SHIFT = $clog2(BYTES);
    localparam PAGE = 12 - SHIFT;  // bits of a beat's number within 4 KiB

    reg busy;
    reg [63:SHIFT] at;
    reg [31:0] left;

    wire [PAGE:0] to_border = (1 << PAGE) - at[11:SHIFT];
    wire [4:0] room = to_border < MOST ? to_border[4:0] : MOST;
    assign burst_last = left <= room;
    wire [4:0] beats = burst_last ? left[4:0] : room;

    assign request_ready = !busy || (burst_ready && burst_last);
    assign burst_valid = busy;
    assign burst_address = {at, {SHIFT{1'b0}}};
    assign burst_length = beats - 1'b1;

    always @(posedge clk) begin
        if (!rst_n) busy <= 0;
        else if (request_valid && request_ready) busy <= 1;
        else if (burst_ready && burst_last) busy <= 0;

        if (request_valid && request_ready) begin
            at <= request_address[63:SHIFT];
            left <= request_beats;
        end else if (busy && burst_ready) begin
            at <= at + beats;
            left <= left - beats;
        end
    end
endmodule
