// SPDX-License-Identifier: Apache-2.0
// LOAD: DRAM to the on-chip buffers, with padding, strides and gathers.
// In: LOAD instructions, CONST and ARENA.  Out: words in IBUF, WBUF, PBUF, T and U.
#include "nm/product.h"
#include "nm/words.h"

namespace nm {

bool load_inside(const Insn& i, uint64_t limit) {
    NM_INLINE
    const uint32_t count[4] = {load_n2(i), load_n1(i), load_n0(i), ROWS};
    const int32_t step[4] = {load_s2(i), load_s1(i), load_s0(i), load_lane_stride(i)};
    NM_PARTITION(count, 0)
    NM_PARTITION(step, 0)
    const Reach reach = reach_of<HARDWARE, 16, 16, 16, 8>(load_addr(i), count, step);
    return reach.low >= 0 && uint64_t(reach.high) < limit;
}

uint64_t load_words(const Insn& i) {
    NM_INLINE
    const uint64_t rows = load_pad_top(i) + load_n1(i) + load_pad_bottom(i);
    return load_n2(i) * rows * (load_pad_left(i) + load_n0(i) + load_pad_right(i));
}

template <bool HW>
uint32_t load_insn(const Insn& insn, const LoadBeat* dram, uint64_t base, const Port& port,
                   int8_t ibuf[IBUF_WORDS][ROWS], int8_t wbuf[WBUF_WORDS][ROWS],
                   int8_t pbuf[PBUF_WORDS][ROWS], int8_t t_lo[TBUF_ROWS][ROWS],
                   int8_t t_hi[TBUF_ROWS][ROWS], int8_t u_lo[UBUF_ROWS][ROWS],
                   int8_t u_hi[UBUF_ROWS][ROWS], Meter& meter) {
    const Buffer dest = Buffer(load_dest(insn));
    const uint32_t n1 = load_n1(insn), n0 = load_n0(insn);
    const uint32_t left = load_pad_left(insn), right = load_pad_right(insn);
    const int32_t lane_stride = load_lane_stride(insn);
    const bool gather = lane_stride != 1;
    const bool dense = !gather && (load_s0(insn) == ROWS || n0 == 1);
    const bool merged = dense && left == 0 && right == 0 && load_s1(insn) == int32_t(n0 * ROWS);
    // A merged block is one row with the length of all its rows.
    const uint32_t rows = merged ? 1 : n1, line_words = left + n0 + right;
    const uint32_t length[3] = {n0, line_words, line_words};
    const uint32_t lines[3] = {n1, load_pad_top(insn), load_pad_bottom(insn)};
    uint32_t words[3];
    NM_PARTITION(length, 0)
    NM_PARTITION(lines, 0)
    NM_PARTITION(words, 0)
    count_products<HW, 16, 8, 8>(length, lines, words);
    const uint32_t columns = merged ? words[0] : n0, top = words[1], bottom = words[2];
    // Words of a burst are consecutive; any other word is a burst of its own.
    const uint32_t run = dense ? columns : 1;
    const int64_t step = load_s0(insn);
    int8_t pad[ROWS], word[ROWS];
    NM_PARTITION(pad, 0)
    NM_PARTITION(word, 0)
PAD_LANE:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        pad[r] = int8_t(load_pad_value(insn));
    }
    // Constants only, as a driver does not know the contents of ARENA.
    const bool counted = Region(load_region(insn)) == Region::CONST;
    uint32_t sum = 0;
    uint32_t at = load_dst(insn);
    int64_t block = int64_t(base) + load_addr(insn);
    meter.tick(LOAD_SETUP);
BLOCKS:
    for (uint32_t b = 0; b < load_n2(insn); ++b, block += load_s2(insn)) {
        NM_TRIPS(1, COUNT_AT_MOST)
        int64_t line = block;
    LINES:
        for (uint32_t i = 0; i < rows; ++i, line += load_s1(insn)) {
            NM_TRIPS(1, COUNT_AT_MOST)
            const uint32_t before = left + (i == 0 ? top : 0);
            const uint32_t after = right + (i + 1 == rows ? bottom : 0);
        PAD_BEFORE:
            for (uint32_t k = 0; k < before; ++k, ++at) {
                NM_PIPELINE(1)
                NM_TRIPS(0, COUNT_AT_MOST)
                put(dest, at, pad, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
            }
            uint64_t addr = uint64_t(line);
        RUNS:
            for (uint32_t k = 0; k < columns; k += run, addr += uint64_t(step), at += run) {
                NM_TRIPS(1, COUNT_AT_MOST)
                if (gather) {
                    gather_word(dram, addr, lane_stride, word);
                    sum += word_sum(word);
                    put(dest, at, word, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
                } else if (!HW) {
                    if (counted)
                        sum += run_sum(dram, addr, run);
                    copy_run(dram, addr, run, dest, at, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
                } else {
                    sum +=
                        burst(dram, addr, run, dest, at, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
                }
            }
        PAD_AFTER:
            for (uint32_t k = 0; k < after; ++k, ++at) {
                NM_PIPELINE(1)
                NM_TRIPS(0, COUNT_AT_MOST)
                put(dest, at, pad, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
            }
            meter.tick(before + after);
            if (gather)
                meter.gather(port, columns, ROWS);
            else if (dense)
                meter.burst(port, int64_t(columns) * ROWS);
            else
                meter.strided(port, columns, ROWS);
        }
    }
    return counted ? sum : 0;
}

#if !defined(__SYNTHESIS__)
// A bench compares the device's schedule with the CPU's.
template uint32_t load_insn<true>(const Insn&, const LoadBeat*, uint64_t, const Port&,
                                  int8_t[][ROWS], int8_t[][ROWS], int8_t[][ROWS], int8_t[][ROWS],
                                  int8_t[][ROWS], int8_t[][ROWS], int8_t[][ROWS], Meter&);
template uint32_t load_insn<false>(const Insn&, const LoadBeat*, uint64_t, const Port&,
                                   int8_t[][ROWS], int8_t[][ROWS], int8_t[][ROWS], int8_t[][ROWS],
                                   int8_t[][ROWS], int8_t[][ROWS], int8_t[][ROWS], Meter&);
#endif

} // namespace nm

extern "C" void load(const nm::LoadBeat* dram, uint64_t const_base, uint32_t const_bytes,
                     uint64_t arena_base, uint32_t arena_bytes, const volatile uint64_t* now,
                     uint64_t* busy, uint64_t* ended, uint32_t* retired, uint32_t* fault,
                     uint32_t* checksum, nm::InsnQueue& queue, nm::TokenQueue& from_compute,
                     nm::TokenQueue& from_store, nm::TokenQueue& to_compute,
                     nm::TokenQueue& to_store, int8_t ibuf[nm::IBUF_WORDS][nm::ROWS],
                     int8_t wbuf[nm::WBUF_WORDS][nm::ROWS], int8_t pbuf[nm::PBUF_WORDS][nm::ROWS],
                     int8_t t_lo[nm::TBUF_ROWS][nm::ROWS], int8_t t_hi[nm::TBUF_ROWS][nm::ROWS],
                     int8_t u_lo[nm::UBUF_ROWS][nm::ROWS], int8_t u_hi[nm::UBUF_ROWS][nm::ROWS]) {
    using namespace nm;
    NM_MAXI(dram, load_port, LOAD_COSIM)
    NM_REGISTER(dram)
    NM_REGISTER(const_base)
    NM_REGISTER(const_bytes)
    NM_REGISTER(arena_base)
    NM_REGISTER(arena_bytes)
    NM_WIRE(now)
    NM_REGISTER(busy)
    NM_REGISTER(ended)
    NM_REGISTER(retired)
    NM_REGISTER(fault)
    NM_REGISTER(checksum)
    NM_REGISTER(return)
    NM_STREAM(queue)
    NM_STREAM(from_compute)
    NM_STREAM(from_store)
    NM_STREAM(to_compute)
    NM_STREAM(to_store)
    // Ports of one word's width: the lanes of a word are transferred together.
    NM_BRAM(ibuf)
    NM_RESHAPE(ibuf, 2)
    NM_BRAM(wbuf)
    NM_RESHAPE(wbuf, 2)
    NM_BRAM(pbuf)
    NM_RESHAPE(pbuf, 2)
    NM_BRAM(t_lo)
    NM_RESHAPE(t_lo, 2)
    NM_BRAM(t_hi)
    NM_RESHAPE(t_hi, 2)
    NM_BRAM(u_lo)
    NM_RESHAPE(u_lo, 2)
    NM_BRAM(u_hi)
    NM_RESHAPE(u_hi, 2)
    const Port port = {LOAD_PORT_BYTES, HARDWARE_BURST};
    Meter meter = Meter();
    Counters counters = {0, 0, 0};
    uint32_t sum = 0;
    bool running = true;
INSNS:
    while (running) {
        NM_TRIPS(1, PROGRAM_AT_MOST)
        const Insn insn = queue.read();
        NM_PARTITION(insn.w, 0)
        running = Opcode(insn_opcode(insn)) != Opcode::END;
        if (!running)
            break;
        if (insn_wait_compute(insn))
            from_compute.read();
        if (insn_wait_store(insn))
            from_store.read();
        const bool arena = Region(load_region(insn)) == Region::ARENA;
        const bool inside = load_inside(insn, arena ? arena_bytes : const_bytes);
        const uint64_t start = read_clock(now);
        if (inside)
            sum += load_insn<HARDWARE>(insn, dram, arena ? arena_base : const_base, port, ibuf,
                                       wbuf, pbuf, t_lo, t_hi, u_lo, u_hi, meter);
        count(counters, start, read_clock(now), inside ? 0 : FAULT_ADDRESS);
        // The token is sent even after a refused access, so that the other units reach END.
        if (insn_signal_compute(insn))
            to_compute.write(token_t(1));
        if (insn_signal_store(insn))
            to_store.write(token_t(1));
    }
    *busy = counters.busy;
    *ended = read_clock(now);
    *retired = counters.retired;
    *fault = counters.fault;
    *checksum = sum;
}
