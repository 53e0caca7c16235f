// SPDX-License-Identifier: Apache-2.0
// FETCH: reads the program in order and hands every instruction to its unit's queue.
// In: instructions in DRAM.  Out: three instruction streams, each closed by END.
#include "nm/hls.h"
#include "nm/kernels.h"

namespace nm {

Unit unit_of(Opcode opcode) {
    NM_INLINE
    switch (opcode) {
    case Opcode::LOAD:
        return Unit::LOAD;
    case Opcode::STORE:
        return Unit::STORE;
    default:
        return Unit::COMPUTE;
    }
}

namespace {

static_assert(FETCH_PORT_BYTES % 4 == 0, "a beat must hold whole words of an instruction");

constexpr int BEAT_WORDS = FETCH_PORT_BYTES / 4;
constexpr int BEATS = INSN_WORDS / BEAT_WORDS;

// `sum` adds the words of the instruction, so that a driver can check what was read.
Insn read_insn(const FetchBeat* code, uint32_t index, uint32_t& sum) {
    NM_INLINE
    Insn insn;
    NM_PARTITION(insn.w, 0)
READ_BEATS:
    for (int j = 0; j < BEATS; ++j) {
        NM_PIPELINE(1)
        const FetchBeat beat = code[uint64_t(index) * BEATS + uint64_t(j)];
    READ_WORDS:
        for (int k = 0; k < BEAT_WORDS; ++k) {
            NM_UNROLL
            const uint32_t word = from_bytes(beat.byte[4 * k], beat.byte[4 * k + 1],
                                             beat.byte[4 * k + 2], beat.byte[4 * k + 3]);
            insn.w[j * BEAT_WORDS + k] = word;
            sum += word;
        }
    }
    return insn;
}

} // namespace
} // namespace nm

extern "C" void fetch(const nm::FetchBeat* code, uint32_t count, const volatile uint64_t* now,
                      uint64_t* fingerprint, uint64_t* began, uint32_t* fault, uint32_t* checksum,
                      nm::InsnQueue& to_load, nm::InsnQueue& to_compute, nm::InsnQueue& to_store) {
    using namespace nm;
    // The name is not `program`, a keyword of SystemVerilog, as the tool would rename the register.
    NM_MAXI(code, fetch_port, FETCH_COSIM)
    NM_REGISTER(code)
    NM_REGISTER(count)
    NM_WIRE(now)
    NM_REGISTER(fingerprint)
    NM_REGISTER(began)
    NM_REGISTER(fault)
    NM_REGISTER(checksum)
    NM_REGISTER(return)
    NM_STREAM(to_load)
    NM_STREAM(to_compute)
    NM_STREAM(to_store)
    const Insn end = {};
    uint32_t seen = 0, sum = 0;
    const uint64_t start = read_clock(now);
    // `count` bounds the reads even if END is missing.  A count of 0 makes no reads; a driver uses
    // it to check the fingerprint before it gives this array memory.
INSNS:
    for (uint32_t i = 0; i < count; ++i) {
        NM_TRIPS(1, PROGRAM_AT_MOST)
        const Insn insn = read_insn(code, i, sum);
        const Opcode opcode = Opcode(insn_opcode(insn));
        if (opcode == Opcode::END)
            break;
        if (uint32_t(opcode) > uint32_t(Opcode::COMPUTE)) {
            seen |= FAULT_OPCODE;
            continue;
        }
        const Unit unit = unit_of(opcode);
        if (unit == Unit::LOAD)
            to_load.write(insn);
        else if (unit == Unit::STORE)
            to_store.write(insn);
        else
            to_compute.write(insn);
    }
    to_load.write(end);
    to_compute.write(end);
    to_store.write(end);
    *fingerprint = FINGERPRINT_BITS;
    *began = start;
    *fault = seen;
    *checksum = sum;
}
