// SPDX-License-Identifier: Apache-2.0
// A replacement of the vendor's header for the lint: names only, no arithmetic.
// In: nothing.  Out: ap_int and ap_uint, as wide as the widest that the kernels use.
#pragma once

#include <stdint.h>

template <int BITS> using ap_int = int64_t;
template <int BITS> using ap_uint = uint64_t;
