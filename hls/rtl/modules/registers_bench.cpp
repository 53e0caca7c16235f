// SPDX-License-Identifier: Apache-2.0
// The host's view of a kernel's registers: every byte of an argument can be written and is read
// back, results appear with their valid bit, which a read clears, and ap_ctrl_hs raises interrupts.
// The table of WORDS stands before this text; it is made with the module.
#include "bench.h"

static uint32_t argument(DUT& dut, int word) {
    return reinterpret_cast<const uint32_t*>(&dut.arguments)[word];
}

static void set_result(DUT& dut, int word, uint32_t value) {
    reinterpret_cast<uint32_t*>(&dut.results)[word] = value;
}

static void write(DUT& dut, uint32_t at, uint32_t value, uint32_t strobe = 15) {
    dut.awvalid = 1, dut.awaddr = uint8_t(at), dut.bready = 1;
    dut.wdata = value, dut.wstrb = uint8_t(strobe);
    for (int k = 0;; ++k) {
        EXPECT(k < 20);
        dut.wvalid = chance(50);
        settle(dut);
        const bool address = dut.awvalid && dut.awready, ends = dut.bvalid;
        step(dut);
        if (address)
            dut.awvalid = 0;
        if (ends)
            break;
        if (k > 15)
            dut.wvalid = 1;
    }
    dut.wvalid = 0;
}

static uint32_t read(DUT& dut, uint32_t at) {
    dut.arvalid = 1, dut.araddr = uint8_t(at), dut.rready = 1;
    settle(dut);
    EXPECT(dut.arready);
    step(dut);
    dut.arvalid = 0;
    settle(dut);
    EXPECT(dut.rvalid);
    const uint32_t value = dut.rdata;
    step(dut);
    return value;
}

static void pulse_done(DUT& dut) {
    dut.done = dut.ready = 1;
    settle(dut), step(dut);
    dut.done = dut.ready = 0;
}

static void arguments_and_results(DUT& dut, uint64_t rounds) {
    std::vector<uint32_t> held(64), reported(64);
    for (uint64_t k = 0; k < rounds; ++k) {
        int written = 0, result = 0;
        for (const Word& word : WORDS) {
            if (word.kind == 0) {
                const uint32_t value = uint32_t(rnd()), strobe = rnd() % 16;
                if (chance(50)) {
                    write(dut, word.offset, value, strobe);
                    for (int b = 0; b < 4; ++b)
                        if (strobe >> b & 1)
                            held[written] = (held[written] & ~(255u << 8 * b)) |
                                            (value & 255u << 8 * b);
                }
                EXPECT(argument(dut, written) == held[written]);
                EXPECT(read(dut, word.offset) == held[written]);
                ++written;
            } else if (word.kind == 1) {
                const uint32_t value = uint32_t(rnd());
                set_result(dut, result, value);
                if (chance(50)) {
                    dut.valid = uint8_t(1 << word.report);
                    settle(dut), step(dut);
                    dut.valid = 0;
                    // The other half of 64 bits keeps what `results` holds for it.
                    for (int r = 0, w = 0; w < int(sizeof WORDS / sizeof *WORDS); ++w)
                        if (WORDS[w].kind == 1) {
                            if (WORDS[w].report == word.report)
                                reported[r] = reinterpret_cast<uint32_t*>(&dut.results)[r];
                            ++r;
                        }
                }
                EXPECT(read(dut, word.offset) == reported[result]);
                ++result;
            } else {
                read(dut, word.offset);
                EXPECT(read(dut, word.offset) == 0);
                dut.valid = uint8_t(1 << word.report);
                settle(dut);
                for (int r = 0, w = 0; w < int(sizeof WORDS / sizeof *WORDS); ++w)
                    if (WORDS[w].kind == 1) {
                        if (WORDS[w].report == word.report)
                            reported[r] = reinterpret_cast<uint32_t*>(&dut.results)[r];
                        ++r;
                    }
                step(dut);
                dut.valid = 0;
                EXPECT(read(dut, word.offset) == 1);
                EXPECT(read(dut, word.offset) == 0);
            }
        }
    }
}

static void protocol(DUT& dut) {
    dut.idle = 1;
    EXPECT(read(dut, 0x00) == 4);
    write(dut, 0x04, 1), write(dut, 0x08, 1);
    write(dut, 0x00, 1);
    EXPECT(dut.start);
    dut.idle = 0;
    EXPECT(read(dut, 0x00) == 1 && !dut.irq);
    pulse_done(dut);
    settle(dut);
    EXPECT(!dut.start && dut.irq);
    EXPECT(read(dut, 0x00) == 2 && read(dut, 0x00) == 0);
    EXPECT(read(dut, 0x0c) == 1);
    write(dut, 0x0c, 1);
    EXPECT(!dut.irq && read(dut, 0x0c) == 0);
    write(dut, 0x00, 0x81);
    pulse_done(dut);
    settle(dut);
    EXPECT(dut.start); // restarts by itself
    write(dut, 0x00, 0);
}

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    protocol(dut);
    constexpr uint64_t COUNT = sizeof WORDS / sizeof *WORDS;
    arguments_and_results(dut, wanted(argv) / COUNT + 1);
    return passed(wanted(argv));
}
