// A trained network, or one that has learned nothing.
#include "network_choice.hpp"

#include <l3/files/atomic_file.hpp>

namespace l3::program {

void network_choice::add_to(CLI::App& command, bool imported) {
  command.add_option("--checkpoint", checkpoint,
                     std::string("Weights, as `l3 train`") + (imported ? " or `l3 import`" : "") + " writes them");
  command.add_flag("--random-weights", random, "Instead: weights as training begins with them, to compare with");
  command.add_option("--model", model, "Of random weights: paper, small or tiny; default: the checkpoint's, or small")
      ->check(CLI::IsMember(model_names));
  command.add_option("--seed", seed, "Of random weights, and of everything else that is drawn")->capture_default_str();
  on.add_to(command);
  command.add_option("--keep-weights", keep, "")->group("");  // hidden: for tests/parity, which needs the same ones
}

std::string identity_of(std::string const& checkpoint, feature_engine const& its, backend_choice const& on) {
  return its.facts().description + ", weights " + hex(fingerprint_of(checkpoint)) + ", " + on.identity();
}

chosen_network network_choice::open(std::size_t threads) const {
  if (checkpoint.empty() && !random) throw setting_error({"--checkpoint", "a file, or --random-weights", "neither"});
  chosen_network chosen{.net = nullptr, .l3 = nullptr, .input = nullptr, .identity = "", .trained = !random};
  if (random) {
    std::string const of = !checkpoint.empty() ? model_of_checkpoint(checkpoint) : !model.empty() ? model : "small";
    auto made = make_engine(of, on, threads);
    made->initialise(seed);
    chosen.net = std::move(made);
    chosen.identity = "random weights of " + chosen.net->facts().description + ", seed " + std::to_string(seed) + ", " +
                      on.identity();
  } else {
    chosen.net = open_features(checkpoint, on, threads);
    chosen.identity = identity_of(checkpoint, *chosen.net, on);
  }
  std::string const& name = chosen.net->facts().name;
  if (!checkpoint.empty() && !model.empty() && model != name)
    throw setting_error({"--model", name + ", as in " + checkpoint, model});
  chosen.input = make_input(name);
  chosen.l3 = dynamic_cast<engine*>(chosen.net.get());
  if (!keep.empty() && chosen.l3 != nullptr) chosen.l3->save(keep, false, {.seed = seed});
  return chosen;
}

}  // namespace l3::program
