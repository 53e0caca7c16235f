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

void rows(tb::Check& check, tb::Random& random, bool extreme) {
    constexpr int M = 7; // odd: the CPU's schedule takes two rows at a time
    static int16_t x[M + 1][ROWS];
    static int8_t w8[ROWS][COLS];
    static weight_t w[ROWS][WEIGHT_ROW];
    static int32_t plain[M + 1][COLS], packed[M][COLS], top[M][COLS];
    for (auto& row : x)
        for (int16_t& v : row)
            v = extreme ? int16_t(-128) : random.byte();
    for (int r = 0; r < ROWS; ++r)
        for (int c = 0; c < COLS; ++c) {
            w8[r][c] = extreme ? int8_t(c % 2 ? -128 : 127) : random.byte();
            set_weight(w[r], c, w8[r][c]);
            check.equal(get_weight(w[r], c), w8[r][c], "weight read back");
        }
    mac_rows<false>(M, x, w, plain);
    mac_rows<true>(M, x, w, packed);
    max_rows(M, x, w, top);
    for (int m = 0; m < M; ++m)
        for (int c = 0; c < COLS; ++c) {
            int32_t sum = 0, best = MAX_START;
            for (int r = 0; r < ROWS; ++r) {
                sum += x[m][r] * w8[r][c];
                if (w8[r][c] != 0 && x[m][r] > best)
                    best = x[m][r];
            }
            check.equal(plain[m][c], sum, "sum, as a CPU computes it");
            check.equal(packed[m][c], sum, "sum, as the DSPs compute it");
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
