// SPDX-License-Identifier: Apache-2.0
// Row statistics: the trees over a row, and the scaling of a finished one.
#include "nm/stats.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// mode: lanes - 1, first block, kind.
void join_row(const uint8_t* PORT lanes, const uint8_t* PORT fresh, const uint8_t* PORT kind,
              const int16_t* PORT q, const int32_t* PORT squares, const int32_t* PORT before,
              int32_t* PORT after) {
    const RowStat row = {before[0], before[1]};
    const RowStat all = join_stat(q, squares, 1 + lanes[0], fresh[0], row, Stat(kind[0]));
    after[0] = all.value, after[1] = all.squares;
}

void scale_row(const uint32_t* PORT insn, const uint8_t* PORT second, const int32_t* PORT row,
               int16_t* PORT out) {
    const RowStat r = {row[0], row[1]};
    out[0] = scale_stat(r, second[0], decode_epilogue(insn_of(insn)));
}

#if !defined(__SYNTHESIS__)
void scale_row_draw(bool fresh, uint32_t* insn, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}
#endif

} // extern "C"
