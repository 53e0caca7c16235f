// SPDX-License-Identifier: Apache-2.0
// FETCH, as hls/src/fetch.cpp states it: an instruction's beats and their sum, its queue, and END to
// all three.  What the instruction says comes decoded.
module fetch_loop #(
    parameter BYTES = 8
) (
    input clk,
    input rst_n,
    input start,
    output done,
    output idle,
    input [63:0] now,
    input [63:0] code,
    input [31:0] count,
    // the memory port
    output request_valid,
    input request_ready,
    output [63:0] request_address,
    output [31:0] request_beats,
    input data_valid,
    output data_ready,
    input [8*BYTES-1:0] data,
    // the instruction and its meaning
    output reg [511:0] insn,
    input is_end,
    input is_unknown,
    input [2:0] unit,  // one of three
    // the queues
    output [2:0] to_valid,
    input [2:0] to_ready,
    output [511:0] to_data,
    // results
    output reg [63:0] began,
    output reg [31:0] fault,
    output reg [31:0] checksum
);
    localparam BEATS = 64 / BYTES;
    localparam WORDS = BYTES / 4;
    localparam IDLE = 0, ASK = 1, TAKE = 2, DECODE = 3, SEND = 4, CLOSE = 5, LAST = 6;

    reg [2:0] state;
    reg [31:0] left;
    reg [63:6] at;
    reg [3:0] beat;
    reg [2:0] open;  // queues that END has not reached

    wire last_beat = beat == BEATS - 1;
    assign idle = state == IDLE;
    assign done = state == LAST;
    assign request_valid = state == ASK && left != 0;
    assign request_address = {at, 6'd0};
    assign request_beats = BEATS;
    assign data_ready = state == TAKE;
    assign to_valid = state == SEND ? unit : state == CLOSE ? open : 3'd0;
    assign to_data = state == CLOSE ? 512'd0 : insn;

    reg [31:0] sum;  // of a beat's words and those before
    integer k;
    always @* begin
        sum = checksum;
        for (k = 0; k < WORDS; k = k + 1) sum = sum + data[32*k+:32];
    end

    always @(posedge clk) begin
        if (!rst_n) state <= IDLE;
        else
            case (state)
                IDLE: if (start && !now[63]) state <= ASK;
                ASK: if (left == 0) state <= CLOSE; else if (request_ready) state <= TAKE;
                TAKE: if (data_valid && last_beat) state <= DECODE;
                DECODE: state <= is_end ? CLOSE : is_unknown ? ASK : SEND;
                SEND: if (|(unit & to_ready)) state <= ASK;
                CLOSE: if ((open & ~to_ready) == 0) state <= LAST;
                default: state <= IDLE;
            endcase

        case (state)
            IDLE: begin
                left <= count;
                at <= code[63:6];
                beat <= 0;
                open <= 3'b111;
                if (start) began <= now;
                if (start) fault <= 0;
                if (start) checksum <= 0;
            end
            TAKE:
                if (data_valid) begin
                    for (k = 0; k < BEATS; k = k + 1)
                        if (beat == k) insn[8*BYTES*k+:8*BYTES] <= data;
                    checksum <= sum;
                    beat <= last_beat ? 4'd0 : beat + 1'b1;
                end
            DECODE: begin
                left <= left - 1'b1;
                at <= at + 1'b1;
                if (is_unknown && !is_end) fault <= fault | 32'd2;
            end
            CLOSE: open <= open & ~to_ready;
            default: ;
        endcase
    end
endmodule
