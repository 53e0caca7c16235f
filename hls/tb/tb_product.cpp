// SPDX-License-Identifier: Apache-2.0
// Products by digits, as the device makes them, against plain ones.
#include "nm/product.h"
#include "nm/walk.h"
#include "tb.h"

namespace {

using namespace nm;

// Mostly random bits, often an extreme or a small number.
uint32_t draw(tb::Random& random, int bits) {
    const uint32_t most = bits == 32 ? 0xffffffffu : (1u << bits) - 1;
    const uint32_t extremes[] = {0, 1, 2, most, most - 1, most / 2, most / 2 + 1, 16};
    const uint32_t kind = random.next() % 4;
    const uint32_t value =
        kind == 0 ? extremes[random.next() % 8] : random.next() ^ random.next() << 1;
    return (kind == 1 ? value % 64 : value) & most;
}

void reaches(tb::Check& check, tb::Random& random) {
    uint32_t count[4];
    int32_t step[4];
    for (int n = 0; n < 4; ++n)
        count[n] = draw(random, 16), step[n] = int32_t(draw(random, 32));
    const int64_t addr = draw(random, 32);
    count[3] %= 256;
    const Reach plain = reach_of<false, 16, 16, 16, 8>(addr, count, step);
    const Reach made = reach_of<true, 16, 16, 16, 8>(addr, count, step);
    check.equal(made.low, plain.low, "lowest address");
    check.equal(made.high, plain.high, "highest address");
}

// Widths of a window stay below 2^16: no line of x is longer.
void shapes(tb::Check& check, tb::Random& random) {
    Insn insn = {};
    set_compute_mode(insn, random.next() % 2);
    set_compute_reduce(insn, random.next() % 2);
    set_compute_x_wide(insn, random.next() % 2);
    set_compute_win_h(insn, draw(random, 4));
    set_compute_win_w(insn, draw(random, 4));
    set_compute_m1(insn, draw(random, 16));
    set_compute_m0(insn, draw(random, 16));
    set_compute_stride_h(insn, draw(random, 8));
    set_compute_stride_w(insn, draw(random, 8));
    const Shape plain = shape_of<false>(insn), digits = shape_of<true>(insn);
    check.equal(digits.rows, plain.rows, "rows");
    check.equal(digits.width, plain.width, "width");
    check.equal(digits.pointwise, plain.pointwise, "pointwise");
    if (plain.width < (1u << 16)) {
        check.equal(digits.steps, plain.steps, "steps");
    }
}

} // namespace

int main() {
    tb::Check check;
    tb::Random random(5);
    for (int i = 0; i < 20000; ++i) {
        reaches(check, random);
        shapes(check, random);
    }
    return check.result("product");
}
