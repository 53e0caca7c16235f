// SPDX-License-Identifier: Apache-2.0
// The chosen loop's address and word arrive, and exactly the chosen memory is enabled.
#include "Vmemory_port.h"
#include "bench.h"

int main() {
    constexpr int SOURCES = 3, MEMORIES = 7;
    Vmemory_port dut;
    for (int k = 0; k < 100000; ++k) {
        uint64_t addresses[SOURCES], words[SOURCES];
        dut.addresses = dut.words = 0;
        for (int s = 0; s < SOURCES; ++s) {
            addresses[s] = rnd() % 65536, words[s] = rnd() % 65536;
            dut.addresses |= addresses[s] << 16 * s, dut.words |= words[s] << 16 * s;
        }
        const int chosen = int(rnd() % (SOURCES + 1)), memory = int(rnd() % MEMORIES);
        dut.use_it = chosen < SOURCES ? 1 << chosen : 0;
        dut.memory = memory;
        dut.eval();
        EXPECT(dut.enable == (chosen < SOURCES ? 1 << memory : 0));
        EXPECT(chosen == SOURCES || (dut.address == addresses[chosen] && dut.word == words[chosen]));
    }
    printf("100000 choices\n");
}
