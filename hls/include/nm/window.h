// SPDX-License-Identifier: Apache-2.0
// WINDOW mode: line buffers and a WIN x WIN shift window, so that each PE has an operand of its
// own. In: raster words, one per step.  Out: sums or maxima over the window's taps, per channel.
#pragma once

#include "nm/hls.h"
#include "nm/mac.h"
#include "nm/types.h"

namespace nm {

struct Window {
    // taps[a][b]: row a, column b of the window; the newest word enters at [WIN-1][WIN-1].
    int16_t taps[WIN][WIN][LANES];
    // lines[a][i]: column i of the row WIN-1-a above the newest one.
    int16_t lines[WIN - 1][LINE_WORDS][LANES];
};

// Take one word at column i0: the window moves one column, the column of lines one row.
inline void shift_in(const int16_t x[LANES], uint32_t i0, int16_t taps[WIN][WIN][LANES],
                     int16_t lines[WIN - 1][LINE_WORDS][LANES]) {
    NM_INLINE
SHIFT_A:
    for (int a = 0; a < WIN; ++a) {
        NM_UNROLL
    SHIFT_B:
        for (int b = 0; b < WIN - 1; ++b) {
            NM_UNROLL
        SHIFT_LANE:
            for (int c = 0; c < LANES; ++c) {
                NM_UNROLL
                taps[a][b][c] = taps[a][b + 1][c];
            }
        }
    }
COLUMN_A:
    for (int a = 0; a < WIN - 1; ++a) {
        NM_UNROLL
    COLUMN_LANE:
        for (int c = 0; c < LANES; ++c) {
            NM_UNROLL
            const int16_t older = lines[a][i0][c];
            taps[a][WIN - 1][c] = older;
            // Row a's word has had its turn in row a-1: it moves one line up.
            if (a > 0)
                lines[a - 1][i0][c] = older;
        }
    }
NEWEST:
    for (int c = 0; c < LANES; ++c) {
        NM_UNROLL
        taps[WIN - 1][WIN - 1][c] = x[c];
        lines[WIN - 2][i0][c] = x[c];
    }
}

// sum[c] = sum over taps of x * w; the weight of tap (a, b) sits in array row a*WIN + b.
inline void window_sum(const int16_t taps[WIN][WIN][LANES], const weight_t w[ROWS][WEIGHT_ROW],
                       int32_t sum[COLS]) {
    NM_INLINE
    int32_t total[COLS] = {};
    NM_PARTITION(total, 0)
SUM_TAP:
    for (int k = 0; k < WIN * WIN; ++k) {
        NM_UNROLL
    SUM_LANE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            total[c] += int32_t(taps[k / WIN][k % WIN][c]) * get_weight(w[k], c);
        }
    }
SUM_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        sum[c] = total[c];
    }
}

// best[c] = the largest x over the taps whose weight is not 0.
inline void window_max(const int16_t taps[WIN][WIN][LANES], const weight_t w[ROWS][WEIGHT_ROW],
                       int32_t best[COLS]) {
    NM_INLINE
    int32_t top[COLS];
    NM_PARTITION(top, 0)
TOP_INIT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        top[c] = MAX_START;
    }
TOP_TAP:
    for (int k = 0; k < WIN * WIN; ++k) {
        NM_UNROLL
    TOP_LANE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int32_t v =
                get_weight(w[k], c) != 0 ? int32_t(taps[k / WIN][k % WIN][c]) : MAX_START;
            top[c] = v > top[c] ? v : top[c];
        }
    }
TOP_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        best[c] = top[c];
    }
}

} // namespace nm
