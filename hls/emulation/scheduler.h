// SPDX-License-Identifier: Apache-2.0
// The order and times of instructions: units, queues, tokens, the shared DRAM.
// In: a program and a Device.  Out: cycles, a timeline, or Deadlock with each unit's reason.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "device.h"

namespace nm {

constexpr int UNITS = 3;

struct Timing {
    int32_t load_port_bytes;
    int32_t store_port_bytes;
    int32_t fetch_port_bytes;
    int32_t ddr_bytes_per_256_cycles;
    int32_t burst_beats;
    int32_t dram_latency;
};

// When and why one instruction ran.  `reason`: 0 its unit was busy, 1 it was not yet fetched,
// 2 + u it waited for a token of unit u.  `dram`: cycles lost to the other port's traffic.
struct Record {
    int32_t unit;
    int32_t reason;
    int64_t push, start, end, dram;
};

struct Totals {
    int64_t cycles;
    int64_t busy[UNITS]; // own cycles, without those lost to the other port's traffic
    int64_t dram_busy;   // at the DRAM's effective bandwidth
    int64_t dram_bytes;
    int64_t checksum; // checksum of the constants that LOAD read
};

struct Deadlock {
    std::string text;
};

inline const char* unit_name(int unit) {
    static const char* const names[] = {"LOAD", "COMPUTE", "STORE"};
    return names[unit];
}

class Scheduler {
  public:
    Scheduler(const Insn* program, int64_t count, const Timing& timing, Record* timeline)
        : program_(program), count_(count), timing_(timing), timeline_(timeline),
          fetch_free_(timing.dram_latency) {}

    // Runs everything; after(index) is called once instruction `index` has run.
    template <class After> Totals run(Device& device, const Memory& memory, const After& after) {
        const Port load_port = {timing_.load_port_bytes, timing_.burst_beats};
        const Port store_port = {timing_.store_port_bytes, timing_.burst_beats};
        for (;;) {
            fetch();
            const int unit = choose();
            if (unit < 0)
                break;
            const int64_t index = head(unit).index;
            const Insn& insn = program_[index];
            finish(unit, device.run(index, insn, memory, load_port, store_port));
            after(index);
        }
        if (!ended_ || !idle())
            throw Deadlock{describe()};
        totals_.checksum = device.checksum();
        return totals_;
    }

  private:
    struct Entry {
        int64_t index, push;
    };

    // Tokens from one unit to another: when they arrived, and when the receivers started.
    struct Channel {
        std::vector<int64_t> arrived, popped;
    };

    struct Lane {
        std::vector<Entry> pushed;
        std::vector<int64_t> starts;
        int64_t free = 0, end = 0;
        uint32_t owed = 0; // units to which the last instruction still has to send a token
        bool known = false;
        int64_t start = 0;
        int reason = 0;
    };

    // Bit u of the header's wait (from bit 4) or signal (from bit 7) flags.
    static uint32_t flags(const Insn& insn, int from) { return insn.w[0] >> from & 7; }

    const Entry& head(int unit) const { return lanes_[unit].pushed[lanes_[unit].starts.size()]; }

    bool empty(int unit) const { return lanes_[unit].starts.size() == lanes_[unit].pushed.size(); }

    bool idle() const {
        bool all = true;
        for (int u = 0; u < UNITS; ++u)
            all = all && empty(u) && lanes_[u].owed == 0;
        return all;
    }

    void fetch() {
        while (!ended_) {
            if (fetched_ == count_)
                throw BadProgram{"instructions: found no END, allowed is one at the end; the "
                                 "program is corrupted, compile it again"};
            const Insn& insn = program_[fetched_];
            Checker(fetched_, insn).header();
            const int64_t done =
                fetch_free_ + cdiv(INSN_WORDS * 4, timing_.fetch_port_bytes) + FETCH_CYCLES_EXTRA;
            const Opcode opcode = Opcode(insn_opcode(insn));
            if (opcode == Opcode::END) {
                record(fetched_, {-1, 0, 0, 0, 0, 0});
                totals_.cycles = std::max(totals_.cycles, done);
                ended_ = true;
                return;
            }
            Lane& lane = lanes_[uint32_t(unit_of(opcode))];
            const size_t k = lane.pushed.size();
            if (k >= QUEUE_DEPTH && k - QUEUE_DEPTH >= lane.starts.size())
                return;
            const int64_t room = k >= QUEUE_DEPTH ? lane.starts[k - QUEUE_DEPTH] : 0;
            fetch_free_ = std::max(done, room);
            lane.pushed.push_back({fetched_++, fetch_free_});
        }
    }

    // True where a token from one unit to another has no room yet.
    bool full(int from, int to) const {
        const Channel& channel = channels_[from][to];
        const size_t k = channel.arrived.size();
        return k >= TOKEN_DEPTH && k - TOKEN_DEPTH >= channel.popped.size();
    }

