// SPDX-License-Identifier: Apache-2.0
// The address generator: one step of the K loop, of a raster and of a window's phase.
#include "nm/walk.h"

#include "kernels/wrapper.h"

using namespace nm;

static_assert(sizeof(Pass) == 36, "the unit's table has the members of Pass");

extern "C" {

void pass_step(const uint32_t* PORT insn, const Pass* PORT now, Pass* PORT next) {
    const Insn i = insn_of(insn);
    Pass p = *now;
    next_pass(p, shape_of(i), i);
    *next = p;
}

void pass_facts(const uint32_t* PORT insn, const Pass* PORT now, uint32_t* PORT x,
                uint8_t* PORT flags) {
    const Insn i = insn_of(insn);
    x[0] = pass_x(*now, i);
    flags[0] = opens_block(*now);
    flags[1] = closes_block(*now, shape_of(i), i);
    flags[2] = is_pass(*now, i);
}

void shape(const uint32_t* PORT insn, uint32_t* PORT sizes, uint8_t* PORT flags) {
    const Shape g = shape_of(insn_of(insn));
    sizes[0] = g.rows, sizes[1] = g.width, sizes[2] = g.positions, sizes[3] = g.steps;
    flags[0] = g.window, flags[1] = g.max, flags[2] = g.last, flags[3] = g.any;
    flags[4] = g.transpose, flags[5] = uint8_t(g.x_digits), flags[6] = uint8_t(g.w_digits);
}

void raster_step(const uint32_t* PORT width, const uint16_t* PORT steps, const Raster* PORT now,
                 Raster* PORT next) {
    Raster r = *now;
    r.next(width[0], steps[0], steps[1]);
    *next = r;
}

void phase_step(const uint32_t* PORT insn, const uint8_t* PORT line_ends, const Phase* PORT now,
                Phase* PORT next) {
    Phase p = *now;
    p.next(line_ends[0], insn_of(insn));
    *next = p;
}

#if !defined(__SYNTHESIS__)
// A pass somewhere inside its instruction's loops.
static void draw_pass(bool fresh, uint32_t* insn, Pass* p) {
    if (fresh)
        draw_compute(insn);
    const Insn i = insn_of(insn);
    p->cb = uint16_t(below(compute_cb(i) + 1)), p->kw = uint16_t(below(compute_kw(i) + 1));
    p->kh = uint16_t(below(compute_kh(i) + 1)), p->nb = uint16_t(below(compute_nb(i) + 1));
    p->w_digit = uint8_t(below(2)), p->x_digit = uint8_t(below(2));
}

void pass_step_draw(bool fresh, uint32_t* insn, Pass* now) {
    draw_pass(fresh, insn, now);
}

void pass_facts_draw(bool fresh, uint32_t* insn, Pass* now) {
    draw_pass(fresh, insn, now);
}

void shape_draw(bool, uint32_t* insn) {
    draw_compute(insn);
}

void raster_step_draw(bool, uint32_t* width, void*, Raster* now) {
    if (coin())
        now->i0 = *width - 1;
}

void phase_step_draw(bool fresh, uint32_t* insn, void*, Phase* now) {
    if (fresh)
        draw_compute(insn);
    now->skip_h = below(WIN + 1), now->skip_w = below(WIN + 1);
}
#endif

} // extern "C"
