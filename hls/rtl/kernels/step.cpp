// SPDX-License-Identifier: Apache-2.0
// The data path of one COMPUTE step as one pipeline: a row through the array, its accumulators and
// the lanes.  Of all columns the first two have inputs and outputs.
#include "nm/array.h"
#include "nm/lanes.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// mode: window, maximum, second beat.  join: byte planes' shift / 8, first pass.
void step(const uint32_t* PORT insn, const Table* PORT table, const uint8_t* PORT mode,
          const uint8_t* PORT join, const int16_t* PORT x, const int16_t* PORT taps,
          const int8_t* PORT w, const int32_t* PORT before, const int32_t* PORT bias,
          const int32_t* PORT m, const uint8_t* PORT s, const int16_t* PORT t,
          const int16_t* PORT u, int32_t* PORT sums, int16_t* PORT q, int32_t* PORT square) {
    constexpr int N = CPU_ROWS;
    int16_t tap[WIN * WIN][COLS] = {};
    weight_t weights[ROWS][COLS] = {};
    int32_t acc[ACC_ROWS][COLS], made[N][COLS] = {}, squares[N][COLS] = {};
    int16_t ts[N][COLS] = {}, us[N][COLS] = {}, results[N][COLS];
    Channels ch = {};
    for (int c = 0; c < 2; ++c) {
        for (int r = 0; r < WIN * WIN; ++r)
            tap[r][c] = taps[r * 2 + c];
        for (int r = 0; r < ROWS; ++r)
            weights[r][c] = weight_t(w[r * 2 + c]);
        acc[0][c] = before[c], ts[0][c] = t[c], us[0][c] = u[c];
        ch.bias[c] = bias[c], ch.m[c] = m[c], ch.s[c] = s[c];
    }
    const Step how = {mode[0] != 0, mode[1] != 0, mode[2] != 0};
    array_row<MACS_PER_DSP == 2>(how, x, tap, weights, made[0]);
    accumulate<HARDWARE>(1, 0, how.max, Join{join[1] ? 0 : -1, 8 * join[0]}, made, acc);
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
#if defined(__SYNTHESIS__)
    epilogue_lanes(made[0], ch, ts[0], us[0], *table, COLS, e, results[0], squares[0]);
#else
    epilogue_rows<N>(made, ch, ts, us, *table, COLS, e, results, squares);
#endif
    for (int c = 0; c < 2; ++c)
        sums[c] = made[0][c], q[c] = results[0][c], square[c] = squares[0][c];
}

#if !defined(__SYNTHESIS__)
void step_draw(bool fresh, uint32_t* insn, void*, void*, void*, void*, void*, void*, void*, void*,
               void*, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}

bool step_cares(const uint32_t* insn, void*, void*, void*, void*, void*, void*, void*, void*, void*,
                void*, void*) {
    return Stat(epilogue_stat(insn_of(insn))) == Stat::MOMENTS;
}
#endif

} // extern "C"
