// SPDX-License-Identifier: Apache-2.0
// A step of the weights' registers: a word into the next block, and its taking over.
#include "nm/fill.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// w: the block that computes, then the one that is loaded; flags: it ends, there is a next one.
void weight_step(const uint32_t* PORT insn, const uint8_t* PORT j, const uint8_t* PORT flags,
                 const int8_t* PORT word, const int8_t* PORT w, int8_t* PORT next) {
    int8_t wbuf[WBUF_WORDS][ROWS];
    weight_t weights[2][ROWS][COLS];
    // Whatever word is read, it is this one.
    for (int k = 0; k < ROWS; ++k)
        copy_word(word, wbuf[k]);
    for (int k = 0; k < 2 * ROWS * COLS; ++k)
        weights[k / (ROWS * COLS)][k / COLS % ROWS][k % COLS] = weight_t(w[k]);
    const Insn i = insn_of(insn);
    Progress p = {};
    p.step = j[0], p.more = flags[1];
    fill_step(shape_of<HARDWARE>(i), i, wbuf, flags[0], p, weights);
    for (int k = 0; k < 2 * ROWS * COLS; ++k)
        next[k] = int8_t(weights[k / (ROWS * COLS)][k / COLS % ROWS][k % COLS]);
}

#if !defined(__SYNTHESIS__)
// A pass ends after its last word has come, or with it.
void weight_step_draw(bool fresh, uint32_t* insn, uint8_t* j, uint8_t* flags, void*, void*) {
    if (fresh)
        draw_compute(insn);
    *j = uint8_t(below(ROWS + 2));
    flags[0] = flags[0] && *j >= ROWS - 1;
}
#endif

} // extern "C"
