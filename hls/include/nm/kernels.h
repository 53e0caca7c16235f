// SPDX-License-Identifier: Apache-2.0
// The four kernels, and the unit functions inside them that the emulation steps.
// In: types, streams and the instruction set.  Out: declarations only.
#pragma once

#include "nm/clock.h"
#include "nm/cost.h"
#include "nm/epilogue.h"
#include "nm/isa.h"
#include "nm/stats.h"
#include "nm/stream.h"
#include "nm/types.h"
#include "nm/window.h"

namespace nm {

// Trip counts affect the tool's reports, not the hardware: a long program, a long dimension, and a
// COMPUTE of all accumulators over a K of as many blocks.
constexpr int PROGRAM_AT_MOST = 4096;
constexpr int COUNT_AT_MOST = 64;
constexpr int STEPS_AT_MOST = ACC_ROWS * COUNT_AT_MOST;
constexpr int CELLS_AT_MOST = MAP_CELLS / 8;

// Beats of the memory behind a port that a co-simulation copies; hardware has no such limit.
constexpr int COSIM_BYTES = 8192;
constexpr int LOAD_COSIM = COSIM_BYTES / LOAD_PORT_BYTES;
constexpr int STORE_COSIM = COSIM_BYTES / STORE_PORT_BYTES;
constexpr int FETCH_COSIM = COSIM_BYTES / FETCH_PORT_BYTES;

constexpr int PBUF_WORDS = PBUF_ROWS * 8; // 8 words make one row of COLS 64-bit parameters

using InsnQueue = Stream<Insn, QUEUE_DEPTH>;
using TokenQueue = Stream<token_t, TOKEN_DEPTH>;

// Bits of a kernel's `fault` register.
constexpr uint32_t FAULT_ADDRESS = 1; // an access outside its region was refused
constexpr uint32_t FAULT_OPCODE = 2;  // an unknown instruction was skipped

// ---------------------------------------------------------------- fetch

// The unit that runs an opcode; END goes to all.
Unit unit_of(Opcode opcode);

// ---------------------------------------------------------------- load

// True when every byte that a LOAD reads lies in a region of `limit` bytes.
bool load_inside(const Insn& insn, uint64_t limit);

// Words written to the buffer, padding included.
uint64_t load_words(const Insn& insn);

// Runs one LOAD; the region begins `base` bytes after `dram`, at a multiple of a beat.  Returns the
// sum of the words read (see word_sum), 0 if they are from ARENA.
// HW: beat by beat, as the device; otherwise whole bursts.  Results and cycles are the same.
template <bool HW>
uint32_t load_insn(const Insn& insn, const LoadBeat* dram, uint64_t base, const Port& port,
                   int8_t ibuf[IBUF_WORDS][ROWS], int8_t wbuf[WBUF_WORDS][ROWS],
                   int8_t pbuf[PBUF_WORDS][ROWS], int8_t t_lo[TBUF_ROWS][ROWS],
                   int8_t t_hi[TBUF_ROWS][ROWS], int8_t u_lo[UBUF_ROWS][ROWS],
                   int8_t u_hi[UBUF_ROWS][ROWS], Meter& meter);

// ---------------------------------------------------------------- compute

// The state of a compute unit between instructions.
struct ComputeState {
    int32_t acc[ACC_ROWS][COLS];
    // One bank computes while the other is loaded.  On the device that is always bank 0, which
    // takes bank 1 over at once, so that no PE has to choose.
    weight_t weights[2][ROWS][COLS];
    Table table;
    Window window;
    ChannelBanks channels; // switched with the weights
    Statistics stat;       // partial statistics, by a row's number in the COMPUTE
    int16_t x_low[LANES];  // low byte plane of an int16 MAX operand, one step before the high one
    EpilogueConfig epilogue;
};

// Sets the lanes' registers and copies segments and map from PBUF into the lanes.
void epilogue_insn(const Insn& insn, const int8_t pbuf[PBUF_WORDS][ROWS], ComputeState& state,
                   Meter& meter);

// Runs one COMPUTE.  HW: the schedule of the device, one step per iteration and packed products;
// otherwise runs of rows.  Results and cycles are the same.
template <bool HW>
void compute_insn(const Insn& insn, const int8_t ibuf[IBUF_WORDS][ROWS],
                  const int8_t wbuf[WBUF_WORDS][ROWS], const int8_t pbuf[PBUF_WORDS][ROWS],
                  const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                  const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                  int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS], ComputeState& state,
                  Meter& meter);

