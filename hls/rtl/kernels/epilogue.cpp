// SPDX-License-Identifier: Apache-2.0
// One lane of the epilogue: whole, and in its parts.  Of a row's columns the first has inputs.
#include "nm/epilogue.h"

#include "kernels/wrapper.h"

using namespace nm;

namespace {

Channels one_channel(int32_t bias, int32_t m, uint8_t s) {
    Channels ch = {};
    ch.bias[0] = bias, ch.m[0] = m, ch.s[0] = s;
    return ch;
}

// Nobody reads a square under another statistic, and the CPU does not make it.
#if !defined(__SYNTHESIS__)
bool has_squares(const uint32_t* insn) {
    return Stat(epilogue_stat(insn_of(insn))) == Stat::MOMENTS;
}
#endif

} // namespace

extern "C" {

void lane(const uint32_t* PORT insn, const Table* PORT table, const int32_t* PORT acc,
          const int32_t* PORT bias, const int32_t* PORT m, const uint8_t* PORT s,
          const int16_t* PORT t, const int16_t* PORT u, int16_t* PORT q, int32_t* PORT square) {
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
    constexpr int N = LANE_ROWS;
    int32_t sums[N][COLS] = {}, squares[N][COLS] = {};
    int16_t ts[N][COLS] = {}, us[N][COLS] = {}, results[N][COLS];
    sums[0][0] = acc[0], ts[0][0] = t[0], us[0][0] = u[0];
    const Channels ch = one_channel(bias[0], m[0], s[0]);
    epilogue_rows<N>(sums, ch, ts, us, *table, e, results, squares);
    q[0] = results[0][0], square[0] = squares[0][0];
}

void requantize_lane(const uint32_t* PORT insn, const int32_t* PORT acc, const int32_t* PORT bias,
                     const int32_t* PORT m, const uint8_t* PORT s, const int16_t* PORT t,
                     int16_t* PORT x) {
    int32_t sums[COLS] = {};
    int16_t ts[COLS] = {}, xs[COLS];
    sums[0] = acc[0], ts[0] = t[0];
    requantise(sums, one_channel(bias[0], m[0], s[0]), ts, decode_epilogue(insn_of(insn)), xs);
    x[0] = xs[0];
}

void segment_index_lane(const uint32_t* PORT insn, const int16_t* PORT x, int32_t* PORT index) {
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
    const int32_t count = e.seg_cells != 0 ? e.seg_cells : e.seg_count;
    index[0] = segment_index(x[0], e.seg_kind == SegKind::LOG, e.x0, e.seg_shift, count);
}

void apply_segment_lane(const uint64_t* PORT entry, const int16_t* PORT x, int16_t* PORT y) {
    uint64_t entries[COLS] = {};
    int16_t xs[COLS] = {};
    entries[0] = entry[0], xs[0] = x[0];
    apply_segments(entries, xs);
    y[0] = xs[0];
}

void finish_lane(const uint32_t* PORT insn, const int16_t* PORT y, const int16_t* PORT u,
                 int16_t* PORT q, int32_t* PORT square) {
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
    int16_t ys[COLS] = {}, us[COLS] = {}, results[COLS];
    int32_t squares[COLS] = {};
    ys[0] = y[0], us[0] = u[0];
    finish(ys, us, e, results, squares);
    q[0] = results[0], square[0] = squares[0];
}

#if !defined(__SYNTHESIS__)
void lane_draw(bool fresh, uint32_t* insn, void*, void*, void*, void*, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}

bool lane_cares(const uint32_t* insn, void*, void*, void*, void*, void*, void*) {
    return has_squares(insn);
}

void requantize_lane_draw(bool fresh, uint32_t* insn, void*, void*, void*, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}

void segment_index_lane_draw(bool fresh, uint32_t* insn, void*) {
    if (fresh)
        draw_epilogue(insn);
}

void finish_lane_draw(bool fresh, uint32_t* insn, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}

bool finish_lane_cares(const uint32_t* insn, void*, void*) {
    return has_squares(insn);
}
#endif

} // extern "C"
