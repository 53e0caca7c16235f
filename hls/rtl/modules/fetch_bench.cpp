// SPDX-License-Identifier: Apache-2.0
// fetch_loop against the kernel's own fetch: the queues hold the same instructions, and checksum,
// faults and the number of instructions read agree.
#include "bench.h"
#include "src/fetch.cpp"

using namespace nm;

constexpr int PORT_BYTES = FETCH_PORT_BYTES, MOST = 60;

static Insn of(const WData* words) {
    Insn i;
    for (int k = 0; k < INSN_WORDS; ++k)
        i.w[k] = words[k];
    return i;
}

static void decode(DUT& dut) {
    const Opcode opcode = Opcode(insn_opcode(of(dut.insn)));
    dut.is_end = opcode == Opcode::END;
    dut.is_unknown = uint32_t(opcode) > uint32_t(Opcode::COMPUTE);
    dut.unit = uint8_t(1 << int(unit_of(opcode)));
}

static void run(DUT& dut) {
    static Insn program[MOST];
    const uint32_t count = rnd() % (MOST / 2); // a queue holds what all may be
    for (Insn& i : program) {
        for (uint32_t& word : i.w)
            word = uint32_t(rnd());
        set_insn_opcode(i, chance(3) ? 0 : chance(5) ? 5 + rnd() % 11 : 1 + rnd() % 4);
    }
    InsnQueue load, compute, store;
    uint64_t now = rnd() >> 1, fingerprint, began;
    uint32_t fault, checksum;
    fetch(reinterpret_cast<const FetchBeat*>(program), count, &now, &fingerprint, &began, &fault,
          &checksum, load, compute, store);
    InsnQueue* const queues[3] = {&load, &compute, &store};
    uint64_t beats = 0, next = 0;
    dut.start = 1, dut.code = 4096, dut.count = count, dut.now = now;
    for (int k = 0;; ++k) {
        EXPECT(k < 100000);
        dut.request_ready = chance(50), dut.to_ready = rnd() % 8;
        dut.data_valid = beats > 0 && chance(80);
        if (beats > 0)
            memcpy(&dut.data, reinterpret_cast<uint8_t*>(program) + next, PORT_BYTES);
        decode(dut);
        settle(dut);
        if (dut.request_valid && dut.request_ready) {
            EXPECT(beats == 0);
            next = dut.request_address - 4096, beats = dut.request_beats;
        }
        if (dut.data_valid && dut.data_ready)
            next += PORT_BYTES, --beats;
        for (int q = 0; q < 3; ++q)
            if (dut.to_valid >> q & 1 && dut.to_ready >> q & 1) {
                const Insn expected = queues[q]->read(), found = of(dut.to_data);
                EXPECT(memcmp(&expected, &found, sizeof found) == 0);
            }
        const bool ends = dut.done;
        step(dut);
        dut.start = 0;
        if (ends)
            break;
    }
    for (InsnQueue* queue : queues)
        EXPECT(queue->empty());
    EXPECT(dut.checksum == checksum && dut.fault == fault && dut.began == began);
}

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    const uint64_t programs = wanted(argv) / 10; // of 15 instructions
    for (uint64_t k = 0; k < programs; ++k)
        run(dut);
    return passed(15 * programs);
}
