// SPDX-License-Identifier: Apache-2.0
// Row statistics: the trees over a row, and the scaling of a finished one.
#include "nm/stats.h"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// counted: the columns that enter, less one.
void join_row(const uint8_t* PORT counted, const uint8_t* PORT fresh, const uint8_t* PORT kind,
              const int16_t* PORT q, const int32_t* PORT squares, const int32_t* PORT before,
              int32_t* PORT after) {
    const RowStat row = {before[0], before[1]};
    const RowStat all = join_stat(q, squares, 1 + counted[0], fresh[0], row, Stat(kind[0]));
    after[0] = all.value, after[1] = all.squares;
}

// beat: of the two moments, and the upper half of the product; lower: what its lower half gave.
void scale_row(const uint32_t* PORT insn, const uint8_t* PORT beat, const int32_t* PORT row,
               const int64_t* PORT lower, int64_t* PORT part, int16_t* PORT out) {
    const RowStat r = {row[0], row[1]};
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
    const int64_t made = stat_part(r, beat[0], beat[1], e);
    part[0] = made;
    out[0] = scale_stat(r, beat[0], lower[0], made, e);
}

#if !defined(__SYNTHESIS__)
void scale_row_draw(bool fresh, uint32_t* insn, void*, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}
#endif

} // extern "C"
