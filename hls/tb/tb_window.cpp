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
    static Window window, device; // stale lines of the image before must not matter
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
            shift_in<false>(x[i][j], uint32_t(j), uint32_t(width), window.taps, window.lines);
            // A word of LINE_REACH - 1 steps ago or less is not in the device's memories yet.
            if (width < LINE_REACH)
                for (auto& line : device.lines)
                    for (int16_t& v : line[j])
                        v = random.byte();
            shift_in<true>(x[i][j], uint32_t(j), uint32_t(width), device.taps, device.lines);
            if (i < win_h - 1 || j < win_w - 1)
                continue;
            int32_t found[COLS], again[COLS];
            if (max)
                window_max(window.taps, taps, found), window_max(device.taps, taps, again);
            else
                window_sum(window.taps, taps, found), window_sum(device.taps, taps, again);
            check.same(found, again, sizeof found, "window of the device");
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
    return check.result("window");
}
