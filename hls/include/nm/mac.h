// SPDX-License-Identifier: Apache-2.0
// The array's arithmetic: sums of products, or maxima, of rows of x against one block of weights.
// In: plain arrays.  Out: one row of COLS sums per row of x.
#pragma once

#include "nm/hls.h"
#include "nm/types.h"

namespace nm {

constexpr int32_t MAX_START = -(1 << 24); // below every int16, and safe to add a bias to

// Two products of one x with one multiplier: the weights sit 16 bits apart in its wide operand.
// x*w0 fits 16 bits, so it can be read off and taken away again.  25 bits suit every DSP48.
inline void mac2(int8_t x, int8_t w0, int8_t w1, int32_t& sum0, int32_t& sum1) {
    NM_INLINE
    const packed_t packed = packed_t(int32_t(w1) * 65536 + w0);
    const int64_t product = int64_t(product_t(packed * packed_t(x)));
    const int16_t low = int16_t(uint16_t(uint64_t(product) & 0xffff));
    sum0 += low;
    sum1 += int32_t((product - low) >> 16);
}

// One row as the device makes it: each PE picks its operand (GEMM: x[r]; WINDOW: its own tap), and
// then one set of multipliers and one of comparators serve all modes.  `taps` has WIN*WIN rows.
inline void array_row(bool window, bool max, const int16_t x[ROWS],
                      const int16_t taps[WIN * WIN][COLS], const weight_t w[ROWS][WEIGHT_ROW],
                      int32_t out[COLS]) {
    NM_INLINE
    int32_t sum[COLS] = {};
    int32_t top[COLS];
    NM_PARTITION(sum, 0)
    NM_PARTITION(top, 0)
ROW_INIT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        top[c] = MAX_START;
    }
ROW_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        int16_t v[COLS];
        NM_PARTITION(v, 0)
    ROW_OPERAND:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int16_t tap = r < WIN * WIN ? taps[r < WIN * WIN ? r : 0][c] : int16_t(0);
            v[c] = window ? tap : x[r];
            const int32_t candidate = get_weight(w[r], c) != 0 ? int32_t(v[c]) : MAX_START;
            top[c] = candidate > top[c] ? candidate : top[c];
        }
    ROW_C:
        for (int c = 0; c < COLS; c += 2) {
            NM_UNROLL
            const int8_t w0 = get_weight(w[r], c), w1 = get_weight(w[r], c + 1);
            // Two columns share a DSP where they share x; else the odd one's product is logic.
            int32_t even = 0, odd = 0;
            mac2(int8_t(v[c]), w0, window ? int8_t(0) : w1, even, odd);
            const int16_t own = int16_t(int8_t(v[c + 1]) * (window ? w1 : int8_t(0)));
            NM_FABRIC(own)
            sum[c] += even;
            sum[c + 1] += window ? int32_t(own) : odd;
        }
    }
ROW_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        out[c] = max ? top[c] : sum[c];
    }
}

// Two rows, as a CPU likes them: 16 products of int8 and 0..15 or -8..7 fit a sum of 16 bits.
// Two, because the weights' registers are then read once for both.
inline void mac_rows_plain(const int16_t x[2][ROWS], const weight_t w[ROWS][WEIGHT_ROW],
                           int32_t out[2][COLS]) {
    int32_t total[2][COLS] = {};
PLAIN_BLOCK:
    for (int block = 0; block < ROWS; block += 16) {
        int16_t a[WEIGHT_ROW] = {}, b[WEIGHT_ROW] = {};
    PLAIN_R:
        for (int r = block; r < block + 16 && r < ROWS; ++r) {
        PLAIN_C:
            for (int c = 0; c < WEIGHT_ROW; ++c) {
                a[c] = int16_t(a[c] + x[0][r] * w[r][c]);
                b[c] = int16_t(b[c] + x[1][r] * w[r][c]);
            }
        }
    PLAIN_JOIN:
        for (int c = 0; c < COLS; ++c) {
            total[0][c] += a[c] + a[WEIGHT_ROW - COLS + c] * 16;
            total[1][c] += b[c] + b[WEIGHT_ROW - COLS + c] * 16;
        }
    }
PLAIN_OUT:
    for (int c = 0; c < COLS; ++c) {
        out[0][c] = total[0][c];
        out[1][c] = total[1][c];
    }
}

// out[m][c] = sum over r of x[m][r] * w[r][c], for n rows; an odd n computes a row nobody reads.
inline void mac_rows(uint32_t n, const int16_t x[][ROWS], const weight_t w[ROWS][WEIGHT_ROW],
                     int32_t out[][COLS]) {
MAC_M:
    for (uint32_t m = 0; m < n; m += 2)
        mac_rows_plain(x + m, w, out + m);
}

// out[m][c] = the largest x[m][r] over the r whose weight is not 0.
inline void max_rows(uint32_t n, const int16_t x[][ROWS], const weight_t w[ROWS][WEIGHT_ROW],
                     int32_t out[][COLS]) {
    NM_INLINE
MAX_M:
    for (uint32_t m = 0; m < n; ++m) {
        int32_t best[COLS];
        NM_PARTITION(best, 0)
    MAX_INIT:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            best[c] = MAX_START;
        }
    MAX_R:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
        MAX_C:
            for (int c = 0; c < COLS; ++c) {
                NM_UNROLL
                const int32_t v = get_weight(w[r], c) != 0 ? int32_t(x[m][r]) : MAX_START;
                best[c] = v > best[c] ? v : best[c];
            }
        }
    MAX_OUT:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            out[m][c] = best[c];
        }
    }
}

} // namespace nm
