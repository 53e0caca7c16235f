// SPDX-License-Identifier: Apache-2.0
// Products that are needed once an instruction, without a DSP: a digit of a count at a time.
// In: counts and steps of an instruction.  Out: their products, and the reach of nested counters.
#pragma once

#include "nm/hls.h"
#include "nm/types.h"

namespace nm {

constexpr int DIGIT_BITS = 8;

// Digits of a count of so many bits.
constexpr int digits(int bits) {
    return (bits + DIGIT_BITS - 1) / DIGIT_BITS;
}

// factor * (digit `place` of `count`), by sums.  It depends on no other turn, so that a tool may
// give it as many stages as its sums need.
inline int64_t digit_part(int64_t factor, uint32_t count, int place) {
    NM_INLINE
    const uint32_t digit = count >> (DIGIT_BITS * place);
    int64_t part = 0;
DIGIT_BIT:
    for (int k = 0; k < DIGIT_BITS; ++k) {
        NM_UNROLL
        part += ((digit >> k) & 1) != 0 ? factor * (1 << k) : 0;
    }
    return part;
}

// One turn of a product, the highest digit first: a single sum within a cycle.
inline int64_t add_part(bool first, int64_t before, int64_t part) {
    NM_INLINE
    return int64_t(uint64_t(first ? 0 : before) << DIGIT_BITS) + part;
}

// The turns of products one after the other: the digits of each count, which has BITS bits.
template <int... BITS> struct Turns {
    static constexpr int COUNT = 0;
};

template <int FIRST, int... REST> struct Turns<FIRST, REST...> {
    static constexpr int COUNT = digits(FIRST) + Turns<REST...>::COUNT;
};

template <int... BITS> struct Turn {
    int n, place; // which product, which digit
    bool first;

    void start() {
        NM_INLINE
        n = -1, place = 0;
        next();
    }

    void next() {
        NM_INLINE
        const int bits[] = {BITS..., 0};
        first = place == 0;
        n += first ? 1 : 0;
        place = first ? digits(bits[n]) - 1 : place - 1;
    }
};

// Products of two counts each, the second of so many bits, one after the other; modulo 2^32.
template <bool HW, int... BITS>
inline void count_products(const uint32_t a[], const uint32_t b[], uint32_t out[]) {
    NM_INLINE
    if (!HW) {
    PLAIN_PRODUCT:
        for (int n = 0; n < int(sizeof...(BITS)); ++n)
            out[n] = a[n] * b[n];
        return;
    }
    int64_t sum = 0;
    Turn<BITS...> turn;
    turn.start();
PRODUCT_DIGITS:
    for (int k = 0; k < Turns<BITS...>::COUNT; ++k) {
        NM_PIPELINE(1)
        NM_TRIPS(2, 7)
        sum = add_part(turn.first, sum, digit_part(a[turn.n], b[turn.n], turn.place));
        out[turn.n] = uint32_t(sum);
        turn.next();
    }
}

// The lowest and the highest address of nested counters.
struct Reach {
    int64_t low, high;

    void add(int64_t far) {
        if (far < 0)
            low += far;
        else
            high += far;
    }
};

// Nested counters of so many bits with signed steps, from `addr` on; a count of 0 reaches as far as
// one of 1.
template <bool HW, int... BITS>
inline Reach reach_of(int64_t addr, const uint32_t count[], const int32_t step[]) {
    NM_INLINE
    Reach reach = {addr, addr};
    if (!HW) {
    PLAIN_REACH:
        for (int n = 0; n < int(sizeof...(BITS)); ++n)
            reach.add(count[n] > 0 ? int64_t(count[n] - 1) * step[n] : 0);
        return reach;
    }
    int64_t far = 0;
    Turn<BITS...> turn;
    turn.start();
REACH_DIGITS:
    for (int k = 0; k < Turns<BITS...>::COUNT; ++k) {
        NM_PIPELINE(1)
        NM_TRIPS(2, 7)
        const uint32_t last = count[turn.n] > 0 ? count[turn.n] - 1 : 0;
        const int64_t part = digit_part(step[turn.n], last, turn.place);
        far = low_bits<50>(add_part(turn.first, far, part));
        if (turn.place == 0)
            reach.add(far);
        turn.next();
    }
    return reach;
}

} // namespace nm
