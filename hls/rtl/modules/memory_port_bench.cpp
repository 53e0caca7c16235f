// SPDX-License-Identifier: Apache-2.0
// The chosen loop's address and word arrive, and exactly the chosen memory is enabled.
#include "bench.h"

// Bits of a port, which Verilator keeps in words of the machine's order.
static void put(void* port, size_t at, size_t width, const std::vector<bool>& bits) {
    uint8_t* const bytes = static_cast<uint8_t*>(port);
    for (size_t k = 0; k < width; ++k) {
        const uint8_t mask = uint8_t(1 << (at + k) % 8);
        uint8_t& byte = bytes[(at + k) / 8];
        byte = uint8_t(bits[k] ? byte | mask : byte & ~mask);
    }
}

static bool holds(const void* port, const std::vector<bool>& bits) {
    const uint8_t* const bytes = static_cast<const uint8_t*>(port);
    for (size_t k = 0; k < bits.size(); ++k)
        if ((bytes[k / 8] >> k % 8 & 1) != bits[k])
            return false;
    return true;
}

static std::vector<bool> random_bits(size_t width) {
    std::vector<bool> bits(width);
    for (size_t k = 0; k < width; ++k)
        bits[k] = rnd() % 2;
    return bits;
}

int main(int, char** argv) {
    static DUT dut;
    for (uint64_t k = 0; k < wanted(argv); ++k) {
        std::vector<bool> addresses[P_SOURCES], words[P_SOURCES];
        for (size_t s = 0; s < P_SOURCES; ++s) {
            addresses[s] = random_bits(P_ADDRESS), words[s] = random_bits(P_WIDTH);
            put(&dut.addresses, s * P_ADDRESS, P_ADDRESS, addresses[s]);
            put(&dut.words, s * P_WIDTH, P_WIDTH, words[s]);
        }
        const size_t chosen = rnd() % (P_SOURCES + 1), memory = rnd() % P_MEMORIES;
        dut.use_it = uint8_t(chosen < P_SOURCES ? 1 << chosen : 0);
        dut.memory = uint8_t(memory);
        dut.eval();
        EXPECT(dut.enable == (chosen < P_SOURCES ? 1 << memory : 0));
        EXPECT(chosen == P_SOURCES || holds(&dut.address, addresses[chosen]));
        EXPECT(chosen == P_SOURCES || holds(&dut.word, words[chosen]));
    }
    return passed(wanted(argv));
}
