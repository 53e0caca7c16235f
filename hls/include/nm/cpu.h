// SPDX-License-Identifier: Apache-2.0
// A CPU's array between its buffers: runs of words in place of the device's steps, same results.
// In: words of IBUF.  Out: sums, one row per output position.
#pragma once

#include "nm/array.h"
#include "nm/mac.h"
#include "nm/window.h"

namespace nm {

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

} // namespace nm
