// SPDX-License-Identifier: Apache-2.0
// The Hadamard lanes, one per column: requantise, residual, segment, Hadamard operand, clip.
// In: one row of sums and the lanes' registers.  Out: one row of results (docs/numerics.md).
#pragma once

#include "nm/hls.h"
#include "nm/isa.h"
#include "nm/types.h"

namespace nm {

// What an EPILOGUE instruction sets.
struct EpilogueConfig {
    bool t_en, t_wide, u_en, u_wide, out_wide;
    SegKind seg_kind;
    Stat stat;
    uint8_t f_shift, u_shift, seg_shift, stat_shift;
    int32_t off, mt;
    int16_t uz, zp, lo, hi, x0, stat_m;
    uint16_t seg_count;
    uint16_t t_nb, t_m1, t_m0, u_nb, u_m1, u_m0;
};

// The per-channel registers of one block of COLS channels.
struct Channels {
    int32_t bias[COLS];
    int32_t m[COLS]; // 24 bits: the long port of a DSP48
    uint8_t s[COLS];
};

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
    e.stat_m = int16_t(epilogue_stat_m(i));
    e.t_nb = uint16_t(epilogue_t_nb(i)), e.u_nb = uint16_t(epilogue_u_nb(i));
    e.t_m1 = uint16_t(epilogue_t_m1(i)), e.u_m1 = uint16_t(epilogue_u_m1(i));
    e.t_m0 = uint16_t(epilogue_t_m0(i)), e.u_m0 = uint16_t(epilogue_u_m0(i));
    return e;
}

// Segment of x, clamped to the table: the cap.
inline int32_t segment_index(int32_t x, bool logarithmic, int32_t x0, int32_t shift,
                             int32_t count) {
    NM_INLINE
    int32_t i = (x - x0) >> shift;
    if (logarithmic) {
        const uint32_t d = x - x0 < 1 ? 1u : uint32_t(x - x0);
        int32_t e = 0;
    LEADING_ONE:
        for (int bit = 1; bit < 16; ++bit) {
            NM_UNROLL
            e += (d >> bit) != 0 ? 1 : 0;
        }
        // d < 2^16 and shift <= 15, so that d << shift fits 32 bits.
        i = int32_t(uint32_t(e) << shift) + int32_t((d << shift) >> e) - (1 << shift);
    }
    i = i < 0 ? 0 : i;
    return i >= count ? count - 1 : i;
}

// x = sat16(round(((a*m >> s) + t*mt + off) / 2^F)) with a = acc + bias; ties go to even.
inline void requantise(const int32_t acc[COLS], const Channels& ch, const int16_t t[COLS],
                       const EpilogueConfig& e, int16_t x[COLS]) {
    NM_INLINE
    const int64_t mt = e.t_en ? e.mt : 0;
    const int64_t below = e.f_shift ? half(e.f_shift) - 1 : 0;
    const int64_t odd = e.f_shift ? 1 : 0;
REQUANTISE:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        const int32_t a = int32_t(uint32_t(acc[c]) + uint32_t(ch.bias[c]));
        const int64_t v = (int64_t(a) * ch.m[c] >> ch.s[c]) + t[c] * mt + e.off;
        x[c] = sat16((v + below + ((v >> e.f_shift) & odd)) >> e.f_shift);
    }
}

// y = sat16((x*k + b) >> sh) with the parameters of x's segment.
inline void apply_segments(const uint64_t segments[SEG_ENTRIES][COLS], const EpilogueConfig& e,
                           int16_t x[COLS]) {
    NM_INLINE
    const bool logarithmic = e.seg_kind == SegKind::LOG;
    // Three loops rather than one, because a CPU vectorises all but the middle one.
    uint32_t index[COLS];
    uint64_t entry[COLS];
    NM_PARTITION(index, 0)
    NM_PARTITION(entry, 0)
INDEX:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        index[c] = uint32_t(segment_index(x[c], logarithmic, e.x0, e.seg_shift, e.seg_count));
    }
FETCH:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        entry[c] = segments[index[c]][c];
    }
SEGMENTS:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        const int32_t b = int32_t(uint32_t(entry[c]));
        const int16_t k = int16_t(uint16_t(entry[c] >> 32));
        const int shift = int((entry[c] >> 48) & 31);
        x[c] = sat16((int64_t(x[c]) * k + b) >> shift);
    }
}

// q = clip(z + zp) with z = (y * (u - uz) + half) >> u_shift, or y itself without u.
inline void finish(const int16_t y[COLS], const int16_t u[COLS], const EpilogueConfig& e,
                   int16_t q[COLS]) {
    NM_INLINE
    const int64_t round = half(e.u_shift);
FINISH:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        int64_t z = y[c];
        if (e.u_en)
            z = (z * (int32_t(u[c]) - e.uz) + round) >> e.u_shift;
        z += e.zp;
        z = z < e.lo ? int64_t(e.lo) : z;
        q[c] = int16_t(z > e.hi ? int64_t(e.hi) : z);
    }
}

// All of it, for one row.
inline void epilogue_row(const int32_t acc[COLS], const Channels& ch, const int16_t t[COLS],
                         const int16_t u[COLS], const uint64_t segments[SEG_ENTRIES][COLS],
                         const EpilogueConfig& e, int16_t q[COLS]) {
    NM_INLINE
    int16_t x[COLS];
    NM_PARTITION(x, 0)
    requantise(acc, ch, t, e, x);
    if (e.seg_kind != SegKind::NONE)
        apply_segments(segments, e, x);
    finish(x, u, e, q);
}

// The row's sum or maximum, joined with that of the column blocks before it.
inline int32_t join_stat(const int16_t q[COLS], bool fresh, int32_t before, Stat kind) {
    NM_INLINE
    int32_t sum = fresh ? 0 : before;
    int32_t top = fresh ? -32768 : before;
STAT_LANE:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        sum += q[c];
        top = q[c] > top ? int32_t(q[c]) : top;
    }
    return kind == Stat::SUM ? sum : top;
}

inline int16_t scale_stat(int32_t stat, const EpilogueConfig& e) {
    NM_INLINE
    if (e.stat == Stat::MAX)
        return int16_t(stat);
    const int64_t v = (int64_t(stat) * e.stat_m + half(e.stat_shift)) >> e.stat_shift;
    const int64_t low = e.out_wide ? -32640 : -128;
    const int64_t high = e.out_wide ? 32639 : 127;
    return int16_t(v < low ? low : (v > high ? high : v));
}

} // namespace nm
