// SPDX-License-Identifier: Apache-2.0
// One lane of the epilogue, whole and in its parts, and where its parameters come from.
#include "nm/epilogue.h"
#include "nm/fill.h"

#include "kernels/wrapper.h"

using namespace nm;

static_assert(sizeof(LaneConfig) == 40, "the unit's table has the members of LaneConfig");

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

// What an EPILOGUE sets for all lanes, once an instruction.
void lanes_setting(const uint32_t* PORT insn, LaneConfig* PORT config) {
    *config = decode_epilogue(insn_of(insn)).lane;
}

// kind: the table's, and whether it has a map.  A CPU takes both from the instruction.
void lane(const uint32_t* PORT insn, const LaneConfig* PORT config, const uint8_t* PORT kind,
          const Table* PORT table, const uint8_t* PORT counts, const int32_t* PORT acc,
          const int32_t* PORT bias, const int32_t* PORT m, const uint8_t* PORT s,
          const int16_t* PORT t, const int16_t* PORT u, int16_t* PORT q, int32_t* PORT square) {
    constexpr int N = CPU_ROWS;
    int32_t sums[N][COLS] = {}, squares[N][COLS] = {};
    int16_t ts[N][COLS] = {}, us[N][COLS] = {}, results[N][COLS];
    sums[0][0] = acc[0], ts[0][0] = t[0], us[0][0] = u[0];
    const Channels ch = one_channel(bias[0], m[0], s[0]);
#if defined(__SYNTHESIS__)
    EpilogueConfig e = {};
    e.lane = *config, e.seg_kind = SegKind(kind[0]), e.seg_cells = kind[1];
    epilogue_lanes(sums[0], ch, ts[0], us[0], *table, counts[0], e, results[0], squares[0]);
#else
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
    epilogue_rows<N>(sums, ch, ts, us, *table, counts[0], e, results, squares);
#endif
    q[0] = results[0][0], square[0] = squares[0][0];
}

// The device's form of each part is held against the plain one, which a CPU takes.
void requantize_part(const uint32_t* PORT insn, const int32_t* PORT acc, const int32_t* PORT bias,
                     const int32_t* PORT m, const uint8_t* PORT s, const int16_t* PORT t,
                     int16_t* PORT x) {
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
#if defined(__SYNTHESIS__)
    x[0] = requantise_lane(acc[0], bias[0], m[0], s[0], t[0], e.lane);
#else
    int32_t sums[COLS] = {};
    int16_t ts[COLS] = {}, xs[COLS];
    sums[0] = acc[0], ts[0] = t[0];
    requantise(sums, one_channel(bias[0], m[0], s[0]), ts, e, xs);
    x[0] = xs[0];
#endif
}

void index_part(const uint32_t* PORT insn, const int16_t* PORT x, uint32_t* PORT index) {
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
#if defined(__SYNTHESIS__)
    index[0] = index_lane(x[0], e.lane);
#else
    const int32_t count = e.seg_cells != 0 ? e.seg_cells : e.seg_count;
    index[0] = uint32_t(segment_index(x[0], e.seg_kind == SegKind::LOG, e.x0, e.seg_shift, count));
#endif
}

void segment_part(const uint64_t* PORT entry, const int16_t* PORT x, int16_t* PORT y) {
#if defined(__SYNTHESIS__)
    y[0] = segment_lane(entry[0], x[0]);
#else
    uint64_t entries[COLS] = {};
    int16_t xs[COLS] = {};
    entries[0] = entry[0], xs[0] = x[0];
    apply_segments(entries, xs);
    y[0] = xs[0];
#endif
}

void finish_part(const uint32_t* PORT insn, const uint8_t* PORT counts, const int16_t* PORT y,
                 const int16_t* PORT u, int16_t* PORT q, int32_t* PORT square) {
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
#if defined(__SYNTHESIS__)
    int32_t made = 0;
    q[0] = finish_lane(y[0], u[0], counts[0], e.lane, made);
    square[0] = made;
#else
    int16_t ys[COLS] = {}, us[COLS] = {}, results[COLS];
    int32_t squares[COLS] = {};
    ys[0] = y[0], us[0] = u[0];
    finish(ys, us, counts[0], e, results, squares);
    q[0] = results[0], square[0] = squares[0];
#endif
}

// A parameter's 8 bytes of a word, as a segment and as cells of the map.
void table_word(const int8_t* PORT word, const uint8_t* PORT entry, const uint16_t* PORT count,
                uint64_t* PORT segment, uint8_t* PORT cells) {
    const uint64_t value = parameter(word, entry[0] % PER_WORD);
    segment[0] = value;
    for (int k = 0; k < 8; ++k)
        cells[k] = map_cell(value, k, count[0]);
}

// A parameter word into the channels of the next block.
void channel_fill(const uint8_t* PORT j, const int8_t* PORT word, const int32_t* PORT bias,
                  const int32_t* PORT m, const uint8_t* PORT s, int32_t* PORT next_bias,
                  int32_t* PORT next_m, uint8_t* PORT next_s) {
    int8_t pbuf[PBUF_WORDS][ROWS];
    for (int k = 0; k < 8; ++k)
        copy_word(word, pbuf[k]);
    Channels ch;
    for (int c = 0; c < COLS; ++c)
        ch.bias[c] = bias[c], ch.m[c] = m[c], ch.s[c] = s[c];
    fill_channels(j[0], 0, pbuf, ch);
    for (int c = 0; c < COLS; ++c)
        next_bias[c] = ch.bias[c], next_m[c] = int32_t(ch.m[c]), next_s[c] = ch.s[c];
}

#if !defined(__SYNTHESIS__)
// Tables hold no more segments than an instruction says, cells are limited when they are stored.
void lanes_setting_draw(bool, uint32_t* insn) {
    draw_epilogue(insn);
}

void lane_draw(bool fresh, uint32_t* insn, LaneConfig* config, uint8_t* kind, void*, void*, void*,
               void*, void*, void*, void*) {
    if (!fresh)
        return;
    draw_epilogue(insn);
    const EpilogueConfig e = decode_epilogue(insn_of(insn));
    *config = e.lane;
    kind[0] = uint8_t(e.seg_kind), kind[1] = e.seg_cells != 0;
}

bool lane_cares(const uint32_t* insn, void*, void*, void*, void*, void*, void*, void*, void*,
                void*) {
    return has_squares(insn);
}

void requantize_part_draw(bool fresh, uint32_t* insn, void*, void*, void*, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}

void index_part_draw(bool fresh, uint32_t* insn, void*) {
    if (fresh)
        draw_epilogue(insn);
}

void finish_part_draw(bool fresh, uint32_t* insn, void*, void*, void*) {
    if (fresh)
        draw_epilogue(insn);
}

bool finish_part_cares(const uint32_t* insn, void*, void*, void*) {
    return has_squares(insn);
}

void table_word_draw(bool fresh, void*, void*, uint16_t* count) {
    if (fresh)
        *count = uint16_t(1 + below(SEG_ENTRIES));
}

void channel_fill_draw(bool, uint8_t* j, void*, void*, void*, void*) {
    *j = uint8_t(below(8));
}
#endif

} // extern "C"
