// SPDX-License-Identifier: Apache-2.0
// Products that are needed once an instruction, without a DSP: a few bits of a count at a time.
// In: counts and steps of an instruction.  Out: their products, and the reach of nested counters.
#pragma once

#include "nm/hls.h"
#include "nm/types.h"

namespace nm {

constexpr int DIGIT_BITS = 4;
constexpr int DIGITS = 16 / DIGIT_BITS; // of a count of 16 bits

// before * 2^DIGIT_BITS + factor * (digit `place` of `count`): one turn of a product, the highest
// digit first.
inline int64_t add_digit(int64_t before, int64_t factor, uint32_t count, int place) {
    NM_INLINE
    const uint32_t digit = count >> (DIGIT_BITS * place);
    int64_t sum = before << DIGIT_BITS;
DIGIT_BIT:
    for (int k = 0; k < DIGIT_BITS; ++k) {
        NM_UNROLL
        sum += ((digit >> k) & 1) != 0 ? factor * (1 << k) : 0;
    }
    return sum;
}

// Products of two counts each, the second below 2^16, one after the other; modulo 2^32.
template <bool HW, int N>
inline void count_products(const uint32_t a[N], const uint32_t b[N], uint32_t out[N]) {
    NM_INLINE
    if (!HW) {
    PLAIN_PRODUCT:
        for (int n = 0; n < N; ++n)
            out[n] = a[n] * b[n];
        return;
    }
    int64_t sum = 0;
PRODUCT_DIGITS:
    for (int k = 0; k < N * DIGITS; ++k) {
        NM_PIPELINE(1)
        const int n = k / DIGITS, turn = k % DIGITS;
        sum = add_digit(turn == 0 ? 0 : sum, a[n], b[n], DIGITS - 1 - turn);
        out[n] = uint32_t(sum);
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

// N nested counters with signed steps, from `addr` on; a count of 0 reaches as far as one of 1.
template <bool HW, int N>
inline Reach reach_of(int64_t addr, const uint32_t count[N], const int32_t step[N]) {
    NM_INLINE
    Reach reach = {addr, addr};
    if (!HW) {
    PLAIN_REACH:
        for (int n = 0; n < N; ++n)
            reach.add(count[n] > 0 ? int64_t(count[n] - 1) * step[n] : 0);
        return reach;
    }
    int64_t far = 0;
REACH_DIGITS:
    for (int k = 0; k < N * DIGITS; ++k) {
        NM_PIPELINE(1)
        const int n = k / DIGITS, turn = k % DIGITS;
        const uint32_t last = count[n] > 0 ? count[n] - 1 : 0;
        far = low_bits<50>(add_digit(turn == 0 ? 0 : far, step[n], last, DIGITS - 1 - turn));
        if (turn == DIGITS - 1)
            reach.add(far);
    }
    return reach;
}

} // namespace nm
