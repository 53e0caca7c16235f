// SPDX-License-Identifier: Apache-2.0
// The C ABI of the emulation: a device, of which every thread may own one.
// In: a Job.  Out: the arena's bytes, Totals, a timeline, watched bytes; or a status and a text.
#include <cstdio>
#include <cstring>
#include <new>
#include <type_traits>

#include "scheduler.h"

// The only exported names of the library; hidden ones are called directly.
#define NM_API extern "C" __attribute__((visibility("default")))

namespace {

enum Status { OK = 0, BAD_PROGRAM = 1, DEADLOCK = 2, NO_MEMORY = 3 };

// Copy `bytes` of the arena from `offset` on, right after instruction `index` ran.
struct Watch {
    int64_t index, offset, bytes, to; // `to`: offset in Job::watched
};

struct Job {
    nm::Timing timing;
    const uint8_t* constants;
    int64_t const_bytes;
    uint8_t* arena;
    int64_t arena_bytes;
    const uint32_t* program;
    int64_t count;
    const Watch* watches; // by ascending index
    int64_t watch_count;
    uint8_t* watched;
    nm::Record* timeline; // one per instruction, or null
};

static_assert(std::is_standard_layout<Job>::value, "ctypes mirrors the layout");

void copy_watched(const Job& job, int64_t index) {
    const Watch* const end = job.watches + job.watch_count;
    const auto before = [](const Watch& w, int64_t i) { return w.index < i; };
    const Watch* w = std::lower_bound(job.watches, end, index, before);
    for (; w != end && w->index == index; ++w)
        std::memcpy(job.watched + w->to, job.arena + w->offset, size_t(w->bytes));
}

Status fail(Status status, const std::string& text, char* error, int64_t room) {
    std::snprintf(error, size_t(room), "%s", text.c_str());
    return status;
}

} // namespace

NM_API const char* nm_fingerprint() {
    return nm::FINGERPRINT;
}

NM_API nm::Device* nm_create() {
    return new (std::nothrow) nm::Device();
}

NM_API void nm_destroy(nm::Device* device) {
    delete device;
}

NM_API int nm_run(nm::Device* device, const Job* job, nm::Totals* totals, char* error,
                  int64_t room) {
    const nm::Memory memory = {job->constants, job->arena, {job->const_bytes, job->arena_bytes}};
    const auto after = [job](int64_t index) { copy_watched(*job, index); };
    try {
        device->reset();
        nm::Scheduler scheduler(reinterpret_cast<const nm::Insn*>(job->program), job->count,
                                job->timing, job->timeline);
        *totals = scheduler.run(*device, memory, after);
        return OK;
    } catch (const nm::BadProgram& found) {
        return fail(BAD_PROGRAM, found.text, error, room);
    } catch (const nm::Deadlock& found) {
        return fail(DEADLOCK, found.text, error, room);
    } catch (const std::bad_alloc&) {
        return fail(NO_MEMORY, "the host has no memory left for the emulation", error, room);
    }
}
