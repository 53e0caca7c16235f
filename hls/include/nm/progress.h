// SPDX-License-Identifier: Apache-2.0
// What changes while one COMPUTE runs: passes, rasters, steps.
// In: a COMPUTE instruction.  Out: the registers of its control.
#pragma once

#include "nm/epilogue.h"
#include "nm/hls.h"
#include "nm/walk.h"

namespace nm {

// All state that changes while one COMPUTE runs.
struct Progress {
    Pass now, next; // the pass that computes, the pass whose weights are loaded
    Raster x, t, u;
    Phase phase;
    uint32_t column;      // column of the word that enters a CPU's window next
    uint32_t busy, steps; // of this pass: see Shape; before the first one, weights alone are loaded
    uint32_t step;        // step of the pass
    uint32_t row;         // results finished in the pass
    uint32_t bank;        // bank of weights (on a CPU) and channels that computes
    bool more;            // there is a next pass
    bool high_next;       // the high byte plane of an int16 MAX operand comes next
    bool second;          // the second beat of a row comes next
};

inline Progress before_passes(const Shape& g, const Insn& insn) {
    NM_INLINE
    Progress p = {};
    p.next = first_pass(insn);
    p.steps = ROWS;
    p.more = g.any;
    return p;
}

inline void begin_pass(const Shape& g, const Insn& insn, const EpilogueConfig& e, Progress& p) {
    NM_INLINE
    p.x.start(p.now.x_at);
    p.t.start(compute_t_base(insn) + uint32_t(p.now.nb) * e.t_nb);
    p.u.start(compute_u_base(insn) + uint32_t(p.now.nb) * e.u_nb);
    p.phase.start(insn);
    p.busy = g.busy, p.steps = g.steps;
    p.column = p.step = p.row = 0;
    p.high_next = p.second = false;
}

// The pass whose weights have been loaded computes next; false if there is none.
inline bool advance(Progress& p, const Shape& g, const Insn& insn, const EpilogueConfig& e) {
    NM_INLINE
    const bool runs = p.more;
    p.now = p.next;
    p.bank ^= 1;
    p.more = runs && !is_last(p.now);
    next_pass(p.next, g, insn);
    begin_pass(g, insn, e, p);
    return runs;
}

} // namespace nm
