// SPDX-License-Identifier: Apache-2.0
// Words from DRAM: bursts from any byte on, gathers, and the choice of the buffer.
// In: beats of the LOAD port.  Out: words of ROWS bytes in a buffer.
#pragma once

#include "nm/hls.h"
#include "nm/kernels.h"

namespace nm {

constexpr int WORD_BEATS = ROWS / LOAD_PORT_BYTES;

inline void put(Buffer dest, uint32_t at, const int8_t word[ROWS], int8_t ibuf[IBUF_WORDS][ROWS],
                int8_t wbuf[WBUF_WORDS][ROWS], int8_t pbuf[PBUF_WORDS][ROWS],
                int8_t t_lo[TBUF_ROWS][ROWS], int8_t t_hi[TBUF_ROWS][ROWS],
                int8_t u_lo[UBUF_ROWS][ROWS], int8_t u_hi[UBUF_ROWS][ROWS]) {
    NM_INLINE
    switch (dest) {
    case Buffer::IBUF:
        return copy_word(word, ibuf[at]);
    case Buffer::WBUF:
        return copy_word(word, wbuf[at]);
    case Buffer::PBUF:
        return copy_word(word, pbuf[at]);
    case Buffer::T_LO:
        return copy_word(word, t_lo[at]);
    case Buffer::T_HI:
        return copy_word(word, t_hi[at]);
    case Buffer::U_LO:
        return copy_word(word, u_lo[at]);
    case Buffer::U_HI:
        return copy_word(word, u_hi[at]);
    }
}

// One word whose lanes lie apart: one access per byte.
inline void gather_word(const LoadBeat* dram, uint64_t addr, int32_t lane_stride,
                        int8_t word[ROWS]) {
    NM_INLINE
GATHER:
    for (int r = 0; r < ROWS; ++r) {
        NM_PIPELINE(1)
        const uint64_t at = addr + uint64_t(int64_t(r) * lane_stride);
        const LoadBeat beat = dram[at / LOAD_PORT_BYTES];
        word[r] = int8_t(beat.byte[at % LOAD_PORT_BYTES]);
    }
}

// `run` words that follow one another, from any byte on.
inline void burst(const LoadBeat* dram, uint64_t addr, uint32_t run, Buffer dest, uint32_t at,
                  int8_t ibuf[IBUF_WORDS][ROWS], int8_t wbuf[WBUF_WORDS][ROWS],
                  int8_t pbuf[PBUF_WORDS][ROWS], int8_t t_lo[TBUF_ROWS][ROWS],
                  int8_t t_hi[TBUF_ROWS][ROWS], int8_t u_lo[UBUF_ROWS][ROWS],
                  int8_t u_hi[UBUF_ROWS][ROWS]) {
    NM_INLINE
    // A word begins `skip` bytes into a beat; that beat came with the word before it.
    const uint32_t skip = uint32_t(addr % LOAD_PORT_BYTES);
    uint64_t next = addr / LOAD_PORT_BYTES;
    uint8_t window[LOAD_PORT_BYTES + ROWS];
    NM_PARTITION(window, 0)
    int8_t word[ROWS];
    NM_PARTITION(word, 0)
    if (skip != 0) {
        const LoadBeat beat = dram[next++];
    CARRY_IN:
        for (int j = 0; j < LOAD_PORT_BYTES; ++j) {
            NM_UNROLL
            window[j] = beat.byte[j];
        }
    }
WORDS:
    for (uint32_t w = 0; w < run; ++w) {
        // A port narrower than a word needs a cycle per beat.
        NM_PIPELINE(WORD_BEATS)
    BEATS:
        for (int j = 0; j < WORD_BEATS; ++j) {
            NM_UNROLL
            const LoadBeat beat = dram[next + uint64_t(j)];
        BEAT_BYTES:
            for (int l = 0; l < LOAD_PORT_BYTES; ++l) {
                NM_UNROLL
                window[(j + 1) * LOAD_PORT_BYTES + l] = beat.byte[l];
            }
        }
        next += WORD_BEATS;
    ALIGN:
        for (int r = 0; r < ROWS; ++r) {
            NM_UNROLL
            word[r] = int8_t(skip == 0 ? window[LOAD_PORT_BYTES + r] : window[skip + uint32_t(r)]);
        }
    CARRY:
        for (int j = 0; j < LOAD_PORT_BYTES; ++j) {
            NM_UNROLL
            window[j] = window[ROWS + j];
        }
        put(dest, at + w, word, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
    }
}

} // namespace nm
