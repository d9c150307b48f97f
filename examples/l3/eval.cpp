// l3 eval: how well a network tells pairs that correspond from pairs that do not.
#include <optional>

#include "batch_dump.hpp"
#include "evaluate.hpp"

namespace l3::program {
namespace {

struct eval_options : common_options {
  std::string checkpoint, data, precision = "fp32", dump;
  std::size_t batch = 64, workers = 0;
  std::uint32_t pairs = 2000;
  std::uint64_t seed = 0;
  double seconds = 10;
};

int eval_run(eval_options const& o) {
  std::string const model = model_of_checkpoint(o.checkpoint);
  auto const net = make_cpu_engine(model, o.threads, o.precision);
  net->load(o.checkpoint, false);
  auto const input = make_input(model);
  collection const data = open_collection(o.data);
  std::size_t refused = 0;
  loader_options reading{.seed = o.seed,
                         .batch = o.batch,
                         .pairs = pairing::paper,
                         .evaluation_pairs = o.pairs,
                         .workers = o.workers != 0 ? o.workers : o.threads};
  reading.limits.seconds = o.seconds;
  reading.on_refusal = [&](refusal const& r) {
    ++refused;
    o.warn("refused " + r.why);
  };
  net->prepare_inference(o.batch);
  fixed_pairs pairs(*input, data, reading, 0);
  progress bar(o, "pairs", static_cast<double>(o.pairs));
  std::size_t scored = 0, batches = 0;
  std::optional<batch_dump> dump;
  if (!o.dump.empty()) dump.emplace(o.dump, net->facts());
  correspondence const r = evaluate(*net, pairs, o.seed, [&](feed_batch const& b, std::span<float const> logits) {
    scored += b.count;
    bar.update(static_cast<double>(scored), "");
    if (dump) dump->write("eval", batches++, b, logits, "logits", {b.count, 2});
  });
  bar.finish();
  o.answer(text("%zu pairs of %zu videos (chance: accuracy 0.5, loss 0.693)", r.pairs, data.clips.size() - refused));
  o.answer(text("accuracy %.4f (95 %% interval %.4f-%.4f, bootstrap over videos), loss %.4f", r.accuracy, r.interval[0],
                r.interval[1], r.loss));
  o.answer("                     said no  said yes");
  for (int label : {0, 1}) {
    auto const& row = r.confusion[static_cast<std::size_t>(label)];
    o.answer(text("%-20s %7zu  %8zu", label == 1 ? "they correspond" : "they do not", row[0], row[1]));
  }
  if (refused > 0) o.say(text("%zu files were refused", refused));
  o.print({{"pairs", r.pairs},
           {"accuracy", r.accuracy},
           {"interval", r.interval},
           {"loss", r.loss},
           {"confusion", r.confusion},
           {"videos", data.clips.size()},
           {"refused", refused},
           {"model", net->facts().description}});
  return done;
}

}  // namespace

work add_eval(CLI::App& command) {
  auto const o = std::make_shared<eval_options>();
  command.footer("Example:\n  l3 eval --checkpoint run/best.safetensors --data videos/test.csv");
  command.add_option("--checkpoint", o->checkpoint, "Weights, as `l3 train` writes them")->required();
  command.add_option("--data", o->data, "Folder, CSV, list or index of videos, or a packed folder")->required();
  command.add_option("--pairs", o->pairs, "Pairs to score, half of which correspond")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  command.add_option("--seed", o->seed, "Which pairs")->capture_default_str();
  command.add_option("--batch", o->batch, "Pairs scored at a time")->capture_default_str()->check(CLI::PositiveNumber);
  command.add_option("--clip-seconds", o->seconds, "Use only the first this many seconds of a video; 0: all")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command.add_option("--workers", o->workers, "Threads that read videos; 0: as --threads")
      ->capture_default_str()
      ->check(CLI::Range(0, 4096).description(""));
  add_precision(command, o->precision);
  command.add_option("--dump-batches", o->dump, "")->group("");
  o->add_to(command);
  return [o] { return eval_run(*o); };
}

}  // namespace l3::program