// ---------------------------------------------------------------- store

// True when every byte that a STORE writes lies in a region of `limit` bytes.
bool store_inside(const Insn& insn, uint64_t limit);

// True when every word that a STORE writes begins at a multiple of a word.
bool store_aligned(const Insn& insn);

// Runs one STORE; ARENA begins `base` bytes after `dram`, at a multiple of a beat.
void store_insn(const Insn& insn, StoreBeat* dram, uint64_t base, const Port& port,
                const int8_t o_lo[OBUF_ROWS][COLS], const int8_t o_hi[OBUF_ROWS][COLS],
                Meter& meter);

} // namespace nm

// ---------------------------------------------------------------- kernels (C names, as the IP's)

// host/neuralmatrix/hardware/registers.py lists their registers.  `now`: the cycle counter.

extern "C" {

void fetch(const nm::FetchBeat* code, uint32_t count, const volatile uint64_t* now,
           uint64_t* fingerprint, uint64_t* began, uint32_t* fault, uint32_t* checksum,
           nm::InsnQueue& to_load, nm::InsnQueue& to_compute, nm::InsnQueue& to_store);

void load(const nm::LoadBeat* dram, uint64_t const_base, uint32_t const_bytes, uint64_t arena_base,
          uint32_t arena_bytes, const volatile uint64_t* now, uint64_t* busy, uint64_t* ended,
          uint32_t* retired, uint32_t* fault, uint32_t* checksum, nm::InsnQueue& queue,
          nm::TokenQueue& from_compute, nm::TokenQueue& from_store, nm::TokenQueue& to_compute,
          nm::TokenQueue& to_store, int8_t ibuf[nm::IBUF_WORDS][nm::ROWS],
          int8_t wbuf[nm::WBUF_WORDS][nm::ROWS], int8_t pbuf[nm::PBUF_WORDS][nm::ROWS],
          int8_t t_lo[nm::TBUF_ROWS][nm::ROWS], int8_t t_hi[nm::TBUF_ROWS][nm::ROWS],
          int8_t u_lo[nm::UBUF_ROWS][nm::ROWS], int8_t u_hi[nm::UBUF_ROWS][nm::ROWS]);

void compute(const volatile uint64_t* now, uint64_t* busy, uint64_t* ended, uint32_t* retired,
             uint32_t* fault, nm::InsnQueue& queue, nm::TokenQueue& from_load,
             nm::TokenQueue& from_store, nm::TokenQueue& to_load, nm::TokenQueue& to_store,
             const int8_t ibuf[nm::IBUF_WORDS][nm::ROWS],
             const int8_t wbuf[nm::WBUF_WORDS][nm::ROWS],
             const int8_t pbuf[nm::PBUF_WORDS][nm::ROWS],
             const int8_t t_lo[nm::TBUF_ROWS][nm::ROWS], const int8_t t_hi[nm::TBUF_ROWS][nm::ROWS],
             const int8_t u_lo[nm::UBUF_ROWS][nm::ROWS], const int8_t u_hi[nm::UBUF_ROWS][nm::ROWS],
             int8_t o_lo[nm::OBUF_ROWS][nm::COLS], int8_t o_hi[nm::OBUF_ROWS][nm::COLS]);

void store(nm::StoreBeat* dram, uint64_t arena_base, uint32_t arena_bytes,
           const volatile uint64_t* now, uint64_t* busy, uint64_t* ended, uint32_t* retired,
           uint32_t* fault, nm::InsnQueue& queue, nm::TokenQueue& from_load,
           nm::TokenQueue& from_compute, nm::TokenQueue& to_load, nm::TokenQueue& to_compute,
           const int8_t o_lo[nm::OBUF_ROWS][nm::COLS], const int8_t o_hi[nm::OBUF_ROWS][nm::COLS]);

} // extern "C"
