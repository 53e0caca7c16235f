// SPDX-License-Identifier: Apache-2.0
// One run of a LOAD: the request for its beats, the count of its words, or the bytes of a word that
// is gathered one by one.  Shifting beats to words is a unit of its own.
module load_run #(
    parameter ROWS = 16,
    parameter BYTES = 8
) (
    input clk,
    input rst_n,
    input start,
    output done,  // for one cycle
    input gather,
    input [63:0] address,
    input [31:0] words,
    input [31:0] lane_stride,
    input [15:0] first,  // place of the first word
    // the memory port
    output request_valid,
    input request_ready,
    output [63:0] request_address,
    output [31:0] request_beats,
    input data_valid,
    output data_ready,
    input [8*BYTES-1:0] data,
    // a word is complete and goes to `at`; of a gather it is in `word`
    output write,
    output [15:0] at,
    output reg [8*ROWS-1:0] word,
    output carry  // the beat before the first word's own
);
    localparam SHIFT = $clog2(BYTES);
    localparam BEATS = ROWS / BYTES;
    localparam IDLE = 0, ASK = 1, CARRY = 2, TAKE = 3, BYTE = 4, PUT = 5, END = 6;

    reg [2:0] state;
    reg [63:0] next;
    reg [31:0] word_number;
    reg [$clog2(ROWS):0] count;  // beats of a word, or bytes of a gathered one

    wire skewed = address[SHIFT-1:0] != 0;
    wire last_word = word_number + 1'b1 == words;
    wire last_beat = count == BEATS - 1;
    wire last_byte = count == ROWS - 1;
    wire taken = data_valid && data_ready;

    assign request_valid = state == ASK;
    assign request_address = {next[63:SHIFT], {SHIFT{1'b0}}};
    assign request_beats = gather ? 32'd1 : words * BEATS + skewed;
    assign data_ready = state == CARRY || state == TAKE || state == BYTE;
    assign carry = state == CARRY && data_valid;
    assign write = state == PUT || (state == TAKE && data_valid && last_beat);
    assign at = first + word_number[15:0];
    assign done = state == END;

    wire [7:0] lane = data >> {next[SHIFT-1:0], 3'd0};
    integer r;

    always @(posedge clk) begin
        if (!rst_n) state <= IDLE;
        else
            case (state)
                IDLE: if (start) state <= ASK;
                ASK: if (request_ready) state <= gather ? BYTE : skewed ? CARRY : TAKE;
                CARRY: if (data_valid) state <= TAKE;
                TAKE: if (data_valid && last_beat && last_word) state <= END;
                BYTE: if (data_valid) state <= last_byte ? PUT : ASK;
                PUT: state <= END;
                default: state <= IDLE;
            endcase

        case (state)
            IDLE: begin
                next <= address;
                word_number <= 0;
                count <= 0;
            end
            TAKE:
                if (data_valid) begin
                    count <= last_beat ? 0 : count + 1'b1;
                    if (last_beat) word_number <= word_number + 1'b1;
                end
            BYTE:
                if (taken) begin
                    count <= count + 1'b1;
                    next <= next + {{32{lane_stride[31]}}, lane_stride};
                    for (r = 0; r < ROWS; r = r + 1) if (count == r) word[8*r+:8] <= lane;
                end
            default: ;
        endcase
    end
endmodule
