// SPDX-License-Identifier: Apache-2.0
// Row statistics: a sum, a maximum or two moments of every output row, across column blocks and
// across COMPUTEs. In: rows of results and of squares.  Out: one value per row, scaled to int16.
#pragma once

#include "nm/epilogue.h"
#include "nm/hls.h"

namespace nm {

// The partial statistics of every row of a COMPUTE.
struct Statistics {
    int32_t value[ACC_ROWS];   // sum or maximum of the results
    int32_t squares[ACC_ROWS]; // MOMENTS: sum of the squares
};

struct RowStat {
    int32_t value, squares;
};

// Sum and maximum of the lanes, by a tree: of 2, 4, ... lanes.
inline int32_t sum_of(int32_t v[COLS]) {
    NM_INLINE
SUM_LEVEL:
    for (int span = COLS / 2; span > 0; span /= 2) {
        NM_UNROLL
    SUM_PAIR:
        for (int c = 0; c < span; ++c) {
            NM_UNROLL
            v[c] = int32_t(uint32_t(v[c]) + uint32_t(v[c + span]));
        }
    }
    return v[0];
}

inline int32_t maximum_of(int32_t v[COLS]) {
    NM_INLINE
MAXIMUM_LEVEL:
    for (int span = COLS / 2; span > 0; span /= 2) {
        NM_UNROLL
    MAXIMUM_PAIR:
        for (int c = 0; c < span; ++c) {
            NM_UNROLL
            v[c] = v[c] > v[c + span] ? v[c] : v[c + span];
        }
    }
    return v[0];
}

// Adds the first `counted` results of a row, and the squares (0 beyond), to those of the column
// blocks before it.
inline RowStat join_stat(const int16_t q[COLS], const int32_t squares[COLS], int32_t counted,
                         bool fresh, const RowStat& before, Stat kind) {
    NM_INLINE
    const bool max = kind == Stat::MAX;
    const int32_t none = max ? -32768 : 0;
    RowStat after = {fresh ? none : before.value, fresh ? 0 : before.squares};
    int32_t v[COLS], s[COLS];
    NM_PARTITION(v, 0)
    NM_PARTITION(s, 0)
LEAVE_OUT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        v[c] = c < counted ? int32_t(q[c]) : none;
        s[c] = squares[c];
    }
    if (max) {
        const int32_t top = maximum_of(v);
        after.value = top > after.value ? top : after.value;
    } else {
        after.value = int32_t(uint32_t(after.value) + uint32_t(sum_of(v)));
    }
    if (kind == Stat::MOMENTS)
        after.squares = int32_t(uint32_t(after.squares) + uint32_t(sum_of(s)));
    return after;
}

// Half of the product of a row's statistic with its multiplier: one DSP takes the lower 16 bits of
// the sum, then the upper ones.  `second` is the square of MOMENTS.
inline int64_t stat_part(const RowStat& row, bool second, bool upper, const EpilogueConfig& e) {
    NM_INLINE
    const int64_t sum = second ? int64_t(row.squares) : int64_t(row.value) + e.stat_off;
    const int32_t part = int32_t(upper ? low_bits<17>(sum >> 16) : sum & 0xffff);
    return int64_t(part) * (second ? e.sq_m : e.stat_m);
}

// The written value of a row's statistic.
inline int16_t scale_stat(const RowStat& row, bool second, int64_t lower, int64_t upper,
                          const EpilogueConfig& e) {
    NM_INLINE
    if (e.stat == Stat::MAX)
        return int16_t(row.value);
    const int shift = second ? e.sq_shift : e.stat_shift;
    const int16_t least = second ? 0 : -32640, most = 32639;
    const int64_t v = low_bits<50>(upper * 65536 + lower + half(shift));
    bool over = false;
    const int16_t scaled = shift_16<50>(v, shift, over);
    const bool below = over ? v < 0 : scaled < least, above = over ? v >= 0 : scaled > most;
    return below ? least : above ? most : scaled;
}

// Number of statistic rows that a COMPUTE with `rows` rows writes.
inline uint32_t stat_rows(uint32_t rows, Stat kind) {
    NM_INLINE
    return kind == Stat::NONE ? 0 : kind == Stat::MOMENTS ? 2 * rows : rows;
}

} // namespace nm
