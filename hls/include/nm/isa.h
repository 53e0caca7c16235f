// SPDX-License-Identifier: Apache-2.0
// The instruction set.
// Generated from host/neuralmatrix/hardware/isa.py
// by `python -m neuralmatrix.hardware.cpp_headers`; do not edit.
// clang-format off
#pragma once

#include <stdint.h>

namespace nm {

constexpr int ISA_VERSION = 2;
constexpr int INSN_WORDS = 16;
constexpr int MAP_CELLS = 256;

enum class Opcode : uint32_t { END = 0, LOAD = 1, STORE = 2, EPILOGUE = 3, COMPUTE = 4 };
enum class Unit : uint32_t { LOAD = 0, COMPUTE = 1, STORE = 2 };
enum class Buffer : uint32_t { IBUF = 0, WBUF = 1, PBUF = 2, T_LO = 3, T_HI = 4, U_LO = 5, U_HI = 6 };
enum class Region : uint32_t { CONST = 0, ARENA = 1 };
enum class Mode : uint32_t { GEMM = 0, WINDOW = 1 };
enum class Reduce : uint32_t { ADD = 0, MAX = 1 };
enum class SegKind : uint32_t { NONE = 0, UNIFORM = 1, LOG = 2, MAPPED = 3 };
enum class Stat : uint32_t { NONE = 0, SUM = 1, MAX = 2, MOMENTS = 3 };

struct Insn {
    uint32_t w[INSN_WORDS];
};

inline uint32_t bits(uint32_t word, int shift, int width) {
    return (word >> shift) & (0xffffffffu >> (32 - width));
}
inline int32_t signed_bits(uint32_t word, int shift, int width) {
    return int32_t(word << (32 - width - shift)) >> (32 - width);
}
inline void set_bits(uint32_t& word, int shift, int width, uint32_t v) {
    const uint32_t mask = (0xffffffffu >> (32 - width)) << shift;
    word = (word & ~mask) | ((v << shift) & mask);
}

inline uint32_t insn_opcode(const Insn& i) { return bits(i.w[0], 0, 4); } // kind of instruction (Opcode)
inline uint32_t insn_wait_load(const Insn& i) { return bits(i.w[0], 4, 1); } // pop one token that LOAD sent to this unit before starting
inline uint32_t insn_wait_compute(const Insn& i) { return bits(i.w[0], 5, 1); } // pop one token that COMPUTE sent to this unit before starting
inline uint32_t insn_wait_store(const Insn& i) { return bits(i.w[0], 6, 1); } // pop one token that STORE sent to this unit before starting
inline uint32_t insn_signal_load(const Insn& i) { return bits(i.w[0], 7, 1); } // push one token to LOAD when finished
inline uint32_t insn_signal_compute(const Insn& i) { return bits(i.w[0], 8, 1); } // push one token to COMPUTE when finished
inline uint32_t insn_signal_store(const Insn& i) { return bits(i.w[0], 9, 1); } // push one token to STORE when finished
inline void set_insn_opcode(Insn& i, uint32_t v) { set_bits(i.w[0], 0, 4, uint32_t(v)); }
inline void set_insn_wait_load(Insn& i, uint32_t v) { set_bits(i.w[0], 4, 1, uint32_t(v)); }
inline void set_insn_wait_compute(Insn& i, uint32_t v) { set_bits(i.w[0], 5, 1, uint32_t(v)); }
inline void set_insn_wait_store(Insn& i, uint32_t v) { set_bits(i.w[0], 6, 1, uint32_t(v)); }
inline void set_insn_signal_load(Insn& i, uint32_t v) { set_bits(i.w[0], 7, 1, uint32_t(v)); }
inline void set_insn_signal_compute(Insn& i, uint32_t v) { set_bits(i.w[0], 8, 1, uint32_t(v)); }
inline void set_insn_signal_store(Insn& i, uint32_t v) { set_bits(i.w[0], 9, 1, uint32_t(v)); }


inline uint32_t load_dest(const Insn& i) { return bits(i.w[0], 10, 3); } // on-chip buffer (Buffer)
inline uint32_t load_region(const Insn& i) { return bits(i.w[0], 13, 1); } // DRAM region (Region)
inline int32_t load_pad_value(const Insn& i) { return signed_bits(i.w[0], 14, 8); } // byte written to every lane of a padding word
inline uint32_t load_addr(const Insn& i) { return bits(i.w[1], 0, 32); } // byte offset in the region of the first word (any alignment)
inline uint32_t load_dst(const Insn& i) { return bits(i.w[2], 0, 16); } // first word written in the buffer; words are written one after another
inline uint32_t load_n2(const Insn& i) { return bits(i.w[2], 16, 16); } // outer count (channel blocks)
inline uint32_t load_n1(const Insn& i) { return bits(i.w[3], 0, 16); } // middle count (rows) without padding
inline uint32_t load_n0(const Insn& i) { return bits(i.w[3], 16, 16); } // inner count (columns) without padding
inline int32_t load_s2(const Insn& i) { return signed_bits(i.w[4], 0, 32); } // bytes from one n2 step to the next
inline int32_t load_s1(const Insn& i) { return signed_bits(i.w[5], 0, 32); } // bytes from one n1 step to the next
inline int32_t load_s0(const Insn& i) { return signed_bits(i.w[6], 0, 32); } // bytes from one n0 step to the next; ROWS means a contiguous burst
inline int32_t load_lane_stride(const Insn& i) { return signed_bits(i.w[7], 0, 32); } // bytes from one lane of a word to the next; 1 except in a gather
inline uint32_t load_pad_top(const Insn& i) { return bits(i.w[8], 0, 8); } // padding rows before the n1 rows
inline uint32_t load_pad_bottom(const Insn& i) { return bits(i.w[8], 8, 8); } // padding rows after the n1 rows
inline uint32_t load_pad_left(const Insn& i) { return bits(i.w[8], 16, 8); } // padding words before the n0 words of every row
inline uint32_t load_pad_right(const Insn& i) { return bits(i.w[8], 24, 8); } // padding words after the n0 words of every row
inline void set_load_dest(Insn& i, uint32_t v) { set_bits(i.w[0], 10, 3, uint32_t(v)); }
inline void set_load_region(Insn& i, uint32_t v) { set_bits(i.w[0], 13, 1, uint32_t(v)); }
inline void set_load_pad_value(Insn& i, int32_t v) { set_bits(i.w[0], 14, 8, uint32_t(v)); }
inline void set_load_addr(Insn& i, uint32_t v) { set_bits(i.w[1], 0, 32, uint32_t(v)); }
inline void set_load_dst(Insn& i, uint32_t v) { set_bits(i.w[2], 0, 16, uint32_t(v)); }
inline void set_load_n2(Insn& i, uint32_t v) { set_bits(i.w[2], 16, 16, uint32_t(v)); }
inline void set_load_n1(Insn& i, uint32_t v) { set_bits(i.w[3], 0, 16, uint32_t(v)); }
inline void set_load_n0(Insn& i, uint32_t v) { set_bits(i.w[3], 16, 16, uint32_t(v)); }
inline void set_load_s2(Insn& i, int32_t v) { set_bits(i.w[4], 0, 32, uint32_t(v)); }
inline void set_load_s1(Insn& i, int32_t v) { set_bits(i.w[5], 0, 32, uint32_t(v)); }
inline void set_load_s0(Insn& i, int32_t v) { set_bits(i.w[6], 0, 32, uint32_t(v)); }
inline void set_load_lane_stride(Insn& i, int32_t v) { set_bits(i.w[7], 0, 32, uint32_t(v)); }
inline void set_load_pad_top(Insn& i, uint32_t v) { set_bits(i.w[8], 0, 8, uint32_t(v)); }
inline void set_load_pad_bottom(Insn& i, uint32_t v) { set_bits(i.w[8], 8, 8, uint32_t(v)); }
inline void set_load_pad_left(Insn& i, uint32_t v) { set_bits(i.w[8], 16, 8, uint32_t(v)); }
inline void set_load_pad_right(Insn& i, uint32_t v) { set_bits(i.w[8], 24, 8, uint32_t(v)); }

inline uint32_t store_plane(const Insn& i) { return bits(i.w[0], 10, 1); } // byte plane of the output buffer: 0 low (or int8), 1 high
inline uint32_t store_addr(const Insn& i) { return bits(i.w[1], 0, 32); } // byte offset in ARENA of the first word; it and the steps are multiples of COLS
inline uint32_t store_src(const Insn& i) { return bits(i.w[2], 0, 16); } // first output-buffer row read; rows are read one after another
inline uint32_t store_n2(const Insn& i) { return bits(i.w[2], 16, 16); } // outer count (channel blocks)
inline uint32_t store_n1(const Insn& i) { return bits(i.w[3], 0, 16); } // middle count (rows)
inline uint32_t store_n0(const Insn& i) { return bits(i.w[3], 16, 16); } // inner count (columns)
inline int32_t store_s2(const Insn& i) { return signed_bits(i.w[4], 0, 32); } // bytes from one n2 step to the next
inline int32_t store_s1(const Insn& i) { return signed_bits(i.w[5], 0, 32); } // bytes from one n1 step to the next
inline int32_t store_s0(const Insn& i) { return signed_bits(i.w[6], 0, 32); } // bytes from one n0 step to the next; COLS means a contiguous burst
inline void set_store_plane(Insn& i, uint32_t v) { set_bits(i.w[0], 10, 1, uint32_t(v)); }
inline void set_store_addr(Insn& i, uint32_t v) { set_bits(i.w[1], 0, 32, uint32_t(v)); }
inline void set_store_src(Insn& i, uint32_t v) { set_bits(i.w[2], 0, 16, uint32_t(v)); }
inline void set_store_n2(Insn& i, uint32_t v) { set_bits(i.w[2], 16, 16, uint32_t(v)); }
inline void set_store_n1(Insn& i, uint32_t v) { set_bits(i.w[3], 0, 16, uint32_t(v)); }
inline void set_store_n0(Insn& i, uint32_t v) { set_bits(i.w[3], 16, 16, uint32_t(v)); }
inline void set_store_s2(Insn& i, int32_t v) { set_bits(i.w[4], 0, 32, uint32_t(v)); }
inline void set_store_s1(Insn& i, int32_t v) { set_bits(i.w[5], 0, 32, uint32_t(v)); }
inline void set_store_s0(Insn& i, int32_t v) { set_bits(i.w[6], 0, 32, uint32_t(v)); }

inline uint32_t epilogue_t_en(const Insn& i) { return bits(i.w[0], 10, 1); } // add the residual operand t
inline uint32_t epilogue_t_wide(const Insn& i) { return bits(i.w[0], 11, 1); } // t is int16 (two byte planes)
inline uint32_t epilogue_u_en(const Insn& i) { return bits(i.w[0], 12, 1); } // multiply by the Hadamard operand u
inline uint32_t epilogue_u_wide(const Insn& i) { return bits(i.w[0], 13, 1); } // u is int16 (two byte planes)
inline uint32_t epilogue_seg_kind(const Insn& i) { return bits(i.w[0], 14, 2); } // kind of piecewise-linear table (SegKind)
inline uint32_t epilogue_stat(const Insn& i) { return bits(i.w[0], 16, 2); } // row statistic (Stat)
inline uint32_t epilogue_out_wide(const Insn& i) { return bits(i.w[0], 18, 1); } // write int16 results as two byte planes
inline uint32_t epilogue_f_shift(const Insn& i) { return bits(i.w[0], 19, 5); } // F: fraction bits dropped after requantising, 0..31
inline uint32_t epilogue_u_shift(const Insn& i) { return bits(i.w[0], 24, 5); } // right shift after the Hadamard product, 0..31
inline int32_t epilogue_off(const Insn& i) { return signed_bits(i.w[1], 0, 32); } // added before the rounding by F (zero points)
inline int32_t epilogue_mt(const Insn& i) { return signed_bits(i.w[2], 0, 24); } // multiplier of t
inline int32_t epilogue_uz(const Insn& i) { return signed_bits(i.w[3], 0, 16); } // zero point of u
inline int32_t epilogue_zp(const Insn& i) { return signed_bits(i.w[3], 16, 16); } // zero point added to the result
inline int32_t epilogue_lo(const Insn& i) { return signed_bits(i.w[4], 0, 16); } // lowest result
inline int32_t epilogue_hi(const Insn& i) { return signed_bits(i.w[4], 16, 16); } // highest result
inline int32_t epilogue_seg_x0(const Insn& i) { return signed_bits(i.w[5], 0, 16); } // UNIFORM, MAPPED: x of the table's left end; LOG: subtracted from x
inline uint32_t epilogue_seg_base(const Insn& i) { return bits(i.w[5], 16, 16); } // first parameter row of the table's segments
inline uint32_t epilogue_seg_count(const Insn& i) { return bits(i.w[6], 0, 16); } // number of segments
inline uint32_t epilogue_seg_shift(const Insn& i) { return bits(i.w[6], 16, 4); } // log2 of a segment's (UNIFORM) or cell's (MAPPED) width; LOG: mantissa
inline uint32_t epilogue_stat_shift(const Insn& i) { return bits(i.w[6], 20, 5); } // right shift of the row sum
inline int32_t epilogue_stat_m(const Insn& i) { return signed_bits(i.w[7], 0, 16); } // multiplier of the row sum
inline int32_t epilogue_stat_off(const Insn& i) { return signed_bits(i.w[8], 0, 32); } // added to the row sum before its multiplier (zero points)
inline uint32_t epilogue_stat_lanes(const Insn& i) { return bits(i.w[9], 0, 8); } // lanes that the statistic includes in the last column block; 0 means all
inline uint32_t epilogue_sq_shift(const Insn& i) { return bits(i.w[9], 8, 5); } // MOMENTS: right shift of the row's sum of squares
inline int32_t epilogue_sq_m(const Insn& i) { return signed_bits(i.w[9], 13, 16); } // MOMENTS: multiplier of the row's sum of squares
inline uint32_t epilogue_seg_cells(const Insn& i) { return bits(i.w[10], 0, 16); } // MAPPED, LOG if not 0: cells of the map, at most 256
inline uint32_t epilogue_t_nb(const Insn& i) { return bits(i.w[10], 16, 16); } // t row step per column block
inline uint32_t epilogue_t_m1(const Insn& i) { return bits(i.w[11], 0, 16); } // t row step per m1
inline uint32_t epilogue_t_m0(const Insn& i) { return bits(i.w[11], 16, 16); } // t row step per m0
inline uint32_t epilogue_u_nb(const Insn& i) { return bits(i.w[12], 0, 16); } // u row step per column block
inline uint32_t epilogue_u_m1(const Insn& i) { return bits(i.w[12], 16, 16); } // u row step per m1
inline uint32_t epilogue_u_m0(const Insn& i) { return bits(i.w[13], 0, 16); } // u row step per m0
inline void set_epilogue_t_en(Insn& i, uint32_t v) { set_bits(i.w[0], 10, 1, uint32_t(v)); }
inline void set_epilogue_t_wide(Insn& i, uint32_t v) { set_bits(i.w[0], 11, 1, uint32_t(v)); }
inline void set_epilogue_u_en(Insn& i, uint32_t v) { set_bits(i.w[0], 12, 1, uint32_t(v)); }
inline void set_epilogue_u_wide(Insn& i, uint32_t v) { set_bits(i.w[0], 13, 1, uint32_t(v)); }
inline void set_epilogue_seg_kind(Insn& i, uint32_t v) { set_bits(i.w[0], 14, 2, uint32_t(v)); }
inline void set_epilogue_stat(Insn& i, uint32_t v) { set_bits(i.w[0], 16, 2, uint32_t(v)); }
inline void set_epilogue_out_wide(Insn& i, uint32_t v) { set_bits(i.w[0], 18, 1, uint32_t(v)); }
inline void set_epilogue_f_shift(Insn& i, uint32_t v) { set_bits(i.w[0], 19, 5, uint32_t(v)); }
inline void set_epilogue_u_shift(Insn& i, uint32_t v) { set_bits(i.w[0], 24, 5, uint32_t(v)); }
inline void set_epilogue_off(Insn& i, int32_t v) { set_bits(i.w[1], 0, 32, uint32_t(v)); }
inline void set_epilogue_mt(Insn& i, int32_t v) { set_bits(i.w[2], 0, 24, uint32_t(v)); }
inline void set_epilogue_uz(Insn& i, int32_t v) { set_bits(i.w[3], 0, 16, uint32_t(v)); }
inline void set_epilogue_zp(Insn& i, int32_t v) { set_bits(i.w[3], 16, 16, uint32_t(v)); }
inline void set_epilogue_lo(Insn& i, int32_t v) { set_bits(i.w[4], 0, 16, uint32_t(v)); }
inline void set_epilogue_hi(Insn& i, int32_t v) { set_bits(i.w[4], 16, 16, uint32_t(v)); }
inline void set_epilogue_seg_x0(Insn& i, int32_t v) { set_bits(i.w[5], 0, 16, uint32_t(v)); }
inline void set_epilogue_seg_base(Insn& i, uint32_t v) { set_bits(i.w[5], 16, 16, uint32_t(v)); }
inline void set_epilogue_seg_count(Insn& i, uint32_t v) { set_bits(i.w[6], 0, 16, uint32_t(v)); }
inline void set_epilogue_seg_shift(Insn& i, uint32_t v) { set_bits(i.w[6], 16, 4, uint32_t(v)); }
inline void set_epilogue_stat_shift(Insn& i, uint32_t v) { set_bits(i.w[6], 20, 5, uint32_t(v)); }
inline void set_epilogue_stat_m(Insn& i, int32_t v) { set_bits(i.w[7], 0, 16, uint32_t(v)); }
inline void set_epilogue_stat_off(Insn& i, int32_t v) { set_bits(i.w[8], 0, 32, uint32_t(v)); }
inline void set_epilogue_stat_lanes(Insn& i, uint32_t v) { set_bits(i.w[9], 0, 8, uint32_t(v)); }
inline void set_epilogue_sq_shift(Insn& i, uint32_t v) { set_bits(i.w[9], 8, 5, uint32_t(v)); }
inline void set_epilogue_sq_m(Insn& i, int32_t v) { set_bits(i.w[9], 13, 16, uint32_t(v)); }
inline void set_epilogue_seg_cells(Insn& i, uint32_t v) { set_bits(i.w[10], 0, 16, uint32_t(v)); }
inline void set_epilogue_t_nb(Insn& i, uint32_t v) { set_bits(i.w[10], 16, 16, uint32_t(v)); }
inline void set_epilogue_t_m1(Insn& i, uint32_t v) { set_bits(i.w[11], 0, 16, uint32_t(v)); }
inline void set_epilogue_t_m0(Insn& i, uint32_t v) { set_bits(i.w[11], 16, 16, uint32_t(v)); }
inline void set_epilogue_u_nb(Insn& i, uint32_t v) { set_bits(i.w[12], 0, 16, uint32_t(v)); }
inline void set_epilogue_u_m1(Insn& i, uint32_t v) { set_bits(i.w[12], 16, 16, uint32_t(v)); }
inline void set_epilogue_u_m0(Insn& i, uint32_t v) { set_bits(i.w[13], 0, 16, uint32_t(v)); }

inline uint32_t compute_mode(const Insn& i) { return bits(i.w[0], 10, 1); } // GEMM or WINDOW (Mode)
inline uint32_t compute_reduce(const Insn& i) { return bits(i.w[0], 11, 1); } // add products, or take the maximum of x where the weight is not 0
inline uint32_t compute_first(const Insn& i) { return bits(i.w[0], 12, 1); } // clear the accumulators first
inline uint32_t compute_last(const Insn& i) { return bits(i.w[0], 13, 1); } // run the epilogue on the finished rows
inline uint32_t compute_transpose(const Insn& i) { return bits(i.w[0], 14, 1); } // weight word i fills column i of the array instead of row i
inline uint32_t compute_x_wide(const Insn& i) { return bits(i.w[0], 15, 1); } // x is int16: one pass per byte plane (with MAX: both planes at once)
inline uint32_t compute_w_wide(const Insn& i) { return bits(i.w[0], 16, 1); } // w is int16: one pass per byte plane
inline uint32_t compute_stat_first(const Insn& i) { return bits(i.w[0], 17, 1); } // clear the row statistic first
inline uint32_t compute_stat_last(const Insn& i) { return bits(i.w[0], 18, 1); } // write the row statistic
inline uint32_t compute_win_h(const Insn& i) { return bits(i.w[0], 19, 4); } // WINDOW: taps per pass, vertically (at most WIN)
inline uint32_t compute_win_w(const Insn& i) { return bits(i.w[0], 23, 4); } // WINDOW: taps per pass, horizontally (at most WIN)
inline uint32_t compute_m1(const Insn& i) { return bits(i.w[1], 0, 16); } // output rows
inline uint32_t compute_m0(const Insn& i) { return bits(i.w[1], 16, 16); } // output columns
inline uint32_t compute_nb(const Insn& i) { return bits(i.w[2], 0, 16); } // blocks of COLS output channels
inline uint32_t compute_cb(const Insn& i) { return bits(i.w[2], 16, 16); } // K loop: blocks of ROWS input channels
inline uint32_t compute_kh(const Insn& i) { return bits(i.w[3], 0, 8); } // K loop: kernel rows (WINDOW: tiles of taps)
inline uint32_t compute_kw(const Insn& i) { return bits(i.w[3], 8, 8); } // K loop: kernel columns (WINDOW: tiles of taps)
inline uint32_t compute_stride_h(const Insn& i) { return bits(i.w[3], 16, 8); } // WINDOW: vertical stride
inline uint32_t compute_stride_w(const Insn& i) { return bits(i.w[3], 24, 8); } // WINDOW: horizontal stride
inline uint32_t compute_x_base(const Insn& i) { return bits(i.w[4], 0, 16); } // first word of x in IBUF
inline uint32_t compute_x_m1(const Insn& i) { return bits(i.w[4], 16, 16); } // x step per output row (WINDOW: per input row)
inline uint32_t compute_x_m0(const Insn& i) { return bits(i.w[5], 0, 16); } // x step per output column (WINDOW: per input column)
inline uint32_t compute_x_kh(const Insn& i) { return bits(i.w[5], 16, 16); } // x step per kh
inline uint32_t compute_x_kw(const Insn& i) { return bits(i.w[6], 0, 16); } // x step per kw
inline uint32_t compute_x_cb(const Insn& i) { return bits(i.w[6], 16, 16); } // x step per cb
inline uint32_t compute_x_half(const Insn& i) { return bits(i.w[7], 0, 16); } // x step from the low to the high byte plane
inline uint32_t compute_x_nb(const Insn& i) { return bits(i.w[7], 16, 16); } // x step per nb
inline uint32_t compute_w_base(const Insn& i) { return bits(i.w[8], 0, 16); } // first weight word; blocks of ROWS words follow in K order
inline uint32_t compute_w_nb(const Insn& i) { return bits(i.w[8], 16, 16); } // weight words from one nb to the next
inline uint32_t compute_p_base(const Insn& i) { return bits(i.w[9], 0, 16); } // first parameter row
inline uint32_t compute_p_nb(const Insn& i) { return bits(i.w[9], 16, 16); } // parameter rows from one nb to the next (0 or 1)
inline uint32_t compute_acc_base(const Insn& i) { return bits(i.w[10], 0, 16); } // first accumulator row
inline uint32_t compute_o_base(const Insn& i) { return bits(i.w[10], 16, 16); } // first output row
inline uint32_t compute_o_nb(const Insn& i) { return bits(i.w[11], 0, 16); } // output rows from one nb to the next
inline uint32_t compute_t_base(const Insn& i) { return bits(i.w[11], 16, 16); } // first row of t
inline uint32_t compute_u_base(const Insn& i) { return bits(i.w[12], 0, 16); } // first row of u
inline uint32_t compute_r_base(const Insn& i) { return bits(i.w[12], 16, 16); } // first output row of the row statistic
inline void set_compute_mode(Insn& i, uint32_t v) { set_bits(i.w[0], 10, 1, uint32_t(v)); }
inline void set_compute_reduce(Insn& i, uint32_t v) { set_bits(i.w[0], 11, 1, uint32_t(v)); }
inline void set_compute_first(Insn& i, uint32_t v) { set_bits(i.w[0], 12, 1, uint32_t(v)); }
inline void set_compute_last(Insn& i, uint32_t v) { set_bits(i.w[0], 13, 1, uint32_t(v)); }
inline void set_compute_transpose(Insn& i, uint32_t v) { set_bits(i.w[0], 14, 1, uint32_t(v)); }
inline void set_compute_x_wide(Insn& i, uint32_t v) { set_bits(i.w[0], 15, 1, uint32_t(v)); }
inline void set_compute_w_wide(Insn& i, uint32_t v) { set_bits(i.w[0], 16, 1, uint32_t(v)); }
inline void set_compute_stat_first(Insn& i, uint32_t v) { set_bits(i.w[0], 17, 1, uint32_t(v)); }
inline void set_compute_stat_last(Insn& i, uint32_t v) { set_bits(i.w[0], 18, 1, uint32_t(v)); }
inline void set_compute_win_h(Insn& i, uint32_t v) { set_bits(i.w[0], 19, 4, uint32_t(v)); }
inline void set_compute_win_w(Insn& i, uint32_t v) { set_bits(i.w[0], 23, 4, uint32_t(v)); }
inline void set_compute_m1(Insn& i, uint32_t v) { set_bits(i.w[1], 0, 16, uint32_t(v)); }
inline void set_compute_m0(Insn& i, uint32_t v) { set_bits(i.w[1], 16, 16, uint32_t(v)); }
inline void set_compute_nb(Insn& i, uint32_t v) { set_bits(i.w[2], 0, 16, uint32_t(v)); }
inline void set_compute_cb(Insn& i, uint32_t v) { set_bits(i.w[2], 16, 16, uint32_t(v)); }
inline void set_compute_kh(Insn& i, uint32_t v) { set_bits(i.w[3], 0, 8, uint32_t(v)); }
inline void set_compute_kw(Insn& i, uint32_t v) { set_bits(i.w[3], 8, 8, uint32_t(v)); }
inline void set_compute_stride_h(Insn& i, uint32_t v) { set_bits(i.w[3], 16, 8, uint32_t(v)); }
inline void set_compute_stride_w(Insn& i, uint32_t v) { set_bits(i.w[3], 24, 8, uint32_t(v)); }
inline void set_compute_x_base(Insn& i, uint32_t v) { set_bits(i.w[4], 0, 16, uint32_t(v)); }
inline void set_compute_x_m1(Insn& i, uint32_t v) { set_bits(i.w[4], 16, 16, uint32_t(v)); }
inline void set_compute_x_m0(Insn& i, uint32_t v) { set_bits(i.w[5], 0, 16, uint32_t(v)); }
inline void set_compute_x_kh(Insn& i, uint32_t v) { set_bits(i.w[5], 16, 16, uint32_t(v)); }
inline void set_compute_x_kw(Insn& i, uint32_t v) { set_bits(i.w[6], 0, 16, uint32_t(v)); }
inline void set_compute_x_cb(Insn& i, uint32_t v) { set_bits(i.w[6], 16, 16, uint32_t(v)); }
inline void set_compute_x_half(Insn& i, uint32_t v) { set_bits(i.w[7], 0, 16, uint32_t(v)); }
inline void set_compute_x_nb(Insn& i, uint32_t v) { set_bits(i.w[7], 16, 16, uint32_t(v)); }
inline void set_compute_w_base(Insn& i, uint32_t v) { set_bits(i.w[8], 0, 16, uint32_t(v)); }
inline void set_compute_w_nb(Insn& i, uint32_t v) { set_bits(i.w[8], 16, 16, uint32_t(v)); }
inline void set_compute_p_base(Insn& i, uint32_t v) { set_bits(i.w[9], 0, 16, uint32_t(v)); }
inline void set_compute_p_nb(Insn& i, uint32_t v) { set_bits(i.w[9], 16, 16, uint32_t(v)); }
inline void set_compute_acc_base(Insn& i, uint32_t v) { set_bits(i.w[10], 0, 16, uint32_t(v)); }
inline void set_compute_o_base(Insn& i, uint32_t v) { set_bits(i.w[10], 16, 16, uint32_t(v)); }
inline void set_compute_o_nb(Insn& i, uint32_t v) { set_bits(i.w[11], 0, 16, uint32_t(v)); }
inline void set_compute_t_base(Insn& i, uint32_t v) { set_bits(i.w[11], 16, 16, uint32_t(v)); }
inline void set_compute_u_base(Insn& i, uint32_t v) { set_bits(i.w[12], 0, 16, uint32_t(v)); }
inline void set_compute_r_base(Insn& i, uint32_t v) { set_bits(i.w[12], 16, 16, uint32_t(v)); }

} // namespace nm
