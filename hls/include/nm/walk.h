// SPDX-License-Identifier: Apache-2.0
// The address generator: which block of weights, and which words of x, t and u, come next.
// In: a COMPUTE instruction.  Out: affine counters that only add.
#pragma once

#include "nm/hls.h"
#include "nm/isa.h"
#include "nm/product.h"
#include "nm/types.h"

namespace nm {

// Sizes of one COMPUTE, decoded once.
struct Shape {
    bool window, max, last, transpose;
    bool pointwise;        // WINDOW of one tap and no stride, which sums
    bool any;              // the K loop has passes
    uint32_t m0, rows;     // output columns; all output rows (m1 * m0)
    uint32_t width, reads; // columns of x; IBUF words per position (2: both byte planes at once)
    uint32_t positions;    // steps that read x, per pass
    uint32_t steps;        // of a pass: the next block of weights streams in meanwhile
    uint32_t x_digits, w_digits; // passes per block of K
};

template <bool HW> inline Shape shape_of(const Insn& i) {
    NM_INLINE
    Shape g;
    g.window = Mode(compute_mode(i)) == Mode::WINDOW;
    g.max = Reduce(compute_reduce(i)) == Reduce::MAX;
    g.pointwise = g.window && !g.max && compute_win_h(i) == 1 && compute_win_w(i) == 1 &&
                  compute_stride_h(i) == 1 && compute_stride_w(i) == 1;
    g.last = compute_last(i);
    g.transpose = compute_transpose(i) && !g.window; // WINDOW has no transposed form
    // Rows, and the height and width of a window's x without the window itself.
    const uint32_t m1 = compute_m1(i), m0 = compute_m0(i);
    const uint32_t many[3] = {m1, m1 - 1, m0 - 1};
    const uint32_t each[3] = {m0, compute_stride_h(i), compute_stride_w(i)};
    uint32_t made[3];
    NM_PARTITION(many, 0)
    NM_PARTITION(each, 0)
    NM_PARTITION(made, 0)
    count_products<HW, 3>(many, each, made);
    g.m0 = m0, g.rows = made[0];
    const uint32_t height = g.window ? made[1] + compute_win_h(i) : m1;
    g.width = g.window ? made[2] + compute_win_w(i) : m0;
    uint32_t words;
    count_products<HW, 1>(&height, &g.width, &words);
    g.reads = g.max && compute_x_wide(i) ? 2 : 1;
    g.positions = g.reads == 2 ? 2 * words : words;
    g.steps = at_least(g.positions, ROWS);
    g.x_digits = g.max ? 1 : 1 + compute_x_wide(i);
    g.w_digits = g.max ? 1 : 1 + compute_w_wide(i);
    g.any = compute_nb(i) != 0 && compute_kh(i) != 0 && compute_kw(i) != 0 && compute_cb(i) != 0;
    return g;
}

// One pass: its place in the K loop, and the addresses of that place.
struct Pass {
    uint16_t nb, kh, kw, cb; // the bit width of the counts: their products take one DSP, not two
    uint8_t w_digit, x_digit;
    uint32_t x_nb, x_kh, x_kw, x_cb; // x_base is in x_nb
    uint32_t w_nb, w_row;
};

inline Pass first_pass(const Insn& i) {
    NM_INLINE
    Pass p = {};
    p.x_nb = compute_x_base(i);
    p.w_nb = p.w_row = compute_w_base(i);
    return p;
}

// for nb: for kh: for kw: for cb: for w plane: for x plane
inline void next_pass(Pass& p, const Shape& g, const Insn& i) {
    NM_INLINE
    if (++p.x_digit < g.x_digits)
        return;
    p.x_digit = 0;
    // MAX skips the block of an int16 weight's high byte plane.
    p.w_row += g.max ? ROWS * (1 + compute_w_wide(i)) : ROWS;
    if (++p.w_digit < g.w_digits)
        return;
    p.w_digit = 0;
    p.x_cb += compute_x_cb(i);
    if (++p.cb < compute_cb(i))
        return;
    p.cb = p.x_cb = 0;
    p.x_kw += compute_x_kw(i);
    if (++p.kw < compute_kw(i))
        return;
    p.kw = p.x_kw = 0;
    p.x_kh += compute_x_kh(i);
    if (++p.kh < compute_kh(i))
        return;
    p.kh = p.x_kh = 0;
    p.x_nb += compute_x_nb(i);
    p.w_nb += compute_w_nb(i);
    p.w_row = p.w_nb;
    ++p.nb;
}

inline uint32_t pass_x(const Pass& p, const Insn& i) {
    NM_INLINE
    return p.x_nb + p.x_kh + p.x_kw + p.x_cb + (p.x_digit ? compute_x_half(i) : 0);
}

inline bool opens_block(const Pass& p) {
    NM_INLINE
    return (p.kh | p.kw | p.cb | p.w_digit | p.x_digit) == 0;
}

inline bool closes_block(const Pass& p, const Shape& g, const Insn& i) {
    NM_INLINE
    return p.kh + 1u == compute_kh(i) && p.kw + 1u == compute_kw(i) && p.cb + 1u == compute_cb(i) &&
           p.w_digit + 1u == g.w_digits && p.x_digit + 1u == g.x_digits;
}

// True until next_pass goes beyond the last pass.
inline bool is_pass(const Pass& p, const Insn& i) {
    NM_INLINE
    return p.nb < compute_nb(i);
}

// A raster over lines: address = base + i1*step1 + i0*step0.
struct Raster {
    uint32_t i0, line, at;

    void start(uint32_t base) {
        i0 = 0;
        line = at = base;
    }

    void next(uint32_t width, uint32_t step1, uint32_t step0) {
        at += step0;
        if (++i0 == width) {
            i0 = 0;
            line += step1;
            at = line;
        }
    }

    // Advances by several positions, at most to the end of the line.
    void skip(uint32_t count, uint32_t width, uint32_t step1, uint32_t step0) {
        at += count * step0;
        i0 += count;
        if (i0 == width) {
            i0 = 0;
            line += step1;
            at = line;
        }
    }
};

// Which positions of the raster complete a window: `skip` more rows or columns until the next.
struct Phase {
    uint32_t skip_h, skip_w;

    void start(const Insn& i) {
        skip_h = compute_win_h(i) - 1;
        skip_w = compute_win_w(i) - 1;
    }

    bool fires() const { return (skip_h | skip_w) == 0; }

    void next(bool line_ends, const Insn& i) {
        skip_w = skip_w == 0 ? compute_stride_w(i) - 1 : skip_w - 1;
        if (line_ends) {
            skip_w = compute_win_w(i) - 1;
            skip_h = skip_h == 0 ? compute_stride_h(i) - 1 : skip_h - 1;
        }
    }
};

} // namespace nm
