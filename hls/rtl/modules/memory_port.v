// SPDX-License-Identifier: Apache-2.0
// One port of an on-chip memory that several loops of a kernel use in turn: the choice of address
// and data, and the enables of the memories that share them.
module memory_port #(
    parameter SOURCES = 3,  // loops
    parameter MEMORIES = 7,  // that the data may go to
    parameter ADDRESS = 16,
    parameter WIDTH = 128  // of the data; 1 where a port only reads
) (
    input [SOURCES-1:0] use_it,  // at most one of them
    input [SOURCES*ADDRESS-1:0] addresses,
    input [SOURCES*WIDTH-1:0] words,
    input [$clog2(MEMORIES+1)-1:0] memory,
    output reg [ADDRESS-1:0] address,
    output reg [WIDTH-1:0] word,
    output [MEMORIES-1:0] enable
);
    integer i;
    always @* begin
        address = addresses[0+:ADDRESS];
        word = words[0+:WIDTH];
        for (i = 1; i < SOURCES; i = i + 1)
            if (use_it[i]) begin
                address = addresses[i*ADDRESS+:ADDRESS];
                word = words[i*WIDTH+:WIDTH];
            end
    end

    genvar m;
    generate
        for (m = 0; m < MEMORIES; m = m + 1) begin : each
            assign enable[m] = |use_it && memory == m;
        end
    endgenerate
endmodule
