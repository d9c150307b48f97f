// l3 train: a network learns from a folder or list of videos.
#include "lessons.hpp"

namespace l3::program {
namespace {

struct train_options : training_options {
  std::string pairs_as = "all", scope = "all", init;
  bool sync_batch_norm = false;
};

int train_run(CLI::App& command, train_options const& o, crew& all) {
  extra_settings const extra{{"task", "correspondence"},
                             {"backend", o.on.name},
                             {"pairing", o.pairs_as},
                             {"pairing-scope", o.scope},
                             {"sync-batch-norm", o.sync_batch_norm},
                             {"init", o.init}};
  auto const end = run_training(
      command, o, extra,
      [&](training_options const& options, extra_settings& settings, collection const&, collection const&) {
        return std::make_unique<correspondence_lesson>(options,
                                                       settings["pairing"] == "all" ? pairing::all : pairing::paper,
                                                       all, settings["init"].get<std::string>());
      },
      all);
  if (all.is_first()) o.print(end.result);
  return end.code;
}

}  // namespace

work add_train(CLI::App& command) {
  auto const o = std::make_shared<train_options>();
  command.footer(
      "DATA is a folder of videos (searched below), a CSV with a column `path`, a text file with a path a line, an "
      "index of\n"
      "l3 index, or a folder of l3 pack.\n"
      "OUT gets config.json, log.csv, last.safetensors, best.safetensors and, if any, refused.jsonl and "
      "refused-validation.jsonl.\n"
      "Example:\n  l3 train --train videos/train --valid videos/valid --out run --model small --pairs 500000");
  o->training_options::add_to(command);
  command.add_option("--init", o->init, "Begin with the weights of this checkpoint, and its model: fine-tuning");
  command
      .add_option("--pairing", o->pairs_as,
                  "all: every frame of a batch with every sound; paper: as many positive as negative pairs")
      ->check(CLI::IsMember({"all", "paper"}))
      ->capture_default_str();
  command
      .add_option("--pairing-scope", o->scope,
                  "With --pairing all and several workers: a frame meets the sounds of all, or of its worker")
      ->check(CLI::IsMember({"all", "worker"}))
      ->capture_default_str();
  command
      .add_option("--accumulate,--workers-emulated", o->accumulate,
                  "Batches a process takes for a step, one after the other, as so many workers would")
      ->check(CLI::Range(1, 65536).description(""))
      ->capture_default_str();
  command.add_flag("--sync-batch-norm", o->sync_batch_norm,
                   "Batch norm sees the batches of all processes of a step, not each its own");
  return [&command, o] { return with_crew("train", [&](crew& all) { return train_run(command, *o, all); }); };
}

}  // namespace l3::program
