// SPDX-License-Identifier: Apache-2.0
// The address generator: which block of weights, and which words of x, t and u, come next.
// In: a COMPUTE instruction.  Out: affine counters that only add.
#pragma once

#include "nm/hls.h"
#include "nm/isa.h"
#include "nm/product.h"
#include "nm/types.h"

namespace nm {

// A word of a line buffer is read from its memory this many steps after it was written, or later.
constexpr int LINE_REACH = WIN + 1;

// Sizes of one COMPUTE, decoded once.
struct Shape {
    bool window, max, last, transpose;
    bool pointwise;        // WINDOW of one tap and no stride, which sums
    bool taps;             // each PE has an operand of its own: WINDOW, unless it is pointwise
    bool any;              // the K loop has passes
    bool two_beats;        // a row of sums or maxima takes two steps: see Step in row.h
    uint32_t m0, rows;     // output columns; all output rows (m1 * m0)
    uint32_t width, reads; // columns of x; IBUF words per position (2: both byte planes at once)
    uint32_t line;         // columns of x, and idle ones behind them
    uint32_t positions;    // of x, per pass; only a CPU asks
    uint32_t busy;         // steps of a pass that read x or take a second beat
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
    g.taps = g.window && !g.pointwise;
    g.two_beats = g.max || (g.taps && MACS_PER_DSP == 2);
    g.last = compute_last(i);
    g.transpose = compute_transpose(i) && !g.window; // WINDOW has no transposed form
    // Rows, and the height and width of a window's x without the window itself.
    const uint32_t m1 = compute_m1(i), m0 = compute_m0(i);
    const uint32_t many[3] = {m1, m1 - 1, m0 - 1};
    const uint32_t each[3] = {m0, compute_stride_h(i), compute_stride_w(i)};
    uint32_t made[3], words[1];
    NM_PARTITION(many, 0)
    NM_PARTITION(each, 0)
    NM_PARTITION(made, 0)
    count_products<HW, 16, 8, 8>(many, each, made);
    g.m0 = m0, g.rows = made[0];
    const uint32_t height = g.window ? made[1] + compute_win_h(i) : m1;
    g.width = g.window ? made[2] + compute_win_w(i) : m0;
    // The line buffers' memories need their time between two words of a column.
    const bool lines = g.window && compute_win_h(i) > 1;
    g.line = lines ? at_least(g.width, LINE_REACH) : g.width;
    count_products<HW, 16>(&height, &g.line, words);
    g.reads = g.max && compute_x_wide(i) ? 2 : 1;
    g.positions = HW ? 0 : height * g.width;
    g.busy = (g.reads == 2 ? 2 * words[0] : words[0]) + (g.two_beats ? g.rows : 0);
    g.steps = at_least(g.busy, ROWS);
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
    bool opens; // the first pass of a column block
    bool moves; // the same, and of another block than that of the pass before
    // Made by look_ahead, a step after the counts: a compare and a count do not share a cycle. Each
    // is the last of its loop and of all loops within that.
    bool last_x, last_w, last_cb, last_kw, last_kh, last_nb;
    uint32_t x_at; // where x begins
};

inline Pass first_pass(const Insn& i) {
    NM_INLINE
    Pass p = {};
    p.x_nb = compute_x_base(i);
    p.w_nb = p.w_row = compute_w_base(i);
    p.opens = true;
    return p;
}

// What the next pass and this pass's beginning depend on; at any time before next_pass.
inline void look_ahead(Pass& p, const Shape& g, const Insn& i) {
    NM_INLINE
    p.last_x = p.x_digit + 1u == g.x_digits;
    p.last_w = p.last_x & (p.w_digit + 1u == g.w_digits);
    p.last_cb = p.last_w & (p.cb + 1u == compute_cb(i));
    p.last_kw = p.last_cb & (p.kw + 1u == compute_kw(i));
    p.last_kh = p.last_kw & (p.kh + 1u == compute_kh(i));
    p.last_nb = p.last_kh & (p.nb + 1u == compute_nb(i));
    p.x_at = p.x_nb + p.x_kh + p.x_kw + p.x_cb + (p.x_digit ? compute_x_half(i) : 0);
}

// The last pass of a column block, and of all.
inline bool closes_block(const Pass& p) {
    NM_INLINE
    return p.last_kh;
}

inline bool is_last(const Pass& p) {
    NM_INLINE
    return p.last_nb;
}

// for nb: for kh: for kw: for cb: for w plane: for x plane
inline void next_pass(Pass& p, const Shape& g, const Insn& i) {
    NM_INLINE
    const bool w = p.last_x, cb = p.last_w, kw = p.last_cb, kh = p.last_kw, nb = p.last_kh;
    p.x_digit = w ? 0 : uint8_t(p.x_digit + 1);
    p.w_digit = cb ? 0 : uint8_t(p.w_digit + (w ? 1 : 0));
    p.cb = kw ? 0 : uint16_t(p.cb + (cb ? 1 : 0));
    p.kw = kh ? 0 : uint16_t(p.kw + (kw ? 1 : 0));
    p.kh = nb ? 0 : uint16_t(p.kh + (kh ? 1 : 0));
    p.nb = uint16_t(p.nb + (nb ? 1 : 0));
    p.x_cb = kw ? 0 : p.x_cb + (cb ? compute_x_cb(i) : 0);
    p.x_kw = kh ? 0 : p.x_kw + (kw ? compute_x_kw(i) : 0);
    p.x_kh = nb ? 0 : p.x_kh + (kh ? compute_x_kh(i) : 0);
    p.x_nb += nb ? compute_x_nb(i) : 0;
    p.w_nb += nb ? compute_w_nb(i) : 0;
    // MAX skips the block of an int16 weight's high byte plane.
    const uint32_t block = g.max && compute_w_wide(i) ? 2 * ROWS : ROWS;
    p.w_row = nb ? p.w_nb : p.w_row + (w ? block : 0);
    p.opens = p.moves = nb;
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
