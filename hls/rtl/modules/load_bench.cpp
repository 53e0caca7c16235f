// SPDX-License-Identifier: Apache-2.0
// load_walk and load_run against the kernel's own load_insn: every buffer holds the same bytes
// after random LOADs, and each word's beats have been read before it is written.
#include <string.h>

#include "Vload_run.h"
#include "Vload_walk.h"
#include "bench.h"
#include "nm/kernels.h"

using namespace nm;

constexpr int BYTES = LOAD_PORT_BYTES, SPAN = 1 << 16;

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

static void set_fields(Vload_walk& walk, Vload_run& run, const Insn& i) {
    walk.n2 = load_n2(i), walk.n1 = load_n1(i), walk.n0 = load_n0(i);
    walk.s2 = uint32_t(load_s2(i)), walk.s1 = uint32_t(load_s1(i)), walk.s0 = uint32_t(load_s0(i));
    walk.lane_stride = run.lane_stride = uint32_t(load_lane_stride(i));
    walk.pad_top = load_pad_top(i), walk.pad_bottom = load_pad_bottom(i);
    walk.pad_left = load_pad_left(i), walk.pad_right = load_pad_right(i);
    walk.first = load_addr(i), walk.dst = load_dst(i);
    run.gather = load_lane_stride(i) != 1;
}

// Runs one LOAD on the modules; returns the words written.
static uint64_t hardware(Vload_walk& walk, Vload_run& run, const Insn& i) {
    set_fields(walk, run, i);
    uint64_t written = 0, next_beat = 0, beats = 0, taken = 0, in_run = 0;
    walk.start = 1;
    for (int k = 0;; ++k) {
        EXPECT(k < 200000);
        run.request_ready = chance(70);
        settle(walk);
        run.start = walk.run_start;
        run.address = walk.run_address, run.words = walk.run_words, run.first = walk.at;
        run.data_valid = beats > 0 && chance(80);
        memcpy(&run.data, dram + next_beat % SPAN, BYTES);
        settle(run);
        walk.run_done = run.done;
        settle(walk);
        if (walk.pad)
            memset(words[8][walk.at], load_pad_value(i), ROWS), ++written;
        if (run.start)
            taken = in_run = 0;
        if (run.request_valid && run.request_ready) {
            EXPECT(beats == 0 && run.request_address % BYTES == 0);
            next_beat = run.request_address, beats = run.request_beats;
        }
        if (run.data_valid && run.data_ready)
            next_beat += BYTES, --beats, ++taken;
        if (run.write && run.gather) {
            memcpy(words[8][run.at], &run.word, ROWS), ++written;
        } else if (run.write) {
            const uint64_t skip = run.address % BYTES, from = run.address + in_run * ROWS;
            EXPECT(taken * BYTES >= skip + (in_run + 1) * ROWS);
            memcpy(words[8][run.at], dram + from, ROWS), ++written, ++in_run;
        }
        const bool ends = walk.done;
        step(walk), step(run);
        walk.start = 0;
        if (ends)
            break;
    }
    EXPECT(beats == 0);
    return written;
}

int main() {
    static Vload_walk walk;
    static Vload_run run;
    reset(walk), reset(run);
    for (uint8_t& byte : dram)
        byte = uint8_t(rnd());
    uint64_t written = 0;
    for (int k = 0; k < 2000; ++k) {
        const Insn i = random_load();
        Meter meter = Meter();
        load_insn<true>(i, reinterpret_cast<const LoadBeat*>(dram), 0, Port{BYTES, 16}, words[0],
                        words[1], words[2], words[3], words[4], words[5], words[6], meter);
        const uint64_t found = hardware(walk, run, i);
        EXPECT(load_n1(i) == 0 || found == load_words(i));
        EXPECT(memcmp(words[0], words[8], sizeof words[0]) == 0);
        written += found;
    }
    printf("%lu words\n", (unsigned long)written);
}
