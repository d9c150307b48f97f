/// @file  examples/l3/backend_choice.hpp: what computes, for people to choose.
#pragma once
#include <string>

namespace CLI {
class App;
}

namespace l3::program {

/// Options --backend and --precision of a command that runs a network.
struct backend_choice {
  std::string name = "cpu";  ///< or "cuda"
  std::string precision;     ///< empty: the backend's own
  std::string products() const { return !precision.empty() ? precision : name == "cuda" ? "bf16" : "fp32"; }
  /// "fp32", "bf16", "cuda bf16", ...: what tells numbers of one from those of another.
  std::string identity() const { return (name == "cpu" ? "" : name + " ") + products(); }

  void add_to(CLI::App& command);
};

/// Of the CUDA that this build has the backend for: "13.0"; empty: it has none.
std::string cuda_version();

}  // namespace l3::program
