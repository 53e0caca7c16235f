// SPDX-License-Identifier: Apache-2.0
// Every word comes out once, in order, under random stalls of both sides; full means DEPTH or more.
#include "bench.h"

using Word = std::vector<uint8_t>;
constexpr size_t BYTES = (P_WIDTH + 7) / 8;

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    std::deque<Word> inside;
    size_t most = 0;
    uint64_t out = 0;
    for (uint64_t k = 0; out < wanted(argv) || most <= P_DEPTH; ++k) {
        const unsigned load = (k >> 12) % 3 * 45 + 5; // seldom, often, nearly always
        Word word(BYTES);
        for (uint8_t& byte : word)
            byte = uint8_t(rnd());
        memcpy(&dut.s_data, word.data(), BYTES);
        dut.s_valid = chance(load);
        dut.m_ready = chance(100 - load);
        settle(dut);
        EXPECT(dut.s_ready || inside.size() >= P_DEPTH);
        EXPECT(!dut.m_valid || !inside.empty());
        if (dut.m_valid && dut.m_ready) {
            EXPECT(memcmp(&dut.m_data, inside.front().data(), BYTES) == 0);
            inside.pop_front(), ++out;
        }
        if (dut.s_valid && dut.s_ready)
            inside.push_back(word);
        most = inside.size() > most ? inside.size() : most;
        EXPECT(most <= P_DEPTH + 1);
        step(dut);
    }
    return passed(out);
}
