// SPDX-License-Identifier: Apache-2.0
// Small functions that each use one kind of instruction, for the tests of the translator.
// In: four int16, four bytes and two int64.  Out: up to four int32 or one int64.
#include <stdint.h>

#define PORT __restrict
#define SNIPPET(name)                                                                              \
    extern "C" void name(const int16_t* PORT a, const uint8_t* PORT b, const int64_t* PORT c,      \
                         int32_t* PORT out, int64_t* PORT wide)

struct Pair {
    int8_t small;
    int32_t large;
};

SNIPPET(arithmetic) {
    out[0] = a[0] * a[1] - a[2];
    out[1] = (a[0] & a[1]) | (a[2] ^ -a[3]);
    out[2] = a[0] * 5 + (a[1] << 3);
    wide[0] = c[0] * a[0] + c[1];
}

SNIPPET(shifts) {
    const int n = b[0] & 31;
    out[0] = int32_t(uint32_t(a[0]) << n);
    out[1] = int32_t(uint32_t(int32_t(a[1])) >> n);
    out[2] = a[2] * 65536 >> n;
    wide[0] = int64_t(uint64_t(c[0]) >> (b[1] & 63)) ^ (c[1] >> (b[2] & 63));
}

SNIPPET(divisions) {
    out[0] = b[0] / 5 + 1000 * (b[1] % 12);
    out[1] = int32_t(uint16_t(a[0]) / 7u), out[2] = int32_t(uint32_t(c[0]) % 1000u);
}

SNIPPET(rotations) {
    const uint32_t x = uint32_t(c[0]);
    out[0] = int32_t(x << 7 | x >> 25);
    out[1] = int32_t(uint16_t(a[0]) << 16 | uint16_t(a[1]));
}

SNIPPET(comparisons) {
    out[0] = (a[0] < a[1]) + 2 * (b[0] < b[1]) + 4 * (a[2] == a[3]) + 8 * (a[0] >= -7);
    out[1] = (uint64_t(c[0]) > uint64_t(c[1])) + 2 * (c[0] <= c[1]) + 4 * (b[2] != 255);
    out[2] = (a[0] > 3 && b[0] < 9) || !(a[1] > 3 || b[1] == 2);
}

SNIPPET(extremes) {
    out[0] = a[0] < a[1] ? a[0] : a[1];
    out[1] = b[0] > b[1] ? b[0] : b[1];
    out[2] = a[2] < 0 ? -a[2] : a[2];
    out[3] = c[0] > 32767 ? 32767 : c[0] < -32768 ? -32768 : int32_t(c[0]);
}

SNIPPET(widths) {
    out[0] = int8_t(a[0]) + uint8_t(a[1]);
    out[1] = int32_t(uint32_t(c[0]) << 8) >> 8;
    out[2] = (int32_t(uint32_t(c[1]) << 20) >> 26) * int8_t(b[0]);
    wide[0] = int64_t(uint64_t(uint32_t(a[2]))) - uint16_t(a[3]);
}

SNIPPET(choices) {
    switch (b[0] & 7) {
    case 0:
        out[0] = a[0];
        break;
    case 1:
    case 5:
        out[0] = a[1] + a[2];
        break;
    case 3:
        out[0] = -a[3];
        break;
    default:
        out[0] = b[1];
    }
    out[1] = out[2] = a[0];
    if (a[0] > 0) {
        out[1] = a[1];
        if (b[2] == 1)
            return;
        out[1] += 3;
    }
    out[2] = 77;
}

SNIPPET(computed_load) {
    int32_t table[4] = {a[0], a[1], a[2], a[3]};
    out[0] = table[b[0] & 3];
    out[1] = table[(b[0] & 1) * 2 + (b[1] & 1)];
}

SNIPPET(computed_store) {
    int32_t grid[3][4];
    for (int i = 0; i < 12; ++i)
        grid[i / 4][i % 4] = b[i % 4] + i;
    grid[b[0] < 3 ? b[0] : 1][b[1] & 3] = a[0];
    if (a[1] > 0)
        grid[2][b[2] & 3] = a[2];
    for (int k = 0; k < 4; ++k)
        out[k] = grid[0][k] * 3 + grid[1][k] * 5 + grid[2][k];
}

SNIPPET(computed_row) {
    int16_t rows[4][8], picked[8];
    for (int i = 0; i < 32; ++i)
        rows[i / 8][i % 8] = int16_t(a[i % 4] + i);
    for (int k = 0; k < 8; ++k)
        picked[k] = rows[b[0] & 3][k];
    for (int k = 0; k < 8; ++k)
        rows[b[1] & 3][k] = int16_t(picked[k] + 1);
    out[0] = rows[0][0] + rows[1][1], out[1] = rows[2][2] - rows[3][7];
}

SNIPPET(structures) {
    Pair pairs[2] = {{int8_t(b[0]), a[0]}, {int8_t(b[1]), a[1]}};
    const Pair first = pairs[0];
    if (b[2] & 1)
        pairs[0] = pairs[1];
    out[0] = pairs[0].small + pairs[0].large, out[1] = first.large * first.small;
}

SNIPPET(places) {
    int32_t left[2] = {a[0], a[1]}, right[2] = {a[2], a[3]};
    int32_t* side = b[0] & 1 ? left : right;
    side[b[1] & 1] = b[2];
    out[0] = left[0], out[1] = left[1], out[2] = right[0], out[3] = right[1];
}

SNIPPET(bytes) {
    uint32_t word = 0;
    for (int k = 0; k < 4; ++k)
        word |= uint32_t(b[k]) << (8 * k);
    const uint64_t low = uint64_t(c[0]);
    out[0] = int32_t(word), out[1] = int32_t((low >> 20) & 0xfff);
    out[2] = b[0] & 0x3c, out[3] = int32_t(low & 0xffff) * b[3];
}

SNIPPET(trees) {
    int32_t sum = 0, product = 1;
    for (int k = 0; k < 16; ++k)
        sum += a[k % 4] * (k + 1) + b[k % 4];
    for (int k = 0; k < 4; ++k)
        product *= a[k];
    out[0] = sum, out[1] = product;
    out[2] = a[0] * a[1] + a[1] * a[2] + a[2] * a[3] + b[0];
}

#define EACH(act)                                                                                  \
    act(arithmetic) act(shifts) act(divisions) act(rotations) act(comparisons) act(extremes)       \
        act(widths) act(choices) act(computed_load) act(computed_store) act(computed_row)          \
            act(structures) act(places) act(bytes) act(trees)

// All of them at once, as one module.  What a snippet leaves alone is 0.
extern "C" void all_snippets(const int16_t* PORT a, const uint8_t* PORT b, const int64_t* PORT c,
                             int32_t* PORT out, int64_t* PORT wide) {
    int k = 0;
#define ONE(name)                                                                                  \
    {                                                                                              \
        int32_t o[4] = {};                                                                         \
        int64_t w[1] = {};                                                                         \
        name(a, b, c, o, w);                                                                       \
        for (int i = 0; i < 4; ++i)                                                                \
            out[4 * k + i] = o[i];                                                                 \
        wide[k++] = w[0];                                                                          \
    }
    EACH(ONE)
}

// What has no hardware.
SNIPPET(endless) {
    int32_t n = a[0];
    while (n > 3)
        n = n / 2 + a[1];
    out[0] = n;
}

SNIPPET(floating) {
    out[0] = int32_t(float(a[0]) * 0.5f);
}

int32_t kept[4];
SNIPPET(global) {
    out[0] = kept[1] + a[0];
}
