// SPDX-License-Identifier: Apache-2.0
// The cost of loops in cycles.  neuralmatrix/hardware/instruction_costs.py parses the constants.
// In: nothing.  Out: the constants, Ports and Meter.
#pragma once

#include <stdint.h>

namespace nm {

constexpr int FETCH_CYCLES_EXTRA = 2; // decode and hand an instruction to its queue
// A loop of products takes a cycle a digit, and two before the first one is there.
constexpr int LOAD_SETUP = 25;     // decode, products of 7 and 4 digits, first address
constexpr int STORE_SETUP = 22;    // decode, products of 6 and 2 digits, first address
constexpr int BURST_GAP = 1;       // address phase between two bursts
constexpr int STRIDED_EXTRA = 1;   // a word outside a burst has its own address phase
constexpr int GATHER_CYCLES = 4;   // one byte fetched alone
constexpr int COMPUTE_SETUP = 22;  // decode, two loops of products (4 and 2 digits)
constexpr int COMPUTE_DEPTH = 40;  // stages from the x word's read to the result's write
constexpr int EPILOGUE_SETUP = 8;  // decode and set the lanes' registers
constexpr int STAT_BEATS = 2;      // of a row statistic: the two halves of its product
constexpr int QUEUE_HOP = 1;       // from a queue's write to its read
constexpr int HARDWARE_BURST = 16; // beats: AXI3's longest, which a kernel's own meter assumes

// The DRAM ports of the cost model: in the emulation those of the board, in hardware its own.
struct Port {
    int bytes;       // per beat
    int burst_beats; // longest burst
};

inline int64_t cdiv(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

#if defined(__SYNTHESIS__)

// Hardware reads its cycles from a counter (nm/clock.h): there this class does nothing.
struct Meter {
    void tick(int64_t) {}
    void burst(const Port&, int64_t) {}
    void strided(const Port&, int64_t, int) {}
    void gather(const Port&, int64_t, int) {}
};

#else

// Counts the cycles of one instruction in the loops that take them.
struct Meter {
    int64_t cycles;
    int64_t bytes; // through the DRAM port

    void tick(int64_t n) { cycles += n; }

    // `runs` bursts (split at the longest burst) of `length` bytes each.
    void burst(const Port& port, int64_t length) {
        const int64_t beats = cdiv(length, port.bytes);
        cycles += beats + cdiv(beats, port.burst_beats) * BURST_GAP;
        bytes += length;
    }

    // Words of `lanes` bytes that each have their own address phase.
    void strided(const Port& port, int64_t words, int lanes) {
        const int64_t each = cdiv(lanes, port.bytes) + STRIDED_EXTRA;
        cycles += words * each;
        bytes += words * each * port.bytes;
    }

    void gather(const Port& port, int64_t words, int lanes) {
        cycles += words * lanes * GATHER_CYCLES;
        bytes += words * lanes * port.bytes;
    }
};

#endif

} // namespace nm
