// SPDX-License-Identifier: Apache-2.0
// The four kernels with their ports: a program that copies words through the array, an empty one,
// and two invalid ones.
#include "nm/kernels.h"
#include "tb.h"

namespace {

using namespace nm;

constexpr int WORDS = 20, PARAMETERS = ROWS * ROWS; // offset in CONST
constexpr uint32_t CONST_BYTES = PARAMETERS + 8 * ROWS, ARENA_BYTES = 4096;
constexpr uint32_t CONST_BASE = 1024, ARENA_BASE = 4096, OUT = 2048;
constexpr int ROOM = COSIM_BYTES / int(sizeof(Insn));

static_assert(ARENA_BASE + ARENA_BYTES <= COSIM_BYTES, "co-simulation must see all of it");

Insn load_words_of(Buffer dest, Region region, uint32_t addr, uint32_t words) {
    Insn i = {};
    set_insn_opcode(i, uint32_t(Opcode::LOAD));
    set_load_dest(i, uint32_t(dest)), set_load_region(i, uint32_t(region)), set_load_addr(i, addr);
    set_load_n2(i, 1), set_load_n1(i, 1), set_load_n0(i, words);
    set_load_s0(i, ROWS), set_load_lane_stride(i, 1);
    return i;
}

// Identity weights and multipliers of 1: the output is the input.
uint32_t write_program(Insn* program, uint32_t out) {
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

// The registers that a driver reads of a unit.
struct Registers {
    uint64_t busy, ended;
    uint32_t retired, fault;
};

struct Run {
    uint64_t fingerprint, began;
    uint32_t fault, code_sum, const_sum; // of FETCH, FETCH and LOAD
    Registers load, compute, store;
};

// One kernel runs after the other, each at one point of time: this checks only the order of reads
// of the clock, and that a unit's waiting time is not counted.
Run run(tb::Check& check, uint8_t* dram, const Insn* program, uint32_t count, uint32_t tokens) {
    static int8_t ibuf[IBUF_WORDS][ROWS], wbuf[WBUF_WORDS][ROWS], pbuf[PBUF_WORDS][ROWS];
    static int8_t t_lo[TBUF_ROWS][ROWS], t_hi[TBUF_ROWS][ROWS];
    static int8_t u_lo[UBUF_ROWS][ROWS], u_hi[UBUF_ROWS][ROWS];
    static int8_t o_lo[OBUF_ROWS][COLS], o_hi[OBUF_ROWS][COLS];
    InsnQueue to_load("to_load"), to_compute("to_compute"), to_store("to_store");
    TokenQueue load_compute("load_compute"), load_store("load_store");
    TokenQueue compute_load("compute_load"), compute_store("compute_store");
    TokenQueue store_load("store_load"), store_compute("store_compute");
    Run r;
    std::memset(&r, 0x55, sizeof r); // makes a register that is not written visible
    volatile uint64_t now = 1000;
    fetch(reinterpret_cast<const FetchBeat*>(program), count, &now, &r.fingerprint, &r.began,
          &r.fault, &r.code_sum, to_load, to_compute, to_store);
    now = 2000;
    load(reinterpret_cast<const LoadBeat*>(dram), CONST_BASE, CONST_BYTES, ARENA_BASE, ARENA_BYTES,
         &now, &r.load.busy, &r.load.ended, &r.load.retired, &r.load.fault, &r.const_sum, to_load,
         compute_load, store_load, load_compute, load_store, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo,
         u_hi);
    now = uint64_t(1) << 40; // more than 32 bits
    compute(&now, &r.compute.busy, &r.compute.ended, &r.compute.retired, &r.compute.fault,
            to_compute, load_compute, store_compute, compute_load, compute_store, ibuf, wbuf, pbuf,
            t_lo, t_hi, u_lo, u_hi, o_lo, o_hi);
    now = (uint64_t(1) << 40) + 500;
    store(reinterpret_cast<StoreBeat*>(dram), ARENA_BASE, ARENA_BYTES, &now, &r.store.busy,
          &r.store.ended, &r.store.retired, &r.store.fault, to_store, load_store, compute_store,
          store_load, store_compute, o_lo, o_hi);
    check.equal(to_load.empty() && to_compute.empty() && to_store.empty(), 1, "queues drained");
    for (uint32_t i = 0; i < tokens; ++i)
        compute_load.read();
    check.equal(compute_load.empty(), 1, "tokens that LOAD was sent");
    check.equal(int64_t(r.fingerprint), int64_t(FINGERPRINT_BITS), "fingerprint");
    check.equal(int64_t(r.began), 1000, "time at which FETCH began");
    check.equal(int64_t(r.load.ended), 2000, "time at which LOAD ended");
    check.equal(int64_t(r.compute.ended), int64_t(1) << 40, "time at which COMPUTE ended");
    check.equal(int64_t(r.store.ended), (int64_t(1) << 40) + 500, "time at which STORE ended");
    check.equal(int64_t(r.load.busy | r.compute.busy | r.store.busy), 0, "busy within an instant");
    return r;
}

void retired(tb::Check& check, const Run& r, uint32_t load, uint32_t compute, uint32_t store) {
    check.equal(r.load.retired, load, "instructions that LOAD ran");
    check.equal(r.compute.retired, compute, "instructions that COMPUTE ran");
    check.equal(r.store.retired, store, "instructions that STORE ran");
}

void faults(tb::Check& check, const Run& r, uint32_t fetch, uint32_t load, uint32_t store) {
    check.equal(r.fault, fetch, "fault of FETCH");
    check.equal(r.load.fault, load, "fault of LOAD");
    check.equal(r.compute.fault, 0, "fault of COMPUTE");
    check.equal(r.store.fault, store, "fault of STORE");
}

uint32_t sum_of_parts(const void* from, size_t bytes) {
    uint32_t sum = 0, part;
    for (size_t i = 0; i < bytes; i += sizeof part) {
        std::memcpy(&part, static_cast<const uint8_t*>(from) + i, sizeof part);
        sum += part;
    }
    return sum;
}

// The instructions up to END, and both LOADs of CONST, without that of ARENA.
void checksums(tb::Check& check, const Run& r, const Insn* program, uint32_t count,
               uint32_t const_sum) {
    check.equal(r.code_sum, sum_of_parts(program, count * sizeof(Insn)), "checksum of FETCH");
    check.equal(r.const_sum, const_sum, "checksum of LOAD");
}

} // namespace

int main() {
    static uint8_t dram[COSIM_BYTES], before[COSIM_BYTES];
    static Insn program[ROOM];
    tb::Check check;
    tb::Random random(6);
    random.fill(dram, sizeof dram);
    std::memset(dram + CONST_BASE, 0, CONST_BYTES);
    for (int r = 0; r < ROWS; ++r) {
        dram[CONST_BASE + uint32_t(r * ROWS + r)] = 1;
        dram[CONST_BASE + uint32_t(PARAMETERS + r * 8 + 4)] = 1; // m = 1
    }
    std::memcpy(before, dram, sizeof dram);
    uint32_t count = write_program(program, OUT);

    const Run nothing = run(check, dram, program, 0, 0);
    retired(check, nothing, 0, 0, 0);
    faults(check, nothing, 0, 0, 0);
    checksums(check, nothing, program, 0, 0);
    check.same(before, dram, sizeof dram, "DRAM after a program of no instructions");

    const Run good = run(check, dram, program, count, 1);
    retired(check, good, 3, 2, 1);
    faults(check, good, 0, 0, 0);
    checksums(check, good, program, count, sum_of_parts(dram + CONST_BASE, PARAMETERS + 8 * ROWS));
    check.same(dram + ARENA_BASE + OUT, dram + ARENA_BASE + 3, WORDS * ROWS, "words copied");

    std::memcpy(before, dram, sizeof dram);
    count = write_program(program, ARENA_BYTES - COLS);
    set_load_addr(program[1], CONST_BYTES - 1);
    const Run bad = run(check, dram, program, count, 1);
    retired(check, bad, 2, 2, 0);
    faults(check, bad, 0, FAULT_ADDRESS, FAULT_ADDRESS);
    check.same(before, dram, sizeof dram, "DRAM after a refused STORE");

    count = write_program(program, OUT);
    set_insn_opcode(program[1], 9);
    const Run strange = run(check, dram, program, count, 1);
    retired(check, strange, 2, 2, 1);
    faults(check, strange, FAULT_OPCODE, 0, 0);
    return check.result("kernels");
}
