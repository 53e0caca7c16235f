// SPDX-License-Identifier: Apache-2.0
// The array on a CPU: sums of products, or maxima, of rows of x against one block of weights.
// In: plain arrays.  Out: one row of COLS sums per row of x.
#pragma once

#include "nm/hls.h"
#include "nm/types.h"

namespace nm {

constexpr int32_t MAX_START = -(1 << 24); // below every int16; adding a bias does not overflow

inline void copy_sums(const int32_t from[COLS], int32_t to[COLS]) {
    NM_INLINE
COPY_SUMS:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        to[c] = from[c];
    }
}

// How the sums of a pass are added to those of the passes before it.
struct Join {
    int32_t keep; // 0: overwrite, -1: add
    int shift;    // shift of the byte planes
};

inline int32_t joined(int32_t before, exact_t sum, Join how) {
    NM_INLINE
    return int32_t(uint32_t(before & how.keep) + (uint32_t(int32_t(sum)) << how.shift));
}

constexpr uint32_t MAC_ROWS = 8; // number of sums of a row that a CPU's registers hold

// MAC_ROWS rows of a GEMM pass on a CPU: a row of weights is read once for all of them.
inline void mac_rows_plain(const exact_t x[MAC_ROWS][ROWS], const weight_t w[ROWS][COLS], Join how,
                           int32_t acc[MAC_ROWS][COLS]) {
    exact_t s0[COLS] = {}, s1[COLS] = {}, s2[COLS] = {}, s3[COLS] = {};
    exact_t s4[COLS] = {}, s5[COLS] = {}, s6[COLS] = {}, s7[COLS] = {};
PLAIN_R:
    for (int r = 0; r < ROWS; ++r) {
    PLAIN_C:
        for (int c = 0; c < COLS; ++c) {
            s0[c] += x[0][r] * w[r][c];
            s1[c] += x[1][r] * w[r][c];
            s2[c] += x[2][r] * w[r][c];
            s3[c] += x[3][r] * w[r][c];
            s4[c] += x[4][r] * w[r][c];
            s5[c] += x[5][r] * w[r][c];
            s6[c] += x[6][r] * w[r][c];
            s7[c] += x[7][r] * w[r][c];
        }
    }
PLAIN_JOIN:
    for (int c = 0; c < COLS; ++c) {
        acc[0][c] = joined(acc[0][c], s0[c], how);
        acc[1][c] = joined(acc[1][c], s1[c], how);
        acc[2][c] = joined(acc[2][c], s2[c], how);
        acc[3][c] = joined(acc[3][c], s3[c], how);
        acc[4][c] = joined(acc[4][c], s4[c], how);
        acc[5][c] = joined(acc[5][c], s5[c], how);
        acc[6][c] = joined(acc[6][c], s6[c], how);
        acc[7][c] = joined(acc[7][c], s7[c], how);
    }
}

// acc[m][c] plus the sum over r of x[m][r] * w[r][c], for n rows.  x has room for a multiple
// of MAC_ROWS.
inline void mac_rows(uint32_t n, const exact_t x[][ROWS], const weight_t w[ROWS][COLS], Join how,
                     int32_t acc[][COLS]) {
    NM_INLINE
    uint32_t m = 0;
MAC_M:
    for (; m + MAC_ROWS <= n; m += MAC_ROWS)
        mac_rows_plain(x + m, w, how, acc + m);
    if (m == n)
        return;
    int32_t rest[MAC_ROWS][COLS] = {};
REST_IN:
    for (uint32_t k = m; k < n; ++k)
        copy_sums(acc[k], rest[k - m]);
    mac_rows_plain(x + m, w, how, rest);
REST_OUT:
    for (uint32_t k = m; k < n; ++k)
        copy_sums(rest[k - m], acc[k]);
}

// acc[m][c] plus x[m][c] * w[c]: a window of one tap, for n rows.
inline void scale_rows(uint32_t n, const exact_t x[][ROWS], const weight_t w[COLS], Join how,
                       int32_t acc[][COLS]) {
    exact_t factor[COLS];
SCALE_WEIGHT:
    for (int c = 0; c < COLS; ++c)
        factor[c] = w[c];
SCALE_M:
    for (uint32_t m = 0; m < n; ++m) {
    SCALE_LANE:
        for (int c = 0; c < COLS; ++c)
            acc[m][c] = joined(acc[m][c], x[m][c] * factor[c], how);
    }
}

// out[m][c] = the largest x[m][r] over the r whose weight is not 0.
inline void max_rows(uint32_t n, const int16_t x[][ROWS], const weight_t w[ROWS][COLS],
                     int32_t out[][COLS]) {
    NM_INLINE
MAX_M:
    for (uint32_t m = 0; m < n; ++m) {
        int32_t best[COLS];
        NM_PARTITION(best, 0)
    MAX_INIT:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            best[c] = MAX_START;
        }
    MAX_R:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
        MAX_C:
            for (int c = 0; c < COLS; ++c) {
                NM_UNROLL
                const int32_t v = w[r][c] != 0 ? int32_t(x[m][r]) : MAX_START;
                best[c] = v > best[c] ? v : best[c];
            }
        }
    MAX_OUT:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            out[m][c] = best[c];
        }
    }
}

} // namespace nm
