/// @file  examples/l3/writers.hpp: threads that write files while others compute.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace l3::program {

/// Writes files on a few threads, each of which waits for its disk. What a file meets is thrown at whoever comes next.
class writers {
 public:
  writers() {
    threads_.reserve(4);
    for (int k = 0; k < 4; ++k) try {
        threads_.emplace_back([this] { work(); });
      } catch (std::exception const&) {  // no more threads: fewer do too
        if (threads_.empty()) throw;
      }
  }
  /// Writes what waits, unless that has failed before.
  ~writers() {
    {
      std::lock_guard const lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
  }
  writers(writers const&) = delete;
  writers& operator=(writers const&) = delete;

  /// `bytes` will be written by `write`. Waits while much is to be written already. Errors: what earlier files met.
  void add(std::size_t bytes, std::function<void()> write) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock,
                  [&] { return failure_ || held_ == 0 || (waiting_.size() < 64 && held_ + bytes <= most_bytes); });
    throw_failure();
    waiting_.push_back({bytes, std::move(write)});
    held_ += bytes;
    lock.unlock();
    changed_.notify_all();
  }
  /// Errors: what earlier files met.
  void check() {
    std::lock_guard const lock(mutex_);
    throw_failure();
  }
  /// Until all is written. Errors: what files met.
  void finish() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return failure_ || (waiting_.empty() && busy_ == 0); });
    throw_failure();
  }

 private:
  static constexpr std::size_t most_bytes = std::size_t{256} << 20;
  struct file {
    std::size_t bytes;
    std::function<void()> write;
  };
  void throw_failure() const {
    if (failure_) std::rethrow_exception(failure_);
  }
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return stopping_ || !waiting_.empty(); });
      if (waiting_.empty() || failure_) return;
      file next = std::move(waiting_.front());
      waiting_.pop_front();
      ++busy_;
      lock.unlock();
      std::exception_ptr failure;
      try {
        next.write();
      } catch (...) {
        failure = std::current_exception();
      }
      next.write = nullptr;
      lock.lock();
      --busy_;
      held_ -= next.bytes;
      if (failure && !failure_) failure_ = failure;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<file> waiting_;
  std::size_t busy_ = 0, held_ = 0;
  std::exception_ptr failure_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace l3::program
