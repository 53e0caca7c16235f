// SPDX-License-Identifier: Apache-2.0
// LOAD and STORE instructions against byte-by-byte loops, any alignment, pads, strides, gathers.
#include "nm/kernels.h"
#include "tb.h"

namespace {

using namespace nm;

constexpr int DRAM = 1 << 16;
const Port PORT = {8, 16};

struct Buffers {
    int8_t ibuf[IBUF_WORDS][ROWS], wbuf[WBUF_WORDS][ROWS], pbuf[PBUF_WORDS][ROWS];
    int8_t t_lo[TBUF_ROWS][ROWS], t_hi[TBUF_ROWS][ROWS];
    int8_t u_lo[UBUF_ROWS][ROWS], u_hi[UBUF_ROWS][ROWS];

    int8_t* word(uint32_t dest, uint32_t at) {
        int8_t* const first[] = {ibuf[0], wbuf[0], pbuf[0], t_lo[0], t_hi[0], u_lo[0], u_hi[0]};
        return first[dest] + at * ROWS;
    }
};

struct Box {
    uint32_t n2, n1, n0;
    int32_t s2, s1, s0;
};

Box draw_box(tb::Random& random, int32_t unit) {
    Box b = {uint32_t(random.range(1, 4)),
             uint32_t(random.range(1, 5)),
             uint32_t(random.range(1, 6)),
             0,
             0,
             0};
    b.s2 = int32_t(random.range(-60, 60)) * unit, b.s1 = int32_t(random.range(-40, 40)) * unit;
    b.s0 = random.next() % 2 ? ROWS : int32_t(random.range(-9, 9)) * unit;
    if (random.next() % 3 == 0)
        b.s1 = int32_t(b.n0) * ROWS;
    return b;
}

void load_one(tb::Check& check, tb::Random& random, const uint8_t* dram, Buffers& found,
              Buffers& wanted) {
    const Box b = draw_box(random, int32_t(random.range(1, 16)));
    const bool pads = random.next() % 2, gather = random.next() % 4 == 0;
    const uint32_t dest = random.next() % 7, top = pads ? random.next() % 3 : 0;
    const uint32_t bottom = pads ? random.next() % 3 : 0, left = pads ? random.next() % 3 : 0;
    const uint32_t right = pads ? random.next() % 3 : 0, dst = random.next() % 10;
    const int32_t lanes = gather ? int32_t(random.range(-20, 20)) : 1;
    const uint32_t addr = uint32_t(random.range(DRAM / 4, DRAM / 2));
    Insn i = {};
    set_load_dest(i, dest), set_load_addr(i, addr), set_load_dst(i, dst);
    set_load_pad_value(i, -3), set_load_lane_stride(i, lanes);
    set_load_n2(i, b.n2), set_load_n1(i, b.n1), set_load_n0(i, b.n0);
    set_load_s2(i, b.s2), set_load_s1(i, b.s1), set_load_s0(i, b.s0);
    set_load_pad_top(i, top), set_load_pad_bottom(i, bottom);
    set_load_pad_left(i, left), set_load_pad_right(i, right);
    check.equal(load_inside(i, DRAM), 1, "a LOAD inside its region");
    static Buffers device;
    device = found;
    set_load_region(i, random.next() % 2);
    Meter meter = {0, 0}, device_meter = {0, 0};
    const LoadBeat* const beats = reinterpret_cast<const LoadBeat*>(dram);
    const uint32_t sum = load_insn<false>(i, beats, 0, PORT, found.ibuf, found.wbuf, found.pbuf,
                                          found.t_lo, found.t_hi, found.u_lo, found.u_hi, meter);
    const uint32_t device_sum =
        load_insn<true>(i, beats, 0, PORT, device.ibuf, device.wbuf, device.pbuf, device.t_lo,
                        device.t_hi, device.u_lo, device.u_hi, device_meter);
    check.equal(meter.cycles, device_meter.cycles, "cycles of the two schedules of a LOAD");
    check.same(&found, &device, sizeof found, "buffers after the two schedules of a LOAD");
    uint32_t at = dst, wanted_sum = 0;
    for (uint32_t i2 = 0; i2 < b.n2; ++i2)
        for (uint32_t r = 0; r < top + b.n1 + bottom; ++r)
            for (uint32_t c = 0; c < left + b.n0 + right; ++c, ++at)
                for (int lane = 0; lane < ROWS; ++lane) {
                    const bool data = r >= top && r < top + b.n1 && c >= left && c < left + b.n0;
                    const int64_t byte = int64_t(addr) + int64_t(i2) * b.s2 +
                                         int64_t(r - top) * b.s1 + int64_t(c - left) * b.s0 +
                                         int64_t(lane) * lanes;
                    if (data && Region(load_region(i)) == Region::CONST)
                        wanted_sum += uint32_t(dram[byte]) << (8 * (lane % 4));
                    wanted.word(dest, at)[lane] = data ? int8_t(dram[data ? byte : 0]) : int8_t(-3);
                }
    check.equal(sum, wanted_sum, "sum of a LOAD's words");
    check.equal(device_sum, wanted_sum, "sum of a LOAD's words on the device");
    check.equal(int64_t(load_words(i)), at - dst, "words of a LOAD");
    check.same(&found, &wanted, sizeof found, "buffers after a LOAD");
}

void store_one(tb::Check& check, tb::Random& random, uint8_t* found, uint8_t* wanted) {
    static int8_t o_lo[OBUF_ROWS][COLS], o_hi[OBUF_ROWS][COLS];
    random.fill(o_lo, sizeof o_lo), random.fill(o_hi, sizeof o_hi);
    const Box b = draw_box(random, COLS);
    const uint32_t plane = random.next() % 2, src = random.next() % 100;
    const uint32_t addr = uint32_t(random.range(DRAM / 4, DRAM / 2)) / COLS * COLS;
    Insn i = {};
    set_store_plane(i, plane), set_store_addr(i, addr), set_store_src(i, src);
    set_store_n2(i, b.n2), set_store_n1(i, b.n1), set_store_n0(i, b.n0);
    set_store_s2(i, b.s2), set_store_s1(i, b.s1), set_store_s0(i, b.s0);
    check.equal(store_inside(i, DRAM) && store_aligned(i), 1, "a STORE inside its region");
    Meter meter = {0, 0};
    StoreBeat* const beats = reinterpret_cast<StoreBeat*>(found);
    if (random.next() % 2)
        store_insn<true>(i, beats, 0, PORT, o_lo, o_hi, meter);
    else
        store_insn<false>(i, beats, 0, PORT, o_lo, o_hi, meter);
    uint32_t row = src;
    for (uint32_t i2 = 0; i2 < b.n2; ++i2)
        for (uint32_t i1 = 0; i1 < b.n1; ++i1)
            for (uint32_t i0 = 0; i0 < b.n0; ++i0, ++row)
                std::memcpy(wanted + addr + int64_t(i2) * b.s2 + int64_t(i1) * b.s1 +
                                int64_t(i0) * b.s0,
                            plane ? o_hi[row] : o_lo[row], COLS);
    check.same(found, wanted, DRAM, "DRAM after a STORE");
}

void limits(tb::Check& check) {
    Insn i = {};
    set_load_n2(i, 1), set_load_n1(i, 2), set_load_n0(i, 3), set_load_lane_stride(i, 1);
    set_load_s1(i, 100), set_load_s0(i, ROWS), set_load_addr(i, 50);
    const uint64_t end = 50 + 100 + 2 * ROWS + ROWS;
    check.equal(load_inside(i, end), 1, "a LOAD up to the last byte");
    check.equal(load_inside(i, end - 1), 0, "a LOAD beyond the last byte");
    set_load_s1(i, -51);
    check.equal(load_inside(i, end), 0, "a LOAD before the first byte");
    Insn s = {};
    set_store_n2(s, 1), set_store_n1(s, 2), set_store_n0(s, 3);
    set_store_s1(s, 10 * COLS), set_store_s0(s, COLS), set_store_addr(s, COLS);
    check.equal(store_inside(s, 14 * COLS), 1, "a STORE up to the last byte");
    check.equal(store_inside(s, 14 * COLS - 1), 0, "a STORE beyond the last byte");
    set_store_s1(s, -2 * COLS);
    check.equal(store_inside(s, 14 * COLS), 0, "a STORE before the first byte");
    set_store_s1(s, COLS + 1);
    check.equal(store_aligned(s), 0, "a STORE of split words");
}

} // namespace

int main() {
    static uint8_t dram[DRAM], wanted_dram[DRAM];
    static Buffers found, wanted;
    tb::Check check;
    tb::Random random(5);
    random.fill(dram, DRAM);
    std::memcpy(wanted_dram, dram, DRAM);
    for (int i = 0; i < 300; ++i) {
        load_one(check, random, dram, found, wanted);
        store_one(check, random, dram, wanted_dram);
    }
    limits(check);
    return check.result("load_store");
}
