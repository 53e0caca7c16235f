// SPDX-License-Identifier: Apache-2.0
// store_loops against the kernel's own store_insn: DRAM holds the same bytes after random STOREs,
// and no run begins before the response to the one before it.
#include "bench.h"
#include "src/store.cpp"

using namespace nm;

constexpr int PORT_BYTES = STORE_PORT_BYTES, SPAN = 1 << 17;

static int8_t low[OBUF_ROWS][COLS], high[OBUF_ROWS][COLS];
static uint8_t expected[SPAN], dram[SPAN];

static Insn random_store() {
    Insn i = {};
    const bool flat = chance(40);
    const uint32_t n0 = rnd() % 12, n1 = rnd() % 6;
    set_store_plane(i, rnd() % 2);
    set_store_src(i, rnd() % 500);
    set_store_n2(i, rnd() % 4), set_store_n1(i, n1), set_store_n0(i, n0);
    set_store_s0(i, flat || chance(50) ? COLS : COLS * (int32_t(rnd() % 20) - 10));
    set_store_s1(i, flat ? int32_t(n0 * COLS) : COLS * (int32_t(rnd() % 200) - 100));
    set_store_s2(i, COLS * (int32_t(rnd() % 200) - 100));
    set_store_addr(i, 65536 + COLS * (rnd() % 100));
    return i;
}

static void hardware(DUT& dut, const Insn& i) {
    dut.n2 = store_n2(i), dut.n1 = store_n1(i), dut.n0 = store_n0(i);
    dut.s2 = uint32_t(store_s2(i)), dut.s1 = uint32_t(store_s1(i)), dut.s0 = uint32_t(store_s0(i));
    dut.area = store_n1(i) * store_n0(i);
    dut.first = store_addr(i), dut.src = store_src(i), dut.high_plane = store_plane(i);
    uint64_t next = 0, beats = 0;
    bool waits = false; // for the response
    dut.start = 1;
    for (int k = 0;; ++k) {
        EXPECT(k < 200000);
        dut.request_ready = chance(70), dut.data_ready = chance(80);
        dut.response_valid = waits && beats == 0 && chance(20);
        settle(dut);
        const uint32_t row = dut.row % OBUF_ROWS;
        if (dut.request_valid && dut.request_ready) {
            EXPECT(!waits && dut.request_beats > 0);
            next = dut.request_address, beats = dut.request_beats, waits = true;
        }
        if (dut.data_valid && dut.data_ready) {
            EXPECT(beats > 0);
            memcpy(dram + next % SPAN, &dut.data, PORT_BYTES);
            next += PORT_BYTES, --beats;
        }
        if (dut.response_valid && dut.response_ready)
            waits = false;
        const bool ends = dut.done;
        step(dut);
        memcpy(&dut.low, low[row], COLS), memcpy(&dut.high, high[row], COLS);
        dut.start = 0;
        if (ends)
            break;
    }
    EXPECT(!waits && beats == 0);
}

int main(int, char** argv) {
    static DUT dut;
    reset(dut);
    for (int r = 0; r < OBUF_ROWS; ++r)
        for (int c = 0; c < COLS; ++c)
            low[r][c] = int8_t(rnd()), high[r][c] = int8_t(rnd());
    const uint64_t insns = wanted(argv) / 10; // of 20 words
    for (uint64_t k = 0; k < insns; ++k) {
        const Insn i = random_store();
        Meter meter = Meter();
        store_insn<true>(i, reinterpret_cast<StoreBeat*>(expected), 0, Port{PORT_BYTES, 16}, low, high,
                   meter);
        hardware(dut, i);
        EXPECT(memcmp(expected, dram, SPAN) == 0);
    }
    return passed(20 * insns);
}
