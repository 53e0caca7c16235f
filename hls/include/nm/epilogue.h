// SPDX-License-Identifier: Apache-2.0
// The Hadamard lanes, one per column: requantise, residual, piecewise-linear table, Hadamard
// operand, clip.
// In: one row of sums and the lanes' registers.  Out: one row of results (docs/numerics.md).
#pragma once

#include "nm/hls.h"
#include "nm/isa.h"
#include "nm/lane.h"
#include "nm/types.h"

namespace nm {

// The state that an EPILOGUE instruction sets.
struct EpilogueConfig {
    bool t_en, t_wide, u_en, u_wide, out_wide;
    SegKind seg_kind;
    Stat stat;
    uint8_t f_shift, u_shift, seg_shift, stat_shift, sq_shift, stat_lanes;
    int32_t off, stat_off;
    scale_t mt;
    int16_t uz, zp, lo, hi, x0, stat_m, sq_m;
    uint16_t seg_count, seg_cells;
    uint16_t t_nb, t_m1, t_m0, u_nb, u_m1, u_m0;
    LaneConfig lane;
};

// Every lane of the device reads its own copy of the table at its own index; a CPU has one copy.
constexpr int COPIES = HARDWARE ? COLS : 1;

// The piecewise-linear table of one function.
struct Table {
    uint64_t segments[SEG_ENTRIES][COPIES];
    // The segment of each cell, in banks so that an entry's 8 cells arrive in one cycle.
    uint8_t map[MAP_CELLS / 8][8][COPIES];
};

// The per-channel registers of one block of COLS channels.
struct Channels {
    int32_t bias[COLS];
    scale_t m[COLS];
    uint8_t s[COLS];
};

// Parameters of the next block arrive while the lanes use the present one's, and move on with the
// weights: a choice of two banks would take a multiplexer for each of 62 bits of every lane.
struct ChannelBanks {
    Channels now, next;
};

inline void copy_channels(const Channels& from, Channels& to) {
    NM_INLINE
COPY_CHANNELS:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        to.bias[c] = from.bias[c];
        to.m[c] = from.m[c];
        to.s[c] = from.s[c];
    }
}

// What the device's lanes use of an EPILOGUE.
inline LaneConfig lane_config(const EpilogueConfig& e) {
    NM_INLINE
    LaneConfig l;
    l.offset = int64_t(e.off) + half(e.f_shift);
    l.dropped = (uint32_t(1) << e.f_shift) - 1;
    l.mt = e.t_en ? int32_t(e.mt) : 0;
    l.f_shift = e.f_shift;
    l.logarithmic = e.seg_kind == SegKind::LOG;
    l.index_shift = uint8_t(l.logarithmic ? 15 - e.seg_shift : e.seg_shift);
    l.last = uint8_t((e.seg_cells != 0 ? e.seg_cells : e.seg_count) - 1);
    l.x0 = e.x0;
    l.moments = e.stat == Stat::MOMENTS, l.used = e.u_en && !l.moments;
    l.u_shift = e.u_shift, l.u_half = uint32_t(half(e.u_shift));
    l.uz = l.moments ? int16_t(0) : e.uz;
    l.zp = e.zp, l.lo = e.lo, l.hi = e.hi;
    return l;
}

inline EpilogueConfig decode_epilogue(const Insn& i) {
    NM_INLINE
    EpilogueConfig e;
    e.t_en = epilogue_t_en(i), e.t_wide = epilogue_t_wide(i);
    e.u_en = epilogue_u_en(i), e.u_wide = epilogue_u_wide(i);
    e.out_wide = epilogue_out_wide(i);
    e.seg_kind = SegKind(epilogue_seg_kind(i));
    e.stat = Stat(epilogue_stat(i));
    e.f_shift = uint8_t(epilogue_f_shift(i)), e.u_shift = uint8_t(epilogue_u_shift(i));
    e.seg_shift = uint8_t(epilogue_seg_shift(i)), e.stat_shift = uint8_t(epilogue_stat_shift(i));
    e.off = epilogue_off(i), e.mt = epilogue_mt(i), e.uz = int16_t(epilogue_uz(i));
    e.zp = int16_t(epilogue_zp(i));
    e.lo = int16_t(epilogue_lo(i)), e.hi = int16_t(epilogue_hi(i));
    e.x0 = int16_t(epilogue_seg_x0(i)), e.seg_count = uint16_t(epilogue_seg_count(i));
    e.seg_cells = uint16_t(epilogue_seg_cells(i));
    e.stat_m = int16_t(epilogue_stat_m(i)), e.stat_off = epilogue_stat_off(i);
    e.sq_m = int16_t(epilogue_sq_m(i)), e.sq_shift = uint8_t(epilogue_sq_shift(i));
    e.stat_lanes = uint8_t(epilogue_stat_lanes(i));
    e.t_nb = uint16_t(epilogue_t_nb(i)), e.u_nb = uint16_t(epilogue_u_nb(i));
    e.t_m1 = uint16_t(epilogue_t_m1(i)), e.u_m1 = uint16_t(epilogue_u_m1(i));
    e.t_m0 = uint16_t(epilogue_t_m0(i)), e.u_m0 = uint16_t(epilogue_u_m0(i));
    e.lane = lane_config(e);
    return e;
}

