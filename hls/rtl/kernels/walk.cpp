// SPDX-License-Identifier: Apache-2.0
// The address generator: passes, blocks of columns, rasters, a window's phase.
#include "nm/lanes.h"

#include "kernels/wrapper.h"

using namespace nm;

static_assert(sizeof(Pass) == 48, "the unit's table has the members of Pass");
static_assert(sizeof(BlockRows) == 8, "the unit's table has the members of BlockRows");

extern "C" {

// What a pass finds out about its successor while it computes.
void pass_ahead(const uint32_t* PORT insn, const Pass* PORT now, Pass* PORT next) {
    const Insn i = insn_of(insn);
    Pass p = *now;
    look_ahead(p, shape_of<HARDWARE>(i), i);
    *next = p;
}

// now: the pass that computes, and the one whose weights are loaded.
void pass_step(const uint32_t* PORT insn, const uint16_t* PORT steps, const uint8_t* PORT more,
               const Pass* PORT now, const BlockRows* PORT block, Pass* PORT next,
               BlockRows* PORT blocks, uint8_t* PORT runs) {
    const Insn i = insn_of(insn);
    Progress p = {};
    p.now = now[0], p.next = now[1], p.block = *block, p.more = more[0];
    EpilogueConfig e = {};
    e.t_nb = steps[0], e.u_nb = steps[1];
    runs[0] = advance(p, shape_of<HARDWARE>(i), i, e);
    runs[1] = p.more;
    next[0] = p.now, next[1] = p.next, *blocks = p.block;
}

void shape_of_insn(const uint32_t* PORT insn, uint32_t* PORT sizes, uint8_t* PORT flags) {
    const Shape g = shape_of<HARDWARE>(insn_of(insn));
    sizes[0] = g.rows, sizes[1] = g.width, sizes[2] = g.line, sizes[3] = g.busy, sizes[4] = g.steps;
    flags[0] = g.window, flags[1] = g.max, flags[2] = g.last, flags[3] = g.any;
    flags[4] = g.transpose, flags[5] = g.taps, flags[6] = g.two_beats;
    flags[7] = uint8_t(g.x_digits), flags[8] = uint8_t(g.w_digits);
}

// What a digit adds to a product of counts, of which 32 bits are kept, and to one with a signed
// step; and a turn of each.
void count_part(const uint32_t* PORT factor, const uint16_t* PORT count, const uint8_t* PORT place,
                uint32_t* PORT part) {
    part[0] = uint32_t(digit_part(factor[0], count[0], place[0]));
}

void count_turn(const uint32_t* PORT part, const uint8_t* PORT first, const uint32_t* PORT now,
                uint32_t* PORT next) {
    next[0] = uint32_t(add_part(first[0], now[0], part[0]));
}

void reach_part(const int32_t* PORT factor, const uint16_t* PORT count, const uint8_t* PORT place,
                int64_t* PORT part) {
    part[0] = digit_part(factor[0], count[0], place[0]);
}

void reach_turn(const int64_t* PORT part, const uint8_t* PORT first, const int64_t* PORT now,
                int64_t* PORT next) {
    next[0] = low_bits<50>(add_part(first[0], now[0], part[0]));
}

void reach_step(const int64_t* PORT far, const int64_t* PORT now, const uint64_t* PORT limit,
                int64_t* PORT next, uint8_t* PORT inside) {
    Reach r = {now[0], now[1]};
    r.add(far[0]);
    next[0] = r.low, next[1] = r.high;
    inside[0] = now[0] >= 0 && uint64_t(now[1]) < limit[0];
}

void raster_step(const uint32_t* PORT width, const uint16_t* PORT steps, const Raster* PORT now,
                 Raster* PORT next) {
    Raster r = *now;
    r.next(width[0], steps[0], steps[1]);
    *next = r;
}

// To the next word of x: its place, and whether it completes a window.
void word_step(const uint32_t* PORT insn, const uint32_t* PORT sizes, const uint8_t* PORT reads,
               const Raster* PORT x, const Phase* PORT phase, const uint8_t* PORT high,
               Raster* PORT next_x, Phase* PORT next_phase, uint8_t* PORT next_high) {
    Shape g = {};
    g.width = sizes[0], g.line = sizes[1], g.reads = reads[0];
    Progress p = {};
    p.x = *x, p.phase = *phase, p.high_next = high[0];
    next_word(g, insn_of(insn), p);
    *next_x = p.x, *next_phase = p.phase, next_high[0] = p.high_next;
}

// Where a finished row goes, and how it joins a statistic.
void row_place(const uint32_t* PORT insn, const uint16_t* PORT now, const uint8_t* PORT lanes,
               uint32_t* PORT place, uint8_t* PORT flags) {
    Progress p = {};
    p.now.nb = now[0], p.block.o = now[1], p.row = now[2];
    EpilogueConfig e = {};
    e.stat_lanes = lanes[0];
    const Finish f = finish_of(insn_of(insn), e, p);
    place[0] = f.o_row, place[1] = f.stat_row;
    flags[0] = f.fresh, flags[1] = uint8_t(f.counted);
}

#if !defined(__SYNTHESIS__)
// A pass somewhere inside its instruction's loops.
static void draw_pass(const Insn& i, Pass* p) {
    p->cb = uint16_t(below(compute_cb(i) + 1)), p->kw = uint16_t(below(compute_kw(i) + 1));
    p->kh = uint16_t(below(compute_kh(i) + 1)), p->nb = uint16_t(below(compute_nb(i) + 1));
    p->w_digit = uint8_t(below(2)), p->x_digit = uint8_t(below(2));
}

void pass_ahead_draw(bool fresh, uint32_t* insn, Pass* now) {
    if (fresh)
        draw_compute(insn);
    draw_pass(insn_of(insn), now);
}

void pass_step_draw(bool fresh, uint32_t* insn, void*, void*, Pass* now, void*) {
    if (fresh)
        draw_compute(insn);
    draw_pass(insn_of(insn), now);
    draw_pass(insn_of(insn), now + 1);
}

// No side of what a COMPUTE reads has 2^16 words or more.
void shape_of_insn_draw(bool, uint32_t* insn) {
    draw_compute(insn);
    Insn i = insn_of(insn);
    const uint32_t most = Mode(compute_mode(i)) == Mode::WINDOW ? 4000 : 65535;
    set_compute_m1(i, 1 + below(most)), set_compute_m0(i, 1 + below(most));
    words_of(i, insn);
}

void raster_step_draw(bool, uint32_t* width, void*, Raster* now) {
    if (coin())
        now->i0 = *width - 1;
}

void word_step_draw(bool fresh, uint32_t* insn, uint32_t* sizes, uint8_t* reads, Raster* x,
                    Phase* phase, void*) {
    if (fresh) {
        draw_compute(insn);
        sizes[0] = 1 + below(20), sizes[1] = sizes[0] + below(5), *reads = uint8_t(1 + below(2));
    }
    x->i0 = below(sizes[1]);
    phase->skip_h = below(WIN + 1), phase->skip_w = below(WIN + 1);
}

void row_place_draw(bool fresh, uint32_t* insn, uint16_t* now, uint8_t* lanes) {
    if (fresh)
        draw_compute(insn), *lanes = uint8_t(below(COLS + 1));
    now[0] = uint16_t(below(compute_nb(insn_of(insn)) + 1));
}
#endif

} // extern "C"
