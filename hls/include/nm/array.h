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
inline void accumulate(uint32_t n, uint32_t row, bool max, const Join& how, int32_t sums[][COLS],
                       int32_t acc[ACC_ROWS][COLS]) {
    NM_INLINE
    const uint32_t turns = HW ? 1 : n;
    const int32_t start = max ? ~how.keep & MAX_START : 0;
ACC_M:
    for (uint32_t m = 0; m < turns; ++m) {
        // Whole rows in registers: nothing of a row may alias another.
        int32_t before[COLS], joined[COLS];
        NM_PARTITION(before, 0)
        NM_PARTITION(joined, 0)
    ACC_READ:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            before[c] = (acc[row + m][c] & how.keep) | start;
        }
    ACC_JOIN:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int32_t sum = sums[m][c];
            const int32_t top = sum > before[c] ? sum : before[c];
            const uint32_t scaled = uint32_t(sum) << how.shift;
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
    uint32_t column;      // column of the word that enters a CPU's window next
    uint32_t busy, steps; // of this pass: see Shape; before the first one, weights alone are loaded
    uint32_t step;        // step of the pass
    uint32_t row;         // results finished in the pass
    uint32_t bank;        // bank of weights (on a CPU) and channels that computes
    bool more;            // there is a next pass
    bool high_next;       // the high byte plane of an int16 MAX operand comes next
    bool second;          // the second beat of a row comes next
};

inline Progress before_passes(const Shape& g, const Insn& insn) {
    NM_INLINE
    Progress p = {};
    p.next = first_pass(insn);
    p.block = first_rows(insn);
    p.steps = ROWS;
    p.more = g.any;
    return p;
}

inline void begin_pass(const Shape& g, const Insn& insn, Progress& p) {
    NM_INLINE
    p.x.start(p.now.x_at);
    p.t.start(p.block.t);
    p.u.start(p.block.u);
    p.phase.start(insn);
    p.busy = g.busy, p.steps = g.steps;
    p.column = p.step = p.row = 0;
    p.high_next = p.second = false;
}

// The pass whose weights have been loaded computes next; false if there is none.
inline bool advance(Progress& p, const Shape& g, const Insn& insn, const EpilogueConfig& e) {
    NM_INLINE
    const bool runs = p.more;
    if (p.now.nb != p.next.nb) {
        p.block.o = uint16_t(p.block.o + compute_o_nb(insn));
        p.block.t = uint16_t(p.block.t + e.t_nb);
        p.block.u = uint16_t(p.block.u + e.u_nb);
    }
    p.now = p.next;
    p.bank ^= 1;
    p.more = runs && !is_last(p.now);
    next_pass(p.next, g, insn);
    if (p.now.nb != p.next.nb)
        p.block.p = uint16_t(p.block.p + compute_p_nb(insn));
    begin_pass(g, insn, p);
    return runs;
}

constexpr uint32_t CPU_RUN = 64; // words that a CPU takes at a time

static_assert(CPU_RUN % MAC_ROWS == 0, "mac_rows computes whole groups of rows");

// True while a CPU's pass has words to read; the steps after them take no time there.
inline bool reads_x(const Shape& g, const Progress& p) {
    return p.busy != 0 && p.step < g.positions;
}

inline uint32_t run_length(const Shape& g, const Progress& p) {
    if (!reads_x(g, p))
        return p.steps - p.step;
    const uint32_t left = g.positions - p.step;
    return left < CPU_RUN ? left : CPU_RUN;
}

// What a CPU makes of a run of words.
struct CpuRun {
    int16_t x[CPU_RUN][ROWS];
    int32_t sums[CPU_RUN][COLS];
    exact_t factors[CPU_RUN][ROWS];
};

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

// Words of x to 16-bit operands, for a CPU: one byte plane each, or both.
inline void read_x(uint32_t n, const Shape& g, const Insn& insn,
                   const int8_t ibuf[IBUF_WORDS][ROWS], Progress& p, int16_t x[][ROWS]) {
    const uint32_t step1 = compute_x_m1(insn), step0 = compute_x_m0(insn);
    Raster raster = p.x;
READ_X:
    for (uint32_t i = 0; i < n; ++i) {
        int8_t word[ROWS], high[ROWS] = {};
        copy_word(ibuf[raster.at], word);
        if (g.reads == 2)
            copy_word(ibuf[raster.at + compute_x_half(insn)], high);
    READ_LANE:
        for (int r = 0; r < ROWS; ++r)
            x[i][r] = int16_t(high[r] * 256 + word[r]);
        raster.next(g.width, step1, step0);
    }
    p.x = raster;
}

