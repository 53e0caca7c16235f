// SPDX-License-Identifier: Apache-2.0
// What every test bench of a unit shares: random and extreme values, and elements of ports.
// In: nothing.  Out: functions on raw bytes; a bench is generated per unit (bench.py).
#pragma once

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct Element {
    int bits;
    bool is_signed;
    int bytes;
    int offset;
};

// The state of the one generator of a bench (xorshift).
inline uint64_t random_bits() {
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

inline uint64_t mask(int bits) {
    return ~uint64_t(0) >> (64 - bits);
}

inline uint64_t extended(uint64_t value, int bits, bool is_signed) {
    const uint64_t top = uint64_t(1) << (bits - 1);
    value &= mask(bits);
    return is_signed && (value & top) ? value | ~mask(bits) : value;
}

// Zero, -1, the least, the most or a small number five times in eight.
inline uint64_t random_value(int bits) {
    const uint64_t top = uint64_t(1) << (bits - 1);
    switch (random_bits() % 8) {
    case 0:
        return 0;
    case 1:
        return mask(bits);
    case 2:
        return top;
    case 3:
        return top - 1;
    case 4:
        return (random_bits() % 200 - 100) & mask(bits);
    default:
        return random_bits() & mask(bits);
    }
}

inline uint64_t get(const unsigned char* port, const Element& e) {
    uint64_t value = 0;
    memcpy(&value, port + e.offset, size_t(e.bytes));
    return extended(value, 8 * e.bytes, e.is_signed);
}

// The bits of an element, as a pin of the module takes them.
inline uint64_t pins(const unsigned char* port, const Element& e) {
    return get(port, e) & mask(e.bits);
}

inline void draw(unsigned char* port, const Element* elements, int count) {
    for (int i = 0; i < count; ++i) {
        const Element& e = elements[i];
        const uint64_t value = extended(random_value(e.bits), e.bits, e.is_signed);
        memcpy(port + e.offset, &value, size_t(e.bytes));
    }
}

template <class Dut> void tick(Dut& dut) {
    dut.clk = 0, dut.eval();
    dut.clk = 1, dut.eval();
}
