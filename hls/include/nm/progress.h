// SPDX-License-Identifier: Apache-2.0
// What changes while one COMPUTE runs: passes, rasters, steps.
// In: a COMPUTE instruction.  Out: the registers of its control.
#pragma once

#include "nm/epilogue.h"
#include "nm/hls.h"
#include "nm/walk.h"

namespace nm {

// The first rows of a block of COLS channels, which only add: a product would take a DSP each.
struct BlockRows {
    uint16_t o, t, u; // of the block that computes: results, t and u
    uint16_t p;       // of the block whose weights are loaded: parameters
};

inline BlockRows first_rows(const Insn& i) {
    NM_INLINE
    BlockRows rows;
    rows.o = uint16_t(compute_o_base(i)), rows.p = uint16_t(compute_p_base(i));
    rows.t = uint16_t(compute_t_base(i)), rows.u = uint16_t(compute_u_base(i));
    return rows;
}

// All state that changes while one COMPUTE runs.
struct Progress {
    Pass now, next; // the pass that computes, the pass whose weights are loaded
    BlockRows block;
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
    p.block = first_rows(insn);
    p.steps = ROWS;
    p.more = g.any;
    return p;
}

inline void begin_pass(const Shape& g, const Insn& insn, Progress& p) {
    NM_INLINE
    p.x.start(p.now.x_at);
    p.t.start(p.block.t);
    p.u.start(p.block.u);
    p.phase.start(insn);
    p.busy = g.busy, p.steps = g.steps;
    p.column = p.step = p.row = 0;
    p.high_next = p.second = false;
}

// The pass whose weights have been loaded computes next; false if there is none.
inline bool advance(Progress& p, const Shape& g, const Insn& insn, const EpilogueConfig& e) {
    NM_INLINE
    const bool runs = p.more;
    if (p.next.moves) {
        p.block.o = uint16_t(p.block.o + compute_o_nb(insn));
        p.block.t = uint16_t(p.block.t + e.t_nb);
        p.block.u = uint16_t(p.block.u + e.u_nb);
    }
    p.now = p.next;
    p.bank ^= 1;
    p.more = runs && !is_last(p.now);
    next_pass(p.next, g, insn);
    if (p.next.moves)
        p.block.p = uint16_t(p.block.p + compute_p_nb(insn));
    begin_pass(g, insn, p);
    return runs;
}

} // namespace nm
