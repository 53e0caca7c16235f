// SPDX-License-Identifier: Apache-2.0
// Element types and the few bit widths that are not native.
// In: config.h.  Out: Beat, Insn's raw words stay native; ap_int only where a DSP's width matters.
#pragma once

#include <stdint.h>

#include "nm/config.h"
#include "nm/hls.h"

#if defined(__SYNTHESIS__) || defined(NM_AP_TYPES)
#include <ap_int.h>
#endif

namespace nm {

#if defined(__SYNTHESIS__) || defined(NM_AP_TYPES)
using packed_t = ap_int<25>;  // a DSP48E1's wide port, the narrowest of the supported parts
using product_t = ap_int<33>; // 25 x 8 bits
using chain_t = ap_int<35>;   // four of them
using token_t = ap_uint<1>;
using scale_t = ap_int<24>; // the long port of a DSP; with 32 bits a product took two DSPs more
#else
using packed_t = int32_t;
using product_t = int64_t;
using chain_t = int64_t;
using token_t = uint8_t;
using scale_t = int32_t;
#endif

// The type of weights in the array, and a type that holds all sums of a pass exactly: at most ROWS
// products of two int8.  A CPU has more and wider fused multiply-adds of floats than of integers.
#if defined(__SYNTHESIS__)
using weight_t = int8_t;
using exact_t = int32_t;
#else
using weight_t = float;
using exact_t = float;
#endif

static_assert(ROWS * 128 * 128 < (1 << 24), "a float must hold every sum of a pass");

constexpr int LANES = ROWS; // ROWS == COLS: a row of results is the next layer's word
constexpr int TAPS = WIN * WIN;

// One beat of a DRAM port of N bytes.  Vitis HLS makes one vector of a struct that the pointers of
// a kernel's port point to, its arrays taken apart, the first byte lowest (UG1399, Alignment
// Rules).
template <int N> struct Beat {
    uint8_t byte[N];
};

using LoadBeat = Beat<LOAD_PORT_BYTES>;
using StoreBeat = Beat<STORE_PORT_BYTES>;
using FetchBeat = Beat<FETCH_PORT_BYTES>;

// Four bytes as one number, the lowest first.
inline uint32_t from_bytes(uint8_t b0, uint8_t b1, uint8_t b2, uint8_t b3) {
    NM_INLINE
    return uint32_t(b0) | uint32_t(b1) << 8 | uint32_t(b2) << 16 | uint32_t(b3) << 24;
}

// One word.  Reading a whole word into registers first also lets a CPU's compiler know that no
// later write changes it, as bytes may alias anything.
inline void copy_word(const int8_t from[LANES], int8_t to[LANES]) {
    NM_INLINE
COPY_WORD:
    for (int r = 0; r < LANES; ++r) {
        NM_UNROLL
        to[r] = from[r];
    }
}

// All ones where `on`.
inline int32_t mask(bool on) {
    NM_INLINE
    return -int32_t(on);
}

// `on ? a : b`, bit by bit: a compiler makes two whole ways of one of many conditional operators
// on the same condition, and hardware then has both.
inline int32_t choose(bool on, int32_t a, int32_t b) {
    NM_INLINE
    return (a & mask(on)) | (b & mask(!on));
}

// The lowest BITS bits of v as a signed number.
template <int BITS> inline int64_t low_bits(int64_t v) {
    NM_INLINE
    return int64_t(uint64_t(v) << (64 - BITS)) >> (64 - BITS);
}

inline int16_t sat16(int64_t v) {
    return v > 32767 ? int16_t(32767) : (v < -32768 ? int16_t(-32768) : int16_t(v));
}

// 2^(n-1), the half that turns a floor by n bits into rounding; 0 for n = 0.
inline int64_t half(int n) {
    return (int64_t(1) << n) >> 1;
}

inline uint32_t at_least(uint32_t v, uint32_t floor) {
    return v < floor ? floor : v;
}

} // namespace nm
