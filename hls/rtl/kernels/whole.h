// SPDX-License-Identifier: Apache-2.0
// For wrappers that include a kernel's source: the kernel itself, and what runs one instruction,
// are no units.  Their loops have no constant length, and unrolled like a unit they crash LLVM 14.
#pragma once

#include "nm/kernels.h"

#if defined(__SYNTHESIS__)
#define NOT_A_UNIT __attribute__((optnone, noinline))
#else
#define NOT_A_UNIT
#endif
