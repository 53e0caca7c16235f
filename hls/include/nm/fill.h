// SPDX-License-Identifier: Apache-2.0
// Fills the array's registers: weights in their three orders, and the channels' parameters.
// In: words of WBUF and PBUF.  Out: one bank of weights, one of channels.
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
// diagonal: its pass is a matrix product.
inline void read_weights(uint32_t j, uint32_t w_row, const Shape& g, const Insn& insn,
                         const int8_t wbuf[WBUF_WORDS][ROWS], int8_t word[ROWS]) {
    NM_INLINE
    const uint32_t a = j / WIN + compute_win_h(insn), b = j % WIN + compute_win_w(insn);
    const bool tap = a >= uint32_t(WIN) && b >= uint32_t(WIN) && j < uint32_t(WIN * WIN);
    const uint32_t at = tap ? (a - WIN) * compute_win_w(insn) + (b - WIN) : 0;
    int8_t all[ROWS];
    NM_PARTITION(all, 0)
    copy_word(wbuf[w_row + (g.window ? at : j)], all);
READ_WEIGHT:
    for (int c = 0; c < COLS; ++c) {
        NM_UNROLL
        const bool mine = g.pointwise ? j == uint32_t(c) : !g.window || tap;
        word[c] = mine ? all[c] : int8_t(0);
    }
}

// Puts a word into row j of the registers.  An index that is computed would make a memory of them;
// this way each row has an enable.
inline void place(uint32_t j, const int8_t word[ROWS], weight_t w[ROWS][COLS]) {
    NM_INLINE
PLACE_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
    PLACE_C:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            w[r][c] = j == uint32_t(r) ? weight_t(word[c]) : w[r][c];
        }
    }
}

// Row r of the registers, column c; of the last row the word that is on its way to it.
inline int32_t latest(bool fills, const int8_t word[ROWS], const weight_t w[ROWS][COLS], int r,
                      int c) {
    NM_INLINE
    return fills && r == ROWS - 1 ? int32_t(word[c]) : int32_t(w[r][c]);
}

// All registers of `from` into those of `to`, transposed or not: the one choice that a PE has.
inline void take_over(bool fills, bool transpose, const int8_t word[ROWS],
                      const weight_t from[ROWS][COLS], weight_t to[ROWS][COLS]) {
    NM_INLINE
TAKE_R:
    for (int r = 0; r < ROWS; ++r) {
        NM_UNROLL
    TAKE_C:
        for (int c = 0; c < COLS; ++c) {
            NM_UNROLL
            const int32_t turned = latest(fills, word, from, c, r);
            const int32_t plain = latest(fills, word, from, r, c);
            to[r][c] = weight_t(choose(transpose, turned, plain));
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
    const bool tap = a >= 0 && b >= 0 && j < uint32_t(WIN * WIN);
    const uint32_t row = tap ? uint32_t(a) * compute_win_w(insn) + uint32_t(b) : 0;
    int8_t word[ROWS];
    copy_word(wbuf[w_row + row], word);
FILL_TAP:
    for (int c = 0; c < COLS; ++c)
        w[j][c] = weight_t(tap ? word[c] : int8_t(0));
}

// Word j of a parameter row, into one bank of the lanes' registers.
inline void fill_channels(uint32_t j, uint32_t p_row, uint32_t bank,
                          const int8_t pbuf[PBUF_WORDS][ROWS], ChannelBanks& ch) {
    NM_INLINE
CHANNELS:
    for (int e = 0; e < PER_WORD; ++e) {
        NM_UNROLL
        const uint64_t value = parameter(pbuf[p_row * 8 + j], e);
        const uint32_t c = j * PER_WORD + uint32_t(e);
        ch.bias[bank][c] = int32_t(uint32_t(value));
        ch.m[bank][c] = int32_t(uint32_t(value >> 24) & 0xFFFFFF00u) >> 8;
        ch.s[bank][c] = uint8_t((value >> 56) & 63);
    }
}

// The device's next word of weights (and of parameters), in the steps of pass p.now.  `ends`: the
// pass ends with this step, and the next one's weights are taken over.
inline void fill_step(const Shape& g, const Insn& insn, const int8_t wbuf[WBUF_WORDS][ROWS],
                      bool ends, const Progress& p, weight_t weights[2][ROWS][COLS]) {
    NM_INLINE
    int8_t word[ROWS] = {};
    NM_PARTITION(word, 0)
    const bool fills = p.step < uint32_t(ROWS) && p.more;
    if (fills)
        read_weights(p.step, p.next.w_row, g, insn, wbuf, word);
    // Bank 0 takes bank 1 as it was before this step, except for its last row.
    if (ends)
        take_over(fills, g.transpose, word, weights[1], weights[0]);
    if (fills)
        place(p.step, word, weights[1]);
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
        fill_step(g, insn, wbuf, p.step + 1 == p.steps, p, state.weights);
    else if (fills)
        fill_run(to, g, insn, wbuf, p, state.weights[p.bank ^ 1]);
    const uint32_t p_row = compute_p_base(insn) + p.next.nb * compute_p_nb(insn);
FILL_CHANNELS:
    for (uint32_t k = 0; k < (HW ? 1 : uint32_t(ROWS)); ++k) {
        NM_UNROLL
        const uint32_t j = p.step + k;
        if (fills && j < to && j < 8 && g.last)
            fill_channels(j, p_row, p.bank ^ 1, pbuf, state.channels);
    }
}

} // namespace nm
