// A trained network, or one that has learned nothing.
#include "network_choice.hpp"

#include <l3/files/atomic_file.hpp>

namespace l3::program {

void network_choice::add_to(CLI::App& command) {
  command.add_option("--checkpoint", checkpoint, "Weights, as `l3 train` writes them");
  command.add_flag("--random-weights", random, "Instead: weights as training begins with them, to compare with");
  command.add_option("--model", model, "Of random weights: paper, small or tiny; default: the checkpoint's, or small")
      ->check(CLI::IsMember({"paper", "small", "tiny"}));
  command.add_option("--seed", seed, "Of random weights, and of everything else that is drawn")->capture_default_str();
  on.add_to(command);
  command.add_option("--keep-weights", keep, "")->group("");  // hidden: for tests/parity, which needs the same ones
}

chosen_network network_choice::open(std::size_t threads) const {
  if (checkpoint.empty() && !random) throw setting_error({"--checkpoint", "a file, or --random-weights", "neither"});
  std::string name = model;
  if (!checkpoint.empty()) {
    std::string const of_checkpoint = model_of_checkpoint(checkpoint);
    if (!model.empty() && model != of_checkpoint)
      throw setting_error({"--model", of_checkpoint + ", as in " + checkpoint, model});
    name = of_checkpoint;
  }
  if (name.empty()) name = "small";
  chosen_network chosen{make_engine(name, on, threads), make_input(name), "", !random};
  if (random) {
    chosen.net->initialise(seed);
    chosen.identity = "random weights of " + chosen.net->facts().description + ", seed " + std::to_string(seed);
  } else {
    chosen.net->load(checkpoint, false);
    std::uint64_t const print = fingerprint(read_file(checkpoint, std::size_t{1} << 34));
    chosen.identity =
        text("%s, weights %016llx", chosen.net->facts().description.c_str(), static_cast<unsigned long long>(print));
  }
  chosen.identity += ", " + on.identity();
  if (!keep.empty()) chosen.net->save(keep, false, {.seed = seed});
  return chosen;
}

}  // namespace l3::program
