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

// One row, as the DSPs do it.
inline void mac_row_packed(const int16_t x[ROWS], const weight_t w[ROWS][WEIGHT_ROW],
                           int32_t out[COLS]) {
    NM_INLINE
    int32_t sum[COLS] = {};
    NM_PARTITION(sum, 0)
PACKED_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
    PACKED_C:
        for (int c = 0; c < COLS; c += 2) {
            NM_UNROLL
            mac2(int8_t(x[r]), get_weight(w[r], c), get_weight(w[r], c + 1), sum[c], sum[c + 1]);
        }
    }
PACKED_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        out[c] = sum[c];
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
template <bool HW>
void mac_rows(uint32_t n, const int16_t x[][ROWS], const weight_t w[ROWS][WEIGHT_ROW],
              int32_t out[][COLS]) {
    NM_INLINE
MAC_M:
    for (uint32_t m = 0; m < n; m += HW ? 1 : 2) {
        if (HW)
            mac_row_packed(x[m], w, out[m]);
        else
            mac_rows_plain(x + m, w, out + m);
    }
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
