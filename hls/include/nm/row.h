// SPDX-License-Identifier: Apache-2.0
// The array's arithmetic on the device: one row of x against one block of weights, in a step.
// In: plain arrays.  Out: COLS sums or maxima.
#pragma once

#include "nm/hls.h"
#include "nm/mac.h"
#include "nm/types.h"

namespace nm {

// ---------------------------------------------------------------- two products in a multiplier

constexpr int CHAIN = 4; // rows whose products are added before they are taken apart

static_assert(ROWS % CHAIN == 0, "chains must cover all rows");

// Two weights as one factor, 17 bits apart.  The 2^16 between them makes the lower part positive,
// so that nothing is borrowed from the upper one: with a borrow, a lower weight below 0 beside an
// upper one of -128 would need 26 bits, and the wide operand of a DSP48E1 has 25.
inline packed_t pack(int8_t low, int8_t high) {
    NM_INLINE
    const uint32_t lower = (uint32_t(int32_t(low)) & 0x1FFFF) ^ 0x10000;
    return packed_t(int32_t(uint32_t(int32_t(high)) << 17 | lower));
}

// The sum of x * w over CHAIN rows.  Added one after the other, the products take no logic: each
// DSP adds its own to the sum of the DSP before it.
inline chain_t chain(const int8_t x[CHAIN], const packed_t w[CHAIN]) {
    NM_INLINE
    NM_KEEP_ORDER
    chain_t sum = 0;
CHAIN_R:
    for (int r = 0; r < CHAIN; ++r) {
        NM_UNROLL
        sum = chain_t(sum + product_t(w[r] * packed_t(x[r])));
    }
    return sum;
}

// Takes the sum of a chain apart; `odd`: the sum S of its x is odd.  The chain holds
// high * 2^17 + S * 2^16 + low.  A low sum of four products lies in -65024..65536, so in 17 bits
// only 65536 wraps, to a code of its own: every sum below 0 has one of bits 15 to 9 set.
// `high` gets the upper sum plus (S + 1) >> 1, which all columns have in common.
inline void unpack(chain_t sum, bool odd, int32_t& low, int32_t& high) {
    NM_INLINE
    const uint64_t bits = uint64_t(int64_t(sum));
    const bool sign = (((bits >> 16) & 1) != 0) != odd;
    const bool some = ((bits >> 9) & 127) != 0;
    const bool negative = sign && some;
    const bool carry = odd ? !sign || some : negative;
    low = int32_t(uint32_t(bits & 0xFFFF) | (sign ? 0x10000u : 0u) | (negative ? 0xFFFE0000u : 0u));
    high = int32_t(int64_t(sum) >> 17) + (carry ? 1 : 0);
}

// What the upper sums of a row have too much: see unpack.
inline int32_t excess(const int16_t x[ROWS]) {
    NM_INLINE
    int32_t total = 0;
EXCESS_CHAIN:
    for (int r = 0; r < ROWS; r += CHAIN) {
        NM_UNROLL
        int32_t sum = 1;
    EXCESS_R:
        for (int k = 0; k < CHAIN; ++k) {
            NM_UNROLL
            sum += int8_t(x[r + k]);
        }
        total += sum >> 1;
    }
    return total;
}

// The sums of x[r] * w[r] for two columns; `too_much` of the upper one is taken off.
inline void packed_sums(const int8_t x[ROWS], const packed_t w[ROWS], int32_t too_much,
                        int32_t& low, int32_t& high) {
    NM_INLINE
    low = 0;
    high = -too_much;
SUMS_CHAIN:
    for (int r = 0; r < ROWS; r += CHAIN) {
        NM_UNROLL
        const bool odd = ((x[r] ^ x[r + 1] ^ x[r + 2] ^ x[r + 3]) & 1) != 0;
        int32_t lower = 0, upper = 0;
        unpack(chain(x + r, w + r), odd, lower, upper);
        low += lower;
        high += upper;
    }
}

// ---------------------------------------------------------------- one row of the device's array

// What one step of the device computes.  A maximum takes two beats, the even columns and then the
// odd ones; so does a window whose two columns share a multiplier, as their operands differ.
struct Step {
    bool window, max;
    bool second; // the second beat
};

// The largest of ROWS values of 17 bits, by a tree: NONE where no row counts.
constexpr int32_t NONE = -65536;

inline int32_t largest(int32_t v[ROWS]) {
    NM_INLINE
LARGEST_LEVEL:
    for (int span = ROWS / 2; span > 0; span /= 2) {
        NM_UNROLL
    LARGEST_PAIR:
        for (int r = 0; r < span; ++r) {
            NM_UNROLL
            v[r] = v[r] > v[r + span] ? v[r] : v[r + span];
        }
    }
    return v[0];
}

// NONE becomes MAX_START: an int16 has bits 16 and 15 alike, so that this is wiring.
inline int32_t maximum(int32_t top) {
    NM_INLINE
    return int32_t(int16_t(top)) | (top >> 16) * (1 << 24);
}

// The sums of two columns, each with a multiplier of its own.
inline void plain_sums(bool window, const int16_t x[ROWS], const int16_t tap[ROWS],
                       const int8_t w[ROWS], int32_t& sum) {
    NM_INLINE
    sum = 0;
PLAIN_CHAIN:
    for (int r = 0; r < ROWS; r += CHAIN) {
        NM_UNROLL
        int32_t part = 0;
    PLAIN_SUM:
        for (int k = r; k < r + CHAIN; ++k) {
            NM_UNROLL
            part += int8_t(choose(window, tap[k], x[k])) * w[k];
        }
        sum += part;
    }
}

// Two columns of a row.  taps: the operands of the even and of the odd column in a window.
// w: for a maximum -1 where a row counts, otherwise 0, as read_weights makes them.
// out: both columns; in two beats, each of them when it is its turn.
template <bool PACKED>
inline void two_columns(Step how, const int16_t x[ROWS], const int16_t taps[2][ROWS],
                        const int8_t w[2][ROWS], int32_t too_much, int32_t out[2]) {
    NM_INLINE
    int32_t candidates[ROWS], even = 0, odd = 0;
    int8_t factors[ROWS];
    packed_t weights[ROWS];
    NM_PARTITION(candidates, 0)
    NM_PARTITION(factors, 0)
    NM_PARTITION(weights, 0)
COLUMNS_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        const int8_t own = int8_t(choose(how.second, w[1][r], w[0][r]));
        const int32_t tap = choose(how.second, taps[1][r], taps[0][r]);
        // A maximum leaves rows of weight 0 out; sums may do so too, which saves a choice.
        const bool counts = !how.max || (own & 1) != 0;
        const int32_t v = choose(how.window, tap, x[r]) & mask(counts);
        candidates[r] = v | (NONE & mask(!counts));
        factors[r] = int8_t(v);
        weights[r] = pack(own, w[1][r]);
    }
    if (PACKED) {
        packed_sums(factors, weights, too_much, even, odd);
    } else {
        plain_sums(how.window, x, taps[0], w[0], even);
        plain_sums(how.window, x, taps[1], w[1], odd);
    }
    const int32_t top = maximum(largest(candidates));
    const bool beats = how.max || (PACKED && how.window);
    out[0] = choose(how.max, top, even);
    out[1] = choose(beats, out[0], odd);
}

// One row as the device computes it: each PE selects its operand (GEMM: x[r]; WINDOW: its own tap),
// and then one set of multipliers and one of comparators serve all modes.  `taps` has a row for
// each.
template <bool PACKED>
inline void array_row(Step how, const int16_t x[ROWS], const int16_t taps[TAPS][COLS],
                      const weight_t w[ROWS][COLS], int32_t out[COLS]) {
    NM_INLINE
    const int32_t too_much = PACKED ? excess(x) : 0;
ROW_C:
    for (int c = 0; c < COLS; c += 2) {
        NM_UNROLL
        int16_t operands[2][ROWS];
        int8_t weights[2][ROWS];
        NM_PARTITION(operands, 0)
        NM_PARTITION(weights, 0)
    ROW_R:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
        ROW_PAIR:
            for (int k = 0; k < 2; ++k) {
                NM_UNROLL
                const bool tap = r < TAPS;
                operands[k][r] = tap ? taps[tap ? r : 0][c + k] : int16_t(0);
                weights[k][r] = int8_t(w[r][c + k]);
            }
        }
        two_columns<PACKED>(how, x, operands, weights, too_much, out + c);
    }
}

} // namespace nm