// A cell of the map, limited to the table, since a map is data and can hold any number.
inline uint8_t map_cell(uint64_t entry, int k, uint32_t count) {
    NM_INLINE
    const uint32_t i = uint32_t(entry >> (8 * k)) & 63u;
    return uint8_t(i >= count ? count - 1 : i);
}

// The device's epilogue of a row, lane by lane; the first `counted` columns enter a statistic.
inline void epilogue_lanes(const int32_t acc[COLS], const Channels& ch, const int16_t t[COLS],
                           const int16_t u[COLS], const Table& table, int32_t counted,
                           const EpilogueConfig& e, int16_t q[COLS], int32_t squares[COLS]) {
    NM_INLINE
LANE:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        int16_t y = requantise_lane(acc[c], ch.bias[c], ch.m[c], ch.s[c], t[c], e.lane);
        if (e.seg_kind != SegKind::NONE) {
            uint32_t i = index_lane(y, e.lane);
            if (e.seg_cells != 0)
                i = table.map[i / 8][i % 8][c % COPIES];
            y = segment_lane(table.segments[i][c % COPIES], y);
        }
        q[c] = finish_lane(y, u[c], c < counted, e.lane, squares[c]);
    }
}

// ---------------------------------------------------------------- the same on a CPU

// Segment of x, or cell where a map follows, clamped to the table: the cap.
inline int32_t segment_index(int32_t x, bool logarithmic, int32_t x0, int32_t shift,
                             int32_t count) {
    int32_t i = (x - x0) >> shift;
    if (logarithmic) {
        const uint32_t d = x - x0 < 1 ? 1u : uint32_t(x - x0);
        uint32_t e = 0, rest = d;
    LEADING_ONE:
        for (uint32_t step = 8; step > 0; step /= 2) {
            const uint32_t most = (rest >> step) != 0 ? step : 0;
            e += most;
            rest >>= most;
        }
        // d < 2^16 and shift <= 15, so that d << shift fits 32 bits.
        i = int32_t(e << shift) + int32_t((d << shift) >> e) - (1 << shift);
    }
    i = i < 0 ? 0 : i;
    return i >= count ? count - 1 : i;
}

// Rows that a CPU takes together: it does each step below for all of them before the next, in loops
// that its compiler vectorises.
constexpr int CPU_ROWS = 8;

// x = sat16(round(((a*m >> s) + t*mt + off) / 2^F)) with a = acc + bias; ties go to even.
inline void requantise(const int32_t acc[COLS], const Channels& ch, const int16_t t[COLS],
                       const EpilogueConfig& e, int16_t x[COLS]) {
    const int64_t below = e.f_shift ? half(e.f_shift) - 1 : 0;
    const int64_t odd = e.f_shift ? 1 : 0;
    const int32_t mt = e.mt;
    const int64_t off = e.off;
    const int f_shift = e.f_shift;
    int64_t v[COLS];
REQUANTISE:
    for (int c = 0; c < COLS; ++c) {
        const int32_t a = int32_t(uint32_t(acc[c]) + uint32_t(ch.bias[c]));
        const int32_t m = ch.m[c];
        v[c] = (int64_t(a) * m >> ch.s[c]) + off;
    }
    if (e.t_en) {
    RESIDUAL:
        for (int c = 0; c < COLS; ++c) {
            v[c] += int64_t(t[c]) * mt;
        }
    }
ROUND:
    for (int c = 0; c < COLS; ++c) {
        x[c] = sat16((v[c] + below + ((v[c] >> f_shift) & odd)) >> f_shift);
    }
}

