// SPDX-License-Identifier: Apache-2.0
// COMPUTE: the array, its accumulators and the epilogue lanes.
// In: x, weights, parameters, t and u in their buffers.  Out: result rows in the output buffer.
#include "nm/array.h"
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
    // Steps per iteration: the device takes one, so that a single loop runs at II = 1 across passes
    // of any length (Vitis flattens no nest with variable bounds); a CPU takes many.
    constexpr uint32_t RUN = HW ? 1 : CPU_RUN, BLOCK_WORDS = HW ? 1 : uint32_t(ROWS);
    static_assert(HW || RUN % MAC_ROWS == 0, "mac_rows computes whole groups of rows");
    const Shape g = shape_of<HW>(insn);
    Progress p = {};
    p.next = first_pass(insn);
    p.block = first_rows(insn);
FIRST_BLOCK:
    for (uint32_t j = 0; j < uint32_t(ROWS); j += BLOCK_WORDS) {
        NM_PIPELINE(1)
        fill<HW>(j, j + BLOCK_WORDS, g, insn, wbuf, pbuf, state, p, 1);
    }
    meter.tick(COMPUTE_SETUP + COMPUTE_DEPTH + ROWS);
    advance(p, g, insn, state.epilogue);
    copy_channels(state.channels.next, state.channels.now);
    int16_t x[RUN][ROWS] = {};
    int32_t sums[RUN][COLS];
    exact_t factors[RUN][ROWS] = {};
    NM_PARTITION(x, 0)
    NM_PARTITION(sums, 0)
    bool running = g.any, more = is_pass(p.next, insn);
STEPS:
    while (running) {
        NM_PIPELINE(1)
        NM_TRIPS(ROWS, STEPS_AT_MOST)
        // A row of acc or of a statistic is read again a pass later: after at least ROWS steps.
        NM_HAZARD_AFTER(state.acc, ROWS)
        NM_HAZARD_AFTER(state.stat.value, ROWS)
        NM_HAZARD_AFTER(state.stat.squares, ROWS)
        NM_HAZARD_AFTER(state.window.lines, LINE_REACH)
        // Weights have no such pragma: a step may use the row that was loaded one step before.
        NM_NO_HAZARD(o_lo)
        NM_NO_HAZARD(o_hi)
        const bool reads_x = p.step < g.positions;
        const uint32_t until = (reads_x ? g.positions : g.steps) - p.step;
        // Both byte planes of an int16 maximum alternate, one step each.
        const uint32_t n = RUN == 1 || g.reads == 2 ? 1 : (until < RUN ? until : RUN);
        if (p.step < uint32_t(ROWS) && more) {
            const uint32_t to = p.step + n < uint32_t(ROWS) ? p.step + n : uint32_t(ROWS);
            fill<HW>(p.step, to, g, insn, wbuf, pbuf, state, p, p.bank ^ 1);
        }
        if (reads_x) {
            const weight_t(&w)[ROWS][COLS] = state.weights[p.bank];
            const int shift = 8 * (p.now.x_digit + p.now.w_digit);
            const bool fresh = compute_first(insn) && opens_block(p.now);
            const bool closes = g.last && closes_block(p.now, g, insn);
            const uint32_t row = compute_acc_base(insn) + p.row;
            uint32_t made = n;
            if (!HW && !g.max && (!g.window || g.pointwise)) {
                const Join how = {fresh ? 0 : -1, shift};
                read_factors(n, g, insn, ibuf, p, factors);
                if (g.window)
                    scale_rows(n, factors, w[WIN * WIN - 1], how, state.acc + row);
                else
                    mac_rows(n, factors, w, how, state.acc + row);
                if (closes)
                    finish_rows<HW>(n, g, insn, state.acc + row, t_lo, t_hi, u_lo, u_hi, o_lo, o_hi,
                                    state, p);
            } else {
                if (g.reads == 1)
                    read_x<HW>(n, g, insn, ibuf, p, x);
                else
                    made = read_wide_x(g, insn, ibuf, state.x_low, p, x[0]) ? 1 : 0;
                if (HW)
                    made = made != 0 ? array_step(g, insn, x[0], w, state.window, p, sums[0]) : 0;
                else if (made != 0 && g.window)
                    made = window_rows(n, g, insn, x, w, state.window, p, sums);
                else if (made != 0)
                    max_rows(n, x, w, sums);
                if (made != 0)
                    accumulate<HW>(made, row, g.max, shift, fresh, sums, state.acc);
                if (made != 0 && closes)
                    finish_rows<HW>(made, g, insn, sums, t_lo, t_hi, u_lo, u_hi, o_lo, o_hi, state,
                                    p);
            }
            p.row += made;
        }
        p.step += n;
        if (p.step == g.steps) {
            meter.tick(g.steps);
            advance(p, g, insn, state.epilogue);
            copy_channels(state.channels.next, state.channels.now);
            running = more, more = is_pass(p.next, insn);
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
