// SPDX-License-Identifier: Apache-2.0
// A replacement of the vendor's header for the open RTL path: integers of 1 to 64 bits that wrap
// around at their width.  Sums and products are made in 64 bits and cut where they are kept.
#pragma once

#include <stdint.h>

namespace nm_rtl {

constexpr int64_t sign_extended(int64_t value, int bits) {
    return int64_t(uint64_t(value) << (64 - bits)) >> (64 - bits);
}

constexpr uint64_t zero_extended(uint64_t value, int bits) {
    return (value << (64 - bits)) >> (64 - bits);
}

} // namespace nm_rtl

template <int BITS> struct ap_int {
    int64_t value;

    ap_int() = default;
    template <class T>
    constexpr ap_int(T from) : value(nm_rtl::sign_extended(int64_t(from), BITS)) {}
    constexpr operator int64_t() const { return value; }
};

template <int BITS> struct ap_uint {
    uint64_t value;

    ap_uint() = default;
    template <class T>
    constexpr ap_uint(T from) : value(nm_rtl::zero_extended(uint64_t(from), BITS)) {}
    constexpr operator uint64_t() const { return value; }
};

template <int A, int B> constexpr ap_int<A + B> operator*(ap_int<A> a, ap_int<B> b) {
    static_assert(A + B <= 64, "a product of more than 64 bits");
    return ap_int<A + B>(a.value * b.value);
}
