// SPDX-License-Identifier: Apache-2.0
// Whole COMPUTE instructions: the device's schedule against the CPU's, and both against loops that
// follow the instruction's description.
#include "nm/kernels.h"
#include "tb.h"

namespace {

using namespace nm;

struct Buffers {
    int8_t ibuf[IBUF_WORDS][ROWS], wbuf[WBUF_WORDS][ROWS], pbuf[PBUF_WORDS][ROWS];
    int8_t t_lo[TBUF_ROWS][ROWS], t_hi[TBUF_ROWS][ROWS];
    int8_t u_lo[UBUF_ROWS][ROWS], u_hi[UBUF_ROWS][ROWS];
    int8_t o_lo[OBUF_ROWS][COLS], o_hi[OBUF_ROWS][COLS];
};

Insn draw(tb::Random& random) {
    Insn i = {};
    const bool window = random.next() % 2;
    set_insn_opcode(i, uint32_t(Opcode::COMPUTE));
    set_compute_mode(i, window), set_compute_reduce(i, random.next() % 4 == 0);
    set_compute_first(i, 1), set_compute_last(i, 1);
    set_compute_transpose(i, random.next() % 2);
    set_compute_x_wide(i, random.next() % 2), set_compute_w_wide(i, random.next() % 2);
    set_compute_win_h(i, uint32_t(random.range(1, WIN)));
    set_compute_win_w(i, uint32_t(random.range(1, WIN)));
    set_compute_stride_h(i, uint32_t(random.range(1, 3)));
    set_compute_stride_w(i, uint32_t(random.range(1, 3)));
    if (random.next() % 4 == 0) // the sizes of element-wise passes
        set_compute_win_h(i, 1), set_compute_win_w(i, 1), set_compute_stride_h(i, 1),
            set_compute_stride_w(i, 1);
    set_compute_m1(i, uint32_t(random.range(1, 6))),
        set_compute_m0(i, uint32_t(random.range(1, 9)));
    set_compute_nb(i, uint32_t(random.range(1, 3))),
        set_compute_cb(i, uint32_t(random.range(1, 3)));
    set_compute_kh(i, uint32_t(random.range(1, 2))),
        set_compute_kw(i, uint32_t(random.range(1, 2)));
    set_compute_x_base(i, random.next() % 50), set_compute_x_m1(i, random.next() % 30);
    set_compute_x_m0(i, random.next() % 4), set_compute_x_kh(i, random.next() % 20);
    set_compute_x_kw(i, random.next() % 5), set_compute_x_cb(i, random.next() % 60);
    set_compute_x_half(i, random.next() % 300), set_compute_x_nb(i, random.next() % 30);
    set_compute_w_base(i, random.next() % 50), set_compute_w_nb(i, random.next() % 200);
    set_compute_p_base(i, random.next() % 4), set_compute_p_nb(i, random.next() % 2);
    set_compute_acc_base(i, random.next() % 50), set_compute_o_base(i, random.next() % 50);
    set_compute_o_nb(i, random.next() % 60), set_compute_t_base(i, random.next() % 20);
    set_compute_u_base(i, random.next() % 20), set_compute_r_base(i, 400 + random.next() % 50);
    set_compute_stat_first(i, random.next() % 2), set_compute_stat_last(i, random.next() % 2);
    return i;
}

// The epilogue bench checks rounding, tables and operands; this one only that they are connected.
Insn draw_epilogue(tb::Random& random) {
    Insn i = {};
    set_insn_opcode(i, uint32_t(Opcode::EPILOGUE));
    set_epilogue_t_en(i, random.next() % 2), set_epilogue_t_wide(i, random.next() % 2);
    set_epilogue_u_en(i, random.next() % 2), set_epilogue_u_wide(i, random.next() % 2);
    set_epilogue_seg_kind(i, random.next() % 4), set_epilogue_stat(i, random.next() % 4);
    set_epilogue_stat_lanes(i, random.next() % (COLS + 1));
    set_epilogue_stat_off(i, random.byte() * 256), set_epilogue_sq_m(i, random.byte());
    set_epilogue_sq_shift(i, random.next() % 16);
    if (epilogue_seg_kind(i) >= uint32_t(SegKind::LOG))
        set_epilogue_seg_cells(i, MAP_CELLS);
    set_epilogue_out_wide(i, random.next() % 2), set_epilogue_f_shift(i, random.next() % 8);
    set_epilogue_u_shift(i, random.next() % 16), set_epilogue_mt(i, int32_t(random.byte()));
    set_epilogue_lo(i, -32640), set_epilogue_hi(i, 32639);
    set_epilogue_seg_base(i, 8), set_epilogue_seg_count(i, SEG_ENTRIES);
    set_epilogue_seg_shift(i, random.next() % 8), set_epilogue_stat_shift(i, 4);
    set_epilogue_stat_m(i, 300), set_epilogue_t_m1(i, random.next() % 9);
    set_epilogue_t_m0(i, 1), set_epilogue_u_m1(i, random.next() % 9);
    set_epilogue_u_m0(i, 1), set_epilogue_u_nb(i, random.next() % 9);
    return i;
}

// x of one byte plane at output (i1, i0), tap (a, b), of block (nb, kh, kw, cb).
int64_t x_of(const Buffers& bufs, const Insn& i, uint32_t at, uint32_t digit, int lane) {
    return bufs.ibuf[at + digit * compute_x_half(i)][lane];
}

// The accumulator of output (i1, i0), column c, block nb, as isa.py describes it.
int64_t accumulated(const Buffers& bufs, const Insn& i, uint32_t nb, uint32_t i1, uint32_t i0,
                    int c) {
    const bool window = compute_mode(i) != 0, max = compute_reduce(i) != 0;
    const uint32_t x_digits = 1 + compute_x_wide(i), w_digits = 1 + compute_w_wide(i);
    const int taps = window ? int(compute_win_h(i) * compute_win_w(i)) : ROWS;
    int64_t total = max ? -(1 << 24) : 0;
    uint32_t block = 0;
    for (uint32_t kh = 0; kh < compute_kh(i); ++kh)
        for (uint32_t kw = 0; kw < compute_kw(i); ++kw)
            for (uint32_t cb = 0; cb < compute_cb(i); ++cb, ++block)
                for (int r = 0; r < taps; ++r) {
                    uint32_t row = i1, column = i0;
                    if (window) {
                        row = i1 * compute_stride_h(i) + uint32_t(r) / compute_win_w(i);
                        column = i0 * compute_stride_w(i) + uint32_t(r) % compute_win_w(i);
                    }
                    const uint32_t at = compute_x_base(i) + nb * compute_x_nb(i) +
                                        kh * compute_x_kh(i) + kw * compute_x_kw(i) +
                                        cb * compute_x_cb(i) + row * compute_x_m1(i) +
                                        column * compute_x_m0(i);
                    const int lane = window ? c : r;
                    int64_t x = 0, w = 0;
                    for (uint32_t d = 0; d < x_digits; ++d)
                        x += x_of(bufs, i, at, d, lane) * (d ? 256 : 1);
                    for (uint32_t d = 0; d < (max ? 1 : w_digits); ++d) {
                        const uint32_t word = compute_w_base(i) + nb * compute_w_nb(i) +
                                              (block * w_digits + d) * ROWS;
                        const bool turned = compute_transpose(i) && !window;
                        w += bufs.wbuf[word + uint32_t(turned ? c : r)][turned ? r : c] *
                             (d ? 256 : 1);
                    }
                    if (!max)
                        total += x * w;
                    else if (w != 0 && int16_t(x) > total)
                        total = int16_t(x);
                }
    return total;
}

void instruction(tb::Check& check, tb::Random& random, Buffers& bufs, Buffers& device) {
    static ComputeState cpu_state, device_state;
    const Insn epilogue = draw_epilogue(random), insn = draw(random);
    random.fill(&bufs, sizeof bufs);
    device = bufs;
    Meter cpu = {0, 0}, hardware = {0, 0};
    epilogue_insn(epilogue, bufs.pbuf, cpu_state, cpu);
    epilogue_insn(epilogue, device.pbuf, device_state, hardware);
    compute_insn<false>(insn, bufs.ibuf, bufs.wbuf, bufs.pbuf, bufs.t_lo, bufs.t_hi, bufs.u_lo,
                        bufs.u_hi, bufs.o_lo, bufs.o_hi, cpu_state, cpu);
    compute_insn<true>(insn, device.ibuf, device.wbuf, device.pbuf, device.t_lo, device.t_hi,
                       device.u_lo, device.u_hi, device.o_lo, device.o_hi, device_state, hardware);
    check.equal(cpu.cycles, hardware.cycles, "cycles of the two schedules");
    check.same(&bufs, &device, sizeof bufs, "results of the two schedules");
    const uint32_t nb = compute_nb(insn) - 1; // the accumulators hold the last block's
    for (uint32_t i1 = 0; i1 < compute_m1(insn); ++i1)
        for (uint32_t i0 = 0; i0 < compute_m0(insn); ++i0)
            for (int c = 0; c < COLS; ++c) {
                const uint32_t row = compute_acc_base(insn) + i1 * compute_m0(insn) + i0;
                check.equal(cpu_state.acc[row][c],
                            int32_t(uint32_t(accumulated(bufs, insn, nb, i1, i0, c))),
                            "accumulator");
            }
}

} // namespace

int main() {
    static Buffers cpu, device;
    tb::Check check;
    tb::Random random(4);
    for (int i = 0; i < 120; ++i)
        instruction(check, random, cpu, device);
    return check.result("compute");
}
