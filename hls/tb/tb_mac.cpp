// SPDX-License-Identifier: Apache-2.0
// The packed product over all of its inputs; the array's sums and maxima against plain loops.
#include "nm/mac.h"
#include "tb.h"

namespace {

using namespace nm;

void every_triple(tb::Check& check) {
    int64_t wrong = 0;
    for (int x = -128; x < 128; ++x)
        for (int w0 = -128; w0 < 128; ++w0)
            for (int w1 = -128; w1 < 128; ++w1) {
                int32_t sum0 = 5, sum1 = -7;
                mac2(int8_t(x), int8_t(w0), int8_t(w1), sum0, sum1);
                wrong += sum0 != 5 + x * w0 || sum1 != -7 + x * w1;
            }
    check.equal(wrong, 0, "wrong pairs of products among 2^24");
}

// One row in all four modes of the device's array, against plain sums.
template <bool PACKED>
void device_rows(tb::Check& check, const int16_t x[][ROWS], const weight_t w[ROWS][COLS],
                 const int8_t w8[ROWS][COLS]) {
    static int16_t taps[WIN * WIN][COLS];
    int32_t found[COLS];
    for (int k = 0; k < WIN * WIN; ++k)
        for (int c = 0; c < COLS; ++c)
            taps[k][c] = x[c % 7][(k + c) % ROWS];
    // Rows beyond the taps of a window have weight 0, as nm/fill.h sets them.
    static weight_t tap_weights[ROWS][COLS];
    for (int r = 0; r < WIN * WIN; ++r)
        for (int c = 0; c < COLS; ++c)
            tap_weights[r][c] = w[r][c];
    for (int mode = 0; mode < 4; ++mode) {
        const bool window = mode & 1, max = mode & 2;
        array_row<PACKED>(window, max, x[0], taps, window ? tap_weights : w, found);
        for (int c = 0; c < COLS; ++c) {
            int32_t sum = 0, best = MAX_START;
            for (int r = 0; r < (window ? WIN * WIN : ROWS); ++r) {
                const int32_t v = window ? taps[r][c] : x[0][r];
                sum += v * w8[r][c];
                if (w8[r][c] != 0 && v > best)
                    best = v;
            }
            check.equal(found[c], max ? best : sum, "a row, as the device computes it");
        }
    }
}

void rows(tb::Check& check, tb::Random& random, bool extreme) {
    constexpr int M = 13, ROOM = 16; // the CPU's schedule processes MAC_ROWS at a time
    static int16_t x[M][ROWS];
    static exact_t factors[ROOM][ROWS];
    static int8_t w8[ROWS][COLS];
    static weight_t w[ROWS][COLS];
    static int32_t plain[M][COLS], top[M][COLS];
    for (auto& row : x)
        for (int16_t& v : row)
            v = extreme ? int16_t(-128) : random.byte();
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COLS; ++c) {
            w8[r][c] = extreme ? int8_t(c % 2 ? -128 : 127) : random.byte();
            w[r][c] = weight_t(w8[r][c]);
        }
    for (int m = 0; m < M; ++m)
        for (int r = 0; r < ROWS; ++r)
            factors[m][r] = exact_t(x[m][r]);
    mac_rows(M, factors, w, {0, 0}, plain);
    mac_rows(M, factors, w, {-1, 8}, plain);
    max_rows(M, x, w, top);
    device_rows<true>(check, x, w, w8);
    device_rows<false>(check, x, w, w8);
    for (int m = 0; m < M; ++m)
        for (int c = 0; c < COLS; ++c) {
            int32_t sum = 0, best = MAX_START;
            for (int r = 0; r < ROWS; ++r) {
                sum += x[m][r] * w8[r][c];
                if (w8[r][c] != 0 && x[m][r] > best)
                    best = x[m][r];
            }
            check.equal(plain[m][c], sum * 257, "sum, as a CPU computes it");
            check.equal(top[m][c], best, "maximum");
        }
}

} // namespace

int main() {
    tb::Check check;
    tb::Random random(1);
    every_triple(check);
    rows(check, random, true);
    for (int i = 0; i < 200; ++i)
        rows(check, random, false);
    return check.result("mac");
}
