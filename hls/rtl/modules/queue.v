// SPDX-License-Identifier: Apache-2.0
// A queue of words with valid and ready on both sides and a register at its output: in LUT RAM
// between kernels, in block RAM behind a memory port.  It holds DEPTH words and one in the register.
module queue #(
    parameter WIDTH = 512,
    parameter DEPTH = 32,
    parameter BLOCK = 0  // 1: block RAM
) (
    input clk,
    input rst_n,
    input s_valid,
    output s_ready,
    input [WIDTH-1:0] s_data,
    output m_valid,
    input m_ready,
    output [WIDTH-1:0] m_data
);
    localparam BITS = $clog2(DEPTH);

    reg [BITS:0] head, tail;  // one bit more than an address: the lap
    reg filled;
    reg [WIDTH-1:0] out;

    wire empty = head == tail;
    wire full = head[BITS-1:0] == tail[BITS-1:0] && head[BITS] != tail[BITS];
    wire enter = s_valid && s_ready;
    wire move = !empty && (!filled || m_ready);

    assign s_ready = !full;
    assign m_valid = filled;
    assign m_data = out;

    generate
        if (BLOCK) begin : in_block_ram
            (* ram_style = "block" *) reg [WIDTH-1:0] words[0:DEPTH-1];
            always @(posedge clk) begin
                if (enter) words[tail[BITS-1:0]] <= s_data;
                if (move) out <= words[head[BITS-1:0]];
            end
        end else begin : in_lut_ram
            (* ram_style = "distributed" *) reg [WIDTH-1:0] words[0:DEPTH-1];
            always @(posedge clk) begin
                if (enter) words[tail[BITS-1:0]] <= s_data;
                if (move) out <= words[head[BITS-1:0]];
            end
        end
    endgenerate

    always @(posedge clk) begin
        if (!rst_n) begin
            head <= 0;
            tail <= 0;
            filled <= 0;
        end else begin
            if (enter) tail <= tail + 1'b1;
            if (move) head <= head + 1'b1;
            filled <= move || (filled && !m_ready);
        end
    end
endmodule
