// SPDX-License-Identifier: Apache-2.0
// The read half of an m_axi port: requests ahead of data, bursts of at most 16 beats, and a FIFO
// whose free places are promised to a burst before it is asked for, so that R never waits.
module maxi_read #(
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
    output data_valid,
    input data_ready,
    output [8*BYTES-1:0] data,
    // AXI
    output arvalid,
    input arready,
    output [63:0] araddr,
    output [3:0] arlen,
    input rvalid,
    output rready,
    input [8*BYTES-1:0] rdata,
    input [1:0] rresp,
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

    wire burst_valid, burst_ready;
    burst_split #(.BYTES(BYTES)) split (
        .clk(clk), .rst_n(rst_n),
        .request_valid(queued_valid), .request_ready(queued_ready),
        .request_address(queued[63:0]), .request_beats(queued[95:64]),
        .burst_valid(burst_valid), .burst_ready(burst_ready),
        .burst_address(araddr), .burst_length(arlen), .burst_last()
    );

    // Places that no beat has been promised.
    reg [BITS:0] free;
    wire [4:0] beats = arlen + 1'b1;
    wire taken = data_valid && data_ready;
    wire asked = arvalid && arready;
    assign arvalid = burst_valid && free >= beats;
    assign burst_ready = arready && free >= beats;

    queue #(.WIDTH(8 * BYTES), .DEPTH(DEPTH), .BLOCK(1)) beats_read (
        .clk(clk), .rst_n(rst_n),
        .s_valid(rvalid), .s_ready(rready), .s_data(rdata),
        .m_valid(data_valid), .m_ready(data_ready), .m_data(data)
    );

    always @(posedge clk) begin
        if (!rst_n) begin
            free <= DEPTH;
            fault <= 0;
        end else begin
            free <= free + taken - (asked ? beats : 5'd0);
            fault <= fault || (rvalid && rready && rresp[1]);
        end
    end
endmodule
