// SPDX-License-Identifier: Apache-2.0
// The device's buffers, and one call that runs one instruction on them.
// In: instructions.  Out: bytes in the arena, and the instruction's cost.
#pragma once

#include <cstring>

#include "checks.h"

namespace nm {

// The regions of a program; ARENA's size is a whole number of beats, CONST's is padded to one.
struct Memory {
    const uint8_t* constants;
    uint8_t* arena;
    Regions regions;
};

// Loads, computes and stores exactly as the kernels do, by the same functions.
class Device {
  public:
    // All zeros is the state after power-up; it is too large for a temporary on a thread's stack.
    void reset() { std::memset(static_cast<void*>(this), 0, sizeof *this); }

    // Runs one instruction; the meter holds its own cycles and DRAM bytes.
    Meter run(int64_t index, const Insn& insn, const Memory& memory, const Port& load_port,
              const Port& store_port) {
        Meter meter = {0, 0};
        const Checker check(index, insn);
        switch (Opcode(insn_opcode(insn))) {
        case Opcode::LOAD:
            check.load(memory.regions);
            sum_ += load_insn<HARDWARE>(insn, load_source(insn, memory), 0, load_port, ibuf_, wbuf_,
                                        pbuf_, t_lo_, t_hi_, u_lo_, u_hi_, meter);
            break;
        case Opcode::STORE:
            check.store(memory.regions);
            store_insn<HARDWARE>(insn, reinterpret_cast<StoreBeat*>(memory.arena), 0, store_port,
                                 o_lo_, o_hi_, meter);
            break;
        case Opcode::EPILOGUE:
            check.epilogue();
            epilogue_insn(insn, pbuf_, state_, meter);
            ready_ = true;
            break;
        default:
            check.compute(ready_, state_.epilogue, begun_);
            compute_insn<HARDWARE>(insn, ibuf_, wbuf_, pbuf_, t_lo_, t_hi_, u_lo_, u_hi_, o_lo_,
                                   o_hi_, state_, meter);
            follow_statistic(insn);
        }
        return meter;
    }

    // Checksum of the constants read since reset(), as in LOAD's register.
    uint32_t checksum() const { return sum_; }

  private:
    void follow_statistic(const Insn& insn) {
        const Stat stat = state_.epilogue.stat;
        if (!compute_last(insn) || stat == Stat::NONE)
            return;
        const bool open = !compute_stat_last(insn);
        begun_ = {open ? int64_t(compute_m1(insn)) * compute_m0(insn) : 0, stat};
    }

    static const LoadBeat* load_source(const Insn& insn, const Memory& memory) {
        const bool arena = Region(load_region(insn)) == Region::ARENA;
        return reinterpret_cast<const LoadBeat*>(arena ? memory.arena : memory.constants);
    }

    ComputeState state_ = {};
    int8_t ibuf_[IBUF_WORDS][ROWS] = {};
    int8_t wbuf_[WBUF_WORDS][ROWS] = {};
    int8_t pbuf_[PBUF_WORDS][ROWS] = {};
    int8_t t_lo_[TBUF_ROWS][ROWS] = {}, t_hi_[TBUF_ROWS][ROWS] = {};
    int8_t u_lo_[UBUF_ROWS][ROWS] = {}, u_hi_[UBUF_ROWS][ROWS] = {};
    int8_t o_lo_[OBUF_ROWS][COLS] = {}, o_hi_[OBUF_ROWS][COLS] = {};
    uint32_t sum_ = 0;
    bool ready_ = false; // an EPILOGUE has set the lanes
    Begun begun_ = {};
};

} // namespace nm
