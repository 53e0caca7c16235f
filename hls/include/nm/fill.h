// SPDX-License-Identifier: Apache-2.0
// Fills the array's registers: weights in their three orders, and the channels' parameters.
// In: words of WBUF and PBUF.  Out: one bank of weights, the channels of the next block.
#pragma once

#include "nm/hls.h"
#include "nm/kernels.h"
#include "nm/progress.h"
#include "nm/row.h"

namespace nm {

constexpr int PER_WORD = ROWS / 8; // 64-bit parameters in a word

inline uint64_t parameter(const int8_t word[ROWS], int entry) {
    NM_INLINE
    uint64_t value = 0;
PARAMETER_BYTE:
    for (int k = 0; k < 8; ++k) {
        NM_UNROLL
        value |= uint64_t(uint8_t(word[entry * 8 + k])) << (8 * k);
    }
    return value;
}

// ---------------------------------------------------------------- the device's registers

// The word that step j of a fill brings.  A window smaller than WIN x WIN lies in the newest rows
// and columns; the other taps have weight 0.  The one word of a pointwise window becomes a
// diagonal: its pass is a matrix product.  A maximum only asks which weights are not 0, so that a
// PE looks at one bit.
inline void read_weights(uint32_t j, uint32_t w_row, const Shape& g, const Insn& insn,
                         const int8_t wbuf[WBUF_WORDS][ROWS], int8_t word[ROWS]) {
    NM_INLINE
    const uint32_t a = j / WIN + compute_win_h(insn), b = j % WIN + compute_win_w(insn);
    const bool tap = a >= uint32_t(WIN) && b >= uint32_t(WIN) && j < uint32_t(TAPS);
    const uint32_t at = tap ? (a - WIN) * compute_win_w(insn) + (b - WIN) : 0;
    int8_t all[ROWS];
    NM_PARTITION(all, 0)
    copy_word(wbuf[w_row + (g.window ? at : j)], all);
READ_WEIGHT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        const bool mine = g.pointwise ? j == uint32_t(c) : !g.window || tap;
        const int32_t own = all[c] & mask(mine);
        word[c] = int8_t(choose(g.max, mask(own != 0), own));
    }
}

// The word as the diagonals of the registers take it: row r, column c takes byte (c - r) modulo
// ROWS.  So each register has one source, whether the word becomes a row of them or, transposed, a
// column.
inline void turn_word(uint32_t j, bool transpose, const int8_t word[ROWS], int8_t turned[ROWS]) {
    NM_INLINE
    const uint32_t by = (transpose ? ROWS - j : j) % ROWS;
    int32_t from[ROWS];
    NM_PARTITION(from, 0)
MIRROR:
    for (int c = 0; c < ROWS; ++c) {
        NM_UNROLL
        from[c] = choose(transpose, word[(ROWS - c) % ROWS], word[c]);
    }
TURN_BIT:
    for (int bit = 1; bit < ROWS; bit *= 2) {
        NM_UNROLL
        int32_t next[ROWS];
        NM_PARTITION(next, 0)
    TURN:
        for (int c = 0; c < ROWS; ++c) {
            NM_UNROLL
            next[c] = choose((by & uint32_t(bit)) != 0, from[(c + bit) % ROWS], from[c]);
        }
    TURNED:
        for (int c = 0; c < ROWS; ++c) {
            NM_UNROLL
            from[c] = next[c];
        }
    }
TURNED_WORD:
    for (int c = 0; c < ROWS; ++c) {
        NM_UNROLL
        turned[c] = int8_t(from[c]);
    }
}

// The word of a step of a fill and the registers of bank 1 that take it: row j, or column j.
struct FillWord {
    bool fills, transpose;
    uint32_t j;
    int8_t turned[ROWS];

    bool takes(int r, int c) const {
        NM_INLINE
        const bool row = fills & !transpose & (j == uint32_t(r));
        const bool column = fills & transpose & (j == uint32_t(c));
        return row | column;
    }

    weight_t value(int r, int c) const {
        NM_INLINE
        return weight_t(turned[(c + ROWS - r) % ROWS]);
    }
};

// Puts a word into its registers.  An index that is computed would make a memory of them; this way
// each has an enable.
inline void place(const FillWord& word, weight_t w[ROWS][COLS]) {
    NM_INLINE
PLACE_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
    PLACE_C:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            w[r][c] = word.takes(r, c) ? word.value(r, c) : w[r][c];
        }
    }
}

// All registers of `from` into those of `to`, and what is on its way to the last row or column.
inline void take_over(const FillWord& word, const weight_t from[ROWS][COLS],
                      weight_t to[ROWS][COLS]) {
    NM_INLINE
TAKE_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
    TAKE_C:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const bool edge = r == ROWS - 1 || c == COLS - 1;
            to[r][c] = edge && word.takes(r, c) ? word.value(r, c) : from[r][c];
        }
    }
}

// ---------------------------------------------------------------- a CPU's

// Word j of the block of weights at `w_row`, into row (or column) j of the array.
inline void fill_weights(uint32_t j, uint32_t w_row, bool transpose,
                         const int8_t wbuf[WBUF_WORDS][ROWS], weight_t w[ROWS][COLS]) {
    int8_t word[ROWS];
    copy_word(wbuf[w_row + j], word);
    if (transpose) {
    FILL_COLUMN:
        for (int r = 0; r < ROWS; ++r)
            w[r][j] = weight_t(word[r]);
    } else {
    FILL_ROW:
        for (int c = 0; c < COLS; ++c)
            w[j][c] = weight_t(word[c]);
    }
}

