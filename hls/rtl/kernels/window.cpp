// SPDX-License-Identifier: Apache-2.0
// The window: its taps and the word of the lines, of one lane; all lanes are alike.
#include "nm/window.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void window_lane(const int16_t* PORT x, const int16_t* PORT lines, const int16_t* PORT taps,
                 int16_t* PORT new_taps, int16_t* PORT new_lines) {
    int16_t line[WIN - 1][LINE_WORDS][LANES], tap[WIN][WIN][LANES] = {}, word[LANES] = {};
    for (int a = 0; a < WIN; ++a)
        for (int b = 0; b < WIN; ++b)
            tap[a][b][0] = taps[a * WIN + b];
    for (int a = 0; a < WIN - 1; ++a)
        line[a][0][0] = lines[a];
    word[0] = x[0];
    shift_in(word, 0, tap, line);
    for (int a = 0; a < WIN; ++a)
        for (int b = 0; b < WIN; ++b)
            new_taps[a * WIN + b] = tap[a][b][0];
    for (int a = 0; a < WIN - 1; ++a)
        new_lines[a] = line[a][0][0];
}

} // extern "C"
