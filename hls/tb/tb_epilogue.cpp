// SPDX-License-Identifier: Apache-2.0
// The epilogue lanes, in the device's form and in a CPU's, against docs/numerics.md: one lane at a
// time in 64 bits with real divisions.
#include "nm/stats.h"
#include "tb.h"

namespace {

using namespace nm;

// floor(v / 2^n), without a shift of a negative number.
int64_t floor_shift(int64_t v, int n) {
    const int64_t d = int64_t(1) << n;
    return v >= 0 ? v / d : -((-v + d - 1) / d);
}

// v / 2^n to the nearest integer, ties to even.
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

int64_t index_of(int64_t x, const EpilogueConfig& e, const uint8_t* map) {
    int64_t i = floor_shift(x - e.x0, e.seg_shift);
    if (e.seg_kind == SegKind::LOG) {
        const int64_t d = x - e.x0 > 1 ? x - e.x0 : 1;
        int exponent = 0;
        while ((int64_t(2) << exponent) <= d)
            ++exponent;
        const int64_t scale = int64_t(1) << e.seg_shift;
        i = exponent * scale + floor_shift(d * scale, exponent) - scale;
    }
    if (e.seg_cells != 0)
        i = map[clip(i, 0, e.seg_cells - 1)];
    return clip(i, 0, e.seg_count - 1);
}

int64_t lane(int32_t acc, int32_t bias, int32_t m, int s, int64_t t, int64_t u,
             const Segment* table, const uint8_t* map, const EpilogueConfig& e, int64_t& square) {
    int64_t v = floor_shift((int64_t(acc) + bias) * m, s) + e.off;
    if (e.t_en)
        v += t * e.mt;
    int64_t y = clip(round_half_even(v, e.f_shift), -32768, 32767);
    if (e.seg_kind != SegKind::NONE) {
        const Segment& g = table[index_of(y, e, map)];
        y = clip(floor_shift(y * g.k + g.b, g.sh), -32768, 32767);
    }
    const int64_t half_step = e.u_shift ? int64_t(1) << (e.u_shift - 1) : 0;
    square = floor_shift(y * y + half_step, e.u_shift);
    if (e.u_en) {
        y = floor_shift(y * (u - e.uz) + half_step, e.u_shift);
    }
    return clip(y + e.zp, e.lo, e.hi);
}

EpilogueConfig draw(tb::Random& random) {
    EpilogueConfig e = {};
    e.stat = Stat(random.next() % 4);
    e.t_en = random.next() % 2, e.out_wide = random.next() % 2;
    e.u_en = e.stat != Stat::MOMENTS && random.next() % 2;
    e.seg_kind = SegKind(random.next() % 4);
    if (e.seg_kind == SegKind::MAPPED || (e.seg_kind == SegKind::LOG && random.next() % 2))
        e.seg_cells = uint16_t(random.range(1, MAP_CELLS));
    e.f_shift = uint8_t(random.range(0, 31)),
    e.u_shift = uint8_t(random.next() % 8 ? random.range(0, 31) : 0);
    e.seg_shift = uint8_t(random.range(0, 15));
    e.off = int32_t(random.range(-(1ll << 31), (1ll << 31) - 1));
    e.mt = int32_t(random.range(-(1 << 23), (1 << 23) - 1)),
    e.uz = int16_t(random.next() % 2 ? random.range(-32768, 32767) : 0);
    e.uz = random.next() % 8 ? e.uz : int16_t(32767);
    e.zp = int16_t(random.range(-32768, 32767)), e.x0 = int16_t(random.range(-32768, 32767));
    e.seg_count = uint16_t(random.range(1, SEG_ENTRIES));
    e.lo = int16_t(random.range(-32640, 0)), e.hi = int16_t(random.range(0, 32639));
    e.lane = lane_config(e);
    return e;
}

void row(tb::Check& check, tb::Random& random) {
    static Table lanes;
    uint8_t map[MAP_CELLS];
    const EpilogueConfig e = draw(random);
    Segment table[SEG_ENTRIES];
    for (int i = 0; i < SEG_ENTRIES; ++i) {
        table[i] = {int32_t(random.range(-(1ll << 31), (1ll << 31) - 1)),
                    int16_t(random.range(-32768, 32767)), int(random.range(0, 31))};
        for (int c = 0; c < COPIES; ++c)
            lanes.segments[i][c] = uint64_t(uint32_t(table[i].b)) |
                                   uint64_t(uint16_t(table[i].k)) << 32 |
                                   uint64_t(table[i].sh) << 48;
    }
    for (int i = 0; i < MAP_CELLS; ++i) {
        map[i] = uint8_t(random.range(0, e.seg_count < 64 ? e.seg_count - 1 : 63));
        for (int c = 0; c < COPIES; ++c)
            lanes.map[i / 8][i % 8][c] = map[i];
    }
    int32_t acc[COLS], squares[COLS], device_squares[COLS];
    Channels ch;
    int16_t t[COLS], u[COLS], q[COLS], device_q[COLS];
    const int32_t counted = int32_t(random.next() % 2 ? COLS : random.range(1, COLS));
    for (int c = 0; c < COLS; ++c) {
        const int wide = int(random.range(8, 30));
        acc[c] = int32_t(random.range(-(1ll << wide), 1ll << wide));
        ch.bias[c] = int32_t(random.range(-(1ll << wide), 1ll << wide));
        ch.m[c] = int32_t(random.range(-(1 << 23), (1 << 23) - 1));
        ch.s[c] = uint8_t(random.range(0, 55));
        t[c] = int16_t(random.range(-32640, 32639));
        u[c] = int16_t(random.next() % 4 ? random.range(-32640, 32639) : -32768);
    }
    epilogue_rows<1>(&acc, ch, &t, &u, lanes, counted, e, &q, &squares);
    epilogue_lanes(acc, ch, t, u, lanes, counted, e, device_q, device_squares);
    for (int c = 0; c < COLS; ++c) {
        int64_t square = 0;
        const int64_t wanted =
            lane(acc[c], ch.bias[c], ch.m[c], ch.s[c], t[c], u[c], table, map, e, square);
        check.equal(q[c], wanted, "result of a lane");
        check.equal(device_q[c], wanted, "result of a device's lane");
        if (e.stat == Stat::MOMENTS) {
            square = c < counted ? square : 0;
            check.equal(squares[c], square, "square of a lane");
            check.equal(device_squares[c], square, "square of a device's lane");
        }
    }
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
                    e.lane = lane_config(e);
                    const int32_t found =
                        segment_index(x, e.seg_kind == SegKind::LOG, e.x0, shift, SEG_ENTRIES);
                    check.equal(found, index_of(x, e, nullptr), "segment index");
                    check.equal(index_lane(int16_t(x), e.lane), found, "index of a device's lane");
                }
}