// A whole block, in a form that a CPU vectorises.  Transposed, byte r of word c goes to row r,
// column c: each round interleaves the upper half of the bytes with the lower half, which rotates
// their index by a bit.
inline void fill_block(uint32_t w_row, bool transpose, const int8_t wbuf[WBUF_WORDS][ROWS],
                       weight_t w[ROWS][COLS]) {
    int8_t from[ROWS * COLS], to[ROWS * COLS];
BLOCK_IN:
    for (int j = 0; j < ROWS; ++j)
        copy_word(wbuf[w_row + uint32_t(j)], from + j * COLS);
TURN_ROUND:
    for (int bit = 1; transpose && bit < ROWS; bit *= 2) {
    DEAL:
        for (int i = 0; i < ROWS * COLS / 2; ++i) {
            to[2 * i] = from[i];
            to[2 * i + 1] = from[i + ROWS * COLS / 2];
        }
    TURN_BACK:
        for (int i = 0; i < ROWS * COLS; ++i)
            from[i] = to[i];
    }
    weight_t* flat = w[0];
BLOCK_LANE:
    for (int i = 0; i < ROWS * COLS; ++i)
        flat[i] = weight_t(from[i]);
}

// Row j of the array in WINDOW mode.  A window smaller than WIN x WIN lies in the newest rows and
// columns; the other taps have weight 0.
inline void fill_taps(uint32_t j, uint32_t w_row, const Insn& insn,
                      const int8_t wbuf[WBUF_WORDS][ROWS], weight_t w[ROWS][COLS]) {
    const int a = int(j) / WIN - (WIN - int(compute_win_h(insn)));
    const int b = int(j) % WIN - (WIN - int(compute_win_w(insn)));
    const bool tap = a >= 0 && b >= 0 && j < uint32_t(TAPS);
    const uint32_t row = tap ? uint32_t(a) * compute_win_w(insn) + uint32_t(b) : 0;
    int8_t word[ROWS];
    copy_word(wbuf[w_row + row], word);
FILL_TAP:
    for (int c = 0; c < COLS; ++c)
        w[j][c] = weight_t(tap ? word[c] : int8_t(0));
}

// Word j of a parameter row, into the registers of the lanes' next block: each has an enable.
inline void fill_channels(uint32_t j, uint32_t p_row, const int8_t pbuf[PBUF_WORDS][ROWS],
                          Channels& ch) {
    NM_INLINE
    int8_t word[ROWS];
    NM_PARTITION(word, 0)
    copy_word(pbuf[p_row * 8 + j], word);
CHANNELS:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        if (j == uint32_t(c / PER_WORD)) {
            const uint64_t value = parameter(word, c % PER_WORD);
            ch.bias[c] = int32_t(uint32_t(value));
            ch.m[c] = int32_t(uint32_t(value >> 24) & 0xFFFFFF00u) >> 8;
            ch.s[c] = uint8_t((value >> 56) & 63);
        }
    }
}

// The word of a step that fills, on its way to its registers.
inline FillWord fill_word(const Shape& g, const Insn& insn, const int8_t wbuf[WBUF_WORDS][ROWS],
                          const Progress& p) {
    NM_INLINE
    FillWord word = {};
    word.fills = p.step < uint32_t(ROWS) && p.more;
    word.transpose = g.transpose;
    word.j = p.step;
    if (word.fills) {
        int8_t read[ROWS];
        NM_PARTITION(read, 0)
        read_weights(p.step, p.next.w_row, g, insn, wbuf, read);
        turn_word(p.step, g.transpose, read, word.turned);
    }
    return word;
}

// A step of the registers of weights.  `ends`: the pass ends with this step, and the next one's
// weights are taken over.  Bank 0 takes bank 1 as it was before this step, except for its edge.
inline void fill_step(const FillWord& word, bool ends, weight_t weights[2][ROWS][COLS]) {
    NM_INLINE
    if (ends)
        take_over(word, weights[1], weights[0]);
    place(word, weights[1]);
}

// The same words from p.step to `to`, by a CPU.
inline void fill_run(uint32_t to, const Shape& g, const Insn& insn,
                     const int8_t wbuf[WBUF_WORDS][ROWS], const Progress& p,
                     weight_t w[ROWS][COLS]) {
    if (!g.window && to - p.step == uint32_t(ROWS)) {
        fill_block(p.next.w_row, g.transpose, wbuf, w);
        return;
    }
FILL_RUN:
    for (uint32_t j = p.step; j < to; ++j) {
        if (g.window)
            fill_taps(j, p.next.w_row, insn, wbuf, w);
        else
            fill_weights(j, p.next.w_row, g.transpose, wbuf, w);
    }
}

// Weights and parameters of pass p.next, as far as n steps bring them.
template <bool HW>
inline void fill(uint32_t n, const Shape& g, const Insn& insn, const int8_t wbuf[WBUF_WORDS][ROWS],
                 const int8_t pbuf[PBUF_WORDS][ROWS], ComputeState& state, const Progress& p) {
    NM_INLINE
    const bool fills = p.step < uint32_t(ROWS) && p.more;
    const uint32_t end = p.step + n < uint32_t(ROWS) ? p.step + n : uint32_t(ROWS);
    const uint32_t to = HW ? p.step + 1 : end;
    if (HW)
        fill_step(fill_word(g, insn, wbuf, p), p.step + 1 == p.steps, state.weights);
    else if (fills)
        fill_run(to, g, insn, wbuf, p, state.weights[p.bank ^ 1]);
FILL_CHANNELS:
    for (uint32_t k = 0; k < (HW ? 1 : uint32_t(ROWS)); ++k) {
        NM_UNROLL
        const uint32_t j = p.step + k;
        if (fills && j < to && j < 8 && g.last)
            fill_channels(j, p.block.p, pbuf, state.channels.next);
    }
}

} // namespace nm
