// SPDX-License-Identifier: Apache-2.0
// The lanes between their buffers: t and u in, results and row statistics out.
// In: finished sums.  Out: rows of the output buffer's two byte planes.
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

// Writes the low byte plane always, the high one only for int16 results.
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

// The next row of t and of u.
inline void read_operands(const Shape& g, const EpilogueConfig& e,
                          const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                          const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                          Progress& p, int16_t t[COLS], int16_t u[COLS]) {
    NM_INLINE
    if (e.t_en) {
        read_operand(p.t.at, e.t_wide, t_lo, t_hi, t);
        p.t.next(g.m0, e.t_m1, e.t_m0);
    }
    if (e.u_en) {
        read_operand(p.u.at, e.u_wide, u_lo, u_hi, u);
        p.u.next(g.m0, e.u_m1, e.u_m0);
    }
}

// Finished rows through the lanes.
template <bool HW>
inline void finish_rows(uint32_t n, const Shape& g, const Insn& insn, const int32_t sums[][COLS],
                        const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                        const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                        int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS],
                        ComputeState& state, Progress& p) {
    NM_INLINE
    const uint32_t turns = HW ? 1 : n;
    // Local copies, since a compiler cannot know that the output buffer does not alias them.
    const EpilogueConfig e = state.epilogue;
    Channels channels;
    NM_PARTITION(channels.bias, 0)
    NM_PARTITION(channels.m, 0)
    NM_PARTITION(channels.s, 0)
    copy_channels(state.channels, p.bank, channels);
    const uint32_t o_row = compute_o_base(insn) + p.now.nb * compute_o_nb(insn) + p.row;
    const bool fresh = compute_stat_first(insn) && p.now.nb == 0;
    const bool ends = compute_stat_last(insn) && p.now.nb + 1u == compute_nb(insn);
    const int32_t lanes = ends && e.stat_lanes != 0 ? e.stat_lanes : COLS;
FINISH_M:
    for (uint32_t m = 0; m < turns; m += LANE_ROWS) {
        const uint32_t rows = turns - m < uint32_t(LANE_ROWS) ? turns - m : uint32_t(LANE_ROWS);
        int32_t acc[LANE_ROWS][COLS], squares[LANE_ROWS][COLS] = {};
        int16_t t[LANE_ROWS][COLS] = {}, u[LANE_ROWS][COLS] = {}, q[LANE_ROWS][COLS];
        NM_PARTITION(acc, 0)
        NM_PARTITION(squares, 0)
        NM_PARTITION(t, 0)
        NM_PARTITION(u, 0)
        NM_PARTITION(q, 0)
    FINISH_READ:
        for (uint32_t k = 0; k < uint32_t(LANE_ROWS); ++k) {
            NM_UNROLL
            copy_sums(sums[k < rows ? m + k : m], acc[k]);
            if (k < rows)
                read_operands(g, e, t_lo, t_hi, u_lo, u_hi, p, t[k], u[k]);
        }
        epilogue_rows<LANE_ROWS>(acc, channels, t, u, state.table, e, q, squares);
    FINISH_WRITE:
        for (uint32_t k = 0; k < rows; ++k) {
            NM_UNROLL
            write_result(o_row + m + k, e.out_wide, q[k], o_lo, o_hi);
            if (e.stat != Stat::NONE) {
                const uint32_t row = p.row + m + k;
                const RowStat before = {state.stat.value[row], state.stat.squares[row]};
                const RowStat after = join_stat(q[k], squares[k], lanes, fresh, before, e.stat);
                state.stat.value[row] = after.value;
                state.stat.squares[row] = after.squares;
            }
        }
    }
}

// The output buffer has one write port, which the results keep busy: statistics follow them.
inline void write_stats(uint32_t rows, const Insn& insn, const ComputeState& state,
                        int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS]) {
    NM_INLINE
    const EpilogueConfig e = state.epilogue;
    const bool wide = e.out_wide || e.stat != Stat::MAX; // sums and moments are int16
STATS:
    for (uint32_t i = 0; i < stat_rows(rows, e.stat); ++i) {
        NM_PIPELINE(1)
        NM_TRIPS(1, ACC_ROWS)
        const bool second = i >= rows;
        const uint32_t m = second ? i - rows : i;
        const RowStat row = {state.stat.value[m], state.stat.squares[m]};
        const int16_t value = scale_stat(row, second, e);
        int16_t all[COLS];
        NM_PARTITION(all, 0)
    REPLICATE:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            all[c] = value;
        }
        write_result(compute_r_base(insn) + i, wide, all, o_lo, o_hi);
    }
}

} // namespace nm