    // Sends the last instruction's tokens, all of them at once, when every one has room.
    void settle(int unit) {
        Lane& lane = lanes_[unit];
        int64_t at = lane.end;
        for (int q = 0; q < UNITS; ++q) {
            if (!(lane.owed >> q & 1))
                continue;
            if (full(unit, q))
                return;
            const Channel& channel = channels_[unit][q];
            const size_t k = channel.arrived.size();
            if (k >= TOKEN_DEPTH)
                at = std::max(at, channel.popped[k - TOKEN_DEPTH]);
        }
        for (int q = 0; q < UNITS; ++q)
            if (lane.owed >> q & 1)
                channels_[unit][q].arrived.push_back(at);
        lane.free = std::max(lane.free, at);
        lane.owed = 0;
        if (timeline_ != nullptr)
            timeline_[lane.pushed[lane.starts.size() - 1].index].end = lane.free;
        totals_.cycles = std::max(totals_.cycles, lane.free);
    }

    bool lacks(int unit, int from) const {
        const Channel& channel = channels_[from][unit];
        const bool waits = flags(program_[head(unit).index], 4) >> from & 1;
        return waits && channel.popped.size() >= channel.arrived.size();
    }

    // Start of the unit's head, when all that it waits for is known.
    void look(int unit) {
        Lane& lane = lanes_[unit];
        if (lane.known || lane.owed != 0 || empty(unit))
            return;
        lane.start = lane.free, lane.reason = 0;
        const auto wait = [&lane](int64_t until, int reason) {
            if (until > lane.start)
                lane.start = until, lane.reason = reason;
        };
        wait(head(unit).push + QUEUE_HOP, 1);
        const uint32_t waits = flags(program_[head(unit).index], 4);
        for (int p = 0; p < UNITS; ++p) {
            if (!(waits >> p & 1))
                continue;
            if (lacks(unit, p))
                return;
            wait(channels_[p][unit].arrived[channels_[p][unit].popped.size()], 2 + p);
        }
        lane.known = true;
    }

    // The unit whose head can start first; ties go to LOAD, then COMPUTE.  -1: none.
    int choose() {
        int best = -1;
        for (int u = 0; u < UNITS; ++u)
            if (lanes_[u].owed != 0)
                settle(u);
        for (int u = 0; u < UNITS; ++u) {
            look(u);
            if (lanes_[u].known && (best < 0 || lanes_[u].start < lanes_[best].start))
                best = u;
        }
        return best;
    }

    void finish(int unit, const Meter& meter) {
        Lane& lane = lanes_[unit];
        const Entry entry = head(unit);
        const bool dma = unit != int(Unit::COMPUTE);
        int64_t end = lane.start + meter.cycles, alone = end;
        if (dma) {
            const int64_t latency = timing_.dram_latency;
            const int64_t setup = unit == int(Unit::LOAD) ? LOAD_SETUP : STORE_SETUP;
            alone = end + latency;
            const int64_t traffic = cdiv(meter.bytes * 256, timing_.ddr_bytes_per_256_cycles);
            dram_free_ = std::max(lane.start, dram_free_) + traffic;
            totals_.dram_busy += traffic;
            end = std::max(alone, dram_free_ + setup + latency);
        }
        for (int p = 0; p < UNITS; ++p)
            if (flags(program_[entry.index], 4) >> p & 1)
                channels_[p][unit].popped.push_back(lane.start);
        record(entry.index, {unit, lane.reason, entry.push, lane.start, end, end - alone});
        totals_.busy[unit] += alone - lane.start;
        totals_.dram_bytes += meter.bytes;
        totals_.cycles = std::max(totals_.cycles, end);
        lane.starts.push_back(lane.start);
        lane.free = lane.end = end;
        lane.owed = flags(program_[entry.index], 7);
        lane.known = false;
    }

    void record(int64_t index, const Record& entry) {
        if (timeline_ != nullptr)
            timeline_[index] = entry;
    }

    // One clause per unit: what it waits for.
    std::string describe() const {
        std::string text = "the program dead-locks: ";
        for (int u = 0; u < UNITS; ++u)
            text += (u ? "; " : "") + describe(u);
        if (!ended_)
            text += "; FETCH at instruction " + std::to_string(fetched_) +
                    " waits for room in the queue of " +
                    unit_name(int(unit_of(Opcode(insn_opcode(program_[fetched_])))));
        return text + "; compile it again";
    }

    std::string describe(int u) const {
        const std::string name = unit_name(u);
        std::string missing;
        if (lanes_[u].owed != 0) {
            for (int q = 0; q < UNITS; ++q)
                if ((lanes_[u].owed >> q & 1) && full(u, q))
                    missing += (missing.empty() ? "" : ", ") + std::string(unit_name(q));
            const int64_t last = lanes_[u].pushed[lanes_[u].starts.size() - 1].index;
            return name + " after instruction " + std::to_string(last) +
                   " has no room for its token to " + missing;
        }
        if (empty(u))
            return name + " has an empty queue";
        for (int p = 0; p < UNITS; ++p)
            if (lacks(u, p))
                missing += (missing.empty() ? "" : ", ") + std::string(unit_name(p));
        return name + " at instruction " + std::to_string(head(u).index) + " (" +
               opcode_name(Opcode(insn_opcode(program_[head(u).index]))) +
               ") waits for a token of " + missing;
    }

    const Insn* program_;
    int64_t count_;
    Timing timing_;
    Record* timeline_;
    int64_t fetched_ = 0, fetch_free_, dram_free_ = 0;
    bool ended_ = false;
    Lane lanes_[UNITS];
    Channel channels_[UNITS][UNITS]; // [from][to]
    Totals totals_ = {};
};

} // namespace nm
