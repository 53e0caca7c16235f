// SPDX-License-Identifier: Apache-2.0
// The lanes between their buffers: t and u in, results and row statistics out.
// In: finished sums.  Out: rows of the output buffer's two byte planes.
#pragma once

#include "nm/array.h"
#include "nm/fill.h"

namespace nm {

// Segments and map of an EPILOGUE from PBUF into the lanes.
inline void fill_table(const Insn& insn, const int8_t pbuf[PBUF_WORDS][ROWS], Table& table,
                       Meter& meter) {
    NM_INLINE
    const uint32_t count = epilogue_seg_count(insn);
    const uint32_t entries = (epilogue_seg_cells(insn) + 7) / 8;
    const uint32_t base = epilogue_seg_base(insn) * 8;
    const uint32_t map_base = base + (count + COLS - 1) / COLS * 8;
SEGMENTS:
    for (uint32_t i = 0; i < count; ++i) {
        NM_PIPELINE(1)
        NM_TRIPS(0, SEG_ENTRIES)
        const uint64_t entry = parameter(pbuf[base + i / PER_WORD], int(i % PER_WORD));
    SEGMENT_LANE:
        for (int c = 0; c < COPIES; ++c) {
            NM_UNROLL
            table.segments[i][c] = entry;
        }
        meter.tick(1);
    }
CELLS:
    for (uint32_t i = 0; i < entries; ++i) {
        NM_PIPELINE(1)
        NM_TRIPS(0, CELLS_AT_MOST)
        const uint64_t entry = parameter(pbuf[map_base + i / PER_WORD], int(i % PER_WORD));
    CELL:
        for (int k = 0; k < 8; ++k) {
            NM_UNROLL
        CELL_LANE:
            for (int c = 0; c < COPIES; ++c) {
                NM_UNROLL
                table.map[i][k][c] = map_cell(entry, k, count);
            }
        }
        meter.tick(1);
    }
}

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

// Where the rows of a step go, and how they join a statistic.
struct Finish {
    uint32_t o_row, stat_row; // of the first row
    bool fresh;               // the statistic begins
    int32_t counted;          // columns that enter it
};

inline Finish finish_of(const Insn& insn, const EpilogueConfig& e, const Progress& p) {
    NM_INLINE
    const bool ends = compute_stat_last(insn) && p.now.nb + 1u == compute_nb(insn);
    Finish f;
    f.o_row = p.block.o + p.row;
    f.stat_row = p.row;
    f.fresh = compute_stat_first(insn) && p.now.nb == 0;
    f.counted = ends && e.stat_lanes != 0 ? e.stat_lanes : COLS;
    return f;
}

// One row of results, `m` rows after the first.
inline void keep_row(uint32_t m, const Finish& f, const EpilogueConfig& e, const int16_t q[COLS],
                     const int32_t squares[COLS], int8_t o_lo[OBUF_ROWS][COLS],
                     int8_t o_hi[OBUF_ROWS][COLS], Statistics& stat) {
    NM_INLINE
    write_result(f.o_row + m, e.out_wide, q, o_lo, o_hi);
    if (e.stat != Stat::NONE) {
        const uint32_t row = f.stat_row + m;
        const RowStat before = {stat.value[row], stat.squares[row]};
        const RowStat after = join_stat(q, squares, f.counted, f.fresh, before, e.stat);
        stat.value[row] = after.value;
        stat.squares[row] = after.squares;
    }
}

// A finished row through the device's lanes.
inline void finish_row(const Shape& g, const Finish& f, const int32_t sums[COLS],
                       const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                       const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                       int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS],
                       ComputeState& state, Progress& p) {
    NM_INLINE
    int32_t squares[COLS];
    int16_t t[COLS] = {}, u[COLS] = {}, q[COLS];
    NM_PARTITION(squares, 0)
    NM_PARTITION(t, 0)
    NM_PARTITION(u, 0)
    NM_PARTITION(q, 0)
    read_operands(g, state.epilogue, t_lo, t_hi, u_lo, u_hi, p, t, u);
    epilogue_lanes(sums, state.channels.now, t, u, state.table, f.counted, state.epilogue, q,
                   squares);
    keep_row(0, f, state.epilogue, q, squares, o_lo, o_hi, state.stat);
}

