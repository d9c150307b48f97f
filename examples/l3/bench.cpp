// l3 bench: how fast the network and the loader are on this machine, for people and for scripts.
#include <sys/resource.h>

#include <algorithm>
#include <l3/core/backend.hpp>
#include <l3/core/random.hpp>
#include <l3/version.hpp>
#include <thread>
#ifdef L3_WITH_MEDIA
#include <l3/data/decode.hpp>
#include <l3/files/npz.hpp>
#endif

#include "engine.hpp"
#include "feed.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

struct net_options : common_options {
  std::string model = "paper";
  backend_choice on;
  std::vector<std::string> what{"audio", "vision", "train"};
  std::size_t batch = 16;
  double seconds = 10;
};

double since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Median seconds of `run()` after one run to warm up: at least three, for `seconds` in all, at most 200.
template <class F>
double median_seconds(double seconds, F&& run) {
  run();
  std::vector<double> times;
  for (double spent = 0; times.size() < 3 || (spent < seconds && times.size() < 200); spent += times.back()) {
    auto const start = std::chrono::steady_clock::now();
    run();
    times.push_back(since(start));
  }
  auto const middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return *middle;
}

/// Numbers between -1 and 1, as frames have.
std::vector<float> made_up(std::size_t count) {
  generator draw(1, stream::user, 0, 0);
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(draw.uniform(-1, 1));
  return values;
}

/// Most memory this process has held.
double peak_mebibytes() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  return static_cast<double>(used.ru_maxrss) / 1024;  // the kernel counts KiB
}

int net_run(net_options const& o) {
  for (std::string const& what : o.what) {
    if (what != "audio" && what != "vision" && what != "train")
      throw setting_error({"--what", "audio, vision or train", what});
    if (what == "train" && o.batch < 2)
      throw setting_error({"--batch", "at least 2 to train", std::to_string(o.batch)});
  }
  auto const net = make_engine(o.model, o.on, o.threads);
  auto const input = make_input(o.model);
  net->initialise(1);
  auto const frames = made_up(o.batch * input->frame_size()), sounds = made_up(o.batch * input->sound_size());
  std::vector<float> features(o.batch * net->facts().embedding);
  // What the same come from, for an engine that makes them itself.
  std::vector<std::uint8_t> crops(net->takes_raw() ? frames.size() : 0);
  for (std::size_t k = 0; k < crops.size(); ++k) crops[k] = static_cast<std::uint8_t>(127.5f * (1 + frames[k]));
  auto const moments = made_up(net->takes_raw() ? o.batch * sound_rate : 0);
  std::vector<image_jitter> const jitters(o.batch);
  std::vector<float> const volumes(o.batch, 1.0f);
  std::vector<std::int32_t> labels(o.batch);
  for (std::size_t k = 0; k < o.batch; ++k) labels[k] = static_cast<std::int32_t>(k % 2);
  json results = json::array();
  for (std::string const& what : o.what) {
    double seconds = 0;
    if (what == "train") {
      net->prepare_training({.which = pairing::all, .batch = o.batch, .learning_rate = 1e-5});
      // As training does: where it can, a step begins before the one before has ended.
      seconds = median_seconds(o.seconds, [&] {
        if (net->takes_raw())
          net->begin_step({crops, moments, jitters, volumes}, labels);
        else
          net->begin_step(frames, sounds, labels, o.batch);
        if (net->in_flight() == net->most_in_flight()) net->finish_step();
      });
      while (net->in_flight() > 0) net->finish_step();
    } else {
      net->prepare_inference(o.batch);
      modality const m = modality_named(what);
      item_spans items;
      if (net->takes_raw())
        items = {.crops = crops, .seconds = moments};
      else
        items.values = m == modality::sound ? sounds : frames;
      std::size_t begun = 0;
      seconds = median_seconds(o.seconds, [&] {
        net->begin_embed(m, {}, items, o.batch);
        if (++begun < net->most_in_flight()) return;
        net->finish_embed(features);
        --begun;
      });
      for (; begun > 0; --begun) net->finish_embed(features);
    }
    double const rate = static_cast<double>(o.batch) / seconds;
    o.answer(text("%-8s batch %zu: %.2f ms, %.1f per s", what.c_str(), o.batch, seconds * 1e3, rate));
    results.push_back({{"what", what}, {"batch", o.batch}, {"ms", seconds * 1e3}, {"per_s", rate}});
  }
  o.answer(text("peak memory %.0f MiB", peak_mebibytes()));
  std::size_t const cores = std::max(1u, std::thread::hardware_concurrency());
  o.print({{"results", results},
           {"peak_mib", peak_mebibytes()},
           {"model", o.model},
           {"backend", o.on.name},
           {"precision", o.on.products()},
           {"threads", o.threads != 0 ? o.threads : cores},
           {"l3", L3_VERSION},
           {"cpu", cpu::name}});
  return done;
}

struct loader_bench_options : common_options {
  std::string data, model = "small", dump;
  std::size_t batch = 16, workers = 0, pairs = 1000;
  opening_options opening;
  std::uint64_t seed = 0;
  double seconds = 10;
  bool raw = false;
};

