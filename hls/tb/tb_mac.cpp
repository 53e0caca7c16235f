// SPDX-License-Identifier: Apache-2.0
// Packed sums over all inputs of a row; the array's sums and maxima against plain loops.
#include "nm/fill.h"
#include "tb.h"

namespace {

using namespace nm;

// Both sums of a chain, against plain ones.
bool same_sums(const int8_t x[CHAIN], const int8_t w0[CHAIN], const int8_t w1[CHAIN]) {
    packed_t w[CHAIN];
    int32_t low = 0, high = 0, even = 0, odd = 0, sum = 0;
    for (int r = 0; r < CHAIN; ++r) {
        w[r] = pack(w0[r], w1[r]);
        even += x[r] * w0[r], odd += x[r] * w1[r], sum += x[r];
    }
    unpack(chain(x, w), (sum & 1) != 0, low, high);
    return low == even && high - ((sum + 1) >> 1) == odd;
}

void every_triple(tb::Check& check) {
    int64_t wrong = 0;
    int8_t x[CHAIN] = {}, w0[CHAIN] = {}, w1[CHAIN] = {};
    for (int r = 0; r < CHAIN; ++r) // the other rows add the extremes of the lower sum
        w0[r] = -128, w1[r] = 127;
    for (int at = 0; at < 2; ++at) {
        for (int r = 1; r < CHAIN; ++r)
            x[r] = at ? -128 : 127;
        for (int k = 0; k < 1 << 24; ++k) {
            x[0] = int8_t(k), w0[0] = int8_t(k >> 8), w1[0] = int8_t(k >> 16);
            wrong += !same_sums(x, w0, w1);
        }
    }
    check.equal(wrong, 0, "wrong pairs of sums among 2^25");
}

// Every chain of extremes, -128 times -128 in all of its rows among them, and random ones.
void every_extreme(tb::Check& check, tb::Random& random) {
    constexpr int8_t VALUES[] = {-128, 127, -1};
    constexpr int COUNT = 531441, DIGITS = 3 * CHAIN; // 3^12
    int64_t wrong = 0;
    int8_t v[DIGITS];
    for (int k = 0; k < COUNT; ++k) {
        for (int d = 0, rest = k; d < DIGITS; ++d, rest /= 3)
            v[d] = VALUES[rest % 3];
        wrong += !same_sums(v, v + CHAIN, v + 2 * CHAIN);
    }
    for (int k = 0; k < COUNT; ++k) {
        random.fill(v, sizeof v);
        wrong += !same_sums(v, v + CHAIN, v + 2 * CHAIN);
    }
    check.equal(wrong, 0, "wrong pairs of sums among extremes");
}

// The registers of a block of weights as the device fills them, a word a step.
void fill_all(bool window, bool max, const int8_t w8[ROWS][COLS], weight_t w[ROWS][COLS]) {
    static int8_t wbuf[WBUF_WORDS][ROWS];
    for (int r = 0; r < ROWS; ++r)
        copy_word(w8[r], wbuf[r]);
    Insn insn = {};
    set_compute_win_h(insn, WIN), set_compute_win_w(insn, WIN);
    Shape g = {};
    g.window = g.taps = window, g.max = max;
    Progress p = {};
    p.more = true;
    for (p.step = 0; p.step < uint32_t(ROWS); ++p.step)
        place(fill_word(g, insn, wbuf, p), w);
}

// One row in all four modes of the device's array, in one beat or two, against plain sums.
template <bool PACKED>
void device_rows(tb::Check& check, const int16_t x[][ROWS], const int8_t w8[ROWS][COLS]) {
    static int16_t taps[WIN * WIN][COLS];
    int32_t beat[2][COLS];
    for (int k = 0; k < WIN * WIN; ++k)
        for (int c = 0; c < COLS; ++c)
            taps[k][c] = x[c % 7][(k + c) % ROWS];
    for (int mode = 0; mode < 4; ++mode) {
        const bool window = mode & 1, max = mode & 2;
        const bool beats = max || (PACKED && window);
        static weight_t registers[ROWS][COLS];
        fill_all(window, max, w8, registers);
        for (int k = 0; k < 2; ++k)
            array_row<PACKED>({window, max, k != 0}, x[0], taps, registers, beat[k]);
        for (int c = 0; c < COLS; ++c) {
            int32_t sum = 0, best = MAX_START;
            for (int r = 0; r < (window ? WIN * WIN : ROWS); ++r) {
                const int32_t v = window ? taps[r][c] : x[0][r];
                sum += int8_t(v) * w8[r][c];
                if (w8[r][c] != 0 && v > best)
                    best = v;
            }
            check.equal(beat[beats && c % 2][c], max ? best : sum, "a row of the device");
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
    device_rows<true>(check, x, w8);
    device_rows<false>(check, x, w8);
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
    every_extreme(check, random);
    rows(check, random, true);
    for (int i = 0; i < 200; ++i)
        rows(check, random, false);
    return check.result("mac");
}
