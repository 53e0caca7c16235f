// SPDX-License-Identifier: Apache-2.0
// COMPUTE: the array, its accumulators and the epilogue lanes.
// In: x, weights, parameters, t and u in their buffers.  Out: result rows in the output buffer.
#include "nm/array.h"
#include "nm/cpu.h"
#include "nm/fill.h"
#include "nm/lanes.h"

namespace nm {

void epilogue_insn(const Insn& insn, const int8_t pbuf[PBUF_WORDS][ROWS], ComputeState& state,
                   Meter& meter) {
    state.epilogue = decode_epilogue(insn);
    meter.tick(EPILOGUE_SETUP);
    fill_table(insn, pbuf, state.table, meter);
}

template <bool HW>
void compute_insn(const Insn& insn, const int8_t ibuf[IBUF_WORDS][ROWS],
                  const int8_t wbuf[WBUF_WORDS][ROWS], const int8_t pbuf[PBUF_WORDS][ROWS],
                  const int8_t t_lo[TBUF_ROWS][ROWS], const int8_t t_hi[TBUF_ROWS][ROWS],
                  const int8_t u_lo[UBUF_ROWS][ROWS], const int8_t u_hi[UBUF_ROWS][ROWS],
                  int8_t o_lo[OBUF_ROWS][COLS], int8_t o_hi[OBUF_ROWS][COLS], ComputeState& state,
                  Meter& meter) {
    const Shape g = shape_of<HW>(insn);
    Progress p = before_passes(g, insn);
    int32_t held[COLS / 2] = {}, sums[1][COLS];
    NM_PARTITION(held, 0)
    NM_PARTITION(sums, 0)
    CpuRun run;
    meter.tick(COMPUTE_SETUP + COMPUTE_DEPTH + ROWS);
    bool running = true;
STEPS:
    while (running) {
        // The device takes one step per iteration, so that a single loop runs at II = 1 across
        // passes of any length (Vitis flattens no nest with variable bounds); a CPU takes many.
        NM_PIPELINE(1)
        NM_TRIPS(ROWS, STEPS_AT_MOST)
        // A row of acc or of a statistic is read again a pass later: after at least ROWS steps.
        // The members of a kernel's own struct become arrays of their own (UG1399, Alignment
        // Rules), which pragmas name by the member; if a tool did not take that, csynth would
        // report a larger II.
        NM_HAZARD_AFTER(state.acc, ROWS)
        NM_HAZARD_AFTER(state.stat.value, ROWS)
        NM_HAZARD_AFTER(state.stat.squares, ROWS)
        NM_HAZARD_AFTER(state.window.lines, LINE_REACH)
        NM_NO_HAZARD(o_lo)
        NM_NO_HAZARD(o_hi)
        const uint32_t n = HW ? 1 : run_length(g, p);
        if (p.step == 0)
            look_ahead(p.next, g, insn);
        const bool closes = g.last && closes_block(p.now);
        uint32_t made = 0;
        const bool works = HW ? p.step < p.busy : reads_x(g, p);
        if (works) {
            const Join how = {compute_first(insn) && p.now.opens ? 0 : -1,
                              8 * (p.now.x_digit + p.now.w_digit)};
            const uint32_t row = compute_acc_base(insn) + p.row;
            if (HW)
                made = device_rows(row, g, insn, how, ibuf, state, p, held, sums);
            else
                made = cpu_rows(n, row, g, insn, how, ibuf, state, p, run);
            if (made != 0 && closes)
                finish_rows<HW>(made, g, insn, HW ? sums : state.acc + row, t_lo, t_hi, u_lo, u_hi,
                                o_lo, o_hi, state, p);
        }
        // After the array has read the weights: see fill_step.
        fill<HW>(n, g, insn, wbuf, pbuf, state, p);
        p.row += made;
        p.step += n;
        if (p.step == p.steps) {
            meter.tick(p.busy == 0 ? 0 : p.steps);
            running = advance(p, g, insn, state.epilogue);
            copy_channels(state.channels.next, state.channels.now);
        }
    }
    if (g.last && compute_stat_last(insn)) {
        write_stats(g.rows, insn, state, o_lo, o_hi);
        meter.tick(STAT_BEATS * stat_rows(g.rows, state.epilogue.stat));
    }
}

#if !defined(__SYNTHESIS__)
// Benches compare the device's schedule with the CPU's.
template void compute_insn<true>(const Insn&, const int8_t[][ROWS], const int8_t[][ROWS],
                                 const int8_t[][ROWS], const int8_t[][ROWS], const int8_t[][ROWS],
                                 const int8_t[][ROWS], const int8_t[][ROWS], int8_t[][COLS],
                                 int8_t[][COLS], ComputeState&, Meter&);
template void compute_insn<false>(const Insn&, const int8_t[][ROWS], const int8_t[][ROWS],
                                  const int8_t[][ROWS], const int8_t[][ROWS], const int8_t[][ROWS],
                                  const int8_t[][ROWS], const int8_t[][ROWS], int8_t[][COLS],
                                  int8_t[][COLS], ComputeState&, Meter&);
#endif

} // namespace nm