#ifdef L3_WITH_MEDIA
/// Pictures and sounds at eight moments, as arrays for bench/peers/loader.py to compare with.
void dump_moments(collection const& data, loader_bench_options const& o) {
  npz_writer out(o.dump);
  std::vector<double> times, starts, clips;
  std::vector<float> samples(sound_rate);
  for (std::uint32_t k = 0; k < 8; ++k) {
    generator draw(o.seed, stream::user, 1, k);
    auto const clip = draw.below(static_cast<std::uint32_t>(data.clips.size()));
    clip_reader reader(data.clips.file(clip), {.seconds = o.seconds});
    auto const both = reader.facts().both().value();
    auto const at = draw_moment(draw, both.begin, both.end - 0.2);
    auto const picture = reader.frame(at.frame_time, 256);
    reader.sound(at.sound_start, samples);
    std::vector<float> const pixels(picture.pixels.begin(), picture.pixels.end());
    out.add("picture" + std::to_string(k), {picture.height, picture.width, 3}, pixels);
    out.add("sound" + std::to_string(k), {samples.size()}, samples);
    times.push_back(at.frame_time);
    starts.push_back(at.sound_start);
    clips.push_back(clip);
  }
  out.add("times", {times.size()}, times);
  out.add("starts", {starts.size()}, starts);
  out.add("clips", {clips.size()}, clips);
  out.commit();
}
#endif

int loader_run(loader_bench_options const& o) {
  collection const data = open_data("DATA", o.data);
#ifdef L3_WITH_MEDIA
  if (!o.dump.empty()) dump_moments(data, o);
#else
  if (!o.dump.empty()) throw setting_error({"--dump", "a build with FFmpeg", "one without"});
#endif
  std::size_t failures = 0, damaged = 0;
  loader_options reading{.seed = o.seed,
                         .batch = o.batch,
                         .pairs = pairing::all,
                         .workers = o.readers(o.workers),
                         .name = "DATA " + o.data};
  reading.limits.seconds = o.seconds;
  o.opening.set(reading);
  reading.on_refusal = [&](refusal const& r) {
    ++(r.whole_file ? failures : damaged);
    o.warn(refusal_warning(r));
  };
  auto const input = make_input(o.model);
  auto const start = std::chrono::steady_clock::now();
  auto const source = input->open(data, std::move(reading), o.raw);
  std::size_t read = source->next().count;
  double const first = since(start);
  std::size_t const counted_from = read;
  progress bar(o, "pairs", static_cast<double>(o.pairs), static_cast<double>(read));
  while (read < std::max(o.pairs, 2 * counted_from)) {
    read += source->next().count;
    bar.update(static_cast<double>(read), "");
  }
  double const rate = static_cast<double>(read - counted_from) / (since(start) - first);
  bar.finish();
  double const peak = peak_mebibytes();
  loader_report const report = source->report();
  loader_stages const draw = report.stages.milliseconds_a_draw();
  o.answer(text("%.1f pairs/s, first batch after %.2f s, peak memory %.0f MiB, %zu files refused", rate, first, peak,
                failures) +
           (damaged > 0 ? text(", %zu damaged at some moments", damaged) : ""));
  o.answer(
      text("a worker needs for a draw, in ms: opening %.2f, picture %.2f, sound %.2f, crops and spectrogram %.2f; what "
           "sets the pace: %s",
           draw.open, draw.picture, draw.sound, draw.assemble, report.bottleneck()));
  o.print({{"pairs_per_s", rate},
           {"first_batch_s", first},
           {"peak_mib", peak},
           {"failures", failures},
           {"damaged", damaged},
           {"wait_share", report.wait_share()},
           {"batches_ready", report.mean_ready()},
           {"open_ms", draw.open},
           {"picture_ms", draw.picture},
           {"sound_ms", draw.sound},
           {"assemble_ms", draw.assemble},
           {"bottleneck", report.bottleneck()},
           {"model", o.model},
           {"batch", o.batch},
           {"pairs", read}});
  return done;
}

}  // namespace

work add_bench(CLI::App& command) {
  command.require_subcommand(1);
  command.footer("Example:\n  l3 bench net --model paper --what audio,vision,train --batch 16 --threads 2 --json");

  auto const n = std::make_shared<net_options>();
  CLI::App* const net = command.add_subcommand("net", "Subnetworks and training steps on made-up batches");
  net->add_option("--model", n->model, "paper, small or tiny")->capture_default_str();
  comma_list(
      net->add_option("--what", n->what, "audio, vision: a subnetwork in use; train: forward, backward and Adam"))
      ->capture_default_str();
  net->add_option("--batch", n->batch, "Items at a time")->capture_default_str()->check(above_zero);
  n->on.add_to(*net);
  net->add_option("--seconds", n->seconds, "To measure each for; three runs at least")
      ->capture_default_str()
      ->check(zero_or_more);
  net->footer("Times are medians after a run to warm up.\nExample:\n  l3 bench net --model tiny --batch 64");
  n->add_to(*net);

  auto const l = std::make_shared<loader_bench_options>();
  CLI::App* const loader = command.add_subcommand("loader", "Reading DATA as training does");
  loader->add_option("data", l->data, "Folder, CSV, list or index of videos, or a packed folder")->required();
  loader->add_option("--model", l->model, "Whose frames and spectrograms: paper, small or tiny")->capture_default_str();
  loader->add_option("--batch", l->batch, "Draws of a batch")->capture_default_str()->check(above_zero);
  loader->add_option("--pairs", l->pairs, "Draws in total")->capture_default_str()->check(above_zero);
  loader->add_option("--seed", l->seed, "Which draws")->capture_default_str();
  add_clip_seconds(*loader, l->seconds);
  l->opening.add_to(*loader);
  add_workers(*loader, l->workers);
  loader->add_flag("--raw", l->raw,
                   "Batches as a GPU takes them: cut out, mirror, colours and spectrograms left to it");
  loader->add_option("--dump", l->dump)->group("");  // hidden: for bench/peers/loader.py
  loader->footer("Example:\n  l3 bench loader videos --batch 64 --pairs 5000");
  l->add_to(*loader);
  return [net, n, l] { return net->parsed() ? net_run(*n) : loader_run(*l); };
}

}  // namespace l3::program
