// SPDX-License-Identifier: Apache-2.0
// LOAD: DRAM to the on-chip buffers, with padding, strides and gathers.
// In: LOAD instructions, CONST and ARENA.  Out: words in IBUF, WBUF, PBUF, T and U.
#include "nm/hls.h"
#include "nm/kernels.h"

namespace nm {

namespace {

constexpr int BEATS = ROWS / LOAD_PORT_BYTES; // per word

// Lowest and highest reach of a counter with a signed step.
int64_t below(uint32_t count, int32_t step) {
    NM_INLINE
    return step < 0 && count > 0 ? int64_t(count - 1) * step : 0;
}

int64_t above(uint32_t count, int32_t step) {
    NM_INLINE
    return step > 0 && count > 0 ? int64_t(count - 1) * step : 0;
}

} // namespace

bool load_inside(const Insn& i, uint64_t limit) {
    NM_INLINE
    const int64_t addr = load_addr(i);
    const int64_t low = addr + below(load_n2(i), load_s2(i)) + below(load_n1(i), load_s1(i)) +
                        below(load_n0(i), load_s0(i)) + below(ROWS, load_lane_stride(i));
    const int64_t high = addr + above(load_n2(i), load_s2(i)) + above(load_n1(i), load_s1(i)) +
                         above(load_n0(i), load_s0(i)) + above(ROWS, load_lane_stride(i));
    return low >= 0 && uint64_t(high) < limit;
}

uint64_t load_words(const Insn& i) {
    NM_INLINE
    const uint64_t rows = load_pad_top(i) + load_n1(i) + load_pad_bottom(i);
    return load_n2(i) * rows * (load_pad_left(i) + load_n0(i) + load_pad_right(i));
}

namespace {

void put(Buffer dest, uint32_t at, const int8_t word[ROWS], int8_t ibuf[IBUF_WORDS][ROWS],
         int8_t wbuf[WBUF_WORDS][ROWS], int8_t pbuf[PBUF_WORDS][ROWS], int8_t t_lo[TBUF_ROWS][ROWS],
         int8_t t_hi[TBUF_ROWS][ROWS], int8_t u_lo[UBUF_ROWS][ROWS],
         int8_t u_hi[UBUF_ROWS][ROWS]) {
    NM_INLINE
PUT_LANE:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        switch (dest) {
        case Buffer::IBUF:
            ibuf[at][r] = word[r];
            break;
        case Buffer::WBUF:
            wbuf[at][r] = word[r];
            break;
        case Buffer::PBUF:
            pbuf[at][r] = word[r];
            break;
        case Buffer::T_LO:
            t_lo[at][r] = word[r];
            break;
        case Buffer::T_HI:
            t_hi[at][r] = word[r];
            break;
        case Buffer::U_LO:
            u_lo[at][r] = word[r];
            break;
        case Buffer::U_HI:
            u_hi[at][r] = word[r];
            break;
        }
    }
}

// One word whose lanes lie apart: one access per byte.
void gather_word(const LoadBeat* dram, uint64_t addr, int32_t lane_stride, int8_t word[ROWS]) {
    NM_INLINE
GATHER:
    for (int r = 0; r < ROWS; ++r) {
        NM_PIPELINE(1)
        const uint64_t at = addr + uint64_t(int64_t(r) * lane_stride);
        const LoadBeat beat = dram[at / LOAD_PORT_BYTES];
        word[r] = int8_t(beat.byte[at % LOAD_PORT_BYTES]);
    }
}

} // namespace

void load_insn(const Insn& insn, const LoadBeat* dram, uint64_t base, const Port& port,
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
    // A merged block is one row, as long as all of its rows.
    const uint32_t rows = merged ? 1 : n1;
    const uint32_t columns = merged ? n1 * n0 : n0;
    const uint32_t top = load_pad_top(insn) * (left + n0 + right);
    const uint32_t bottom = load_pad_bottom(insn) * (left + n0 + right);
    // Words of a burst follow one another; any other word is a burst of its own.
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
    uint32_t at = load_dst(insn);
    int64_t block = int64_t(base) + load_addr(insn);
    meter.tick(LOAD_SETUP);
BLOCKS:
    for (uint32_t b = 0; b < load_n2(insn); ++b, block += load_s2(insn)) {
        int64_t line = block;
    LINES:
        for (uint32_t i = 0; i < rows; ++i, line += load_s1(insn)) {
            const uint32_t before = left + (i == 0 ? top : 0);
            const uint32_t after = right + (i + 1 == rows ? bottom : 0);
        PAD_BEFORE:
            for (uint32_t k = 0; k < before; ++k, ++at) {
                NM_PIPELINE(1)
                put(dest, at, pad, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
            }
            uint64_t addr = uint64_t(line);
        RUNS:
            for (uint32_t k = 0; k < columns; k += run, addr += uint64_t(step)) {
                const uint32_t skip = uint32_t(addr % LOAD_PORT_BYTES);
                const uint32_t first = skip != 0 ? skip : uint32_t(LOAD_PORT_BYTES);
                uint64_t next = addr / LOAD_PORT_BYTES;
                // The beat before the word's own ones, which an unaligned word begins in.
                uint8_t window[LOAD_PORT_BYTES + ROWS];
                NM_PARTITION(window, 0)
                if (!gather && skip != 0) {
                    const LoadBeat beat = dram[next++];
                CARRY_IN:
                    for (int j = 0; j < LOAD_PORT_BYTES; ++j) {
                        NM_UNROLL
                        window[j] = beat.byte[j];
                    }
                }
            WORDS:
                for (uint32_t w = 0; w < run; ++w, ++at) {
                    // A port narrower than a word needs a cycle per beat.
                    NM_PIPELINE(BEATS)
                    if (gather) {
                        gather_word(dram, addr, lane_stride, word);
                    } else {
                    WORD_BEATS:
                        for (int j = 0; j < BEATS; ++j) {
                            NM_UNROLL
                            const LoadBeat beat = dram[next++];
                        BEAT_BYTES:
                            for (int l = 0; l < LOAD_PORT_BYTES; ++l) {
                                NM_UNROLL
                                window[(j + 1) * LOAD_PORT_BYTES + l] = beat.byte[l];
                            }
                        }
                    ALIGN:
                        for (int r = 0; r < ROWS; ++r) {
                            NM_UNROLL
                            word[r] = int8_t(window[first + uint32_t(r)]);
                        }
                    CARRY:
                        for (int j = 0; j < LOAD_PORT_BYTES; ++j) {
                            NM_UNROLL
                            window[j] = window[ROWS + j];
                        }
                    }
                    put(dest, at, word, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
                }
            }
        PAD_AFTER:
            for (uint32_t k = 0; k < after; ++k, ++at) {
                NM_PIPELINE(1)
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
}