extern "C" void
compute(const volatile uint64_t* now, uint64_t* busy, uint64_t* ended, uint32_t* retired,
        uint32_t* fault, nm::InsnQueue& queue, nm::TokenQueue& from_load,
        nm::TokenQueue& from_store, nm::TokenQueue& to_load, nm::TokenQueue& to_store,
        const int8_t ibuf[nm::IBUF_WORDS][nm::ROWS], const int8_t wbuf[nm::WBUF_WORDS][nm::ROWS],
        const int8_t pbuf[nm::PBUF_WORDS][nm::ROWS], const int8_t t_lo[nm::TBUF_ROWS][nm::ROWS],
        const int8_t t_hi[nm::TBUF_ROWS][nm::ROWS], const int8_t u_lo[nm::UBUF_ROWS][nm::ROWS],
        const int8_t u_hi[nm::UBUF_ROWS][nm::ROWS], int8_t o_lo[nm::OBUF_ROWS][nm::COLS],
        int8_t o_hi[nm::OBUF_ROWS][nm::COLS]) {
    using namespace nm;
    NM_WIRE(now)
    NM_REGISTER(busy)
    NM_REGISTER(ended)
    NM_REGISTER(retired)
    NM_REGISTER(fault)
    NM_REGISTER(return)
    NM_STREAM(queue)
    NM_STREAM(from_load)
    NM_STREAM(from_store)
    NM_STREAM(to_load)
    NM_STREAM(to_store)
    // Ports of one word's width: the lanes of a word are transferred together.
    NM_BRAM(ibuf)
    NM_RESHAPE(ibuf, 2)
    NM_BRAM(wbuf)
    NM_RESHAPE(wbuf, 2)
    NM_BRAM(pbuf)
    NM_RESHAPE(pbuf, 2)
    NM_BRAM(t_lo)
    NM_RESHAPE(t_lo, 2)
    NM_BRAM(t_hi)
    NM_RESHAPE(t_hi, 2)
    NM_BRAM(u_lo)
    NM_RESHAPE(u_lo, 2)
    NM_BRAM(u_hi)
    NM_RESHAPE(u_hi, 2)
    NM_BRAM(o_lo)
    NM_RESHAPE(o_lo, 2)
    NM_BRAM(o_hi)
    NM_RESHAPE(o_hi, 2)
    // State that is kept between instructions.
    NM_LARGE ComputeState state;
    // Registers of PEs and lanes; accumulators and line buffers have the width of a row.
    NM_PARTITION(state.weights, 0)
    NM_PARTITION(state.channels.now.bias, 0)
    NM_PARTITION(state.channels.now.m, 0)
    NM_PARTITION(state.channels.now.s, 0)
    NM_PARTITION(state.channels.next.bias, 0)
    NM_PARTITION(state.channels.next.m, 0)
    NM_PARTITION(state.channels.next.s, 0)
    // Tables of 64 segments and 32 cells a bank are small for a block RAM, of which each lane would
    // take one.
    NM_PARTITION(state.table.segments, 2)
    NM_RAM(state.table.segments, ram_s2p, lutram)
    NM_PARTITION(state.table.map, 2)
    NM_PARTITION(state.table.map, 3)
    NM_RAM(state.table.map, ram_s2p, lutram)
    NM_RESHAPE(state.acc, 2)
    NM_RAM(state.acc, ram_s2p, NM_ACC_MEMORY)
    NM_PARTITION(state.x_low, 0)
    NM_PARTITION(state.window.taps, 0)
    NM_PARTITION(state.window.lines, 1)
    NM_RESHAPE(state.window.lines, 3)
    Meter meter = Meter();
    Counters counters = {0, 0, 0};
    bool running = true;
INSNS:
    while (running) {
        NM_TRIPS(1, PROGRAM_AT_MOST)
        const Insn insn = queue.read();
        NM_PARTITION(insn.w, 0)
        const Opcode opcode = Opcode(insn_opcode(insn));
        running = opcode != Opcode::END;
        if (!running)
            break;
        if (insn_wait_load(insn))
            from_load.read();
        if (insn_wait_store(insn))
            from_store.read();
        const uint64_t start = read_clock(now);
        uint32_t refused = 0;
        if (opcode == Opcode::COMPUTE)
            compute_insn<HARDWARE>(insn, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi, o_lo, o_hi,
                                   state, meter);
        else if (opcode == Opcode::EPILOGUE)
            epilogue_insn(insn, pbuf, state, meter);
        else
            refused = FAULT_OPCODE;
        count(counters, start, read_clock(now), refused);
        if (insn_signal_load(insn))
            to_load.write(token_t(1));
        if (insn_signal_store(insn))
            to_store.write(token_t(1));
    }
    *busy = counters.busy;
    *ended = read_clock(now);
    *retired = counters.retired;
    *fault = counters.fault;
}
