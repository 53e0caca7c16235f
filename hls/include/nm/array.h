// SPDX-License-Identifier: Apache-2.0
// The array between its buffers: reading x, accumulating, the registers of a COMPUTE.
// In: words of IBUF, WBUF and PBUF.  Out: sums, one row per output position.
#pragma once

#include "nm/fill.h"
#include "nm/hls.h"
#include "nm/kernels.h"
#include "nm/mac.h"
#include "nm/walk.h"

namespace nm {

// `HW` below: the device takes one row per step.  Its loops have a constant length, because Vitis
// unrolls no loop of unknown length within a pipeline.

// Sums of a pass are added to those of the passes before it.
template <bool HW>
inline void accumulate(uint32_t n, uint32_t row, bool max, int shift, bool fresh,
                       int32_t sums[][COLS], int32_t acc[ACC_ROWS][COLS]) {
    NM_INLINE
    const uint32_t turns = HW ? 1 : n;
    const int32_t keep = fresh ? 0 : -1;
    const int32_t start = fresh && max ? MAX_START : 0;
ACC_M:
    for (uint32_t m = 0; m < turns; ++m) {
        // Whole rows in registers: nothing of a row may alias another.
        int32_t before[COLS], joined[COLS];
        NM_PARTITION(before, 0)
        NM_PARTITION(joined, 0)
    ACC_READ:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            before[c] = (acc[row + m][c] & keep) + start;
        }
    ACC_JOIN:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int32_t sum = sums[m][c];
            const int32_t top = sum > before[c] ? sum : before[c];
            const uint32_t scaled = uint32_t(sum) << shift;
            joined[c] = max ? top : int32_t(uint32_t(before[c]) + scaled);
        }
    ACC_WRITE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            sums[m][c] = joined[c];
        }
    ACC_KEEP:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            acc[row + m][c] = joined[c];
        }
    }
}

// The first rows of a block of COLS channels, which only add: a product would take a DSP each.
struct BlockRows {
    uint16_t o, t, u; // of the block that computes: results, t and u
    uint16_t p;       // of the block whose weights are loaded: parameters
};

inline BlockRows first_rows(const Insn& i) {
    NM_INLINE
    BlockRows rows;
    rows.o = uint16_t(compute_o_base(i)), rows.p = uint16_t(compute_p_base(i));
    rows.t = uint16_t(compute_t_base(i)), rows.u = uint16_t(compute_u_base(i));
    return rows;
}

// All state that changes while one COMPUTE runs.
struct Progress {
    Pass now, next; // the pass that computes, the pass whose weights are loaded
    BlockRows block;
    Raster x, t, u;
    Phase phase;
    uint32_t column; // column of the word that enters the window next
    uint32_t step;   // step of the pass
    uint32_t row;    // results finished in the pass
    uint32_t bank;   // bank of weights that computes
    bool high_next;  // the high byte plane of an int16 MAX operand comes next
};

inline void begin_pass(const Insn& insn, Progress& p) {
    NM_INLINE
    p.x.start(pass_x(p.now, insn));
    p.t.start(p.block.t);
    p.u.start(p.block.u);
    p.phase.start(insn);
    p.column = p.step = p.row = 0;
    p.high_next = false;
}

// The pass whose weights are in the other bank computes next.
inline void advance(Progress& p, const Shape& g, const Insn& insn, const EpilogueConfig& e) {
    NM_INLINE
    if (p.now.nb != p.next.nb) {
        p.block.o = uint16_t(p.block.o + compute_o_nb(insn));
        p.block.t = uint16_t(p.block.t + e.t_nb);
        p.block.u = uint16_t(p.block.u + e.u_nb);
    }
    p.now = p.next;
    p.bank ^= 1;
    next_pass(p.next, g, insn);
    if (p.now.nb != p.next.nb)
        p.block.p = uint16_t(p.block.p + compute_p_nb(insn));
    begin_pass(insn, p);
}

constexpr uint32_t CPU_RUN = 64; // steps that a CPU takes at a time

// Words of x to factors of a GEMM.  A CPU's compiler turns bytes into floats with vectors if they
// lie in one row without end; word by word, some do it byte by byte.
inline void read_factors(uint32_t n, const Shape& g, const Insn& insn,
                         const int8_t ibuf[IBUF_WORDS][ROWS], Progress& p, exact_t x[][ROWS]) {
    const uint32_t step1 = compute_x_m1(insn), step0 = compute_x_m0(insn);
    Raster raster = p.x;
    int8_t words[CPU_RUN * ROWS];
FACTOR_RUN:
    for (uint32_t i = 0; i < n;) {
        const uint32_t line = g.width - raster.i0, run = line < n - i ? line : n - i;
    FACTOR:
        for (uint32_t k = 0; k < run; ++k)
            copy_word(ibuf[raster.at + k * step0], words + (i + k) * ROWS);
        raster.skip(run, g.width, step1, step0);
        i += run;
    }
    p.x = raster;
    exact_t* flat = x[0];
FACTOR_LANE:
    for (uint32_t k = 0; k < n * ROWS; ++k)
        flat[k] = exact_t(words[k]);
}

