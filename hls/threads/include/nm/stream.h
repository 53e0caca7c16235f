// SPDX-License-Identifier: Apache-2.0
// Stands in for nm/stream.h where each kernel is a thread: a full or empty stream blocks it.
// In: a depth.  Out: Stream<T, DEPTH>, and a Crew that notices when no thread can continue.
#pragma once

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <stdio.h>
#include <vector>

namespace nm {

// The threads of one run.  A thread that has to wait leaves a condition here; they dead-lock when
// all that still run wait, each for a condition that does not hold.
class Crew {
  public:
    std::mutex mutex;

    static Crew& get() {
        static Crew crew;
        return crew;
    }

    void begin(int threads) { running_ = threads; }

    // Under the lock; returns once `ready` holds, never after a dead-lock.
    void wait(std::unique_lock<std::mutex>& lock, const std::function<bool()>& ready) {
        if (ready())
            return;
        waiting_.push_back(&ready);
        look();
        changed_.wait(lock, [&] { return ready() && !dead_; });
        for (size_t i = 0; i < waiting_.size(); ++i)
            if (waiting_[i] == &ready)
                waiting_.erase(waiting_.begin() + long(i--));
    }

    void changed() { changed_.notify_all(); }

    void ended() {
        const std::lock_guard<std::mutex> lock(mutex);
        --running_;
        look();
        changed_.notify_all();
    }

    // Returns true once all threads have ended, false after a dead-lock or the time limit.
    bool join(std::chrono::seconds limit) {
        std::unique_lock<std::mutex> lock(mutex);
        changed_.wait_for(lock, limit, [&] { return running_ == 0 || dead_; });
        return running_ == 0;
    }

    bool dead() const { return dead_; }
    int running() const { return running_; }

  private:
    void look() {
        bool stuck = running_ > 0 && int(waiting_.size()) == running_;
        for (const auto* ready : waiting_)
            stuck = stuck && !(*ready)();
        dead_ = dead_ || stuck;
        if (dead_)
            changed_.notify_all();
    }

    std::condition_variable changed_;
    std::vector<const std::function<bool()>*> waiting_;
    int running_ = 0;
    bool dead_ = false;
};

template <class T, int DEPTH> class Stream {
  public:
    explicit Stream(const char* name = "stream") : name_(name) {}

    bool empty() const {
        const std::lock_guard<std::mutex> lock(Crew::get().mutex);
        return items_.empty();
    }

    T read() {
        std::unique_lock<std::mutex> lock(Crew::get().mutex);
        Crew::get().wait(lock, [this] { return !items_.empty(); });
        const T item = items_.front();
        items_.pop_front();
        Crew::get().changed();
        return item;
    }

    void write(const T& item) {
        std::unique_lock<std::mutex> lock(Crew::get().mutex);
        Crew::get().wait(lock, [this] { return items_.size() < size_t(DEPTH); });
        items_.push_back(item);
        Crew::get().changed();
    }

    // Under the lock: what it still holds.
    void describe() const {
        if (!items_.empty())
            printf("; %s holds %d of %d", name_, int(items_.size()), DEPTH);
    }

  private:
    const char* name_;
    std::deque<T> items_;
};

} // namespace nm
