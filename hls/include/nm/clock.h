// SPDX-License-Identifier: Apache-2.0
// A unit's report of a run: its times, its counters, and what it refused.
// In: the design's free-running cycle counter, a wire.  Out: read_clock and Counters.
#pragma once

#include <stdint.h>

#include "nm/hls.h"

namespace nm {

// The time between the code before and the code after the call.  Vitis HLS runs calls, reads and
// writes in parallel where no data connects them; a volatile read keeps its place among volatile
// reads only.  It never overlaps loops with anything (UG1399, Loop Parallelism).  So the read is a
// loop whose end depends on the value read, which no pass can unroll into straight code.  A token
// that is sent after it is sent after the work, too.
// The top bit stays 0 for 2,900 years at 100 MHz.
inline uint64_t read_clock(const volatile uint64_t* now) {
    NM_INLINE
    uint64_t time;
CLOCK:
    do {
        NM_NO_PIPELINE
        NM_TRIPS(1, 1)
        time = *now;
    } while ((time >> 63) != 0);
    return time;
}

struct Counters {
    uint64_t busy;    // cycles spent on instructions, without waiting
    uint32_t retired; // instructions run
    uint32_t fault;   // reasons why others were not run
};

// Counts one more instruction, run or refused for a reason.
inline void count(Counters& counters, uint64_t start, uint64_t end, uint32_t refused) {
    NM_INLINE
    counters.busy += uint32_t(end - start); // no instruction takes 2^32 cycles
    counters.retired += refused == 0;
    counters.fault |= refused;
}

} // namespace nm
