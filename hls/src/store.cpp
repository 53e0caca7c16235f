// SPDX-License-Identifier: Apache-2.0
// STORE: the output buffer to ARENA.
// In: STORE instructions and result rows.  Out: words in DRAM.
#include "nm/hls.h"
#include "nm/kernels.h"
#include "nm/product.h"

namespace nm {

namespace {

constexpr int BEATS = COLS / STORE_PORT_BYTES; // per word

bool whole_words(uint32_t count, int32_t step) {
    NM_INLINE
    return count <= 1 || step % COLS == 0;
}

// Writes `run` rows to consecutive words, one beat a turn: of several, no burst may be inferred.
void write_beats(StoreBeat* dram, uint64_t addr, uint32_t run, uint32_t row, bool high_plane,
                 const int8_t o_lo[OBUF_ROWS][COLS], const int8_t o_hi[OBUF_ROWS][COLS]) {
    NM_INLINE
    const uint64_t first = addr / STORE_PORT_BYTES;
    int8_t word[COLS];
    NM_PARTITION(word, 0)
WORD_BEATS:
    for (uint32_t b = 0; b < run * BEATS; ++b) {
        NM_PIPELINE(1)
        NM_TRIPS(1, STORED_AT_MOST)
        if (b % BEATS == 0) {
            const uint32_t at = row + b / BEATS;
        WORD:
            for (int c = 0; c < COLS; ++c) {
                NM_UNROLL
                word[c] = high_plane ? o_hi[at][c] : o_lo[at][c];
            }
        }
        StoreBeat beat;
    BEAT_BYTES:
        for (int l = 0; l < STORE_PORT_BYTES; ++l) {
            NM_UNROLL
            beat.byte[l] = uint8_t(word[l]);
        }
        dram[first + b] = beat;
    NEXT_BYTES:
        for (int l = 0; l + STORE_PORT_BYTES < COLS; ++l) {
            NM_UNROLL
            word[l] = word[l + STORE_PORT_BYTES];
        }
    }
}

// The same in a form for a CPU.
void write_words(StoreBeat* dram, uint64_t addr, uint32_t run, const int8_t* from) {
    uint8_t* const to = &dram[0].byte[0] + addr;
WORDS:
    for (uint64_t i = 0; i < uint64_t(run) * COLS; ++i)
        to[i] = uint8_t(from[i]);
}

} // namespace

bool store_inside(const Insn& i, uint64_t limit) {
    NM_INLINE
    const uint32_t count[3] = {store_n2(i), store_n1(i), store_n0(i)};
    const int32_t step[3] = {store_s2(i), store_s1(i), store_s0(i)};
    const int64_t addr = store_addr(i);
    NM_PARTITION(count, 0)
    NM_PARTITION(step, 0)
    const Reach reach = reach_of<HARDWARE, 16, 16, 16>(addr, count, step);
    return reach.low >= 0 && uint64_t(reach.high) + COLS <= limit;
}

bool store_aligned(const Insn& i) {
    NM_INLINE
    return store_addr(i) % COLS == 0 && whole_words(store_n2(i), store_s2(i)) &&
           whole_words(store_n1(i), store_s1(i)) && whole_words(store_n0(i), store_s0(i));
}

template <bool HW>
void store_insn(const Insn& insn, StoreBeat* dram, uint64_t base, const Port& port,
                const int8_t o_lo[OBUF_ROWS][COLS], const int8_t o_hi[OBUF_ROWS][COLS],
                Meter& meter) {
    const bool high_plane = store_plane(insn) != 0;
    const uint32_t n1 = store_n1(insn), n0 = store_n0(insn);
    const bool dense = store_s0(insn) == COLS || n0 == 1;
    const bool merged = dense && store_s1(insn) == int32_t(n0 * COLS);
    // A merged block is one row with the length of all its rows.
    const uint32_t rows = merged ? 1 : n1;
    uint32_t words;
    count_products<HW, 16>(&n0, &n1, &words);
    const uint32_t columns = merged ? words : n0;
    // Words of a burst are consecutive; any other word is a burst of its own.
    const uint32_t run = dense ? columns : 1;
    const int64_t step = store_s0(insn);
    uint32_t row = store_src(insn);
    int64_t block = int64_t(base) + store_addr(insn);
    meter.tick(STORE_SETUP);
BLOCKS:
    for (uint32_t b = 0; b < store_n2(insn); ++b, block += store_s2(insn)) {
        NM_TRIPS(1, COUNT_AT_MOST)
        int64_t line = block;
    LINES:
        for (uint32_t i = 0; i < rows; ++i, line += store_s1(insn)) {
            NM_TRIPS(1, COUNT_AT_MOST)
            uint64_t addr = uint64_t(line);
        RUNS:
            for (uint32_t k = 0; k < columns; k += run, addr += uint64_t(step), row += run) {
                NM_TRIPS(1, COUNT_AT_MOST)
                if (HW)
                    write_beats(dram, addr, run, row, high_plane, o_lo, o_hi);
                else
                    write_words(dram, addr, run, high_plane ? o_hi[row] : o_lo[row]);
            }
            if (dense)
                meter.burst(port, int64_t(columns) * COLS);
            else
                meter.strided(port, columns, COLS);
        }
    }
}

#if !defined(__SYNTHESIS__)
// A bench compares the device's schedule with the CPU's.
template void store_insn<true>(const Insn&, StoreBeat*, uint64_t, const Port&, const int8_t[][COLS],
                               const int8_t[][COLS], Meter&);
template void store_insn<false>(const Insn&, StoreBeat*, uint64_t, const Port&,
                                const int8_t[][COLS], const int8_t[][COLS], Meter&);
#endif

} // namespace nm

