// SPDX-License-Identifier: Apache-2.0
// A word of weights, turned for its registers; and a step of these: placing it, taking them over.
#include "nm/fill.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// j: the step of the fill.  word: what WBUF holds there, wherever that is.
void weight_word(const uint32_t* PORT insn, const uint8_t* PORT kind, const uint8_t* PORT j,
                 const int8_t* PORT word, int8_t* PORT turned) {
    int8_t wbuf[WBUF_WORDS][ROWS];
    for (int k = 0; k < ROWS; ++k)
        copy_word(word, wbuf[k]);
    Shape g = {};
    g.window = kind[0], g.pointwise = kind[1], g.taps = kind[0] && !kind[1], g.max = kind[2];
    g.transpose = kind[3];
    int8_t read[ROWS];
    read_weights(j[0], 0, g, insn_of(insn), wbuf, read);
    turn_word(j[0], g.transpose, read, turned);
}

// flags: the pass ends, a word comes, it becomes a column.
// w: the block that computes, then the one that is loaded.
void weight_step(const uint8_t* PORT j, const uint8_t* PORT flags, const int8_t* PORT turned,
                 const int8_t* PORT w, int8_t* PORT next) {
    weight_t weights[2][ROWS][COLS];
    for (int k = 0; k < 2 * ROWS * COLS; ++k)
        weights[k / (ROWS * COLS)][k / COLS % ROWS][k % COLS] = weight_t(w[k]);
    FillWord word = {};
    word.fills = flags[1], word.transpose = flags[2], word.j = j[0];
    for (int c = 0; c < ROWS; ++c)
        word.turned[c] = turned[c];
    fill_step(word, flags[0], weights);
    for (int k = 0; k < 2 * ROWS * COLS; ++k)
        next[k] = int8_t(weights[k / (ROWS * COLS)][k / COLS % ROWS][k % COLS]);
}

#if !defined(__SYNTHESIS__)
void weight_word_draw(bool fresh, uint32_t* insn, uint8_t* kind, uint8_t* j, void*) {
    if (fresh) {
        draw_compute(insn);
        kind[1] = kind[0] && kind[1], kind[3] = kind[3] && !kind[0];
    }
    *j = uint8_t(below(ROWS));
}

// A pass ends after its last word has come, or with it.
void weight_step_draw(bool, uint8_t* j, uint8_t* flags, void*, void*) {
    flags[0] = flags[0] && (!flags[1] || *j == ROWS - 1);
}
#endif

} // extern "C"
