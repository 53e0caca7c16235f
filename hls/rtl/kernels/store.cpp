// SPDX-License-Identifier: Apache-2.0
// STORE's checks of addresses.
#include "kernels/whole.h"

extern "C" NOT_A_UNIT decltype(store) store;

#if defined(__SYNTHESIS__)
namespace nm {
template <> decltype(store_insn<HARDWARE>) store_insn<HARDWARE>; // without a body
}
#endif

#include "src/store.cpp"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void store_inside_region(const uint32_t* PORT insn, const uint64_t* PORT limit,
                         uint8_t* PORT inside) {
    inside[0] = store_inside(insn_of(insn), limit[0]);
}

void store_alignment(const uint32_t* PORT insn, uint8_t* PORT aligned) {
    aligned[0] = store_aligned(insn_of(insn));
}

#if !defined(__SYNTHESIS__)
static void draw_store(uint32_t* words) {
    Insn i = insn_of(words);
    set_store_n2(i, below(5)), set_store_n1(i, below(50)), set_store_n0(i, below(50));
    if (coin()) {
        set_store_s2(i, 64 * COLS), set_store_s1(i, 16 * COLS), set_store_s0(i, COLS);
        set_store_addr(i, COLS * below(1000));
    }
    words_of(i, words);
}

void store_inside_region_draw(bool, uint32_t* insn, uint64_t* limit) {
    draw_store(insn);
    if (coin())
        *limit = below(20000);
}

void store_alignment_draw(bool, uint32_t* insn) {
    draw_store(insn);
}
#endif

} // extern "C"
