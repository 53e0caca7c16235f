// SPDX-License-Identifier: Apache-2.0
// Words from DRAM: bursts from any byte on, gathers, and the choice of the buffer.
// In: beats of the LOAD port.  Out: words of ROWS bytes in a buffer.
#pragma once

#include "nm/hls.h"
#include "nm/kernels.h"

namespace nm {

constexpr int WORD_BEATS = ROWS / LOAD_PORT_BYTES;
constexpr int LOADED_AT_MOST = IBUF_WORDS * WORD_BEATS + 1; // beats of a burst

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

// The checksum that a driver compares with its constants: the sum, modulo 2^32, of a word's parts
// of 4 bytes, the lowest first.  Ports do not report failures of the bus.
inline uint32_t word_sum(const int8_t word[ROWS]) {
    NM_INLINE
    uint32_t sum = 0;
    // It sums parts, as bytes shifted and added one by one would take an adder each.
SUM:
    for (int r = 0; r < ROWS; r += 4) {
        NM_UNROLL
        sum += from_bytes(uint8_t(word[r]), uint8_t(word[r + 1]), uint8_t(word[r + 2]),
                          uint8_t(word[r + 3]));
    }
    return sum;
}

// The same sum of consecutive words in DRAM, for a CPU: four sums of bytes.
inline uint32_t run_sum(const LoadBeat* dram, uint64_t addr, uint32_t run) {
    const uint8_t* const from = &dram[0].byte[0] + addr;
    const uint64_t count = uint64_t(run) * ROWS;
    uint32_t sums[4] = {0, 0, 0, 0};
SUM_PARTS:
    for (uint64_t i = 0; i < count; i += 4) {
    SUM_BYTES:
        for (int k = 0; k < 4; ++k)
            sums[k] += from[i + uint64_t(k)];
    }
    return sums[0] + (sums[1] << 8) + (sums[2] << 16) + (sums[3] << 24);
}

// Copies consecutive words from DRAM to a buffer, in a form for a CPU.
inline void copy_bytes(const uint8_t* from, uint64_t count, int8_t* to) {
COPY_BYTES:
    for (uint64_t i = 0; i < count; ++i)
        to[i] = int8_t(from[i]);
}

inline void copy_run(const LoadBeat* dram, uint64_t addr, uint32_t run, Buffer dest, uint32_t at,
                     int8_t ibuf[IBUF_WORDS][ROWS], int8_t wbuf[WBUF_WORDS][ROWS],
                     int8_t pbuf[PBUF_WORDS][ROWS], int8_t t_lo[TBUF_ROWS][ROWS],
                     int8_t t_hi[TBUF_ROWS][ROWS], int8_t u_lo[UBUF_ROWS][ROWS],
                     int8_t u_hi[UBUF_ROWS][ROWS]) {
    const uint8_t* const from = &dram[0].byte[0] + addr;
    const uint64_t count = uint64_t(run) * ROWS;
    switch (dest) {
    case Buffer::IBUF:
        return copy_bytes(from, count, ibuf[at]);
    case Buffer::WBUF:
        return copy_bytes(from, count, wbuf[at]);
    case Buffer::PBUF:
        return copy_bytes(from, count, pbuf[at]);
    case Buffer::T_LO:
        return copy_bytes(from, count, t_lo[at]);
    case Buffer::T_HI:
        return copy_bytes(from, count, t_hi[at]);
    case Buffer::U_LO:
        return copy_bytes(from, count, u_lo[at]);
    case Buffer::U_HI:
        return copy_bytes(from, count, u_hi[at]);
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

// The latest bytes of a burst: a word's own beats and the one before them.
struct Arrived {
    uint8_t byte[LOAD_PORT_BYTES + ROWS];
};

inline void enter(const LoadBeat& beat, Arrived& arrived) {
    NM_INLINE
MOVE_ON:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        arrived.byte[r] = arrived.byte[r + LOAD_PORT_BYTES];
    }
ENTER:
    for (int l = 0; l < LOAD_PORT_BYTES; ++l) {
        NM_UNROLL
        arrived.byte[ROWS + l] = beat.byte[l];
    }
}

// The word that begins `skip` bytes into the first beat; of the second where `skip` is 0, as then
// the first is of the word before.
inline void align(int skip, const Arrived& arrived, int8_t word[ROWS]) {
    NM_INLINE
    int32_t bytes[LOAD_PORT_BYTES + ROWS];
    NM_PARTITION(bytes, 0)
ALL:
    for (int r = 0; r < LOAD_PORT_BYTES + ROWS; ++r) {
        NM_UNROLL
        bytes[r] = arrived.byte[r];
    }
    const int by = skip == 0 ? LOAD_PORT_BYTES : skip;
    // A shift by each bit, made of gates: of a conditional operator a compiler makes an index
    // again, which chooses among all bytes.
SHIFT_BIT:
    for (int bit = LOAD_PORT_BYTES; bit > 0; bit /= 2) {
        NM_UNROLL
    SHIFT:
        for (int r = 0; r < LOAD_PORT_BYTES + ROWS - bit; ++r) {
            NM_UNROLL
            bytes[r] = choose((by & bit) != 0, bytes[r + bit], bytes[r]);
        }
    }
ALIGNED:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
        word[r] = int8_t(bytes[r]);
    }
}

// Reads `run` consecutive words, from any byte on; returns their sum.  One beat a turn: of several,
// no burst may be inferred.
inline uint32_t burst(const LoadBeat* dram, uint64_t addr, uint32_t run, Buffer dest, uint32_t at,
                      int8_t ibuf[IBUF_WORDS][ROWS], int8_t wbuf[WBUF_WORDS][ROWS],
                      int8_t pbuf[PBUF_WORDS][ROWS], int8_t t_lo[TBUF_ROWS][ROWS],
                      int8_t t_hi[TBUF_ROWS][ROWS], int8_t u_lo[UBUF_ROWS][ROWS],
                      int8_t u_hi[UBUF_ROWS][ROWS]) {
    NM_INLINE
    // A word begins `skip` bytes into a beat: it needs one beat more, which it shares with the
    // next.
    const int skip = int(addr % LOAD_PORT_BYTES);
    const uint32_t more = skip != 0 ? 1 : 0;
    const uint64_t first = addr / LOAD_PORT_BYTES;
    uint32_t sum = 0, missing = WORD_BEATS + more; // beats until a word is complete
    Arrived arrived = {};
    NM_PARTITION(arrived.byte, 0)
WORD_BEATS_IN:
    for (uint32_t b = 0; b < run * WORD_BEATS + more; ++b) {
        NM_PIPELINE(1)
        NM_TRIPS(1, LOADED_AT_MOST)
        enter(dram[first + b], arrived);
        if (--missing == 0) {
            int8_t word[ROWS];
            NM_PARTITION(word, 0)
            align(skip, arrived, word);
            sum += word_sum(word);
            put(dest, at++, word, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
            missing = WORD_BEATS;
        }
    }
    return sum;
}

} // namespace nm
