// SPDX-License-Identifier: Apache-2.0
// What the wrappers share.  A wrapper calls a kernel's function, unmodified, on plain arrays: clang
// compiles it with __SYNTHESIS__ (the device's branch), g++ without it (the emulation's).
// NAME_draw, for a test bench alone, puts random inputs into the ranges that occur.
#pragma once

#include "nm/hls.h"
#include "nm/isa.h"
#include "nm/types.h"

// Ports do not overlap.
#define PORT __restrict

namespace nm {

inline Insn insn_of(const uint32_t* words) {
    Insn i;
    for (int k = 0; k < INSN_WORDS; ++k)
        i.w[k] = words[k];
    return i;
}

inline void words_of(const Insn& i, uint32_t* words) {
    for (int k = 0; k < INSN_WORDS; ++k)
        words[k] = i.w[k];
}

} // namespace nm

#if !defined(__SYNTHESIS__)
#include "include/bench.h"

namespace nm {

inline uint32_t below(uint32_t limit) {
    return uint32_t(random_bits() % limit);
}

inline bool coin() {
    return random_bits() % 2 != 0;
}

inline void draw_epilogue(uint32_t* words) {
    Insn i = insn_of(words);
    set_epilogue_seg_kind(i, below(4)), set_epilogue_stat(i, below(4));
    set_epilogue_f_shift(i, below(48)), set_epilogue_u_shift(i, below(32));
    set_epilogue_seg_shift(i, below(16)), set_epilogue_stat_shift(i, below(40));
    set_epilogue_sq_shift(i, below(40)), set_epilogue_seg_count(i, 1 + below(SEG_ENTRIES));
    set_epilogue_seg_cells(i, coin() ? 0 : 1 + below(MAP_CELLS));
    set_epilogue_stat_lanes(i, below(COLS + 1));
    if (coin())
        set_epilogue_seg_x0(i, -200);
    if (coin())
        set_epilogue_lo(i, -128), set_epilogue_hi(i, 127);
    const int32_t lo = epilogue_lo(i), hi = epilogue_hi(i); // in this order
    set_epilogue_lo(i, lo < hi ? lo : hi), set_epilogue_hi(i, lo < hi ? hi : lo);
    if (coin())
        set_epilogue_off(i, int32_t(below(5000)));
    words_of(i, words);
}

inline void draw_compute(uint32_t* words) {
    Insn i = insn_of(words);
    set_compute_mode(i, below(2));
    set_compute_win_h(i, 1 + below(WIN)), set_compute_win_w(i, 1 + below(WIN));
    set_compute_stride_h(i, 1 + below(2)), set_compute_stride_w(i, 1 + below(2));
    if (coin())
        set_compute_m1(i, 1 + below(40)), set_compute_m0(i, 1 + below(40));
    set_compute_cb(i, below(3) + (coin() ? below(65000) : 0));
    set_compute_kw(i, below(4)), set_compute_kh(i, below(4)), set_compute_nb(i, below(5));
    words_of(i, words);
}

inline void draw_load(uint32_t* words) {
    Insn i = insn_of(words);
    set_load_n2(i, below(5)), set_load_n1(i, below(50)), set_load_n0(i, below(50));
    if (coin()) {
        set_load_s2(i, 1000), set_load_s1(i, 100), set_load_s0(i, ROWS);
        set_load_lane_stride(i, 1), set_load_addr(i, below(10000));
    }
    words_of(i, words);
}

} // namespace nm
#endif
