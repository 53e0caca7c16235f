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

// Copies through registers, so that a CPU's compiler knows that the two do not overlap.
inline void copy_lanes(const int16_t from[LANES], int16_t to[LANES]) {
    NM_INLINE
    int16_t lanes[LANES];
    NM_PARTITION(lanes, 0)
COPY_FROM:
    for (int c = 0; c < LANES; ++c) {
        NM_UNROLL
        lanes[c] = from[c];
    }
COPY_TO:
    for (int c = 0; c < LANES; ++c) {
        NM_UNROLL
        to[c] = lanes[c];
    }
}

// Takes one word at column i0: the window moves one column, the column of lines one row.
inline void shift_in(const int16_t x[LANES], uint32_t i0, int16_t taps[WIN][WIN][LANES],
                     int16_t lines[WIN - 1][LINE_WORDS][LANES]) {
    NM_INLINE
    // Read once, before anything is written: a memory has one port for each.
    int16_t column[WIN - 1][LANES];
    NM_PARTITION(column, 0)
READ_A:
    for (int a = 0; a < WIN - 1; ++a) {
        NM_UNROLL
        copy_lanes(lines[a][i0], column[a]);
    }
SHIFT_A:
    for (int a = 0; a < WIN; ++a) {
        NM_UNROLL
    SHIFT_B:
        for (int b = 0; b < WIN - 1; ++b) {
            NM_UNROLL
            copy_lanes(taps[a][b + 1], taps[a][b]);
        }
    }
COLUMN_A:
    for (int a = 0; a < WIN - 1; ++a) {
        NM_UNROLL
        copy_lanes(column[a], taps[a][WIN - 1]);
        // Row a's word has been used in row a-1: it moves one line up.
        if (a > 0)
            copy_lanes(column[a], lines[a - 1][i0]);
    }
    copy_lanes(x, taps[WIN - 1][WIN - 1]);
    copy_lanes(x, lines[WIN - 2][i0]);
}

// The weights of the taps, tap (a, b) in row a*WIN + b, in the form that the two functions below
// use.
struct TapWeights {
    int16_t w[WIN * WIN][COLS];
    int16_t keep[WIN * WIN][COLS]; // all ones where the weight is not 0
    int32_t none[COLS];            // what replaces the maximum of a lane without a tap; else 0
};

inline void read_taps(const weight_t w[ROWS][COLS], bool max, TapWeights& taps) {
    NM_INLINE
    int16_t any[COLS] = {};
    NM_PARTITION(any, 0)
TAP_ROW:
    for (int k = 0; k < WIN * WIN; ++k) {
        NM_UNROLL
    TAP_LANE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int16_t weight = int16_t(w[k][c]);
            taps.w[k][c] = weight;
            taps.keep[k][c] = max && weight != 0 ? -1 : 0;
            any[c] = int16_t(any[c] | taps.keep[k][c]);
        }
    }
TAP_NONE:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        taps.none[c] = any[c] != 0 ? 0 : MAX_START;
    }
}

// sum[c] = sum over taps of x * w; x is int8, so that a product fits 16 bits.
inline void window_sum(const int16_t taps[WIN][WIN][LANES], const TapWeights& w,
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
            total[c] += int16_t(taps[k / WIN][k % WIN][c] * w.w[k][c]);
        }
    }
SUM_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        sum[c] = total[c];
    }
}

// best[c] = the largest x over the taps whose weight is not 0.
inline void window_max(const int16_t taps[WIN][WIN][LANES], const TapWeights& w,
                       int32_t best[COLS]) {
    NM_INLINE
    int16_t top[COLS];
    NM_PARTITION(top, 0)
TOP_INIT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        top[c] = -32768;
    }
TOP_TAP:
    for (int k = 0; k < WIN * WIN; ++k) {
        NM_UNROLL
    TOP_LANE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            // An ignored tap is -32768, the lowest value.
            const int16_t keep = w.keep[k][c];
            const int16_t v = int16_t((taps[k / WIN][k % WIN][c] & keep) | (~keep & -32768));
            top[c] = v > top[c] ? v : top[c];
        }
    }
TOP_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        best[c] = w.none[c] != 0 ? w.none[c] : int32_t(top[c]);
    }
}

} // namespace nm
