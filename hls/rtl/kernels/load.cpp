// SPDX-License-Identifier: Apache-2.0
// LOAD's checks of addresses.
#include "kernels/whole.h"

extern "C" NOT_A_UNIT decltype(load) load;

#if defined(__SYNTHESIS__)
namespace nm {
template <> decltype(load_insn<HARDWARE>) load_insn<HARDWARE>; // without a body
}
#endif

#include "src/load.cpp"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

void load_inside_region(const uint32_t* PORT insn, const uint64_t* PORT limit,
                        uint8_t* PORT inside) {
    inside[0] = load_inside(insn_of(insn), limit[0]);
}

#if !defined(__SYNTHESIS__)
void load_inside_region_draw(bool, uint32_t* insn, uint64_t* limit) {
    draw_load(insn);
    if (coin())
        *limit = below(20000);
    if (below(4) == 0) { // one word that ends at the limit, or one byte before it
        Insn i = insn_of(insn);
        set_load_n2(i, 1), set_load_n1(i, 1), set_load_n0(i, 1), set_load_lane_stride(i, 1);
        *limit = ROWS + below(20000);
        set_load_addr(i, uint32_t(*limit) - ROWS + below(2));
        words_of(i, insn);
    }
}
#endif

} // extern "C"
