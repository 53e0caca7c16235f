// SPDX-License-Identifier: Apache-2.0
// A word from DRAM: alignment and checksum; and a row of an operand from its byte planes.
#include "nm/words.h"
#include "nm/lanes.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void align_word(const uint8_t* PORT skip, const uint8_t* PORT bytes, int8_t* PORT out,
                uint32_t* PORT sum) {
    Arrived arrived;
    for (int k = 0; k < LOAD_PORT_BYTES + ROWS; ++k)
        arrived.byte[k] = bytes[k];
    int8_t word[ROWS];
    align(skip[0], arrived, word);
    copy_word(word, out);
    sum[0] = word_sum(word);
}

void operand_row(const uint8_t* PORT wide, const int8_t* PORT low, const int8_t* PORT high,
                 int16_t* PORT out) {
    int8_t low_rows[1][ROWS], high_rows[1][ROWS];
    copy_word(low, low_rows[0]);
    copy_word(high, high_rows[0]);
    read_operand(0, wide[0], low_rows, high_rows, out);
}

} // extern "C"
