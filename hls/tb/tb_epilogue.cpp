// SPDX-License-Identifier: Apache-2.0
// The epilogue lanes against docs/numerics.md, one lane at a time in 64 bits with real divisions.
#include "nm/epilogue.h"
#include "tb.h"

namespace {

using namespace nm;

// floor(v / 2^n), without a shift of a negative number.
int64_t floor_shift(int64_t v, int n) {
    const int64_t d = int64_t(1) << n;
    return v >= 0 ? v / d : -((-v + d - 1) / d);
}

// v / 2^n to the nearest integer, the even one of two.
int64_t round_half_even(int64_t v, int n) {
    const int64_t low = floor_shift(v, n), twice_rest = 2 * (v - low * (int64_t(1) << n));
    const int64_t one = int64_t(1) << n;
    return twice_rest > one || (twice_rest == one && low % 2 != 0) ? low + 1 : low;
}

int64_t clip(int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
}

struct Segment {
    int32_t b;
    int16_t k;
    int sh;
};

int64_t index_of(int64_t x, const EpilogueConfig& e) {
    int64_t i = 0;
    if (e.seg_kind == SegKind::UNIFORM) {
        i = floor_shift(x - e.x0, e.seg_shift);
    } else {
        const int64_t d = x - e.x0 > 1 ? x - e.x0 : 1;
        int exponent = 0;
        while ((int64_t(2) << exponent) <= d)
            ++exponent;
        const int64_t scale = int64_t(1) << e.seg_shift;
        i = exponent * scale + floor_shift(d * scale, exponent) - scale;
    }
    return clip(i, 0, e.seg_count - 1);
}

int64_t lane(int32_t acc, int32_t bias, int32_t m, int s, int64_t t, int64_t u,
             const Segment* table, const EpilogueConfig& e) {
    int64_t v = floor_shift((int64_t(acc) + bias) * m, s) + e.off;
    if (e.t_en)
        v += t * e.mt;
    int64_t y = clip(round_half_even(v, e.f_shift), -32768, 32767);
    if (e.seg_kind != SegKind::NONE) {
        const Segment& g = table[index_of(y, e)];
        y = clip(floor_shift(y * g.k + g.b, g.sh), -32768, 32767);
    }
    if (e.u_en) {
        const int64_t half_step = e.u_shift ? int64_t(1) << (e.u_shift - 1) : 0;
        y = floor_shift(y * (u - e.uz) + half_step, e.u_shift);
    }
    return clip(y + e.zp, e.lo, e.hi);
}

EpilogueConfig draw(tb::Random& random) {
    EpilogueConfig e = {};
    e.t_en = random.next() % 2, e.u_en = random.next() % 2, e.out_wide = random.next() % 2;
    e.seg_kind = SegKind(random.next() % 3);
    e.f_shift = uint8_t(random.range(0, 31)), e.u_shift = uint8_t(random.range(0, 31));
    e.seg_shift = uint8_t(random.range(0, 15));
    e.off = int32_t(random.range(-(1ll << 31), (1ll << 31) - 1));
    e.mt = int32_t(random.range(-(1 << 23), (1 << 23) - 1)),
    e.uz = int16_t(random.range(-32768, 32767));
    e.zp = int16_t(random.range(-32768, 32767)), e.x0 = int16_t(random.range(-32768, 32767));
    e.seg_count = uint16_t(random.range(1, SEG_ENTRIES));
    e.lo = int16_t(random.range(-32640, 0)), e.hi = int16_t(random.range(0, 32639));
    return e;
}

void row(tb::Check& check, tb::Random& random) {
    static uint64_t segments[SEG_ENTRIES][COLS];
    const EpilogueConfig e = draw(random);
    Segment table[SEG_ENTRIES];
    for (int i = 0; i < SEG_ENTRIES; ++i) {
        table[i] = {int32_t(random.range(-(1ll << 31), (1ll << 31) - 1)),
                    int16_t(random.range(-32768, 32767)), int(random.range(0, 31))};
        for (int c = 0; c < COLS; ++c)
            segments[i][c] = uint64_t(uint32_t(table[i].b)) | uint64_t(uint16_t(table[i].k)) << 32 |
                             uint64_t(table[i].sh) << 48;
    }
    int32_t acc[COLS];
    Channels ch;
    int16_t t[COLS], u[COLS], q[COLS];
    for (int c = 0; c < COLS; ++c) {
        const int wide = int(random.range(8, 30));
        acc[c] = int32_t(random.range(-(1ll << wide), 1ll << wide));
        ch.bias[c] = int32_t(random.range(-(1ll << wide), 1ll << wide));
        ch.m[c] = int32_t(random.range(-(1 << 23), (1 << 23) - 1));
        ch.s[c] = uint8_t(random.range(0, 55));
        t[c] = int16_t(random.range(-32640, 32639)), u[c] = int16_t(random.range(-32640, 32639));
    }
    epilogue_row(acc, ch, t, u, segments, e, q);
    for (int c = 0; c < COLS; ++c)
        check.equal(q[c], lane(acc[c], ch.bias[c], ch.m[c], ch.s[c], t[c], u[c], table, e),
                    "result of a lane");
}

void every_index(tb::Check& check) {
    EpilogueConfig e = {};
    e.seg_count = SEG_ENTRIES;
    for (int kind = 1; kind < 3; ++kind)
        for (int shift = 0; shift < 16; ++shift)
            for (int x0 = -32768; x0 < 32768; x0 += 13107)
                for (int x = -32768; x < 32768; x += 3) {
                    e.seg_kind = SegKind(kind), e.seg_shift = uint8_t(shift);
                    e.x0 = int16_t(x0);
                    const int32_t found =
                        segment_index(x, e.seg_kind == SegKind::LOG, e.x0, shift, SEG_ENTRIES);
                    check.equal(found, index_of(x, e), "segment index");
                }
}

void statistics(tb::Check& check, tb::Random& random) {
    EpilogueConfig e = {};
    e.stat = Stat(random.range(1, 2)), e.out_wide = random.next() % 2;
    e.stat_m = int16_t(random.range(-32768, 32767));
    e.stat_shift = uint8_t(random.range(0, 31));
    int64_t sum = 0, top = -32768;
    int32_t joined = int32_t(random.next()); // left by an earlier instruction
    for (int block = 0; block < 3; ++block) {
        int16_t q[COLS];
        for (int16_t& v : q) {
            v = int16_t(random.range(-32640, 32639));
            sum += v;
            top = v > top ? v : top;
        }
        joined = join_stat(q, block == 0, joined, e.stat);
    }
    const int64_t rounding = e.stat_shift ? int64_t(1) << (e.stat_shift - 1) : 0;
    const int64_t scaled = floor_shift(sum * e.stat_m + rounding, e.stat_shift);
    const int64_t low = e.out_wide ? -32640 : -128, high = e.out_wide ? 32639 : 127;
    check.equal(scale_stat(joined, e), e.stat == Stat::MAX ? top : clip(scaled, low, high),
                "row statistic");
}

} // namespace

int main() {
    tb::Check check;
    tb::Random random(3);
    every_index(check);
    for (int i = 0; i < 20000; ++i) {
        row(check, random);
        statistics(check, random);
    }
    return check.result("epilogue");
}
