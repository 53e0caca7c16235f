// SPDX-License-Identifier: Apache-2.0
// The loop of LOAD, COMPUTE and STORE around their instructions: read one, wait for its tokens, run
// it between two readings of the clock, count it, send its tokens, until END.  What the
// instruction says comes decoded; `tokens` are those of the two other units.
module sequencer (
    input clk,
    input rst_n,
    input start,
    output done,
    output idle,
    input [63:0] now,
    // the queue of instructions
    input queue_valid,
    output queue_ready,
    input [511:0] queue_data,
    output reg [511:0] insn,
    input is_end,
    input [1:0] waits,
    input [1:0] signals,
    // tokens
    input [1:0] from_valid,
    output [1:0] from_ready,
    output [1:0] to_valid,
    input [1:0] to_ready,
    // the unit's own work, which may refuse an instruction for a reason
    output run,
    input run_done,
    input [31:0] refused,
    // results
    output reg [63:0] busy,
    output reg [63:0] ended,
    output reg [31:0] retired,
    output reg [31:0] fault
);
    localparam IDLE = 0, READ = 1, DECODE = 2, WAIT = 3, WAIT_NEXT = 4, BEGIN = 5, RUN = 6, END = 7,
        COUNT = 8, SEND = 9, SEND_NEXT = 10, LAST = 11;
    reg [3:0] state;
    reg [31:0] began, spent, reasons;

    assign idle = state == IDLE;
    assign done = state == LAST;
    assign queue_ready = state == READ;
    assign from_ready[0] = state == WAIT && waits[0];
    assign from_ready[1] = state == WAIT_NEXT && waits[1];
    assign to_valid[0] = state == SEND && signals[0];
    assign to_valid[1] = state == SEND_NEXT && signals[1];
    assign run = state == BEGIN && !now[63];  // a reading of the clock is a loop, as in nm/clock.h

    always @(posedge clk) begin
        if (!rst_n) state <= IDLE;
        else
            case (state)
                IDLE: if (start) state <= READ;
                READ: if (queue_valid) state <= DECODE;
                DECODE: state <= !is_end ? WAIT : now[63] ? DECODE : LAST;
                WAIT: if (!waits[0] || from_valid[0]) state <= WAIT_NEXT;
                WAIT_NEXT: if (!waits[1] || from_valid[1]) state <= BEGIN;
                BEGIN: if (!now[63]) state <= RUN;
                RUN: if (run_done) state <= END;
                END: if (!now[63]) state <= COUNT;
                COUNT: state <= SEND;
                SEND: if (!signals[0] || to_ready[0]) state <= SEND_NEXT;
                SEND_NEXT: if (!signals[1] || to_ready[1]) state <= READ;
                default: state <= IDLE;
            endcase

        case (state)
            IDLE: begin
                busy <= 0;
                retired <= 0;
                fault <= 0;
            end
            READ: if (queue_valid) insn <= queue_data;
            DECODE: ended <= now;
            BEGIN: began <= now[31:0];
            RUN: reasons <= refused;
            END: spent <= now[31:0] - began;
            COUNT: begin
                busy <= busy + spent;
                retired <= retired + (reasons == 0);
                fault <= fault | reasons;
            end
            default: ;
        endcase
    end
endmodule
