// SPDX-License-Identifier: Apache-2.0
// The device's array between its buffers: reading x, windows, beats, accumulating.
// In: words of IBUF.  Out: sums, one row per output position.
#pragma once

#include "nm/hls.h"
#include "nm/kernels.h"
#include "nm/progress.h"
#include "nm/row.h"

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
    int16_t taps[TAPS][COLS];
    NM_PARTITION(taps, 0)
WINDOW_TAPS:
    for (int k = 0; k < TAPS; ++k) {
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

} // namespace nm
