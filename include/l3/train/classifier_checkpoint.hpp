/// @file  include/l3/train/classifier_checkpoint.hpp: a classifier in a safetensors file, named and laid out as
/// checkpoints of L³-Nets are.
#pragma once
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <l3/model/classifier.hpp>
#include <l3/train/checkpoint.hpp>
#include <l3/train/softmax_head.hpp>
#include <span>
#include <string>
#include <vector>

namespace l3::inline L3_ISA {

/// "tiny width=16 ... vision classes=10".
template <class Network>
std::string describe_classifier(std::size_t classes) {
  return describe_model<typename Network::config>() + " " + std::string(Network::side::name.view()) +
         " classes=" + std::to_string(classes);
}

/// How many classes a classifier's checkpoint has. Its last layer is as large as that, and its model says so, too.
/// Errors: file_error; format_error: it is none.
inline std::size_t classes_of_checkpoint(std::filesystem::path const& path) {
  safetensors_file const file = safetensors_file::open(path);
  auto const shape = [&](char const* name) {
    bool const is_there = file.contains(name) && file.entry(name).dtype == "F32";
    return is_there ? file.entry(name).shape : std::vector<std::size_t>{};
  };
  auto const biases = shape("classifier.fc2.bias"), weights = shape("classifier.fc2.weight");
  if (biases.size() != 1 || weights.size() != 2 || weights.front() != biases.front() ||
      !file.metadata("l3.model").ends_with(" classes=" + std::to_string(biases.front())))
    throw format_error({path.string(), "a checkpoint of a classifier, as `l3 baseline trunk` writes them", "another"});
  return biases.front();
}

namespace detail {
/// Calls f(name, values, shape) for each tensor of the last layer and, if wanted, of its optimizer.
template <class Head, class F>
void for_each_head_tensor(Head& head, bool with_optimizer, F&& f) {
  auto const both = [&](std::string const& prefix, std::string const& suffix, auto* weights, auto* biases) {
    f(prefix + "classifier.fc2.weight" + suffix, std::span(weights, head.classes() * head.inputs()),
      std::vector<std::size_t>{head.classes(), head.inputs()});
    f(prefix + "classifier.fc2.bias" + suffix, std::span(biases, head.classes()),
      std::vector<std::size_t>{head.classes()});
  };
  both("", "", head.weights().data(), head.biases().data());
  if (!with_optimizer) return;
  auto* const first = head.first_moments().data();
  auto* const second = head.second_moments().data();
  both("optimizer.", ".exp_avg", first, first + head.bias_offset());
  both("optimizer.", ".exp_avg_sq", second, second + head.bias_offset());
}
}  // namespace detail

/// Writes a classifier, whole or not at all. Without an optimizer it holds the weights alone. Errors: as
/// save_checkpoint.
template <class Network>
void save_classifier(std::filesystem::path const& path, Network const& net, softmax_weights<float>& head,
                     std::type_identity_t<adam<Network>> const* optimizer, checkpoint_facts facts) {
  facts.model = describe_classifier<Network>(head.classes());
  facts.front_end = Network::config::front_end::name;
  detail::write_checkpoint(path, net, optimizer, facts, [&](safetensors_writer& out) {
    detail::for_each_head_tensor(head, optimizer != nullptr,
                                 [&](std::string const& name, std::span<float const> values, auto const& shape) {
                                   detail::require_finite<numeric_error>(path, name, values);
                                   out.add(name, shape, values);
                                 });
  });
}

/// Reads a classifier into `net`, `head` and, unless null, `optimizer`. All stay as they were on any error. Errors: as
/// load_checkpoint.
template <class Network>
checkpoint_facts load_classifier(std::filesystem::path const& path, Network& net, softmax_weights<float>& head,
                                 std::type_identity_t<adam<Network>>* optimizer) {
  detail::open_checkpoint const from(path, describe_classifier<Network>(head.classes()),
                                     Network::config::front_end::name);
  detail::network_aside<Network> read(from, optimizer);
  std::vector<std::vector<float>> aside;
  detail::for_each_head_tensor(head, optimizer != nullptr,
                               [&](std::string const& name, std::span<float> values, auto const& shape) {
                                 aside.emplace_back(values.size());
                                 from.file.read(name, aside.back(), shape);
                                 detail::require_finite<format_error>(path, name, aside.back());
                               });
  // Nothing can go wrong from here on.
  auto next = aside.begin();
  detail::for_each_head_tensor(head, optimizer != nullptr,
                               [&](std::string const&, std::span<float> values, auto const&) {
                                 std::copy(next->begin(), next->end(), values.begin());
                                 ++next;
                               });
  read.move_to(net, optimizer, from.facts.step);
  return from.facts;
}

}  // namespace l3::inline L3_ISA
