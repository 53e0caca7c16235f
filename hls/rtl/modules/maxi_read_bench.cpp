// SPDX-License-Identifier: Apache-2.0
// Against a memory of random latency: bursts keep AXI3's rules, the beats of every request arrive
// in order, and R is never made to wait.
#include "bench.h"
#include "nm/config.h"

constexpr int BYTES = nm::LOAD_PORT_BYTES;

struct Burst {
    uint64_t address;
    int beats;
};

struct Beat {
    uint64_t words[BYTES / 8];
};

static Beat beat_at(uint64_t address) {
    Beat beat;
    for (uint64_t& word : beat.words)
        word = (address += 8) * 0x9e3779b97f4a7c15ull + 12345;
    return beat;
}

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    std::deque<Burst> asked; // bursts that the memory owes
    std::deque<uint64_t> expected, left; // beats that the kernel waits for; beats to ask for
    uint64_t beats = 0, bursts = 0, requests = 0;
    for (uint64_t k = 0; beats < wanted(argv); ++k) {
        const uint64_t page = rnd() % 4 * 4096, edge = chance(50) ? rnd() % 4096 : 4096 - 64;
        dut.request_valid = chance(10);
        dut.request_address = (1ull << 33) + page + edge / BYTES * BYTES;
        dut.request_beats = chance(20) ? 1 + rnd() % 600 : 1 + rnd() % 20;
        dut.data_ready = chance((k >> 14) % 2 ? 95 : 40);
        dut.arready = chance(60);
        dut.rvalid = !asked.empty() && chance(80);
        const Beat beat = beat_at(asked.empty() ? 0 : asked.front().address);
        memcpy(&dut.rdata, &beat, BYTES);
        settle(dut);
        if (dut.request_valid && dut.request_ready) {
            ++requests;
            for (uint32_t i = 0; i < dut.request_beats; ++i) {
                expected.push_back(dut.request_address + uint64_t(i) * BYTES);
                left.push_back(expected.back());
            }
        }
        if (dut.rvalid) {
            EXPECT(dut.rready);
            asked.front().address += BYTES;
            if (--asked.front().beats == 0)
                asked.pop_front();
        }
        if (dut.arvalid && dut.arready) {
            const int count = dut.arlen + 1;
            EXPECT(count <= 16 && dut.araddr % 4096 + unsigned(count) * BYTES <= 4096);
            for (int i = 0; i < count; ++i) {
                EXPECT(!left.empty() && left.front() == dut.araddr + uint64_t(i) * BYTES);
                left.pop_front();
            }
            asked.push_back({dut.araddr, count});
            ++bursts;
        }
        if (dut.data_valid && dut.data_ready) {
            EXPECT(!expected.empty());
            const Beat beat = beat_at(expected.front());
            EXPECT(memcmp(&dut.data, &beat, BYTES) == 0);
            expected.pop_front(), ++beats;
        }
        step(dut);
    }
    EXPECT(!dut.fault && bursts > requests);
    return passed(beats);
}
