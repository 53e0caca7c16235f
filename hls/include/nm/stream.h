// SPDX-License-Identifier: Apache-2.0
// A bounded, named stream between kernels.
// In: a depth.  Out: Stream<T, DEPTH> with read, write, empty; misuse on a CPU stops at once.
#pragma once

#if defined(__SYNTHESIS__) || defined(NM_AP_TYPES)

#include <hls_stream.h>

namespace nm {
template <class T, int DEPTH> using Stream = hls::stream<T>;
} // namespace nm

#else

#include <stdio.h>
#include <stdlib.h>

namespace nm {

// On an empty read hls::stream in software returns zero with a warning, which hides the error.
template <class T, int DEPTH> class Stream {
  public:
    explicit Stream(const char* name = "stream") : name_(name), head_(0), count_(0) {}

    bool empty() const { return count_ == 0; }

    T read() {
        if (count_ == 0)
            stop("read while empty");
        const T value = slot_[head_];
        head_ = (head_ + 1) % DEPTH;
        --count_;
        return value;
    }

    void write(const T& value) {
        if (count_ == DEPTH)
            stop("written while full");
        slot_[(head_ + count_) % DEPTH] = value;
        ++count_;
    }

  private:
    void stop(const char* what) const {
        fprintf(stderr, "stream '%s' of depth %d %s\n", name_, DEPTH, what);
        abort();
    }

    const char* name_;
    int head_;
    int count_;
    T slot_[DEPTH];
};

} // namespace nm

#endif