// Finished rows through the lanes of a CPU.
inline void finish_run(uint32_t n, const Shape& g, const Finish& f, const int32_t sums[][COLS],
                       const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                       const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                       int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS],
                       ComputeState& state, Progress& p) {
    // Local copies, since a compiler cannot know that the output buffer does not alias them.
    const EpilogueConfig e = state.epilogue;
    const Channels channels = state.channels.now;
FINISH_M:
    for (uint32_t m = 0; m < n; m += CPU_ROWS) {
        const uint32_t rows = n - m < uint32_t(CPU_ROWS) ? n - m : uint32_t(CPU_ROWS);
        int32_t acc[CPU_ROWS][COLS], squares[CPU_ROWS][COLS] = {};
        int16_t t[CPU_ROWS][COLS] = {}, u[CPU_ROWS][COLS] = {}, q[CPU_ROWS][COLS];
    FINISH_READ:
        for (uint32_t k = 0; k < uint32_t(CPU_ROWS); ++k) {
            copy_sums(sums[k < rows ? m + k : m], acc[k]);
            if (k < rows)
                read_operands(g, e, t_lo, t_hi, u_lo, u_hi, p, t[k], u[k]);
        }
        epilogue_rows<CPU_ROWS>(acc, channels, t, u, state.table, f.counted, e, q, squares);
    FINISH_WRITE:
        for (uint32_t k = 0; k < rows; ++k)
            keep_row(m + k, f, e, q[k], squares[k], o_lo, o_hi, state.stat);
    }
}

// Finished rows through the lanes: the device has one.
template <bool HW>
inline void finish_rows(uint32_t n, const Shape& g, const Insn& insn, const int32_t sums[][COLS],
                        const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                        const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                        int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS],
                        ComputeState& state, Progress& p) {
    NM_INLINE
    const Finish f = finish_of(insn, state.epilogue, p);
    if (HW)
        finish_row(g, f, sums[0], t_lo, t_hi, u_lo, u_hi, o_lo, o_hi, state, p);
    else
        finish_run(n, g, f, sums, t_lo, t_hi, u_lo, u_hi, o_lo, o_hi, state, p);
}

// The output buffer has one write port, which the results keep busy: statistics follow them.
inline void write_stats(uint32_t rows, const Insn& insn, const ComputeState& state,
                        int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS]) {
    NM_INLINE
    const EpilogueConfig e = state.epilogue;
    const bool wide = e.out_wide || e.stat != Stat::MAX; // sums and moments are int16
    int64_t lower = 0;
STATS:
    for (uint32_t beat = 0; beat < STAT_BEATS * stat_rows(rows, e.stat); ++beat) {
        NM_PIPELINE(1)
        NM_TRIPS(STAT_BEATS, STATS_AT_MOST)
        const uint32_t i = beat / STAT_BEATS;
        const bool second = i >= rows, upper = beat % STAT_BEATS != 0;
        const uint32_t m = second ? i - rows : i;
        const RowStat row = {state.stat.value[m], state.stat.squares[m]};
        const int64_t part = stat_part(row, second, upper, e);
        if (upper) {
            const int16_t value = scale_stat(row, second, lower, part, e);
            int16_t all[COLS];
            NM_PARTITION(all, 0)
        REPLICATE:
            for (int c = 0; c < COLS; ++c) {
                NM_UNROLL
                all[c] = value;
            }
            write_result(compute_r_base(insn) + i, wide, all, o_lo, o_hi);
        }
        lower = part;
    }
}

} // namespace nm