// A word of x as the device reads it.  Of an int16 maximum it is the low byte plane, which waits in
// `x_low`, and in the next step the high one, which makes x whole.
inline void read_word(const Insn& insn, const int8_t ibuf[IBUF_WORDS][ROWS], int16_t x_low[LANES],
                      const Progress& p, int16_t x[ROWS]) {
    NM_INLINE
    int8_t word[ROWS];
    NM_PARTITION(word, 0)
    copy_word(ibuf[p.x.at + (p.high_next ? compute_x_half(insn) : 0)], word);
READ_WORD_LANE:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        x[r] = int16_t(p.high_next ? word[r] * 256 + x_low[r] : word[r]);
        if (!p.high_next)
            x_low[r] = word[r];
    }
}

// To the next word of x.  A line may be longer than its words, and then some steps are idle.
inline void next_word(const Shape& g, const Insn& insn, Progress& p) {
    NM_INLINE
    const bool low = g.reads == 2 && !p.high_next;
    p.high_next = low;
    if (low)
        return;
    if (p.x.i0 < g.width)
        p.phase.next(p.x.i0 + 1 == g.width, insn);
    p.x.next(g.line, compute_x_m1(insn), compute_x_m0(insn));
}

// The even columns of a row in two beats wait for the odd ones.
inline void join_beats(const Step& how, bool first, int32_t held[COLS / 2], int32_t sums[COLS]) {
    NM_INLINE
JOIN_BEATS:
    for (int k = 0; k < COLS / 2; ++k) {
        NM_UNROLL
        const int32_t even = sums[2 * k];
        sums[2 * k] = choose(how.second, held[k], even);
        if (first)
            held[k] = even;
    }
}

// One step of the device's array, in any mode; true when it completes a row of sums.
inline bool array_step(const Shape& g, const Insn& insn, const int8_t ibuf[IBUF_WORDS][ROWS],
                       const weight_t w[ROWS][COLS], Window& window, int16_t x_low[LANES],
                       Progress& p, int32_t held[COLS / 2], int32_t sums[COLS]) {
    NM_INLINE
    const bool idle = p.x.i0 >= g.width;
    const bool whole = !idle && (g.reads == 1 || p.high_next);
    const bool fires = whole && (!g.taps || p.phase.fires());
    const bool first = fires && g.two_beats && !p.second;
    int16_t x[ROWS] = {};
    NM_PARTITION(x, 0)
    if (!idle)
        read_word(insn, ibuf, x_low, p, x);
    if (g.taps && whole && !p.second)
        shift_in(x, p.x.i0, window.taps, window.lines);
    int16_t taps[WIN * WIN][COLS];
    NM_PARTITION(taps, 0)
TAPS:
    for (int k = 0; k < WIN * WIN; ++k) {
        NM_UNROLL
        copy_lanes(window.taps[k / WIN][k % WIN], taps[k]);
    }
    const Step how = {g.taps, g.max, p.second};
    array_row<MACS_PER_DSP == 2>(how, x, taps, w, sums);
    join_beats(how, first, held, sums);
    if (!first)
        next_word(g, insn, p);
    p.second = first;
    return fires && !first;
}

// One word through a CPU's window; true when it completes one.
inline bool enter_window(const Shape& g, const Insn& insn, const int16_t x[LANES], Window& window,
                         Progress& p) {
    shift_in(x, p.column, window.taps, window.lines);
    const bool fires = p.phase.fires();
    const bool line_ends = p.column + 1 == g.width;
    p.phase.next(line_ends, insn);
    p.column = line_ends ? 0 : p.column + 1;
    return fires;
}

// Words through the window; returns how many of them completed one.
inline uint32_t window_rows(uint32_t n, const Shape& g, const Insn& insn, const int16_t x[][ROWS],
                            const weight_t w[ROWS][COLS], Window& window, Progress& p,
                            int32_t sums[][COLS]) {
    uint32_t made = 0;
    TapWeights taps;
    read_taps(w, g.max, taps);
WINDOW_STEP:
    for (uint32_t i = 0; i < n; ++i) {
        if (enter_window(g, insn, x[i], window, p)) {
            if (g.max)
                window_max(window.taps, taps, sums[made]);
            else
                window_sum(window.taps, taps, sums[made]);
            ++made;
        }
    }
    return made;
}

