// SPDX-License-Identifier: Apache-2.0
// One lane of the device, each step with the fewest bits that keep it exact.  A CPU takes the plain
// forms of epilogue.h, which a bench compares with these.
// In: one column's values, and what an EPILOGUE sets.  Out: one result (docs/numerics.md).
#pragma once

#include "nm/hls.h"
#include "nm/types.h"

namespace nm {

// What an EPILOGUE sets for all lanes, in the form in which they use it.
struct LaneConfig {
    int64_t offset;         // off + half(F)
    uint32_t dropped;       // 1 in each of the F bits that rounding drops
    int32_t mt;             // 0 without t
    uint8_t f_shift;        // F
    bool logarithmic;       // index by the leading one
    uint8_t index_shift;    // of {exponent, mantissa} or of the distance from x0
    uint8_t last;           // largest index
    int16_t x0;             // left end of the table
    bool used, moments;     // the product is the result; it is a square
    uint8_t u_shift;        // of the product
    uint32_t u_half;        // half(u_shift)
    int16_t uz, zp, lo, hi; // uz is 0 for squares
};

// 1 in every bit that differs from the sign.
inline uint64_t unlike_sign(int64_t v) {
    NM_INLINE
    return uint64_t(v ^ (v >> 63));
}

// True if one of BITS bits is set that a right shift by n leaves: bit k counts where n <= k.
// Conditions are joined by & and | here, as && and || are branches, of which a compiler makes
// choices between whole numbers.
template <int BITS> inline bool any_left(uint64_t bits, int n) {
    NM_INLINE
    bool any = false;
ANY_LEFT:
    for (int k = 0; k < BITS; ++k) {
        NM_UNROLL
        any |= (n <= k) & (((bits >> k) & 1) != 0);
    }
    return any;
}

// v >> n in 16 bits for n of 0..31 and v of BITS bits, in two steps: by bytes, then by bits.
// `over` is set where the result has more than 16 bits.
template <int BITS> inline int16_t shift_16(int64_t v, int n, bool& over) {
    NM_INLINE
    constexpr int KEPT = 16 + 7; // what the second step can still need
    const uint64_t unlike = unlike_sign(v);
BEYOND:
    for (int byte = 0; KEPT - 1 + 8 * byte < BITS - 1; ++byte) {
        NM_UNROLL
        over |= ((n >> 3) <= byte) & (((unlike >> (KEPT - 1 + 8 * byte)) & 255) != 0);
    }
    const int64_t kept = low_bits<KEPT>(v >> (n & 24));
    over |= any_left<7>(uint64_t(kept ^ (v >> 63)) >> 15, n & 7);
    return int16_t(low_bits<16>(kept >> (n & 7)));
}

inline int16_t limit_16(bool negative) {
    NM_INLINE
    return negative ? int16_t(-32768) : int16_t(32767);
}

// x = sat16(round_half_even(((a*m >> s) + t*mt + off) / 2^F)) with a = acc + bias.
inline int16_t requantise_lane(int32_t acc, int32_t bias, int32_t m, int s, int16_t t,
                               const LaneConfig& e) {
    NM_INLINE
    // A product needs 56 bits; beyond KEPT, t*mt (39 bits) and offset (33) cannot bring it back
    // below 2^46, where F = 31 saturates.
    constexpr int KEPT = 48;
    const int32_t a = int32_t(uint32_t(acc) + uint32_t(bias));
    const int64_t product = low_bits<56>(int64_t(a) * m);
    bool over = any_left<56 - KEPT + 1>(unlike_sign(product) >> (KEPT - 1), s);
    const int64_t scaled = low_bits<KEPT>(product >> s);
    const int64_t sum = int64_t(t) * e.mt + low_bits<33>(e.offset);
    const int64_t v = low_bits<KEPT + 1>(scaled + sum);
    const bool negative = over ? product < 0 : v < 0;
    // With half added, a tie drops zeros only; the even neighbour is the one below.
    const bool tie = (e.dropped != 0) & ((uint32_t(v) & e.dropped) == 0);
    const int16_t x = shift_16<KEPT + 1>(v, e.f_shift, over);
    return over ? limit_16(negative) : int16_t(x & (tie ? -2 : -1));
}

// Segment of x, or cell where a map follows, clamped to the table: the cap.
inline uint32_t index_lane(int16_t x, const LaneConfig& e) {
    NM_INLINE
    const int32_t distance = int32_t(x) - e.x0;
    // Shifted left until the leading one is bit 15; a distance of 0 counts as 1.
    uint32_t mantissa = uint32_t(distance) & 0xffff, exponent = 15;
LEADING_ONE:
    for (uint32_t step = 8; step > 0; step /= 2) {
        NM_UNROLL
        const bool empty = (mantissa >> (16 - step)) == 0;
        exponent -= empty ? step : 0;
        mantissa = (empty ? mantissa << step : mantissa) & 0xffff;
    }
    const uint32_t place = exponent << 15 | (mantissa & 0x7fff);
    const uint32_t i =
        (e.logarithmic ? place : uint32_t(distance) & 0xffff) >> (e.index_shift & 15);
    const uint32_t inside = i > e.last ? e.last : i;
    return distance < 0 ? 0 : inside & 255;
}

// y = sat16((x*k + b) >> sh) with the parameters of x's segment.
inline int16_t segment_lane(uint64_t entry, int16_t x) {
    NM_INLINE
    const int32_t b = int32_t(uint32_t(entry));
    const int16_t k = int16_t(uint16_t(entry >> 32));
    const int64_t v = int64_t(x) * k + b;
    bool over = false;
    const int16_t y = shift_16<33>(v, int((entry >> 48) & 31), over);
    return over ? limit_16(v < 0) : y;
}

// q = clip(z + zp) with z = (y * (u - uz) + half) >> u_shift, or y itself.  `square` is
// (y*y + half) >> u_shift for MOMENTS, 0 where the lane does not count.
inline int16_t finish_lane(int16_t y, int16_t u, bool counts, const LaneConfig& e,
                           int32_t& square) {
    NM_INLINE
    const int32_t factor = e.moments ? (counts ? int32_t(y) : 0) : u - e.uz; // DSP's own adder
    const int64_t v = int64_t(y) * factor + (e.u_half & 0x7fffffff);
    const int64_t product = v >> (e.u_shift & 31);
    square = int32_t(low_bits<32>(product));
    // A product beyond 17 bits is beyond lo and hi, whatever zp is.
    const int64_t small = low_bits<17>(product);
    const bool over = e.used & (product != small);
    const int32_t z = (e.used ? int32_t(small) : int32_t(y)) + e.zp;
    const bool below = over ? v < 0 : z < e.lo, above = over ? v >= 0 : z > e.hi;
    return int16_t(below ? e.lo : above ? e.hi : z);
}

} // namespace nm
