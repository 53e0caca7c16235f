// SPDX-License-Identifier: Apache-2.0
// The loops of a LOAD around its runs, as hls/src/load.cpp states them: blocks, lines, padding
// words before and after a line, and runs of words.  The instruction's fields come decoded.
module load_walk #(
    parameter ROWS = 16
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
    // products of counts, which a unit of its own makes
    input [31:0] all, top, bottom,
    // a padding word at `at`, or a run that begins there
    output pad,
    output run_start,
    input run_done,
    output [63:0] run_address,
    output [31:0] run_words,
    output reg [15:0] at
);
    localparam IDLE = 0, SET = 1, BLOCK = 2, LINE = 3, BEFORE = 4, RUN = 5, WAIT = 6, AFTER = 7,
        NEXT = 8;
    localparam [31:0] ROWS_32 = ROWS;
    reg [3:0] state;

    wire gather = lane_stride != 1;
    wire dense = !gather && (s0 == ROWS || n0 == 1);
    wire merged = dense && pad_left == 0 && pad_right == 0 && s1 == n0 * ROWS_32;

    reg [15:0] rows, block_left, line_left;
    reg [31:0] columns, columns_left, run, pads_ahead, pads_behind;
    reg [63:0] block, line, address;

    assign pad = (state == BEFORE && pads_ahead != 0) || (state == AFTER && pads_behind != 0);
    assign run_start = state == RUN && columns_left != 0;
    assign run_address = address;
    assign run_words = run;
    assign done = state == BLOCK && block_left == 0;

    wire first_line = line_left == rows;
    wire last_line = line_left == 1;

    always @(posedge clk) begin
        if (!rst_n) state <= IDLE;
        else
            case (state)
                IDLE: if (start) state <= SET;
                BLOCK: state <= block_left == 0 ? IDLE : LINE;
                LINE: state <= line_left == 0 ? NEXT : BEFORE;
                BEFORE: if (pads_ahead == 0) state <= RUN;
                RUN: state <= columns_left == 0 ? AFTER : WAIT;
                WAIT: if (run_done) state <= RUN;
                AFTER: if (pads_behind == 0) state <= LINE;
                NEXT: state <= BLOCK;
                default: state <= state + 1'b1;
            endcase

        case (state)
            IDLE: begin
                at <= dst;
                block <= first;
                block_left <= n2;
            end
            SET: begin
                rows <= merged ? 16'd1 : n1;
                columns <= merged ? all : n0;
                run <= !dense ? 32'd1 : merged ? all : n0;
            end
            BLOCK: begin
                line <= block;
                line_left <= rows;
            end
            LINE: begin
                pads_ahead <= pad_left + (first_line ? top : 32'd0);
                pads_behind <= pad_right + (last_line ? bottom : 32'd0);
                address <= line;
                columns_left <= columns;
            end
            BEFORE: if (pads_ahead != 0) pads_ahead <= pads_ahead - 1'b1;
            WAIT:
                if (run_done) begin
                    columns_left <= columns_left - run;
                    address <= address + {{32{s0[31]}}, s0};
                end
            AFTER:
                if (pads_behind != 0) pads_behind <= pads_behind - 1'b1;
                else begin
                    line <= line + {{32{s1[31]}}, s1};
                    line_left <= line_left - 1'b1;
                end
            NEXT: begin
                block <= block + {{32{s2[31]}}, s2};
                block_left <= block_left - 1'b1;
            end
            default: ;
        endcase
        if (pad) at <= at + 1'b1;
        else if (state == WAIT && run_done) at <= at + run[15:0];
    end
endmodule
