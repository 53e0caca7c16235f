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
inline void mac_row_packed(const int16_t x[ROWS], const weight_t w[ROWS][COLS], int32_t sum[COLS]) {
    NM_INLINE
PACKED_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
    PACKED_C:
        for (int c = 0; c < COLS; c += 2) {
            NM_UNROLL
            mac2(int8_t(x[r]), int8_t(w[r][c]), int8_t(w[r][c + 1]), sum[c], sum[c + 1]);
        }
    }
}

// One row, in the order a CPU likes: a register of COLS sums, one broadcast x at a time.
inline void mac_row_plain(const int16_t x[ROWS], const weight_t w[ROWS][COLS], int32_t sum[COLS]) {
PLAIN_R:
    for (int r = 0; r < ROWS; ++r) {
    PLAIN_C:
        for (int c = 0; c < COLS; ++c)
            sum[c] += int32_t(x[r]) * w[r][c];
    }
}

// acc[m][c] = sum over r of x[m][r] * w[r][c], for n rows.
template <bool HW>
void mac_rows(uint32_t n, const int16_t x[][ROWS], const weight_t w[ROWS][COLS],
              int32_t out[][COLS]) {
    NM_INLINE
MAC_M:
    for (uint32_t m = 0; m < n; ++m) {
        int32_t sum[COLS] = {};
        NM_PARTITION(sum, 0)
        if (HW)
            mac_row_packed(x[m], w, sum);
        else
            mac_row_plain(x[m], w, sum);
    MAC_OUT:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            out[m][c] = sum[c];
        }
    }
}

// out[m][c] = the largest x[m][r] over the r whose weight is not 0.
inline void max_rows(uint32_t n, const int16_t x[][ROWS], const weight_t w[ROWS][COLS],
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
                const int32_t v = w[r][c] != 0 ? int32_t(x[m][r]) : MAX_START;
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