// The rows of sums that one step of the device makes, 0 or 1; joined with the accumulators.
inline uint32_t device_rows(uint32_t row, const Shape& g, const Insn& insn, const Join& how,
                            const int8_t ibuf[IBUF_WORDS][ROWS], ComputeState& state, Progress& p,
                            int32_t held[COLS / 2], int32_t sums[][COLS]) {
    NM_INLINE
    if (!array_step(g, insn, ibuf, state.weights[0], state.window, state.x_low, p, held, sums[0]))
        return 0;
    accumulate<true>(1, row, g.max, how, sums, state.acc);
    return 1;
}

// The rows that n words of x make on a CPU.
inline uint32_t cpu_rows(uint32_t n, uint32_t row, const Shape& g, const Insn& insn,
                         const Join& how, const int8_t ibuf[IBUF_WORDS][ROWS], ComputeState& state,
                         Progress& p, CpuRun& run) {
    const weight_t(&w)[ROWS][COLS] = state.weights[p.bank];
    int32_t (*const acc)[COLS] = state.acc + row;
    if (!g.max && !g.taps) {
        read_factors(n, g, insn, ibuf, p, run.factors);
        if (g.window)
            scale_rows(n, run.factors, w[WIN * WIN - 1], how, acc);
        else
            mac_rows(n, run.factors, w, how, acc);
        return n;
    }
    read_x(n, g, insn, ibuf, p, run.x);
    uint32_t made = n;
    if (g.window)
        made = window_rows(n, g, insn, run.x, w, state.window, p, run.sums);
    else
        max_rows(n, run.x, w, run.sums);
    accumulate<false>(made, row, g.max, how, run.sums, state.acc);
    return made;
}

// The device's next word of weights (and of parameters), in the steps of pass p.now.  `ends`: the
// pass ends with this step, and the next one's weights are taken over.
inline void fill_step(const Shape& g, const Insn& insn, const int8_t wbuf[WBUF_WORDS][ROWS],
                      bool ends, const Progress& p, weight_t weights[2][ROWS][COLS]) {
    NM_INLINE
    int8_t word[ROWS];
    NM_PARTITION(word, 0)
    const bool fills = p.step < uint32_t(ROWS) && p.more;
    // Before the new word, which then has two registers to go to: bank 1 needs no second input.
    if (ends)
        take_over(weights[1], weights[0]);
    if (!fills)
        return;
    read_weights(p.step, p.next.w_row, g, insn, wbuf, word);
    place(p.step, g.transpose, word, weights[1]);
    if (ends)
        place_last(g.transpose, word, weights[0]);
}

// The same words from p.step to `to`, by a CPU.
inline void fill_run(uint32_t to, const Shape& g, const Insn& insn,
                     const int8_t wbuf[WBUF_WORDS][ROWS], const Progress& p,
                     weight_t w[ROWS][COLS]) {
    if (!g.window && to - p.step == uint32_t(ROWS)) {
        fill_block(p.next.w_row, g.transpose, wbuf, w);
        return;
    }
FILL_RUN:
    for (uint32_t j = p.step; j < to; ++j) {
        if (g.window)
            fill_taps(j, p.next.w_row, insn, wbuf, w);
        else
            fill_weights(j, p.next.w_row, g.transpose, wbuf, w);
    }
}

// Weights and parameters of pass p.next, as far as n steps bring them.
template <bool HW>
inline void fill(uint32_t n, const Shape& g, const Insn& insn, const int8_t wbuf[WBUF_WORDS][ROWS],
                 const int8_t pbuf[PBUF_WORDS][ROWS], ComputeState& state, const Progress& p) {
    NM_INLINE
    const bool fills = p.step < uint32_t(ROWS) && p.more;
    const uint32_t end = p.step + n < uint32_t(ROWS) ? p.step + n : uint32_t(ROWS);
    const uint32_t to = HW ? p.step + 1 : end;
    if (HW)
        fill_step(g, insn, wbuf, p.step + 1 == p.steps, p, state.weights);
    else if (fills)
        fill_run(to, g, insn, wbuf, p, state.weights[p.bank ^ 1]);
FILL_CHANNELS:
    for (uint32_t k = 0; k < (HW ? 1 : uint32_t(ROWS)); ++k) {
        NM_UNROLL
        const uint32_t j = p.step + k;
        if (fills && j < to && j < 8 && g.last)
            fill_channels(j, p.block.p, pbuf, state.channels.next);
    }
}

} // namespace nm
