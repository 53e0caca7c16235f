// SPDX-License-Identifier: Apache-2.0
// Instructions run in order, none before its tokens have come; each sends its tokens after its work,
// and the counters say what a model of nm/clock.h says.
#include "bench.h"
#include "nm/clock.h"
#include "nm/isa.h"

using namespace nm;

// A unit's two partners: COMPUTE waits for LOAD and STORE.
static unsigned waits(const Insn& i) { return insn_wait_load(i) | insn_wait_store(i) << 1; }
static unsigned signals(const Insn& i) { return insn_signal_load(i) | insn_signal_store(i) << 1; }

static void decode(DUT& dut) {
    Insn i;
    for (int k = 0; k < INSN_WORDS; ++k)
        i.w[k] = dut.insn[k];
    dut.is_end = Opcode(insn_opcode(i)) == Opcode::END;
    dut.waits = waits(i), dut.signals = signals(i);
}

static std::vector<Insn> program() {
    std::vector<Insn> made;
    for (uint64_t k = 0, count = rnd() % 40; k < count; ++k) {
        Insn i = {};
        for (uint32_t& word : i.w)
            word = uint32_t(rnd());
        set_insn_opcode(i, 1 + rnd() % 4);
        made.push_back(i);
    }
    made.push_back(Insn{});
    return made;
}

static void run(DUT& dut, uint64_t& now) {
    const std::vector<Insn> insns = program();
    Counters counters = {0, 0, 0};
    size_t handed = 0, at = 0;
    unsigned got[2] = {0, 0}, due[2] = {0, 0}, sent[2] = {0, 0}, owed[2] = {0, 0};
    uint64_t start = 0, left = 0;
    uint32_t refused = 0;
    bool running = false;
    dut.start = 1;
    for (;;) {
        dut.now = ++now;
        dut.queue_valid = handed < insns.size() && chance(50);
        for (int k = 0; k < INSN_WORDS; ++k)
            dut.queue_data[k] = handed < insns.size() ? insns[handed].w[k] : 0;
        dut.from_valid = rnd() % 4, dut.to_ready = rnd() % 4;
        dut.run_done = running && left == 0;
        dut.refused = running && left == 0 ? refused : uint32_t(rnd());
        decode(dut);
        settle(dut);
        if (dut.queue_valid && dut.queue_ready) {
            EXPECT(at == handed);
            ++handed;
        }
        for (int t = 0; t < 2; ++t) {
            got[t] += dut.from_valid >> t & 1 && dut.from_ready >> t & 1;
            sent[t] += dut.to_valid >> t & 1 && dut.to_ready >> t & 1;
            EXPECT(sent[t] <= owed[t]);
        }
        if (dut.run) {
            const Insn& insn = insns[at];
            for (int t = 0; t < 2; ++t)
                EXPECT(got[t] == (due[t] += waits(insn) >> t & 1));
            for (int t = 0; t < 2; ++t)
                EXPECT(sent[t] == owed[t]);
            start = now, left = rnd() % 50, running = true;
            refused = chance(20) ? uint32_t(1 + rnd() % 3) : 0;
        } else if (running && left > 0) {
            --left;
        } else if (running) {
            count(counters, start, now + 1, refused); // the clock is read in the next cycle
            for (int t = 0; t < 2; ++t)
                owed[t] += signals(insns[at]) >> t & 1;
            running = false, ++at;
        }
        const bool ends = dut.done;
        if (ends) {
            EXPECT(at + 1 == insns.size() && handed == insns.size());
            EXPECT(dut.busy == counters.busy && dut.retired == counters.retired);
            EXPECT(dut.fault == counters.fault && dut.ended == now - 1);
            for (int t = 0; t < 2; ++t)
                EXPECT(sent[t] == owed[t]);
        }
        step(dut);
        dut.start = 0;
        if (ends)
            return;
    }
}

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    uint64_t now = 0;
    while (now < 10 * wanted(argv))
        run(dut, now);
    return passed(now);
}
