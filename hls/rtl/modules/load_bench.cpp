// SPDX-License-Identifier: Apache-2.0
// load_loops against the kernel's own load_insn: every buffer holds the same bytes
// after random LOADs, and each word's beats have been read before it is written.
#include "bench.h"
#include "src/load.cpp"

using namespace nm;

constexpr int PORT_BYTES = LOAD_PORT_BYTES, SPAN = 1 << 16;

static int8_t words[9][65536][ROWS]; // a buffer each; [8] is the hardware's
static uint8_t dram[SPAN];

static Insn random_load() {
    Insn i = {};
    const bool gather = chance(20), flat = chance(40);
    const uint32_t n0 = rnd() % 12, n1 = rnd() % 6;
    set_load_dest(i, uint32_t(Buffer::IBUF));
    set_load_pad_value(i, int32_t(rnd() % 256) - 128);
    set_load_dst(i, rnd() % 1000);
    set_load_n2(i, rnd() % 4), set_load_n1(i, n1), set_load_n0(i, n0);
    set_load_s0(i, flat || chance(50) ? ROWS : int32_t(rnd() % 200) - 100);
    set_load_s1(i, flat ? int32_t(n0 * ROWS) : int32_t(rnd() % 2000) - 1000);
    set_load_s2(i, int32_t(rnd() % 4000) - 2000);
    set_load_lane_stride(i, gather ? int32_t(rnd() % 100) - 50 : 1);
    set_load_addr(i, 32768 + rnd() % 100);
    if (chance(50)) {
        set_load_pad_top(i, rnd() % 3), set_load_pad_bottom(i, rnd() % 3);
        set_load_pad_left(i, rnd() % 3), set_load_pad_right(i, rnd() % 3);
    }
    return i;
}

static void set_fields(DUT& dut, const Insn& i) {
    dut.n2 = load_n2(i), dut.n1 = load_n1(i), dut.n0 = load_n0(i);
    dut.s2 = uint32_t(load_s2(i)), dut.s1 = uint32_t(load_s1(i)), dut.s0 = uint32_t(load_s0(i));
    dut.lane_stride = uint32_t(load_lane_stride(i));
    const uint32_t line = load_pad_left(i) + load_n0(i) + load_pad_right(i);
    dut.all = load_n1(i) * load_n0(i);
    dut.top = load_pad_top(i) * line, dut.bottom = load_pad_bottom(i) * line;
    dut.pad_left = load_pad_left(i), dut.pad_right = load_pad_right(i);
    dut.first = load_addr(i), dut.dst = load_dst(i);
}

// Runs one LOAD on the module; returns the words written.
static uint64_t hardware(DUT& dut, const Insn& i) {
    set_fields(dut, i);
    uint64_t written = 0, next = 0, beats = 0, taken = 0, in_run = 0;
    dut.start = 1;
    for (int k = 0;; ++k) {
        EXPECT(k < 200000);
        dut.request_ready = chance(70);
        dut.data_valid = beats > 0 && chance(80);
        memcpy(&dut.data, dram + next % SPAN, PORT_BYTES);
        settle(dut);
        if (dut.pad)
            memset(words[8][dut.pad_at], load_pad_value(i), ROWS), ++written;
        if (dut.run_start)
            taken = in_run = 0;
        if (dut.request_valid && dut.request_ready) {
            EXPECT(beats == 0 && dut.request_address % PORT_BYTES == 0);
            next = dut.request_address, beats = dut.request_beats;
        }
        if (dut.data_valid && dut.data_ready)
            next += PORT_BYTES, --beats, ++taken;
        if (dut.write && dut.gather) {
            memcpy(words[8][dut.at], &dut.word, ROWS), ++written;
        } else if (dut.write) {
            const uint64_t skip = dut.run_address % PORT_BYTES;
            EXPECT(taken * PORT_BYTES >= skip + (in_run + 1) * ROWS);
            memcpy(words[8][dut.at], dram + dut.run_address + in_run * ROWS, ROWS);
            ++written, ++in_run;
        }
        const bool ends = dut.done;
        step(dut);
        dut.start = 0;
        if (ends)
            break;
    }
    EXPECT(beats == 0);
    return written;
}

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    for (uint8_t& byte : dram)
        byte = uint8_t(rnd());
    uint64_t written = 0;
    while (written < wanted(argv)) {
        const Insn i = random_load();
        Meter meter = Meter();
        load_insn<true>(i, reinterpret_cast<const LoadBeat*>(dram), 0, Port{PORT_BYTES, 16},
                        words[0], words[1], words[2], words[3], words[4], words[5], words[6],
                        meter);
        const uint64_t found = hardware(dut, i);
        EXPECT(load_n1(i) == 0 || found == load_words(i));
        EXPECT(memcmp(words[0], words[8], 2000 * sizeof words[0][0]) == 0);
        written += found;
    }
    return passed(written);
}
