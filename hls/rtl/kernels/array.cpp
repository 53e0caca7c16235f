// SPDX-License-Identifier: Apache-2.0
// The array: chains of products, two of its columns, what all columns share, the accumulators.
#include "nm/array.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// Products of two columns, added over a chain of rows and taken apart.
void products_of_chain(const int8_t* PORT x, const int8_t* PORT w, int32_t* PORT out) {
    int8_t rows[ROWS] = {};
    packed_t factors[ROWS] = {};
    int16_t wide[ROWS] = {};
    for (int r = 0; r < CHAIN; ++r)
        rows[r] = x[r], wide[r] = x[r], factors[r] = pack(w[2 * r], w[2 * r + 1]);
    for (int r = CHAIN; r < ROWS; ++r)
        factors[r] = pack(0, 0);
    packed_sums(rows, factors, excess(wide), out[0], out[1]);
}

// What a row's upper sums have too much, once for all columns.
void excess_of_row(const int16_t* PORT x, int32_t* PORT out) {
    out[0] = excess(x);
}

// mode: window, maximum, second beat.  taps, w: row by row, of both columns.
void two_columns_of_row(const uint8_t* PORT mode, const int16_t* PORT x, const int16_t* PORT taps,
                        const int8_t* PORT w, const int16_t* PORT too_much, int32_t* PORT out) {
    int16_t t[2][ROWS] = {};
    int8_t weights[2][ROWS];
    const Step how = {mode[0] != 0, mode[1] != 0, mode[2] != 0};
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < 2; ++c) {
            if (r < TAPS)
                t[c][r] = taps[2 * (r < TAPS ? r : 0) + c];
            weights[c][r] = w[2 * r + c];
        }
    two_columns<MACS_PER_DSP == 2>(how, x, t, weights, too_much[0], out);
}

// The even columns of a row in two beats wait for the odd ones.
void join_beats_of_row(const uint8_t* PORT beat, const int32_t* PORT sums, const int32_t* PORT held,
                       int32_t* PORT out, int32_t* PORT holds) {
    int32_t waits[COLS / 2], row[COLS];
    for (int c = 0; c < COLS; ++c)
        row[c] = sums[c], waits[c / 2] = held[c / 2];
    const Step how = {false, false, beat[1] != 0};
    join_beats(how, beat[0], waits, row);
    for (int c = 0; c < COLS; ++c)
        out[c] = row[c], holds[c / 2] = waits[c / 2];
}

// All lanes of a row.  mode: maximum, byte planes' shift / 8, first pass.
void accumulate_row(const uint8_t* PORT mode, const int32_t* PORT sum, const int32_t* PORT before,
                    int32_t* PORT out) {
    int32_t acc[ACC_ROWS][COLS];
    int32_t sums[1][COLS];
    for (int c = 0; c < COLS; ++c)
        acc[0][c] = before[c], sums[0][c] = sum[c];
    const Join how = {mode[2] ? 0 : -1, 8 * mode[1]};
    accumulate<HARDWARE>(1, 0, mode[0], how, sums, acc);
    for (int c = 0; c < COLS; ++c)
        out[c] = sums[0][c];
}

// A word of x: alone, or a byte plane of two.
void x_word(const uint8_t* PORT high_next, const int8_t* PORT word, const int16_t* PORT low,
            int16_t* PORT x, int16_t* PORT keeps) {
    int8_t ibuf[IBUF_WORDS][ROWS];
    int16_t waits[LANES];
    for (int r = 0; r < ROWS; ++r)
        ibuf[0][r] = word[r], waits[r] = low[r];
    Progress p = {};
    p.high_next = high_next[0];
    read_word(Insn{}, ibuf, waits, p, x);
    for (int r = 0; r < ROWS; ++r)
        keeps[r] = waits[r];
}

#if !defined(__SYNTHESIS__)
// Too much of a row of int8 values; the sums need no more bits than that.
void two_columns_of_row_draw(bool, void*, int16_t* x, void*, void*, int16_t* too_much) {
    *too_much = MACS_PER_DSP == 2 ? int16_t(excess(x)) : int16_t(0);
}
#endif

} // extern "C"
