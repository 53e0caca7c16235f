// SPDX-License-Identifier: Apache-2.0
// The array: products, two of its columns, and the accumulators' arithmetic.
#include "nm/array.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void pair_of_products(const int8_t* PORT x, const int8_t* PORT w, int32_t* PORT out) {
    int32_t even = 0, odd = 0;
    mac2(x[0], w[0], w[1], even, odd);
    out[0] = even, out[1] = odd;
}

void products_of_pe(const uint8_t* PORT window, const int8_t* PORT x, const int8_t* PORT w,
                    int32_t* PORT out) {
    int32_t even = 0, odd = 0;
    products<MACS_PER_DSP == 2>(window[0], x[0], x[1], w[0], w[1], even, odd);
    out[0] = even, out[1] = odd;
}

// Of all columns the first two have inputs and outputs.
void two_columns(const uint8_t* PORT mode, const int16_t* PORT x, const int16_t* PORT taps,
                 const int8_t* PORT w, int32_t* PORT out) {
    int16_t t[WIN * WIN][COLS] = {};
    weight_t weights[ROWS][COLS] = {};
    int32_t sums[COLS];
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < 2; ++c) {
            if (r < WIN * WIN)
                t[r < WIN * WIN ? r : 0][c] = taps[r * 2 + c];
            weights[r][c] = weight_t(w[r * 2 + c]);
        }
    array_row<MACS_PER_DSP == 2>(mode[0], mode[1], x, t, weights, sums);
    out[0] = sums[0], out[1] = sums[1];
}

// All lanes of a row.  mode: maximum, byte planes' shift / 8, first pass.
void accumulate_row(const uint8_t* PORT mode, const int32_t* PORT sum, const int32_t* PORT before,
                    int32_t* PORT out) {
    int32_t acc[ACC_ROWS][COLS];
    int32_t sums[1][COLS];
    for (int c = 0; c < COLS; ++c)
        acc[0][c] = before[c], sums[0][c] = sum[c];
    accumulate<HARDWARE>(1, 0, mode[0], 8 * mode[1], mode[2], sums, acc);
    for (int c = 0; c < COLS; ++c)
        out[c] = sums[0][c];
}

} // extern "C"