// The segments of a row of x.
inline void find_segments(const Table& table, const EpilogueConfig& e, const int16_t x[COLS],
                          uint64_t entry[COLS]) {
    // A map follows the index of MAPPED, and that of LOG where the table has cells.
    const bool mapped = e.seg_cells != 0;
    const int32_t count = mapped ? e.seg_cells : e.seg_count;
    const int32_t x0 = e.x0, shift = e.seg_shift;
    // Separate loops, because only one of them can be vectorised.
    uint32_t index[COLS];
    if (e.seg_kind == SegKind::LOG) {
    INDEX_LOG:
        for (int c = 0; c < COLS; ++c)
            index[c] = uint32_t(segment_index(x[c], true, x0, shift, count));
    } else {
    INDEX_UNIFORM:
        for (int c = 0; c < COLS; ++c)
            index[c] = uint32_t(segment_index(x[c], false, x0, shift, count));
    }
    if (mapped) {
    MAPPED:
        for (int c = 0; c < COLS; ++c) {
            index[c] = table.map[index[c] / 8][index[c] % 8][c % COPIES];
        }
    }
FETCH:
    for (int c = 0; c < COLS; ++c) {
        entry[c] = table.segments[index[c]][c % COPIES];
    }
}

// y = sat16((x*k + b) >> sh) with the parameters of x's segment.
inline void apply_segments(const uint64_t entry[COLS], int16_t x[COLS]) {
SEGMENTS:
    for (int c = 0; c < COLS; ++c) {
        const int32_t b = int32_t(uint32_t(entry[c]));
        const int16_t k = int16_t(uint16_t(entry[c] >> 32));
        const int shift = int((entry[c] >> 48) & 31);
        x[c] = sat16((int64_t(x[c]) * k + b) >> shift);
    }
}

// (y * factor + half) >> u_shift with factor = u - uz.  T holds it all.
template <class T>
inline void multiply(const int16_t y[COLS], const int16_t u[COLS], int32_t uz, int u_shift,
                     int32_t product[COLS]) {
    const T round = T(half(u_shift)), most = T(1) << 30;
MULTIPLY:
    for (int c = 0; c < COLS; ++c) {
        const int32_t factor = u[c] - uz; // the DSP's own adder
        const T z = (T(y[c]) * factor + round) >> u_shift;
        // No result and no square is larger; a product of 33 bits may be.
        product[c] = int32_t(z < -most ? -most : z > most ? most : z);
    }
}

// q = clip(z + zp) with z = (y * (u - uz) + half) >> u_shift, or y itself without u.
// MOMENTS has no u: its multiplier makes squares, (y * y + half) >> u_shift, of `counted` lanes.
inline void finish(const int16_t y[COLS], const int16_t u[COLS], int32_t counted,
                   const EpilogueConfig& e, int16_t q[COLS], int32_t squares[COLS]) {
    const bool moments = e.stat == Stat::MOMENTS, used = e.u_en && !moments;
    const int32_t uz = moments ? 0 : e.uz;
    const int32_t zp = e.zp, lo = e.lo, hi = e.hi;
    if (moments || used) {
        // 2^30 + 2^29 at most fit 32 bits, of which a CPU's registers hold twice as many.
        if (uz == 0 && e.u_shift < 31)
            multiply<int32_t>(y, moments ? y : u, uz, e.u_shift, squares);
        else
            multiply<int64_t>(y, moments ? y : u, uz, e.u_shift, squares);
    }
    if (moments) {
    UNCOUNTED:
        for (int c = 0; c < COLS; ++c)
            squares[c] = c < counted ? squares[c] : 0;
    }
FINISH:
    for (int c = 0; c < COLS; ++c) {
        int32_t z = used ? squares[c] : int32_t(y[c]);
        z = z + zp;
        z = z < lo ? lo : z;
        q[c] = int16_t(z > hi ? hi : z);
    }
}

// The whole epilogue for N rows, of which the first `counted` columns enter a statistic.
template <int N>
inline void epilogue_rows(const int32_t acc[N][COLS], const Channels& ch, const int16_t t[N][COLS],
                          const int16_t u[N][COLS], const Table& table, int32_t counted,
                          const EpilogueConfig& e, int16_t q[N][COLS], int32_t squares[N][COLS]) {
    int16_t x[N][COLS];
ROWS_REQUANTISE:
    for (int m = 0; m < N; ++m) {
        requantise(acc[m], ch, t[m], e, x[m]);
    }
    if (e.seg_kind != SegKind::NONE) {
        uint64_t entry[N][COLS];
    ROWS_FIND:
        for (int m = 0; m < N; ++m) {
            find_segments(table, e, x[m], entry[m]);
        }
    ROWS_SEGMENT:
        for (int m = 0; m < N; ++m) {
            apply_segments(entry[m], x[m]);
        }
    }
ROWS_FINISH:
    for (int m = 0; m < N; ++m) {
        finish(x[m], u[m], counted, e, q[m], squares[m]);
    }
}

} // namespace nm
