/// @file  examples/l3/network_choice.hpp: which network a probe or a picture is about: a trained one, or one that has
/// learned nothing.
#pragma once
#include <memory>
#include <string>

#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"

namespace l3::program {

/// A network, its input, and a text that is the same for the same weights alone.
struct chosen_network {
  std::unique_ptr<feature_engine> net;
  engine* l3;  ///< the same network, if it is an L³-Net; else null
  std::unique_ptr<model_input> input;
  std::string identity;
  bool trained;
};

/// Options --checkpoint, --random-weights, --model, --seed, --backend and --precision.
struct network_choice {
  std::string checkpoint, model, keep;
  backend_choice on;
  bool random = false;
  std::uint64_t seed = 0;

  /// `imported`: weights of other networks that `l3 import` brought will do.
  void add_to(CLI::App& command, bool imported);
  /// Errors  setting_error: neither a checkpoint nor random weights, or both a checkpoint and another model; those of
  ///         reading a checkpoint.
  chosen_network open(std::size_t threads) const;
};

/// A text that tells a checkpoint's content, and the precision it is used in, from others. Errors: file_error.
std::string identity_of(std::string const& checkpoint, feature_engine const& its, backend_choice const& on);

}  // namespace l3::program
