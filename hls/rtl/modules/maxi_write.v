// SPDX-License-Identifier: Apache-2.0
// The write half of an m_axi port: a burst is asked for when all its beats wait in the FIFO, so
// that W never stalls the memory controller; one response per request, after its last burst.
module maxi_write #(
    parameter BYTES = 8,
    parameter DEPTH = 256  // beats: 16 bursts of 16
) (
    input clk,
    input rst_n,
    // the kernel's side
    input request_valid,
    output request_ready,
    input [63:0] request_address,
    input [31:0] request_beats,
    input data_valid,
    output data_ready,
    input [8*BYTES-1:0] data,
    input [BYTES-1:0] strobe,
    output response_valid,
    input response_ready,
    // AXI
    output reg awvalid,
    input awready,
    output reg [63:0] awaddr,
    output reg [3:0] awlen,
    output wvalid,
    input wready,
    output [8*BYTES-1:0] wdata,
    output [BYTES-1:0] wstrb,
    output wlast,
    input bvalid,
    output bready,
    input [1:0] bresp,
    output reg fault  // some response was not OKAY
);
    localparam BITS = $clog2(DEPTH);

    wire queued_valid, queued_ready;
    wire [95:0] queued;
    queue #(.WIDTH(96), .DEPTH(16)) requests (
        .clk(clk), .rst_n(rst_n),
        .s_valid(request_valid), .s_ready(request_ready),
        .s_data({request_beats, request_address}),
        .m_valid(queued_valid), .m_ready(queued_ready), .m_data(queued)
    );

    wire burst_valid, burst_ready, burst_last;
    wire [63:0] burst_address;
    wire [3:0] burst_length;
    burst_split #(.BYTES(BYTES)) split (
        .clk(clk), .rst_n(rst_n),
        .request_valid(queued_valid), .request_ready(queued_ready),
        .request_address(queued[63:0]), .request_beats(queued[95:64]),
        .burst_valid(burst_valid), .burst_ready(burst_ready),
        .burst_address(burst_address), .burst_length(burst_length), .burst_last(burst_last)
    );

    wire fifo_valid, fifo_ready;
    queue #(.WIDTH(9 * BYTES), .DEPTH(DEPTH), .BLOCK(1)) beats_written (
        .clk(clk), .rst_n(rst_n),
        .s_valid(data_valid), .s_ready(data_ready), .s_data({strobe, data}),
        .m_valid(fifo_valid), .m_ready(fifo_ready), .m_data({wstrb, wdata})
    );

    // Bursts asked for: their lengths wait for W, their place in the request for B.
    wire lengths_ready, lasts_ready;
    wire length_valid, length_taken;
    wire [3:0] length;
    wire last_valid, last;
    queue #(.WIDTH(4), .DEPTH(16)) lengths (
        .clk(clk), .rst_n(rst_n),
        .s_valid(issue && lasts_ready), .s_ready(lengths_ready), .s_data(burst_length),
        .m_valid(length_valid), .m_ready(length_taken), .m_data(length)
    );
    queue #(.WIDTH(1), .DEPTH(16)) lasts (
        .clk(clk), .rst_n(rst_n),
        .s_valid(issue && lengths_ready), .s_ready(lasts_ready), .s_data(burst_last),
        .m_valid(last_valid), .m_ready(bvalid && bready), .m_data(last)
    );

    // Beats that wait and belong to no burst yet.
    reg [BITS:0] waiting;
    wire entered = data_valid && data_ready;
    wire [4:0] beats = burst_length + 1'b1;
    wire issue = burst_valid && waiting >= beats && (!awvalid || awready);
    assign burst_ready = issue && lengths_ready && lasts_ready;
    wire issued = burst_valid && burst_ready;

    reg [3:0] beat;
    assign wvalid = fifo_valid && length_valid;
    assign wlast = beat == length;
    assign fifo_ready = wready && length_valid;
    assign length_taken = wvalid && wready && wlast;

    reg [7:0] answers;  // responses that the kernel has not taken
    wire answered = bvalid && bready && last;
    assign bready = last_valid && !(&answers);
    assign response_valid = answers != 0;

    always @(posedge clk) begin
        if (!rst_n) begin
            awvalid <= 0;
            waiting <= 0;
            beat <= 0;
            answers <= 0;
            fault <= 0;
        end else begin
            awvalid <= issued || (awvalid && !awready);
            waiting <= waiting + entered - (issued ? beats : 5'd0);
            if (wvalid && wready) beat <= wlast ? 4'd0 : beat + 1'b1;
            answers <= answers + answered - (response_valid && response_ready);
            fault <= fault || (bvalid && bready && bresp[1]);
        end
        if (issued) begin
            awaddr <= burst_address;
            awlen <= burst_length;
        end
    end
endmodule
