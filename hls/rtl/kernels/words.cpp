// SPDX-License-Identifier: Apache-2.0
// A word from DRAM: alignment and checksum; and a row of an operand from its byte planes.
#include "nm/words.h"
#include "nm/lanes.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void align_word(const uint8_t* PORT skip, const uint8_t* PORT kept, const int8_t* PORT word,
                uint8_t* PORT keeps, int8_t* PORT out, uint32_t* PORT sum) {
    uint8_t window[LOAD_PORT_BYTES + ROWS] = {};
    int8_t bytes[ROWS];
    for (int k = 0; k < LOAD_PORT_BYTES; ++k)
        window[k] = kept[k];
    copy_word(word, bytes);
    if (skip[0] != 0)
        align(skip[0], window, bytes);
    for (int k = 0; k < LOAD_PORT_BYTES; ++k)
        keeps[k] = window[k];
    copy_word(bytes, out);
    sum[0] = word_sum(bytes);
}

void operand_row(const uint8_t* PORT wide, const int8_t* PORT low, const int8_t* PORT high,
                 int16_t* PORT out) {
    int8_t low_rows[1][ROWS], high_rows[1][ROWS];
    copy_word(low, low_rows[0]);
    copy_word(high, high_rows[0]);
    read_operand(0, wide[0], low_rows, high_rows, out);
}

} // extern "C"