// Words of x to 16-bit operands: one byte plane each.
template <bool HW>
inline void read_x(uint32_t n, const Shape& g, const Insn& insn,
                   const int8_t ibuf[IBUF_WORDS][ROWS], Progress& p, int16_t x[][ROWS]) {
    NM_INLINE
    const uint32_t turns = HW ? 1 : n;
    const uint32_t step1 = compute_x_m1(insn), step0 = compute_x_m0(insn);
    Raster raster = p.x;
READ_X:
    for (uint32_t i = 0; i < turns; ++i) {
        int8_t word[ROWS];
        NM_PARTITION(word, 0)
        copy_word(ibuf[raster.at], word);
    READ_LANE:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
            x[i][r] = word[r];
        }
        raster.next(g.width, step1, step0);
    }
    p.x = raster;
}

// The whole int16 value, for maxima: the low byte plane in one step, the high one in the next.
// Returns true when the value is complete.
inline bool read_wide_x(const Shape& g, const Insn& insn, const int8_t ibuf[IBUF_WORDS][ROWS],
                        int16_t x_low[LANES], Progress& p, int16_t x[ROWS]) {
    NM_INLINE
    const uint32_t at = p.x.at + (p.high_next ? compute_x_half(insn) : 0);
    int8_t word[ROWS];
    NM_PARTITION(word, 0)
    copy_word(ibuf[at], word);
READ_WIDE_LANE:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        x[r] = int16_t(word[r] * 256 + x_low[r]);
        x_low[r] = word[r];
    }
    if (p.high_next)
        p.x.next(g.width, compute_x_m1(insn), compute_x_m0(insn));
    p.high_next = !p.high_next;
    return !p.high_next;
}

// One word through the window; true when it completes one.
template <bool HW>
inline bool enter_window(const Shape& g, const Insn& insn, const int16_t x[LANES], Window& window,
                         Progress& p) {
    NM_INLINE
    shift_in<HW>(x, p.column, g.width, window.taps, window.lines);
    const bool fires = p.phase.fires();
    const bool line_ends = p.column + 1 == g.width;
    p.phase.next(line_ends, insn);
    p.column = line_ends ? 0 : p.column + 1;
    return fires;
}

// One step of the device's array, in any mode; returns the number of rows made, 0 or 1.
inline uint32_t array_step(const Shape& g, const Insn& insn, const int16_t x[ROWS],
                           const weight_t w[ROWS][COLS], Window& window, Progress& p,
                           int32_t out[COLS]) {
    NM_INLINE
    const bool made = g.window ? enter_window<true>(g, insn, x, window, p) : true;
    int16_t taps[WIN * WIN][COLS];
    NM_PARTITION(taps, 0)
TAPS:
    for (int k = 0; k < WIN * WIN; ++k) {
        NM_UNROLL
        copy_lanes(window.taps[k / WIN][k % WIN], taps[k]);
    }
    array_row<MACS_PER_DSP == 2>(g.window, g.max, x, taps, w, out);
    return made ? 1 : 0;
}

// Words through the window; returns how many of them completed one.
inline uint32_t window_rows(uint32_t n, const Shape& g, const Insn& insn, const int16_t x[][ROWS],
                            const weight_t w[ROWS][COLS], Window& window, Progress& p,
                            int32_t sums[][COLS]) {
    NM_INLINE
    uint32_t made = 0;
    TapWeights taps;
    read_taps(w, g.max, taps);
WINDOW_STEP:
    for (uint32_t i = 0; i < n; ++i) {
        if (enter_window<false>(g, insn, x[i], window, p)) {
            if (g.max)
                window_max(window.taps, taps, sums[made]);
            else
                window_sum(window.taps, taps, sums[made]);
            ++made;
        }
    }
    return made;
}

// Weights (and parameters) of pass p.next, rows `from` to `to`, into the idle bank.
template <bool HW>
inline void fill(uint32_t from, uint32_t to, const Shape& g, const Insn& insn,
                 const int8_t wbuf[WBUF_WORDS][ROWS], const int8_t pbuf[PBUF_WORDS][ROWS],
                 ComputeState& state, const Progress& p, uint32_t bank) {
    NM_INLINE
    const bool whole = !HW && !g.window && to - from == uint32_t(ROWS);
    if (whole)
        fill_block(p.next.w_row, g.transpose, wbuf, state.weights[bank]);
    const uint32_t turns = HW ? 1 : to - from;
FILL:
    for (uint32_t k = 0; k < turns; ++k) {
        const uint32_t j = from + k;
        if (g.window)
            fill_taps(j, p.next.w_row, insn, wbuf, state.weights[bank]);
        else if (!whole)
            fill_weights(j, p.next.w_row, g.transpose, wbuf, state.weights[bank]);
        if (j < 8 && g.last)
            fill_channels(j, p.block.p, pbuf, state.channels.next);
    }
}

} // namespace nm
