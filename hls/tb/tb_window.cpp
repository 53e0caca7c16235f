// SPDX-License-Identifier: Apache-2.0
// The shift window and its line buffers, fed word by word, against direct indexing of the image.
#include "nm/array.h"
#include "tb.h"

namespace {

using namespace nm;

constexpr int HEIGHT = 11, WIDEST = 13, WIDTHS[] = {WIDEST, LINE_REACH, WIN, 3, 2, 1};

void image(tb::Check& check, tb::Random& random, int width, int win_h, int win_w, bool max) {
    static int16_t x[HEIGHT][WIDEST][LANES];
    static int8_t taps8[WIN][WIN][COLS];
    static weight_t w[ROWS][COLS];
    static Window window; // stale lines of the image before must not matter
    for (auto& row : x)
        for (auto& word : row)
            for (int16_t& v : word)
                v = max ? int16_t(random.range(-32640, 32639)) : random.byte();
    for (int k = 0; k < WIN * WIN; ++k)
        for (int c = 0; c < COLS; ++c) {
            const int a = k / WIN - (WIN - win_h), b = k % WIN - (WIN - win_w);
            const int8_t v = a >= 0 && b >= 0 ? random.byte() : int8_t(0);
            w[k][c] = weight_t(v);
            if (a >= 0 && b >= 0)
                taps8[a][b][c] = v;
        }
    TapWeights taps;
    read_taps(w, max, taps);
    for (int i = 0; i < HEIGHT; ++i)
        for (int j = 0; j < width; ++j) {
            shift_in(x[i][j], uint32_t(j), window.taps, window.lines);
            if (i < win_h - 1 || j < win_w - 1)
                continue;
            int32_t found[COLS];
            if (max)
                window_max(window.taps, taps, found);
            else
                window_sum(window.taps, taps, found);
            for (int c = 0; c < COLS; ++c) {
                int32_t sum = 0, best = MAX_START;
                for (int a = 0; a < win_h; ++a)
                    for (int b = 0; b < win_w; ++b) {
                        const int32_t v = x[i - win_h + 1 + a][j - win_w + 1 + b][c];
                        sum += v * taps8[a][b][c];
                        best = taps8[a][b][c] != 0 && v > best ? v : best;
                    }
                check.equal(found[c], max ? best : sum, max ? "window maximum" : "window sum");
            }
        }
}

// Steps of the device between two words of a column of the line buffers, without second beats.
void reach(tb::Check& check, uint32_t width, uint32_t win_h, bool wide) {
    Insn insn = {};
    set_compute_mode(insn, uint32_t(Mode::WINDOW)), set_compute_reduce(insn, wide ? 1 : 0);
    set_compute_x_wide(insn, wide), set_compute_win_h(insn, win_h), set_compute_win_w(insn, 1);
    set_compute_stride_h(insn, 1), set_compute_stride_w(insn, 1);
    set_compute_m1(insn, HEIGHT), set_compute_m0(insn, width);
    const Shape g = shape_of(insn);
    Progress p = before_passes(g, insn);
    p.phase.start(insn);
    uint32_t written[WIDEST] = {}, words = 0, step = 0;
    for (; step < (HEIGHT + win_h - 1) * g.line * g.reads; ++step) {
        if (p.x.i0 < width && (g.reads == 1 || p.high_next)) {
            const uint32_t since = step - written[p.x.i0];
            check.equal(words >= width && since < uint32_t(LINE_REACH), 0, "a word read too early");
            written[p.x.i0] = step;
            ++words;
        }
        next_word(g, insn, p);
    }
    check.equal(words, (HEIGHT + win_h - 1) * width, "words of a pass");
    check.equal(g.busy, step + (g.two_beats ? g.rows : 0), "steps of a pass");
}

} // namespace

int main() {
    tb::Check check;
    tb::Random random(2);
    for (int h = 1; h <= WIN; ++h)
        for (int w = 1; w <= WIN; ++w)
            for (int max = 0; max < 2; ++max)
                for (int width : WIDTHS)
                    if (width >= w)
                        image(check, random, width, h, w, max != 0);
    for (int width : WIDTHS)
        for (uint32_t h = 2; h <= uint32_t(WIN); ++h)
            for (int wide = 0; wide < 2; ++wide)
                reach(check, uint32_t(width), h, wide != 0);
    return check.result("window");
}