void statistics(tb::Check& check, tb::Random& random) {
    EpilogueConfig e = {};
    e.stat = Stat(random.range(1, 3)), e.out_wide = random.next() % 2;
    e.stat_m = int16_t(random.range(-32768, 32767)), e.sq_m = int16_t(random.range(-32768, 32767));
    e.stat_shift = uint8_t(random.range(0, 31)), e.sq_shift = uint8_t(random.range(0, 31));
    e.stat_off = int32_t(random.range(-(1ll << 31), (1ll << 31) - 1));
    const int32_t last_lanes = int32_t(random.range(1, COLS));
    int64_t sum = 0, top = -32768, total = 0;
    RowStat joined = {int32_t(random.next()), int32_t(random.next())}; // left by an earlier one
    for (int block = 0; block < 3; ++block) {
        const int32_t lanes = block == 2 ? last_lanes : COLS;
        int16_t q[COLS];
        int32_t squares[COLS];
        for (int c = 0; c < COLS; ++c) {
            q[c] = int16_t(random.range(-32640, 32639));
            squares[c] = int32_t(random.range(0, (1ll << 31) / (3 * COLS) - 1));
            sum += c < lanes ? q[c] : 0;
            squares[c] = c < lanes ? squares[c] : 0;
            total += squares[c];
            top = c < lanes && q[c] > top ? q[c] : top;
        }
        joined = join_stat(q, squares, lanes, block == 0, joined, e.stat);
    }
    const auto scaled_by_parts = [&](bool second) {
        return scale_stat(joined, second, stat_part(joined, second, false, e),
                          stat_part(joined, second, true, e), e);
    };
    const int64_t rounding = e.stat_shift ? int64_t(1) << (e.stat_shift - 1) : 0;
    const int64_t scaled = floor_shift((sum + e.stat_off) * e.stat_m + rounding, e.stat_shift);
    check.equal(scaled_by_parts(false), e.stat == Stat::MAX ? top : clip(scaled, -32640, 32639),
                "row statistic");
    const int64_t sq_rounding = e.sq_shift ? int64_t(1) << (e.sq_shift - 1) : 0;
    const int64_t second = floor_shift(total * e.sq_m + sq_rounding, e.sq_shift);
    if (e.stat == Stat::MOMENTS)
        check.equal(scaled_by_parts(true), clip(second, 0, 32639), "row's squares");
}

