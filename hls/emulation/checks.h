// SPDX-License-Identifier: Apache-2.0
// Proves, before an instruction runs, that it stays inside its buffers and its regions.
// In: one instruction and the sizes of the regions.  Out: nothing, or BadProgram with a text.
#pragma once

#include <string>

#include "nm/kernels.h"
#include "nm/walk.h"

namespace nm {

struct BadProgram {
    std::string text;
};

struct Regions {
    int64_t const_bytes;
    int64_t arena_bytes;
};

inline const char* opcode_name(Opcode opcode) {
    static const char* const names[] = {"END", "LOAD", "STORE", "EPILOGUE", "COMPUTE"};
    return uint32_t(opcode) < 5 ? names[uint32_t(opcode)] : "unknown";
}

// The statistic that COMPUTEs without stat_first continue; no rows: there is none.
struct Begun {
    int64_t rows;
    Stat stat;
};

// Checks the fields of one instruction; throws at the first one that is out of range.
class Checker {
  public:
    Checker(int64_t index, const Insn& insn) : index_(index), i_(insn) {}

    void range(const char* field, int64_t found, int64_t low, int64_t high) const {
        if (found < low || found > high)
            fail(field, "found " + std::to_string(found) + ", allowed is " + std::to_string(low) +
                            ".." + std::to_string(high));
    }

    void header() const {
        const Opcode opcode = Opcode(insn_opcode(i_));
        range("opcode", uint32_t(opcode), 0, uint32_t(Opcode::COMPUTE));
        const bool load = opcode == Opcode::LOAD, store = opcode == Opcode::STORE;
        range("wait_load", insn_wait_load(i_), 0, !load);
        range("signal_load", insn_signal_load(i_), 0, !load);
        range("wait_store", insn_wait_store(i_), 0, !store);
        range("signal_store", insn_signal_store(i_), 0, !store);
        range("wait_compute", insn_wait_compute(i_), 0, load || store);
        range("signal_compute", insn_signal_compute(i_), 0, load || store);
    }

    void load(const Regions& regions) const {
        static const int64_t words[] = {IBUF_WORDS, WBUF_WORDS, PBUF_WORDS, TBUF_ROWS,
                                        TBUF_ROWS,  UBUF_ROWS,  UBUF_ROWS};
        range("dest", load_dest(i_), 0, 6);
        counts(load_n2(i_), load_n1(i_), load_n0(i_));
        range("last word written", load_dst(i_) + int64_t(load_words(i_)) - 1, 0,
              words[load_dest(i_)] - 1);
        const bool arena = Region(load_region(i_)) == Region::ARENA;
        const int64_t limit = arena ? regions.arena_bytes : regions.const_bytes;
        if (!load_inside(i_, uint64_t(limit)))
            fail("addr", outside(load_addr(i_), arena ? "ARENA" : "CONST", limit));
    }

    void store(const Regions& regions) const {
        counts(store_n2(i_), store_n1(i_), store_n0(i_));
        const int64_t rows = int64_t(store_n2(i_)) * store_n1(i_) * store_n0(i_);
        range("last row read", store_src(i_) + rows - 1, 0, OBUF_ROWS - 1);
        if (!store_inside(i_, uint64_t(regions.arena_bytes)))
            fail("addr", outside(store_addr(i_), "ARENA", regions.arena_bytes));
        if (!store_aligned(i_))
            fail("addr", "found a word at no multiple of " + std::to_string(COLS) +
                             " bytes, allowed are whole words");
    }

    void epilogue() const {
        const bool mapped = SegKind(epilogue_seg_kind(i_)) == SegKind::MAPPED;
        range("u_en (with MOMENTS)", epilogue_u_en(i_), 0,
              Stat(epilogue_stat(i_)) != Stat::MOMENTS);
        range("stat_lanes", epilogue_stat_lanes(i_), 0, COLS);
        const int64_t count = epilogue_seg_count(i_);
        range("seg_count", count, epilogue_seg_kind(i_) != 0, SEG_ENTRIES);
        const int64_t cells = epilogue_seg_cells(i_);
        range("seg_cells", cells, mapped, MAP_CELLS);
        const int64_t map_row = epilogue_seg_base(i_) + (count + COLS - 1) / COLS;
        if (count > 0)
            range("last segment row", map_row - 1, 0, PBUF_ROWS - 1);
        if (cells > 0)
            range("last map row", map_row + (cells + 8 * COLS - 1) / (8 * COLS) - 1, 0,
                  PBUF_ROWS - 1);
    }

