// SPDX-License-Identifier: Apache-2.0
// The lanes between their buffers: t and u in, results and row statistics out.
// In: finished sums.  Out: rows of the output buffer's two digit planes.
#pragma once

#include "nm/array.h"

namespace nm {

// One row of t or u.
inline void read_operand(uint32_t row, bool wide, const int8_t lo[][ROWS], const int8_t hi[][ROWS],
                         int16_t out[COLS]) {
    NM_INLINE
    int8_t low[COLS], high[COLS] = {};
    NM_PARTITION(low, 0)
    NM_PARTITION(high, 0)
    copy_word(lo[row], low);
    if (wide)
        copy_word(hi[row], high);
OPERAND:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        out[c] = int16_t(low[c] + high[c] * 256);
    }
}

// Low digit always; the high one only of int16 results.
inline void write_result(uint32_t row, bool wide, const int16_t q[COLS],
                         int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS]) {
    NM_INLINE
    int8_t low[COLS], high[COLS];
    NM_PARTITION(low, 0)
    NM_PARTITION(high, 0)
RESULT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        low[c] = int8_t(uint8_t(q[c]));
        high[c] = int8_t((q[c] - low[c]) >> 8);
    }
    copy_word(low, o_lo[row]);
    if (wide)
        copy_word(high, o_hi[row]);
}

// Finished rows through the lanes.
inline void finish_rows(uint32_t n, const Shape& g, const Insn& insn, const int32_t sums[][COLS],
                        const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                        const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                        int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS],
                        ComputeState& state, Progress& p) {
    NM_INLINE
    // Copies: a compiler cannot know that the output buffer's bytes lie elsewhere.
    const EpilogueConfig e = state.epilogue;
    const Channels channels = state.channels[p.bank];
    NM_PARTITION(channels.bias, 0)
    NM_PARTITION(channels.m, 0)
    NM_PARTITION(channels.s, 0)
    const uint32_t o_row = compute_o_base(insn) + p.now.nb * compute_o_nb(insn) + p.row;
FINISH_M:
    for (uint32_t m = 0; m < n; ++m) {
        int16_t t[COLS] = {}, u[COLS] = {}, q[COLS];
        NM_PARTITION(t, 0)
        NM_PARTITION(u, 0)
        NM_PARTITION(q, 0)
        if (e.t_en) {
            read_operand(p.t.at, e.t_wide, t_lo, t_hi, t);
            p.t.next(g.m0, e.t_m1, e.t_m0);
        }
        if (e.u_en) {
            read_operand(p.u.at, e.u_wide, u_lo, u_hi, u);
            p.u.next(g.m0, e.u_m1, e.u_m0);
        }
        epilogue_row(sums[m], channels, t, u, state.segments, e, q);
        write_result(o_row + m, e.out_wide, q, o_lo, o_hi);
        if (e.stat != Stat::NONE)
            state.stat[p.row + m] = join_stat(q, p.now.nb == 0, state.stat[p.row + m], e.stat);
    }
}

// The output buffer has one write port, which the results keep busy: statistics follow them.
inline void write_stats(const Shape& g, const Insn& insn, const ComputeState& state,
                        int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS]) {
    NM_INLINE
STATS:
    for (uint32_t m = 0; m < g.rows; ++m) {
        NM_PIPELINE(1)
        const int16_t value = scale_stat(state.stat[m], state.epilogue);
        int16_t all[COLS];
        NM_PARTITION(all, 0)
    REPLICATE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            all[c] = value;
        }
        write_result(compute_r_base(insn) + m, state.epilogue.out_wide, all, o_lo, o_hi);
    }
}

} // namespace nm
