/// @file  include/l3/train/checkpoint.hpp: weights, optimizer and what else changes the numbers, in one safetensors
/// file.
///
/// Tensors are named and laid out as a PyTorch state_dict would hold them, `num_batches_tracked` included, so that
/// load_state_dict(strict=True) takes them; the optimizer's are `optimizer.<parameter>.exp_avg` and `.exp_avg_sq`.
/// Metadata: `l3.model`, `l3.front_end`, `l3.step`, `l3.seed`, and `l3.settings`, a JSON text that l3 does not look
/// into.
#pragma once
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <l3/core/text.hpp>
#include <l3/files/safetensors.hpp>
#include <l3/model/network.hpp>
#include <l3/train/optimizer.hpp>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

namespace l3::inline L3_ISA {

/// What a checkpoint says beside its tensors.
struct checkpoint_facts {
  std::string model{};      ///< as describe_model gives it
  std::string front_end{};  ///< how sound becomes a picture
  std::uint64_t step = 0;   ///< with an optimizer: its own, whatever stands here
  std::uint64_t seed = 0;
  std::string settings = "{}";  ///< JSON of whoever trained
};

/// "paper width=64 frame=224x224x3 sound=257x199x1 hidden=128": networks that differ anywhere differ here.
template <network_config Config>
std::string describe_model() {
  auto const sides = []<class S>(S) {
    return std::to_string(S::height) + "x" + std::to_string(S::width) + "x" + std::to_string(S::channels);
  };
  return std::string(Config::name) + " width=" + std::to_string(Config::width) +
         " frame=" + sides(typename Config::frame{}) + " sound=" + sides(typename Config::front_end::output{}) +
         " hidden=" + std::to_string(Config::hidden);
}

/// The facts of an open checkpoint. Errors: format_error.
inline checkpoint_facts read_checkpoint_facts(safetensors_file const& file) {
  auto const number = [&](char const* key) -> std::uint64_t {
    std::string const& text = file.metadata(key);
    std::uint64_t value = 0;
    auto const [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (problem != std::errc{} || end != text.data() + text.size())
      throw format_error(
          {file.path().string(), std::string("a whole number in metadata ") + key, detail::excerpt(text)});
    return value;
  };
  return {file.metadata("l3.model"), file.metadata("l3.front_end"), number("l3.step"), number("l3.seed"),
          file.metadata("l3.settings")};
}

/// Reads the facts alone, to choose the network to load it into. Errors: file_error, format_error.
inline checkpoint_facts read_checkpoint_facts(std::filesystem::path const& path) {
  return read_checkpoint_facts(safetensors_file::open(path));
}

namespace detail {
// Calls f(name, values pointer, parameter) for each tensor of the network and, if there is one, of the optimizer.
template <class Network, class Net, class Optimizer, class F>
void for_each_tensor(Net& net, Optimizer* optimizer, F&& f) {
  for (parameter const& p : Network::parameters) {
    std::string const name(p.name.view());
    f(name, net.data() + p.offset, p);
    if (optimizer == nullptr || !p.learned()) continue;
    f("optimizer." + name + ".exp_avg", optimizer->first() + p.offset, p);
    f("optimizer." + name + ".exp_avg_sq", optimizer->second() + p.offset, p);
  }
}
/// What every checkpoint's values are, on their way in and out. Errors: Error, which names file and tensor.
template <class Error>
void require_finite(std::filesystem::path const& path, std::string const& name, std::span<float const> values) {
  for (float const v : values)
    if (!std::isfinite(v)) throw Error({path.string(), "finite values in " + name, std::to_string(v)});
}
template <class Error>
void require_values(std::filesystem::path const& path, std::string const& name, parameter const& p,
                    std::span<float const> values) {
  require_finite<Error>(path, name, values);
  if ((p.kind == role::spread || name.ends_with(".exp_avg_sq")) &&
      std::any_of(values.begin(), values.end(), [](float v) { return v < 0; }))
    throw Error({path.string(), "variances that are not negative in " + name, "others"});
}
inline void read_finite(safetensors_file const& file, std::string const& name, parameter const& p,
                        std::span<float> values) {
  file.read(name, values, std::vector<std::size_t>(p.shape().begin(), p.shape().end()));
  require_values<format_error>(file.path(), name, p, values);
}
// PyTorch counts the batches of each batch norm on its own.
template <class Network>
std::vector<std::string> batch_counters() {
  std::vector<std::string> names;
  for (parameter const& p : Network::parameters)
    if (p.kind == role::mean) {
      std::string const name(p.name.view());
      names.push_back(name.substr(0, name.rfind('.')) + ".num_batches_tracked");
    }
  return names;
}
inline void add_facts(safetensors_writer& out, checkpoint_facts const& facts) {
  out.metadata("l3.model", facts.model);
  out.metadata("l3.front_end", facts.front_end);
  out.metadata("l3.step", std::to_string(facts.step));
  out.metadata("l3.seed", std::to_string(facts.seed));
  out.metadata("l3.settings", facts.settings);
}
/// Writes the tensors of a network, of its optimizer unless null, those that `add_more(out)` adds, and the facts.
template <class Network, class AddMore>
void write_checkpoint(std::filesystem::path const& path, Network const& net, adam<Network> const* optimizer,
                      checkpoint_facts facts, AddMore const& add_more) {
  static_assert(names_differ(Network::parameters), "l3: two parameters of this network have one name; see l3::named");
  if (optimizer != nullptr) facts.step = optimizer->steps();
  safetensors_writer out;
  std::vector<std::vector<float>> converted;
  for_each_tensor<Network>(net, optimizer, [&](std::string const& name, auto const* values, parameter const& p) {
    std::span<float const> floats;
    if constexpr (std::is_same_v<typename Network::scalar, float>)
      floats = {values, p.count()};
    else
      floats = converted.emplace_back(values, values + p.count());
    require_values<numeric_error>(path, name, p, floats);
    out.add(name, {p.shape().begin(), p.shape().end()}, floats);
  });
  add_more(out);
  std::int64_t const counter = net.batches_tracked();
  for (std::string const& name : batch_counters<Network>()) out.add(name, {}, std::span(&counter, 1));
  add_facts(out, facts);
  out.write(path);
}
/// A checkpoint that is open, and of the network that is wanted.
struct open_checkpoint {
  safetensors_file file;
  checkpoint_facts facts;

  /// Errors: format_error: another model, another front end; where none is named, any will do.
  open_checkpoint(std::filesystem::path const& path, std::string const& model, std::string const& front_end)
      : file(safetensors_file::open(path)), facts(read_checkpoint_facts(file)) {
    if (!model.empty() && facts.model != model)
      throw format_error(
          {path.string(), "a checkpoint of model " + model, "one of model " + detail::excerpt(facts.model)});
    if (!front_end.empty() && facts.front_end != front_end)
      throw format_error({path.string(), "front end " + front_end, detail::excerpt(facts.front_end)});
  }
};

/// A network read aside, so that the one that is in use stays whole on any error.
template <class Network>
struct network_aside {
  Network net;
  std::optional<adam<Network>> optimizer;

  /// With the optimizer's state if `like` is one.
  network_aside(open_checkpoint const& from, adam<Network> const* like) {
    std::string const first = "optimizer." + std::string(Network::parameters[0].name.view()) + ".exp_avg";
    if (like != nullptr && !from.file.contains(first))
      throw format_error({from.file.path().string(), "the optimizer's state, to go on training", "weights alone"});
    if (like != nullptr) optimizer.emplace(like->settings());
    std::vector<float> values;
    for_each_tensor<Network>(net, optimizer ? &*optimizer : nullptr,
                             [&](std::string const& name, auto* to, parameter const& p) {
                               values.resize(p.count());
                               read_finite(from.file, name, p, values);
                               std::copy(values.begin(), values.end(), to);
                             });
    std::vector<std::string> const counters = batch_counters<Network>();
    net.batches_tracked(counters.empty() ? 0 : from.file.read_int64(counters.front()));
  }
  void move_to(Network& to, adam<Network>* its_optimizer, std::uint64_t step) {
    to.copy_from(net);
    if (its_optimizer == nullptr) return;
    *its_optimizer = std::move(*optimizer);
    its_optimizer->steps(step);
  }
};
}  // namespace detail

/// Writes a checkpoint, whole or not at all. Without an optimizer it holds the weights alone.
/// Errors: file_error; numeric_error: values that are not finite, or a variance below zero. The file that was there
/// stays then.
template <class Network>
void save_checkpoint(std::filesystem::path const& path, Network const& net,
                     std::type_identity_t<adam<Network>> const* optimizer, checkpoint_facts facts) {
  facts.model = describe_model<typename Network::config>(), facts.front_end = Network::config::front_end::name;
  detail::write_checkpoint<Network>(path, net, optimizer, facts, [](safetensors_writer&) {});
}

/// Reads some of a checkpoint's parameters into `net`: those below `prefix` ("vision", "audio"). The checkpoint may be
/// of another network that has the same ones, and the same front end unless they are those of vision: a subnetwork
/// goes from an L³-Net into a classifier and back. `net` stays as it was on any error. Errors: as load_checkpoint;
/// setting_error: `net` has none below `prefix`.
template <class Network>
void load_parameters(std::filesystem::path const& path, Network& net, std::string const& prefix) {
  bool const hears = prefix.substr(0, prefix.find('.')) != "vision";
  detail::open_checkpoint const from(path, "", hears ? Network::config::front_end::name : "");
  if (std::none_of(Network::parameters.begin(), Network::parameters.end(),
                   [&](parameter const& p) { return p.name.view().starts_with(prefix + "."); }))
    throw setting_error({"parameters to load", "a part of the network, such as vision", detail::excerpt(prefix)});
  Network read_net;
  std::copy_n(net.data(), Network::parameter_room, read_net.data());
  std::vector<float> values;
  for (parameter const& p : Network::parameters) {
    if (!p.name.view().starts_with(prefix + ".")) continue;
    values.resize(p.count());
    std::string const name(p.name.view());
    if (!from.file.contains(name))
      throw format_error({path.string(), "a checkpoint with the subnetwork " + prefix, "none"});
    detail::read_finite(from.file, name, p, values);
    std::copy(values.begin(), values.end(), read_net.data() + p.offset);
  }
  std::copy_n(read_net.data(), Network::parameter_room, net.data());
}

/// Reads a checkpoint of the same network into `net` and, unless null, `optimizer`. Both stay as they were on any
/// error. Errors: file_error; format_error if it is another network, lacks a tensor, or holds values that are not
/// finite.
template <class Network>
checkpoint_facts load_checkpoint(std::filesystem::path const& path, Network& net,
                                 std::type_identity_t<adam<Network>>* optimizer) {
  using config = typename Network::config;
  detail::open_checkpoint const from(path, describe_model<config>(), config::front_end::name);
  detail::network_aside<Network> read(from, optimizer);
  read.move_to(net, optimizer, from.facts.step);
  return from.facts;
}

}  // namespace l3::inline L3_ISA
