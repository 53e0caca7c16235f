// SPDX-License-Identifier: Apache-2.0
// Every word comes out once, in order, under random stalls of both sides; full means DEPTH or more.
#include "Vqueue.h"
#include "bench.h"

int main() {
    Vqueue dut;
    reset(dut);
    std::deque<uint32_t> inside;
    size_t most = 0;
    uint64_t passed = 0;
    for (int k = 0; k < 200000; ++k) {
        const unsigned load = (k >> 12) % 3 * 45 + 5; // seldom, often, nearly always
        dut.s_valid = chance(load);
        dut.s_data = uint32_t(rnd()) & 0xffff;
        dut.m_ready = chance(100 - load);
        settle(dut);
        EXPECT(dut.s_ready || inside.size() >= 16);
        EXPECT(!dut.m_valid || !inside.empty());
        if (dut.m_valid && dut.m_ready) {
            EXPECT(dut.m_data == inside.front());
            inside.pop_front(), ++passed;
        }
        if (dut.s_valid && dut.s_ready)
            inside.push_back(dut.s_data);
        most = inside.size() > most ? inside.size() : most;
        step(dut);
    }
    EXPECT(most == 17 && passed > 30000);
    printf("%lu words\n", (unsigned long)passed);
}
