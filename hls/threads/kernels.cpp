// SPDX-License-Identifier: Apache-2.0
// The four kernels' own sources as four threads.
// In: SECONDS and folders, each with the bytes of `program`, `const` and `arena`.  Out: for each a
// line "ended ...", "dead-lock ..." or "no end ..."; after an end its `arena` as the kernels left
// it.
#include <chrono>
#include <stdlib.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "nm/kernels.h"

using namespace nm;

namespace {

constexpr size_t PAGE = 4096; // regions begin at multiples of a page, as buffers of a board do

using Bytes = std::vector<uint8_t>;

Bytes read_file(const std::string& path) {
    FILE* file = fopen(path.c_str(), "rb");
    if (file == nullptr) {
        fprintf(stderr, "cannot open %s\n", path.c_str());
        exit(2);
    }
    Bytes bytes;
    for (int c = fgetc(file); c != EOF; c = fgetc(file))
        bytes.push_back(uint8_t(c));
    fclose(file);
    return bytes;
}

// One memory: CONST from its beginning on, then ARENA.
struct Memory {
    size_t const_bytes, arena_base, arena_bytes;
    Bytes bytes;

    Memory(const Bytes& constants, const Bytes& arena)
        : const_bytes(constants.size()), arena_base((const_bytes / PAGE + 1) * PAGE),
          arena_bytes(arena.size()), bytes(constants) {
        bytes.resize(arena_base);
        bytes.insert(bytes.end(), arena.begin(), arena.end());
        bytes.resize(bytes.size() + PAGE);
    }

    void save_arena(const std::string& path) const {
        FILE* file = fopen(path.c_str(), "wb");
        fwrite(bytes.data() + arena_base, 1, arena_bytes, file);
        fclose(file);
    }
};

// On-chip buffers, streams and registers: too large for a thread's stack.
int8_t ibuf[IBUF_WORDS][ROWS], wbuf[WBUF_WORDS][ROWS], pbuf[PBUF_WORDS][ROWS];
int8_t t_lo[TBUF_ROWS][ROWS], t_hi[TBUF_ROWS][ROWS], u_lo[UBUF_ROWS][ROWS], u_hi[UBUF_ROWS][ROWS];
int8_t o_lo[OBUF_ROWS][COLS], o_hi[OBUF_ROWS][COLS];
InsnQueue to_load("queue of LOAD"), to_compute("queue of COMPUTE"), to_store("queue of STORE");
TokenQueue load_compute("LOAD to COMPUTE"), load_store("LOAD to STORE");
TokenQueue compute_load("COMPUTE to LOAD"), compute_store("COMPUTE to STORE");
TokenQueue store_load("STORE to LOAD"), store_compute("STORE to COMPUTE");
volatile uint64_t now = 1;
uint64_t fingerprint, began, busy[3], ended[3];
uint32_t fault[4], sums[2], retired[3];

template <class Kernel> void start(Kernel kernel) {
    std::thread([kernel] {
        kernel();
        Crew::get().ended();
    }).detach(); // the threads of a dead-lock never return
}

void start_all(const Bytes& program, Memory& memory) {
    Crew::get().begin(4);
    start([&] {
        fetch(reinterpret_cast<const FetchBeat*>(program.data()),
              uint32_t(program.size() / (INSN_WORDS * 4)), &now, &fingerprint, &began, &fault[3],
              &sums[0], to_load, to_compute, to_store);
    });
    start([&] {
        load(reinterpret_cast<const LoadBeat*>(memory.bytes.data()), 0,
             uint32_t(memory.const_bytes), memory.arena_base, uint32_t(memory.arena_bytes), &now,
             &busy[0], &ended[0], &retired[0], &fault[0], &sums[1], to_load, compute_load,
             store_load, load_compute, load_store, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo, u_hi);
    });
    start([&] {
        compute(&now, &busy[1], &ended[1], &retired[1], &fault[1], to_compute, load_compute,
                store_compute, compute_load, compute_store, ibuf, wbuf, pbuf, t_lo, t_hi, u_lo,
                u_hi, o_lo, o_hi);
    });
    start([&] {
        store(reinterpret_cast<StoreBeat*>(memory.bytes.data()), memory.arena_base,
              uint32_t(memory.arena_bytes), &now, &busy[2], &ended[2], &retired[2], &fault[2],
              to_store, load_store, compute_store, store_load, store_compute, o_lo, o_hi);
    });
}

void describe() {
    const std::lock_guard<std::mutex> lock(Crew::get().mutex);
    printf("%s: %d of 4 kernels have ended", Crew::get().dead() ? "dead-lock" : "no end in time",
           4 - Crew::get().running());
    for (const InsnQueue* queue : {&to_load, &to_compute, &to_store})
        queue->describe();
    for (const TokenQueue* queue :
         {&load_compute, &load_store, &compute_load, &compute_store, &store_load, &store_compute})
        queue->describe();
    printf("\n");
}

void run(const std::string& folder, int seconds) {
    const Bytes program = read_file(folder + "/program");
    Memory memory(read_file(folder + "/const"), read_file(folder + "/arena"));
    start_all(program, memory);
    if (Crew::get().join(std::chrono::seconds(seconds))) {
        printf("ended: retired %u %u %u, faults %u %u %u %u\n", retired[0], retired[1], retired[2],
               fault[0], fault[1], fault[2], fault[3]);
        memory.save_arena(folder + "/arena");
    } else {
        describe();
    }
    fflush(stdout);
    _exit(0);
}

} // namespace

// Each folder in a process of its own, as kernels start with empty memories and streams.
int main(int argc, char** argv) {
    for (int i = 2; i < argc; ++i) {
        const pid_t child = fork();
        if (child == 0)
            run(argv[i], atoi(argv[1]));
        int status = 0;
        waitpid(child, &status, 0);
        if (status != 0) {
            fprintf(stderr, "%s: the kernels ended with status %d\n", argv[i], status);
            return 1;
        }
    }
    return 0;
}
