/// @file  include/l3/eval/confusion.hpp: which classes are taken for which.
#pragma once
#include <cstddef>
#include <l3/core/config.hpp>
#include <vector>

namespace l3::inline L3_ISA {

/// Counts of (class, what it was taken for).
class confusion_matrix {
 public:
  explicit confusion_matrix(std::size_t classes) : classes_(classes), counts_(classes * classes) {}

  void add(std::size_t label, std::size_t predicted) { ++counts_[label * classes_ + predicted]; }
  void add(confusion_matrix const& other) {
    for (std::size_t k = 0; k != counts_.size(); ++k) counts_[k] += other.counts_[k];
  }

  std::size_t at(std::size_t label, std::size_t predicted) const { return counts_[label * classes_ + predicted]; }
  std::size_t of_class(std::size_t label) const {
    std::size_t sum = 0;
    for (std::size_t p = 0; p != classes_; ++p) sum += at(label, p);
    return sum;
  }

 private:
  std::size_t classes_;
  std::vector<std::size_t> counts_;
};

}  // namespace l3::inline L3_ISA
