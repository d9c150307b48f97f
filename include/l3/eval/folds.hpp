/// @file  include/l3/eval/folds.hpp: labelled items dealt into folds for cross-validation.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/random.hpp>
#include <map>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// Deals items into `folds` of about the same size, each with its share of every class; items of one group (recordings
/// of one source, say) go to the same fold. The order is random, and a function of the seed, the labels and the groups.
///
/// `groups` has a number for each item, or none at all: then each is a group of its own.
/// Errors  setting_error: fewer than two folds, or fewer groups than folds. shape_error: another number of groups.
inline std::vector<std::uint32_t> stratified_folds(std::span<std::int32_t const> labels,
                                                   std::span<std::uint32_t const> groups, std::uint32_t folds,
                                                   std::uint64_t seed) {
  if (!groups.empty() && groups.size() != labels.size())
    throw shape_error({"groups of items", "one for each of " + std::to_string(labels.size()) + ", or none",
                       std::to_string(groups.size())});
  std::map<std::uint32_t, std::vector<std::size_t>> members;
  for (std::size_t k = 0; k != labels.size(); ++k)
    members[groups.empty() ? static_cast<std::uint32_t>(k) : groups[k]].push_back(k);
  if (folds < 2 || members.size() < folds)
    throw setting_error(
        {"folds", "2 to the number of groups of items, " + std::to_string(members.size()), std::to_string(folds)});
  // By class (of a group's first item), then in random order.
  std::vector<std::tuple<std::int32_t, std::uint32_t, std::uint32_t>> order;
  for (auto const& [group, items] : members)
    order.emplace_back(labels[items.front()], generator(seed, stream::split, 0, group)(), group);
  std::sort(order.begin(), order.end());
  std::vector<std::uint32_t> fold_of(labels.size());
  std::vector<std::size_t> total(folds), of_class(folds);
  std::int32_t current = 0;
  for (auto const& [label, random, group] : order) {
    if (label != current) of_class.assign(folds, 0), current = label;
    std::uint32_t least = 0;
    for (std::uint32_t f = 1; f != folds; ++f)
      if (std::pair(of_class[f], total[f]) < std::pair(of_class[least], total[least])) least = f;
    for (auto const item : members[group]) fold_of[item] = least;
    of_class[least] += members[group].size(), total[least] += members[group].size();
  }
  return fold_of;
}

}  // namespace l3::inline L3_ISA
