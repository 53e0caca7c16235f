// SPDX-License-Identifier: Apache-2.0
// The four kernels behind their ports: a program that copies words through the array, and one that
// leaves its regions.
#include "nm/kernels.h"
#include "tb.h"

namespace {

using namespace nm;

constexpr int WORDS = 20, PARAMETERS = ROWS * ROWS; // offset in CONST
constexpr uint32_t CONST_BYTES = PARAMETERS + 8 * ROWS, ARENA_BYTES = 4096;
constexpr uint32_t CONST_BASE = 1024, ARENA_BASE = 4096, OUT = 2048;

Insn load_words_of(Buffer dest, Region region, uint32_t addr, uint32_t words) {
    Insn i = {};
    set_insn_opcode(i, uint32_t(Opcode::LOAD));
    set_load_dest(i, uint32_t(dest)), set_load_region(i, uint32_t(region)), set_load_addr(i, addr);
    set_load_n2(i, 1), set_load_n1(i, 1), set_load_n0(i, words);
    set_load_s0(i, ROWS), set_load_lane_stride(i, 1);
    return i;
}

// Identity weights and multipliers of 1: what comes in goes out.
int write_program(Insn* program, uint32_t out) {
    Insn epilogue = {}, compute = {}, store = {};
    set_insn_opcode(epilogue, uint32_t(Opcode::EPILOGUE));
    set_epilogue_lo(epilogue, -128), set_epilogue_hi(epilogue, 127);
    set_insn_opcode(compute, uint32_t(Opcode::COMPUTE));
    set_insn_wait_load(compute, 1), set_insn_signal_store(compute, 1);
    set_insn_signal_load(compute, 1);
    set_compute_first(compute, 1), set_compute_last(compute, 1);
    set_compute_m1(compute, 1), set_compute_m0(compute, WORDS), set_compute_x_m0(compute, 1);
    set_compute_nb(compute, 1), set_compute_cb(compute, 1);
    set_compute_kh(compute, 1), set_compute_kw(compute, 1);
    set_insn_opcode(store, uint32_t(Opcode::STORE));
    set_insn_wait_compute(store, 1);
    set_store_addr(store, out), set_store_s0(store, COLS);
    set_store_n2(store, 1), set_store_n1(store, 1), set_store_n0(store, WORDS);
    program[0] = load_words_of(Buffer::WBUF, Region::CONST, 0, ROWS);
    program[1] = load_words_of(Buffer::PBUF, Region::CONST, PARAMETERS, 8);
    program[2] = load_words_of(Buffer::IBUF, Region::ARENA, 3, WORDS);
    set_insn_signal_compute(program[2], 1);
    program[3] = epilogue, program[4] = compute, program[5] = store, program[6] = Insn();
    return 7;
}

struct Faults {
    uint32_t fetch, load, compute, store;
};

Faults run(tb::Check& check, uint8_t* dram, uint32_t out) {
    static int8_t ibuf[IBUF_WORDS][ROWS], wbuf[WBUF_WORDS][ROWS], pbuf[PBUF_WORDS][ROWS];
    static int8_t t_lo[TBUF_ROWS][ROWS], t_hi[TBUF_ROWS][ROWS];
    static int8_t u_lo[UBUF_ROWS][ROWS], u_hi[UBUF_ROWS][ROWS];
    static int8_t o_lo[OBUF_ROWS][COLS], o_hi[OBUF_ROWS][COLS];
    Insn program[8];
    const int count = write_program(program, out);
    InsnQueue to_load("to_load"), to_compute("to_compute"), to_store("to_store");
    TokenQueue load_compute("load_compute"), load_store("load_store");
    TokenQueue compute_load("compute_load"), compute_store("compute_store");
    TokenQueue store_load("store_load"), store_compute("store_compute");
    Faults faults = {};
    uint64_t busy[3] = {};
    fetch(reinterpret_cast<const FetchBeat*>(program), uint32_t(count), &faults.fetch, to_load,
          to_compute, to_store);
    load(reinterpret_cast<const LoadBeat*>(dram), CONST_BASE, CONST_BYTES, ARENA_BASE, ARENA_BYTES,
         &busy[0], &faults.load, to_load, compute_load, store_load, load_compute, load_store, ibuf,
         wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
    compute(&busy[1], &faults.compute, to_compute, load_compute, store_compute, compute_load,
            compute_store, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi, o_lo, o_hi);
    store(reinterpret_cast<StoreBeat*>(dram), ARENA_BASE, ARENA_BYTES, &busy[2], &faults.store,
          to_store, load_store, compute_store, store_load, store_compute, o_lo, o_hi);
    check.equal(to_load.empty() && to_compute.empty() && to_store.empty(), 1, "queues drained");
    check.equal(compute_load.empty(), 0, "the token that LOAD was sent");
    compute_load.read();
    check.equal(busy[1], EPILOGUE_SETUP + COMPUTE_DEPTH + ROWS + at_least(WORDS, ROWS),
                "busy cycles of COMPUTE");
    return faults;
}

} // namespace

int main() {
    static uint8_t dram[8192];
    tb::Check check;
    tb::Random random(6);
    random.fill(dram, sizeof dram);
    std::memset(dram + CONST_BASE, 0, CONST_BYTES);
    for (int r = 0; r < ROWS; ++r) {
        dram[CONST_BASE + uint32_t(r * ROWS + r)] = 1;
        dram[CONST_BASE + uint32_t(PARAMETERS + r * 8 + 4)] = 1; // m = 1
    }
    const Faults none = run(check, dram, OUT);
    check.equal(none.fetch | none.load | none.compute | none.store, 0, "faults of a good program");
    check.same(dram + ARENA_BASE + OUT, dram + ARENA_BASE + 3, WORDS * ROWS, "words copied");
    static uint8_t before[sizeof dram];
    std::memcpy(before, dram, sizeof dram);
    const Faults bad = run(check, dram, ARENA_BYTES - COLS);
    check.equal(bad.store, FAULT_ADDRESS, "fault of a STORE that leaves ARENA");
    check.same(before, dram, sizeof dram, "DRAM after a refused STORE");
    return check.result("kernels");
}
