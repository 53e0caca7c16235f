// SPDX-License-Identifier: Apache-2.0
// The loops of a STORE, as hls/src/store.cpp states them: blocks, lines, runs of words; each run is
// a request, its words as beats, and a response.  The instruction's fields come decoded.
module store_loops #(
    parameter COLS = 16,
    parameter BYTES = 8
) (
    input clk,
    input rst_n,
    input start,
    output done,  // for one cycle
    input [15:0] n2, n1, n0,
    input [31:0] s2, s1, s0,
    input [63:0] first,  // address of the first byte
    input [15:0] src,
    input [31:0] area,  // words of all lines, a product that a unit of its own makes
    input high_plane,
    // the output buffer's two byte planes, read one cycle later
    output [15:0] row,
    input [8*COLS-1:0] low,
    input [8*COLS-1:0] high,
    // the memory port
    output request_valid,
    input request_ready,
    output [63:0] request_address,
    output [31:0] request_beats,
    output reg data_valid,
    input data_ready,
    output reg [8*BYTES-1:0] data,
    input response_valid,
    output response_ready
);
    localparam BEATS = COLS / BYTES;
    localparam [31:0] COLS_32 = COLS;
    localparam IDLE = 0, SET = 2, BLOCK = 3, LINE = 4, RUN = 5, READ = 6, WORD = 7,
        ANSWER = 8, NEXT = 9, UP = 10;
    reg [3:0] state;

    wire dense = s0 == COLS || n0 == 1;
    wire merged = dense && s1 == n0 * COLS_32;

    reg [31:0] columns, columns_left, run, words_left;
    reg [15:0] rows, block_left, line_left, at;
    reg [63:0] block, line, address;
    reg [$clog2(BEATS+1)-1:0] beat;

    wire move = !data_valid || data_ready;
    wire last_beat = beat == BEATS - 1;
    wire [8*COLS-1:0] word = high_plane ? high : low;

    assign done = state == BLOCK && block_left == 0;
    assign row = state == WORD && move && last_beat ? at + 1'b1 : at;
    assign request_valid = state == RUN && columns_left != 0;
    assign request_address = address;
    assign request_beats = run * BEATS;
    assign response_ready = state == ANSWER;

    always @(posedge clk) begin
        if (!rst_n) begin
            state <= IDLE;
            data_valid <= 0;
        end else begin
            case (state)
                IDLE: if (start) state <= SET;
                BLOCK: state <= block_left == 0 ? IDLE : LINE;
                LINE: state <= line_left == 0 ? UP : RUN;
                RUN: if (columns_left == 0) state <= NEXT; else if (request_ready) state <= READ;
                WORD: if (move && last_beat && words_left == 1) state <= ANSWER;
                ANSWER: if (response_valid) state <= RUN;
                NEXT: state <= LINE;
                UP: state <= BLOCK;
                default: state <= state + 1'b1;
            endcase
            data_valid <= state == WORD || (data_valid && !data_ready);
        end

        case (state)
            IDLE: begin
                at <= src;
                block <= first;
                block_left <= n2;
                beat <= 0;
            end
            SET: begin
                rows <= merged ? 16'd1 : n1;
                columns <= merged ? area : n0;
                run <= !dense ? 32'd1 : merged ? area : n0;
            end
            BLOCK: begin
                line <= block;
                line_left <= rows;
            end
            LINE: begin
                address <= line;
                columns_left <= columns;
            end
            RUN: words_left <= run;
            WORD:
                if (move) begin
                    data <= word >> (beat * (8 * BYTES));
                    beat <= last_beat ? 0 : beat + 1'b1;
                    if (last_beat) begin
                        words_left <= words_left - 1'b1;
                        at <= at + 1'b1;
                    end
                end
            ANSWER:
                if (response_valid) begin
                    columns_left <= columns_left - run;
                    address <= address + {{32{s0[31]}}, s0};
                end
            NEXT: begin
                line <= line + {{32{s1[31]}}, s1};
                line_left <= line_left - 1'b1;
            end
            UP: begin
                block <= block + {{32{s2[31]}}, s2};
                block_left <= block_left - 1'b1;
            end
            default: ;
        endcase
    end
endmodule
