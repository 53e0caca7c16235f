// SPDX-License-Identifier: Apache-2.0
// Shared parts of the benches: seeded bytes with extremes, a count of mismatches, and a digest of
// all results, which is the same on every machine.
// In: nothing.  Out: Random, Check.  Benches return 0 on success, as Vitis csim requires.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>

namespace tb {

class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}

    uint32_t next() {
        state_ = state_ * 6364136223846793005ull + 1442695040888963407ull;
        return uint32_t(state_ >> 33);
    }

    int64_t range(int64_t low, int64_t high) {
        const uint64_t wide = (uint64_t(next()) << 31) ^ next();
        return low + int64_t(wide % uint64_t(high - low + 1));
    }

    // Signed bytes, with many zeros and both extremes.
    int8_t byte() {
        const uint32_t kind = next() % 16;
        if (kind < 2)
            return 0;
        return kind == 2 ? int8_t(-128) : kind == 3 ? int8_t(127) : int8_t(range(-128, 127));
    }

    template <class T> void fill(T* data, size_t bytes) {
        for (size_t i = 0; i < bytes; ++i)
            reinterpret_cast<int8_t*>(data)[i] = byte();
    }

  private:
    uint64_t state_;
};

class Check {
  public:
    void equal(int64_t found, int64_t wanted, const char* what) {
        add(uint64_t(found));
        if (found == wanted)
            return;
        if (++failures_ <= 10)
            std::printf("%s: found %lld, wanted %lld\n", what, static_cast<long long>(found),
                        static_cast<long long>(wanted));
    }

    void same(const void* found, const void* wanted, size_t bytes, const char* what) {
        for (size_t i = 0; i < bytes; ++i)
            add(static_cast<const uint8_t*>(found)[i]);
        equal(std::memcmp(found, wanted, bytes) != 0, 0, what);
    }

    int result(const char* bench) const {
        std::printf("%s: %s, digest %016llx\n", bench, failures_ ? "FAILED" : "passed",
                    static_cast<unsigned long long>(digest_));
        return failures_ ? 1 : 0;
    }

  private:
    void add(uint64_t value) { digest_ = (digest_ ^ value) * 1099511628211ull; }

    int failures_ = 0;
    uint64_t digest_ = 14695981039346656037ull;
};

} // namespace tb
