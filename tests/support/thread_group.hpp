// Threads that play the processes of a group.
#pragma once
#include <algorithm>
#include <barrier>
#include <l3/core/process_group.hpp>
#include <span>
#include <vector>

/// One of them; the others have the same `shared`.
class thread_group final : public l3::process_group {
 public:
  struct shared {
    explicit shared(std::size_t size)
        : meet(static_cast<std::ptrdiff_t>(size)), blocks(size), values(size), factors(size) {}
    std::barrier<> meet;
    std::vector<std::span<std::byte const>> blocks;
    std::vector<std::vector<std::span<float>>> values;
    std::vector<std::vector<float>> factors;
  };
  thread_group(shared& s, std::size_t rank) : s_(s), rank_(rank) {}
  std::size_t rank() const override { return rank_; }
  std::size_t size() const override { return s_.blocks.size(); }
  void gather(std::span<std::byte const> mine, std::span<std::byte> all) override {
    s_.blocks[rank_] = mine;
    s_.meet.arrive_and_wait();
    for (std::size_t r = 0; r != size(); ++r)
      std::copy(s_.blocks[r].begin(), s_.blocks[r].end(), all.data() + r * mine.size());
    s_.meet.arrive_and_wait();
  }
  void sum_parts(std::span<float const> parts, std::span<float> mine) override {
    s_.blocks[rank_] = std::as_bytes(parts);
    s_.meet.arrive_and_wait();
    auto const part = [&](std::size_t r) {
      return reinterpret_cast<float const*>(s_.blocks[r].data()) + rank_ * mine.size();
    };
    for (std::size_t k = 0; k != mine.size(); ++k) {
      mine[k] = part(0)[k];
      for (std::size_t r = 1; r != size(); ++r) mine[k] += part(r)[k];
    }
    s_.meet.arrive_and_wait();
  }
  void begin_mean(std::span<float> values, float factor) override {
    s_.values[rank_].push_back(values);
    s_.factors[rank_].push_back(factor);
    most_begun = std::max(most_begun, s_.values[rank_].size());
  }
  void poke() override { ++pokes; }
  void finish_sums() override {
    s_.meet.arrive_and_wait();
    std::vector<std::vector<float>> sums;
    for (std::size_t b = 0; b != s_.values[rank_].size(); ++b) {
      auto& sum = sums.emplace_back(s_.values[0][b].begin(), s_.values[0][b].end());
      for (std::size_t r = 1; r != size(); ++r)
        for (std::size_t k = 0; k != sum.size(); ++k) sum[k] += s_.values[r][b][k];
      for (float& x : sum) x *= s_.factors[rank_][b];
    }
    s_.meet.arrive_and_wait();
    for (std::size_t b = 0; b != sums.size(); ++b)
      std::copy(sums[b].begin(), sums[b].end(), s_.values[rank_][b].begin());
    s_.values[rank_].clear(), s_.factors[rank_].clear();
    s_.meet.arrive_and_wait();
  }
  std::size_t most_begun = 0, pokes = 0;

 private:
  shared& s_;
  std::size_t rank_;
};