extern "C" void store(nm::StoreBeat* dram, uint64_t arena_base, uint32_t arena_bytes,
                      const volatile uint64_t* now, uint64_t* busy, uint64_t* ended,
                      uint32_t* retired, uint32_t* fault, nm::InsnQueue& queue,
                      nm::TokenQueue& from_load, nm::TokenQueue& from_compute,
                      nm::TokenQueue& to_load, nm::TokenQueue& to_compute,
                      const int8_t o_lo[nm::OBUF_ROWS][nm::COLS],
                      const int8_t o_hi[nm::OBUF_ROWS][nm::COLS]) {
    using namespace nm;
    NM_MAXI(dram, store_port, STORE_COSIM)
    NM_REGISTER(dram)
    NM_REGISTER(arena_base)
    NM_REGISTER(arena_bytes)
    NM_WIRE(now)
    NM_REGISTER(busy)
    NM_REGISTER(ended)
    NM_REGISTER(retired)
    NM_REGISTER(fault)
    NM_REGISTER(return)
    NM_STREAM(queue)
    NM_STREAM(from_load)
    NM_STREAM(from_compute)
    NM_STREAM(to_load)
    NM_STREAM(to_compute)
    NM_BRAM(o_lo)
    NM_RESHAPE(o_lo, 2)
    NM_BRAM(o_hi)
    NM_RESHAPE(o_hi, 2)
    const Port port = {STORE_PORT_BYTES, HARDWARE_BURST};
    Meter meter = Meter();
    Counters counters = {0, 0, 0};
    bool running = true;
INSNS:
    while (running) {
        NM_TRIPS(1, PROGRAM_AT_MOST)
        const Insn insn = queue.read();
        NM_PARTITION(insn.w, 0)
        running = Opcode(insn_opcode(insn)) != Opcode::END;
        if (!running)
            break;
        if (insn_wait_load(insn))
            from_load.read();
        if (insn_wait_compute(insn))
            from_compute.read();
        // A word consists of whole beats, so that no beat is written in part.
        const bool inside = store_inside(insn, arena_bytes) && store_aligned(insn);
        const uint64_t start = read_clock(now);
        if (inside)
            store_insn<HARDWARE>(insn, dram, arena_base, port, o_lo, o_hi, meter);
        count(counters, start, read_clock(now), inside ? 0 : FAULT_ADDRESS);
        if (insn_signal_load(insn))
            to_load.write(token_t(1));
        if (insn_signal_compute(insn))
            to_compute.write(token_t(1));
    }
    *busy = counters.busy;
    *ended = read_clock(now);
    *retired = counters.retired;
    *fault = counters.fault;
}
