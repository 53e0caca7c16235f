// SPDX-License-Identifier: Apache-2.0
// Against a memory that stalls at random: bursts keep AXI3's rules, W carries the beats of its
// bursts without a pause of the FIFO, and a request has one response, after all of its bursts'.
#include "bench.h"
#include "nm/config.h"

constexpr int BYTES = nm::STORE_PORT_BYTES;
constexpr uint32_t ALL = (1u << BYTES) - 1;

struct Beat {
    uint64_t words[BYTES / 8];
};

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    std::deque<uint64_t> left, owed; // beats to ask for; beats that the kernel owes as data
    std::deque<Beat> sent;               // data in the FIFO
    std::deque<int> asked, carried;  // lengths of bursts, as AW and as W show them
    std::deque<uint32_t> request_beats;
    uint64_t requests = 0, responses = 0, written = 0, answered = 0, bursts = 0;
    uint64_t finished = 0; // beats that the memory has confirmed
    std::deque<int> to_confirm;
    int beat = 0;
    for (uint64_t k = 0; written < wanted(argv); ++k) {
        const uint64_t page = rnd() % 4 * 4096, edge = chance(50) ? rnd() % 4096 : 4096 - 64;
        dut.request_valid = owed.size() < 500 && chance(20);
        dut.request_address = (1ull << 33) + page + edge / BYTES * BYTES;
        dut.request_beats = chance(20) ? 1 + rnd() % 600 : 1 + rnd() % 20;
        dut.data_valid = !owed.empty() && chance(70);
        Beat data;
        for (uint64_t& word : data.words)
            word = rnd();
        memcpy(&dut.data, &data, BYTES);
        dut.strobe = ALL;
        dut.awready = chance(60), dut.wready = chance((k >> 14) % 2 ? 95 : 40);
        dut.bvalid = !to_confirm.empty() && chance(50);
        const int confirmed = dut.bvalid ? to_confirm.front() : 0;
        dut.response_ready = chance(50);
        settle(dut);
        if (dut.data_valid && dut.data_ready)
            sent.push_back(data), owed.pop_front();
        if (dut.request_valid && dut.request_ready) {
            ++requests;
            request_beats.push_back(dut.request_beats);
            for (uint32_t i = 0; i < dut.request_beats; ++i) {
                left.push_back(dut.request_address + uint64_t(i) * BYTES);
                owed.push_back(left.back());
            }
        }
        if (dut.wvalid && dut.wready) {
            EXPECT(!sent.empty() && dut.wstrb == ALL);
            EXPECT(memcmp(&dut.wdata, &sent.front(), BYTES) == 0);
            sent.pop_front(), ++written, ++beat;
            if (dut.wlast)
                carried.push_back(beat), beat = 0;
        } else if (beat != 0) {
            EXPECT(dut.wvalid); // a burst that has begun has all its beats
        }
        if (dut.awvalid && dut.awready) {
            const int count = dut.awlen + 1;
            EXPECT(count <= 16 && dut.awaddr % 4096 + unsigned(count) * BYTES <= 4096);
            for (int i = 0; i < count; ++i) {
                EXPECT(!left.empty() && left.front() == dut.awaddr + uint64_t(i) * BYTES);
                left.pop_front();
            }
            asked.push_back(count), ++bursts;
        }
        // W may run ahead of AW; the memory confirms what both have shown.
        for (; !asked.empty() && !carried.empty(); asked.pop_front(), carried.pop_front()) {
            EXPECT(asked.front() == carried.front());
            to_confirm.push_back(asked.front());
        }
        if (dut.bvalid && dut.bready)
            finished += uint64_t(confirmed), to_confirm.pop_front();
        if (dut.response_valid && dut.response_ready) {
            EXPECT(!request_beats.empty());
            answered += request_beats.front(), request_beats.pop_front();
            EXPECT(answered <= finished);
            ++responses;
        }
        step(dut);
    }
    EXPECT(!dut.fault && bursts > requests && responses + 40 > requests);
    return passed(written);
}