    void compute(bool ready, const EpilogueConfig& e, const Begun& begun) const {
        range("m1", compute_m1(i_), 1, 0xffff), range("m0", compute_m0(i_), 1, 0xffff);
        range("nb", compute_nb(i_), 1, 0xffff), range("cb", compute_cb(i_), 1, 0xffff);
        range("kh", compute_kh(i_), 1, 0xff), range("kw", compute_kw(i_), 1, 0xff);
        if (compute_nb(i_) > 1) {
            range("first (with nb > 1)", compute_first(i_), 1, 1);
            range("last (with nb > 1)", compute_last(i_), 1, 1);
        }
        window();
        operands();
        const int64_t rows = int64_t(compute_m1(i_)) * compute_m0(i_);
        range("last accumulator row", compute_acc_base(i_) + rows - 1, 0, ACC_ROWS - 1);
        if (!compute_last(i_))
            return;
        range("EPILOGUE before this", ready, 1, 1);
        results(rows, e);
        statistic(rows, e.stat, begun);
    }

  private:
    [[noreturn]] void fail(const char* field, const std::string& found) const {
        throw BadProgram{"instruction " + std::to_string(index_) + " (" +
                         opcode_name(Opcode(insn_opcode(i_))) + "): " + field + ": " + found +
                         "; the program is corrupted, compile it again"};
    }

    static std::string outside(uint32_t addr, const char* region, int64_t limit) {
        return "found a transfer from byte " + std::to_string(addr) + " on that leaves " + region +
               ", allowed is 0.." + std::to_string(limit - 1);
    }

    void counts(uint32_t n2, uint32_t n1, uint32_t n0) const {
        range("n2", n2, 1, 0xffff), range("n1", n1, 1, 0xffff), range("n0", n0, 1, 0xffff);
    }

    bool is_window() const { return Mode(compute_mode(i_)) == Mode::WINDOW; }

    int64_t height() const {
        const int64_t m1 = compute_m1(i_);
        return is_window() ? (m1 - 1) * compute_stride_h(i_) + compute_win_h(i_) : m1;
    }

    int64_t width() const {
        const int64_t m0 = compute_m0(i_);
        return is_window() ? (m0 - 1) * compute_stride_w(i_) + compute_win_w(i_) : m0;
    }

    void window() const {
        if (!is_window())
            return;
        range("win_h", compute_win_h(i_), 1, WIN), range("win_w", compute_win_w(i_), 1, WIN);
        range("stride_h", compute_stride_h(i_), 1, 0xff);
        range("stride_w", compute_stride_w(i_), 1, 0xff);
        range("words in an input row", width(), 1, LINE_WORDS);
    }

    // Every step of an address is unsigned, so that the last word is the highest.
    void operands() const {
        const int64_t nb = compute_nb(i_) - 1, cb = compute_cb(i_) - 1;
        const int64_t kh = compute_kh(i_) - 1, kw = compute_kw(i_) - 1;
        const int64_t x = compute_x_base(i_) + (height() - 1) * compute_x_m1(i_) +
                          (width() - 1) * compute_x_m0(i_) + nb * compute_x_nb(i_) +
                          cb * compute_x_cb(i_) + kh * compute_x_kh(i_) + kw * compute_x_kw(i_) +
                          int64_t(compute_x_wide(i_)) * compute_x_half(i_);
        range("last word of x", x, 0, IBUF_WORDS - 1);
        const int64_t blocks = (kh + 1) * (kw + 1) * (cb + 1) * (1 + compute_w_wide(i_));
        range("last weight word", compute_w_base(i_) + nb * compute_w_nb(i_) + blocks * ROWS - 1, 0,
              WBUF_WORDS - 1);
    }

    void results(int64_t rows, const EpilogueConfig& e) const {
        const int64_t nb = compute_nb(i_) - 1;
        const int64_t m1 = compute_m1(i_) - 1, m0 = compute_m0(i_) - 1;
        range("last parameter row", compute_p_base(i_) + nb * compute_p_nb(i_), 0, PBUF_ROWS - 1);
        range("last output row", compute_o_base(i_) + nb * compute_o_nb(i_) + rows - 1, 0,
              OBUF_ROWS - 1);
        if (e.t_en)
            range("last row of t", compute_t_base(i_) + nb * e.t_nb + m1 * e.t_m1 + m0 * e.t_m0, 0,
                  TBUF_ROWS - 1);
        if (e.u_en)
            range("last row of u", compute_u_base(i_) + nb * e.u_nb + m1 * e.u_m1 + m0 * e.u_m0, 0,
                  UBUF_ROWS - 1);
    }

    void statistic(int64_t rows, Stat stat, const Begun& begun) const {
        if (stat == Stat::NONE)
            return;
        if (!compute_stat_first(i_)) {
            range("rows (with stat_first 0)", rows, begun.rows, begun.rows);
            range("stat (with stat_first 0)", int(stat), int(begun.stat), int(begun.stat));
        }
        if (compute_stat_last(i_))
            range("last statistic row", compute_r_base(i_) + stat_rows(uint32_t(rows), stat) - 1, 0,
                  OBUF_ROWS - 1);
    }

    int64_t index_;
    const Insn& i_;
};

} // namespace nm
