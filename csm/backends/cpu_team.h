// Threads that go through the same phases together.

#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include <omp.h>
#include <sched.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// Threads that share the work of a phase and wait for each other at its end.
//
// OpenMP's own barrier keeps spinning. On a machine with other work to do, that keeps the very thread it waits for off
// its core, and a frame takes seconds. Here a waiting thread yields, and a delayed thread leaves its share to the
// others.
class Team {
 public:
  explicit Team(int size) : size_(size) {}

  template <typename Work> void share(int count, const Work& work) {
    std::atomic<int>& next = next_[phase_.load(std::memory_order_relaxed) % 2];
    for (int first = next.load(std::memory_order_relaxed); first < count;) {
      // The less work is left, the smaller the shares, so that all threads finish at about the same time.
      const int last = first + std::max(1, (count - first) / (4 * size_));
      if (!next.compare_exchange_weak(first, last, std::memory_order_relaxed)) continue;
      for (int item = first; item < last; item++) work(item);
      first = next.load(std::memory_order_relaxed);
    }
    wait();
  }

 private:
  void wait() {
    const int phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      next_[phase % 2].store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      return;
    }
    for (int turn = 0; phase_.load(std::memory_order_acquire) == phase; turn++) {
      if (turn > 1000) sched_yield();
#if defined(__x86_64__)
      else _mm_pause();
#endif
    }
  }

  const int size_;
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<int> phase_{0};
  alignas(64) std::atomic<int> next_[2] = {{0}, {0}};
};

// Runs `work(team)` in each of up to `threads` threads.
template <typename Work> void with_team(int threads, const Work& work) {
  std::unique_ptr<Team> team;
#pragma omp parallel num_threads(threads)
  {
#pragma omp single
    team = std::make_unique<Team>(omp_get_num_threads());
    work(*team);
  }
}

}  // namespace
