// SPDX-License-Identifier: Apache-2.0
// What FETCH reads out of an instruction.
#include "kernels/whole.h"

extern "C" NOT_A_UNIT decltype(fetch) fetch;

#include "src/fetch.cpp"

#include "kernels/wrapper.h"

using namespace nm;

extern "C" {

// facts: it is END, no unit knows it, and the unit's number.
void fetch_decode(const uint32_t* PORT insn, uint8_t* PORT facts) {
    const Opcode opcode = Opcode(insn_opcode(insn_of(insn)));
    facts[0] = opcode == Opcode::END;
    facts[1] = uint32_t(opcode) > uint32_t(Opcode::COMPUTE);
    facts[2] = uint8_t(unit_of(opcode));
}

} // extern "C"
