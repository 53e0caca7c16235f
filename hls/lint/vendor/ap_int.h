// SPDX-License-Identifier: Apache-2.0
// What the lint parses in place of the vendor's header: names only, no arithmetic of its own.
// In: nothing.  Out: ap_int and ap_uint, as wide as the widest that the kernels use.
#pragma once

#include <stdint.h>

template <int BITS> using ap_int = int64_t;
template <int BITS> using ap_uint = uint64_t;
