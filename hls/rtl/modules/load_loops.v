// SPDX-License-Identifier: Apache-2.0
// The loops of a LOAD: load_walk's lines and padding, and load_run's words within a run.
module load_loops #(
    parameter ROWS = 16,
    parameter BYTES = 8
) (
    input clk,
    input rst_n,
    input start,
    output done,  // for one cycle
    input [15:0] n2, n1, n0,
    input [31:0] s2, s1, s0, lane_stride,
    input [7:0] pad_left, pad_right,
    input [63:0] first,  // address of the first byte
    input [15:0] dst,
    // products of counts: words of all lines, of padding before the first and after the last
    input [31:0] all, top, bottom,
    // the memory port
    output request_valid,
    input request_ready,
    output [63:0] request_address,
    output [31:0] request_beats,
    input data_valid,
    output data_ready,
    input [8*BYTES-1:0] data,
    // a padding word goes to `pad_at`; a word is complete and goes to `at`
    output pad,
    output [15:0] pad_at,
    output write,
    output [15:0] at,
    output gather,
    output [8*ROWS-1:0] word,  // that was gathered
    output run_start,
    output carry,  // the beat before the first word's own arrives
    output [63:0] run_address
);
    wire run_done;
    wire [31:0] run_words;
    assign gather = lane_stride != 1;

    load_walk #(.ROWS(ROWS)) walk (
        .clk(clk), .rst_n(rst_n), .start(start), .done(done),
        .n2(n2), .n1(n1), .n0(n0), .s2(s2), .s1(s1), .s0(s0), .lane_stride(lane_stride),
        .pad_left(pad_left), .pad_right(pad_right), .first(first), .dst(dst),
        .all(all), .top(top), .bottom(bottom),
        .pad(pad), .run_start(run_start), .run_done(run_done),
        .run_address(run_address), .run_words(run_words), .at(pad_at)
    );
    load_run #(.ROWS(ROWS), .BYTES(BYTES)) run (
        .clk(clk), .rst_n(rst_n), .start(run_start), .done(run_done), .gather(gather),
        .address(run_address), .words(run_words), .lane_stride(lane_stride), .first(pad_at),
        .request_valid(request_valid), .request_ready(request_ready),
        .request_address(request_address), .request_beats(request_beats),
        .data_valid(data_valid), .data_ready(data_ready), .data(data),
        .write(write), .at(at), .word(word), .carry(carry)
    );
endmodule