// Sums and multipliers of any size: halves of the product against the whole.
void scaled_sums(tb::Check& check, tb::Random& random) {
    const int64_t least = -(1ll << 31), most = (1ll << 31) - 1;
    const int64_t sums[] = {least, most, 0, -1, 0xffff, 0x10000, random.range(least, most)};
    EpilogueConfig e = {};
    e.stat = Stat::MOMENTS;
    e.stat_off = int32_t(sums[random.next() % 7]);
    e.stat_m = e.sq_m = int16_t(random.next() % 4 ? random.next() : 0x8000);
    e.stat_shift = e.sq_shift = uint8_t(random.range(0, 31));
    const RowStat row = {int32_t(sums[random.next() % 7]), int32_t(sums[random.next() % 7])};
    for (int second = 0; second < 2; ++second) {
        const int64_t sum = second ? int64_t(row.squares) : int64_t(row.value) + e.stat_off;
        const int64_t rounding = e.stat_shift ? int64_t(1) << (e.stat_shift - 1) : 0;
        const int64_t wanted = floor_shift(sum * e.stat_m + rounding, e.stat_shift);
        const int64_t lower = stat_part(row, second, false, e);
        check.equal(scale_stat(row, second, lower, stat_part(row, second, true, e), e),
                    clip(wanted, second ? 0 : -32640, 32639), "scaled statistic");
    }
}

// 16 bits of a shifted number: every shift, around every place where bits begin to be lost.
template <int BITS> void shifts(tb::Check& check, tb::Random& random) {
    for (int n = 0; n < 32; ++n)
        for (int bit = 0; bit < BITS; ++bit)
            for (int k = 0; k < 64; ++k) {
                const int64_t near = k < 8 ? k - 4 : random.range(-(1ll << bit), 1ll << bit);
                const int64_t v = low_bits<BITS>((k % 2 ? -1ll : 1ll) * (1ll << bit) + near);
                bool over = false;
                const int16_t low = shift_16<BITS>(v, n, over);
                check.equal(over ? limit_16(v < 0) : low, clip(floor_shift(v, n), -32768, 32767),
                            "shifted number");
            }
}

// Requantising with extremes in every place, against the CPU's form.
void extremes(tb::Check& check, tb::Random& random) {
    const int64_t accs[] = {0, 1, -1, (1ll << 31) - 1, -(1ll << 31), 1 << 20, -(1 << 24)};
    const int32_t ms[] = {0, 1, -1, (1 << 23) - 1, -(1 << 23), 1 << 22};
    EpilogueConfig e = {};
    e.t_en = true;
    for (int f = 0; f < 32; ++f)
        for (int s = 0; s < 64; ++s)
            for (int64_t acc : accs)
                for (int32_t m : ms) {
                    e.f_shift = uint8_t(f);
                    const int64_t offs[] = {0, (1ll << 31) - 1, -(1ll << 31), 1,
                                            random.range(-99, 99)};
                    e.off = int32_t(offs[random.next() % 5]), e.mt = ms[random.next() % 6];
                    e.lane = lane_config(e);
                    const int16_t t = int16_t(random.next() % 3 ? random.next() : 0x8000);
                    int32_t row[COLS] = {int32_t(acc)};
                    int16_t ts[COLS] = {t}, x[COLS];
                    Channels ch = {};
                    ch.m[0] = m, ch.s[0] = uint8_t(s);
                    requantise(row, ch, ts, e, x);
                    check.equal(requantise_lane(int32_t(acc), 0, m, s, t, e.lane), x[0], "extreme");
                }
}

} // namespace

int main() {
    tb::Check check;
    tb::Random random(3);
    every_index(check);
    shifts<33>(check, random);
    shifts<49>(check, random);
    shifts<50>(check, random);
    extremes(check, random);
    for (int i = 0; i < 20000; ++i) {
        row(check, random);
        statistics(check, random);
        scaled_sums(check, random);
    }
    return check.result("epilogue");
}
