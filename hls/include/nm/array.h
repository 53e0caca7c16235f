// SPDX-License-Identifier: Apache-2.0
// The array between its buffers: filling weights, reading x, accumulating.
// In: words of IBUF, WBUF and PBUF.  Out: sums, one row per output position.
#pragma once

#include "nm/hls.h"
#include "nm/kernels.h"
#include "nm/mac.h"
#include "nm/walk.h"

namespace nm {

constexpr int PER_WORD = ROWS / 8; // 64-bit parameters in a word

inline uint64_t parameter(const int8_t word[ROWS], int entry) {
    NM_INLINE
    uint64_t value = 0;
PARAMETER_BYTE:
    for (int k = 0; k < 8; ++k) {
        NM_UNROLL
        value |= uint64_t(uint8_t(word[entry * 8 + k])) << (8 * k);
    }
    return value;
}

// Row j of the block of weights at `w_row`, into row (or column) j of the array.
inline void fill_weights(uint32_t j, uint32_t w_row, const Shape& g, const Insn& insn,
                         const int8_t wbuf[WBUF_WORDS][ROWS], weight_t w[ROWS][COLS]) {
    NM_INLINE
    // A window smaller than WIN x WIN sits in the newest rows and columns; other taps weigh 0.
    const int a = int(j) / WIN - (WIN - int(compute_win_h(insn)));
    const int b = int(j) % WIN - (WIN - int(compute_win_w(insn)));
    const bool tap = a >= 0 && b >= 0 && j < uint32_t(WIN * WIN);
    const uint32_t source = !g.window ? j : tap ? uint32_t(a) * compute_win_w(insn) + b : 0;
    const int8_t* const word = wbuf[w_row + source];
    if (g.transpose) {
    FILL_COLUMN:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
            w[r][j] = word[r];
        }
        return;
    }
    const weight_t keep = g.window && !tap ? 0 : -1;
FILL_ROW:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        w[j][c] = weight_t(word[c] & keep);
    }
}

// Word j of a parameter row, into the lanes' registers.
inline void fill_channels(uint32_t j, uint32_t p_row, const int8_t pbuf[PBUF_WORDS][ROWS],
                          Channels& ch) {
    NM_INLINE
CHANNELS:
    for (int e = 0; e < PER_WORD; ++e) {
        NM_UNROLL
        const uint64_t value = parameter(pbuf[p_row * 8 + j], e);
        const uint32_t c = j * PER_WORD + uint32_t(e);
        ch.bias[c] = int32_t(uint32_t(value));
        ch.m[c] = int16_t(uint16_t(value >> 32));
        ch.s[c] = uint8_t((value >> 48) & 63);
    }
}

// Sums of a pass join those of the passes before it.
inline void accumulate(uint32_t n, uint32_t row, bool max, int shift, bool fresh,
                       int32_t sums[][COLS], int32_t acc[ACC_ROWS][COLS]) {
    NM_INLINE
ACC_M:
    for (uint32_t m = 0; m < n; ++m) {
    ACC_C:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int32_t before = fresh ? (max ? MAX_START : 0) : acc[row + m][c];
            const int32_t scaled = int32_t(uint32_t(sums[m][c]) << shift);
            const int32_t top = sums[m][c] > before ? sums[m][c] : before;
            sums[m][c] = max ? top : int32_t(uint32_t(before) + uint32_t(scaled));
        }
    ACC_KEEP:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            acc[row + m][c] = sums[m][c];
        }
    }
}

// Everything that moves while one COMPUTE runs.
struct Progress {
    Pass now, next; // the pass that computes, the pass whose weights fill
    Raster x, t, u;
    Phase phase;
    uint32_t column; // of the word that enters the window next
    uint32_t step;   // of the pass
    uint32_t row;    // results finished in the pass
    uint32_t bank;   // of weights and channels that compute
    bool high_next;  // the high digits of a wide MAX operand come next
};

inline void begin_pass(const Insn& insn, const EpilogueConfig& e, Progress& p) {
    NM_INLINE
    p.x.start(pass_x(p.now, insn));
    p.t.start(compute_t_base(insn) + p.now.nb * e.t_nb);
    p.u.start(compute_u_base(insn) + p.now.nb * e.u_nb);
    p.phase.start(insn);
    p.column = p.step = p.row = 0;
    p.high_next = false;
}

// Words of x to 16-bit operands: a digit of a sum, or the whole value of a maximum.
inline void read_x(uint32_t n, const Shape& g, const Insn& insn,
                   const int8_t ibuf[IBUF_WORDS][ROWS], int16_t x_low[LANES], Progress& p,
                   int16_t x[][ROWS]) {
    NM_INLINE
    const bool first_half = g.reads == 2 && !p.high_next;
    const bool second_half = g.reads == 2 && p.high_next;
READ_X:
    for (uint32_t i = 0; i < n; ++i) {
        const uint32_t at = p.x.at + (second_half ? compute_x_half(insn) : 0);
    READ_LANE:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
            const int16_t digit = ibuf[at][r];
            x[i][r] = second_half ? int16_t(digit * 256 + x_low[r]) : digit;
        }
        if (first_half) {
        KEEP_LANE:
            for (int r = 0; r < ROWS; ++r) {
                NM_UNROLL
                x_low[r] = x[i][r];
            }
        }
        if (!first_half)
            p.x.next(g.width, compute_x_m1(insn), compute_x_m0(insn));
    }
    p.high_next = first_half;
}

// Words through the window; returns how many of them completed one.
inline uint32_t window_rows(uint32_t n, const Shape& g, const Insn& insn, const int16_t x[][ROWS],
                            const weight_t w[ROWS][COLS], Window& window, Progress& p,
                            int32_t sums[][COLS]) {
    NM_INLINE
    uint32_t made = 0;
WINDOW_STEP:
    for (uint32_t i = 0; i < n; ++i) {
        shift_in(x[i], p.column, window.taps, window.lines);
        if (p.phase.fires()) {
            if (g.max)
                window_max(window.taps, w, sums[made]);
            else
                window_sum(window.taps, w, sums[made]);
            ++made;
        }
        const bool line_ends = p.column + 1 == g.width;
        p.phase.next(line_ends, insn);
        p.column = line_ends ? 0 : p.column + 1;
    }
    return made;
}

// Weights (and parameters) of pass p.next, rows `from` to `to`, into the idle bank.
inline void fill(uint32_t from, uint32_t to, const Shape& g, const Insn& insn,
                 const int8_t wbuf[WBUF_WORDS][ROWS], const int8_t pbuf[PBUF_WORDS][ROWS],
                 ComputeState& state, const Progress& p, uint32_t bank) {
    NM_INLINE
    const uint32_t p_row = compute_p_base(insn) + p.next.nb * compute_p_nb(insn);
FILL:
    for (uint32_t j = from; j < to; ++j) {
        fill_weights(j, p.next.w_row, g, insn, wbuf, state.weights[bank]);
        if (j < 8 && g.last)
            fill_channels(j, p_row, pbuf, state.channels[bank]);
    }
}

} // namespace nm
