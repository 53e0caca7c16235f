// SPDX-License-Identifier: Apache-2.0
// What the benches of the Verilog modules share: a clock, random numbers, and one way to fail.
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <deque>
#include <vector>

#include "verilated.h"

static uint64_t state = 0x9e3779b97f4a7c15ull;

inline uint64_t rnd() {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

// True with a chance of `percent`.
inline bool chance(unsigned percent) {
    return rnd() % 100 < percent;
}

// What the command line asks for; a bench makes at least as many checks.
inline uint64_t wanted(char** argv) {
    return strtoull(argv[1], nullptr, 10);
}

// No difference, as a first one ends the bench.
inline int passed(uint64_t vectors) {
    printf("%llu 0\n", (unsigned long long)vectors);
    return 0;
}

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("line %d: expected " #condition "\n", __LINE__);                                \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

// Inputs are set, `settle` shows the outputs that follow from them, `step` is the clock's edge.
template <class Dut> void settle(Dut& dut) {
    dut.clk = 0;
    dut.eval();
}

template <class Dut> void step(Dut& dut) {
    dut.clk = 1;
    dut.eval();
}

template <class Dut> void reset(Dut& dut) {
    dut.rst_n = 0;
    for (int i = 0; i < 3; ++i)
        settle(dut), step(dut);
    dut.rst_n = 1;
}
