// SPDX-License-Identifier: Apache-2.0
// One word into the registers of a bank of weights, in any of its orders.
#include "nm/fill.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void fill_bank(const uint32_t* PORT insn, const uint8_t* PORT j, const uint8_t* PORT mode,
               const int8_t* PORT word, const int8_t* PORT w, int8_t* PORT next) {
    int8_t wbuf[WBUF_WORDS][ROWS];
    weight_t weights[ROWS][COLS];
    // Whatever word is read, it is this one.
    for (int k = 0; k < ROWS; ++k)
        copy_word(word, wbuf[k]);
    for (int k = 0; k < ROWS * COLS; ++k)
        weights[k / COLS][k % COLS] = weight_t(w[k]);
    if (mode[0])
        fill_taps(j[0], 0, insn_of(insn), wbuf, weights);
    else
        fill_weights(j[0], 0, mode[1], wbuf, weights);
    for (int k = 0; k < ROWS * COLS; ++k)
        next[k] = int8_t(weights[k / COLS][k % COLS]);
}

#if !defined(__SYNTHESIS__)
void fill_bank_draw(bool fresh, uint32_t* insn, uint8_t* j, void*, void*, void*) {
    if (fresh)
        draw_compute(insn);
    *j = uint8_t(below(ROWS));
}
#endif

} // extern "C"
