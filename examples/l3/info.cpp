// l3 info: what a checkpoint, a media file, a model or this build is.
#include <l3/data/clip_index.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/files/safetensors.hpp>
#include <l3/train/classifier_checkpoint.hpp>
#include <l3/train/openl3_checkpoint.hpp>
#include <l3/version.hpp>
#include <thread>
#ifdef L3_WITH_MEDIA
#include <l3/data/decode.hpp>
#include <l3/data/ffmpeg.hpp>
#endif

#include "engine.hpp"
#include "index_summary.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

struct info_options : common_options {
  std::string file, model;
  backend_choice on;
  std::size_t batch = 0;
};

std::string mebibytes(std::size_t bytes) { return text("%.1f MiB", static_cast<double>(bytes) / 1048576.0); }

/// "3 x 4 x 5"
std::string product(std::vector<std::size_t> const& sides) {
  std::string all;
  for (std::size_t const side : sides) all += (all.empty() ? "" : " x ") + std::to_string(side);
  return all;
}

json describe(model_facts const& f, info_options const& o, std::size_t threads) {
  std::size_t const batch = o.batch != 0 ? o.batch : f.batch;
  std::size_t total = 0, longest = 4;
  json tensors = json::array();
  for (tensor_row const& t : f.tensors) {
    std::size_t count = 1;
    for (std::size_t const side : t.shape) count *= side;
    total += count;
    longest = std::max(longest, t.name.size());
    tensors.push_back({{"name", t.name}, {"shape", t.shape}, {"learned", t.learned}});
  }
  std::size_t const weights = total * sizeof(float);
  std::size_t const train = f.training.bytes(batch, threads), infer = f.inference.bytes(batch, threads);
  o.answer("model        " + f.description);
  o.answer("front end    " + f.front_end);
  o.answer("backend      " + f.backend);
  o.answer(text("learned      %zu numbers (%s)", f.learned, mebibytes(weights).c_str()));
  o.answer(text("one pair     %.3g GFLOP forward, %.3g GFLOP in training", f.flops * 1e-9, 3 * f.flops * 1e-9));
  std::size_t const frame_grid = f.embedding * f.frame_cells, sound_grid = f.embedding * f.sound_cells;
  o.answer(text("embedding    %zu (global), %zu (image grid), %zu (audio grid)", f.embedding, frame_grid, sound_grid));
  o.answer(
      text("memory       training at batch %zu: %s of activations and scratch, %s of weights, gradients and moments",
           batch, mebibytes(train).c_str(), mebibytes(4 * weights).c_str()));
  o.answer(text("             inference at batch %zu: %s, transformed weights among them, and %s of weights", batch,
                mebibytes(infer).c_str(), mebibytes(weights).c_str()));
  json gpu;
  if (o.on.name == "cuda") try {
      gpu_description const here = describe_gpu();
      std::size_t const fits = fitting_batch(f, here.left);
      o.answer(text("GPU          %s, compute capability %s: %s of memory, %s left", here.name.c_str(),
                    here.capability.c_str(), mebibytes(here.memory).c_str(), mebibytes(here.left).c_str()));
      o.answer(text("             training fits up to batch %zu; bf16 convolutions multiply by %s", fits,
                    here.products == "warp"     ? "warps"
                    : here.products == "direct" ? "warpgroups, all taps from the same pixels"
                                                : "warpgroups"));
      gpu = {{"name", here.name},       {"capability", here.capability}, {"bytes", here.memory},
             {"bytes_left", here.left}, {"largest_batch", fits},         {"products", here.products}};
    } catch (device_error const& e) {
      o.answer(std::string("GPU          none to train on: ") + e.what());
    }
  json layers = json::array();
  o.answer("layers       (name, kind, output, GFLOP of an item, algorithm)");
  for (layer_row const& l : f.layers) {
    o.answer(text("  %-20s  %-39s  %-15s  %7.3f  %s", l.name.c_str(), l.kind.c_str(), product(l.output).c_str(),
                  l.flops * 1e-9, l.algorithm.c_str()));
    layers.push_back(
        {{"name", l.name}, {"kind", l.kind}, {"output", l.output}, {"flops", l.flops}, {"algorithm", l.algorithm}});
  }
  o.answer("tensors");
  for (tensor_row const& t : f.tensors)
    o.answer(text("  %-*s  %s", static_cast<int>(longest), t.name.c_str(), product(t.shape).c_str()));
  return {{"model", f.name},
          {"description", f.description},
          {"front_end", f.front_end},
          {"backend", f.backend},
          {"learned", f.learned},
          {"flops_forward", f.flops},
          {"embedding", f.embedding},
          {"image_grid", frame_grid},
          {"audio_grid", sound_grid},
          {"batch", batch},
          {"threads", threads},
          {"training_bytes", train},
          {"training_bytes_per_item", f.training.per_item},
          {"inference_bytes", infer},
          {"weight_bytes", weights},
          {"gpu", gpu},
          {"layers", layers},
          {"tensors", tensors}};
}

int info_of_checkpoint(info_options const& o, std::size_t threads) {
  checkpoint_facts const facts = read_checkpoint_facts(o.file);
  o.answer(text("checkpoint   step %llu, seed %llu", static_cast<unsigned long long>(facts.step),
                static_cast<unsigned long long>(facts.seed)));
  o.answer("settings     " + facts.settings);
  if (is_openl3(facts.model)) {
    std::size_t const embedding = open_features(o.file, {}, o.threads)->facts().embedding;  // that it is whole
    o.answer("model        of OpenL3: " + facts.model + ", for `l3 embed`");
    o.print({{"checkpoint", o.file},
             {"model", facts.model},
             {"front_end", facts.front_end},
             {"embedding", embedding},
             {"settings", json_if_any(facts.settings)}});
    return done;
  }
  std::string const model = model_of_checkpoint(o.file, facts);
  if (std::size_t const at = facts.model.find(" classes="); at != facts.model.npos) {
    bool const sounds = facts.model.substr(0, at).ends_with(" audio");
    std::size_t const classes = classes_of_checkpoint(o.file);
    make_classifier({model, sounds ? modality::sound : modality::frame, classes, 1}, {}, o.threads)
        ->load(o.file, false);  // that it is whole
    o.answer(text("model        the %s subnetwork of %s with a classifier of %zu classes, for `l3 baseline`",
                  sounds ? "audio" : "vision", model.c_str(), classes));
    o.print({{"checkpoint", o.file},
             {"step", facts.step},
             {"seed", facts.seed},
             {"model", facts.model},
             {"front_end", facts.front_end},
             {"classes", classes},
             {"settings", json_if_any(facts.settings)}});
    return done;
  }
  make_engine(model, {}, o.threads)->load(o.file, false);  // that it is whole
  json document{
      {"checkpoint", o.file}, {"step", facts.step}, {"seed", facts.seed}, {"settings", json_if_any(facts.settings)}};
  document.update(describe(describe_model(model, o.on), o, threads));
  o.print(document);
  return done;
}

#ifdef L3_WITH_MEDIA
int info_of_media(info_options const& o) {
  decode_limits limits;
  limits.seconds = 0;
  clip_reader const reader(o.file, limits);
  clip_facts const& f = reader.facts();
  o.answer("container    " + f.container);
  json document{{"file", o.file}, {"container", f.container}};
  if (f.has_video) {
    o.answer(text("pictures     %s, %zu x %zu as displayed, %.3g a second, %.3f-%.3f s%s", f.video_codec.c_str(),
                  f.width, f.height, f.frame_rate, f.video.begin, f.video.end, f.still_image ? ", a still" : ""));
    document["video"] = {{"codec", f.video_codec},     {"width", f.width},       {"height", f.height},
                         {"frame_rate", f.frame_rate}, {"rotation", f.rotation}, {"begin", f.video.begin},
                         {"end", f.video.end},         {"still", f.still_image}};
  }
  if (f.has_sound) {
    o.answer(text("sound        %s, %d Hz, %d channels, %.3f-%.3f s", f.audio_codec.c_str(), f.sample_rate, f.channels,
                  f.sound.begin, f.sound.end));
    document["audio"] = {{"codec", f.audio_codec},
                         {"sample_rate", f.sample_rate},
                         {"channels", f.channels},
                         {"begin", f.sound.begin},
                         {"end", f.sound.end}};
  }
  std::string const found = f.too_little();
  std::string const why_not =
      found.empty() ? "" : text("expected %s, found %s", clip_facts::what_a_draw_needs, found.c_str());
  o.answer("trainable    " + (why_not.empty() ? "yes" : "no: " + why_not));
  document["trainable"] = why_not.empty();
  document["why_not"] = why_not.empty() ? json() : json(why_not);
  o.print(document);
  return done;
}
std::string media_version() { return ffmpeg::version(); }
#else
int info_of_media(info_options const& o) {
  throw setting_error({o.file, "a checkpoint or an index (this build has no FFmpeg)", "another file"});
}
std::string media_version() { return "none"; }
#endif

int info_of_index(info_options const& o) {
  clip_index index(packed_clips::index_of(o.file));
  index_summary all;
  index.for_each([&](std::int64_t, clip_record const& r) { all.add(r, index.settings().drop); });
  o.answer(all.sentence(index.settings().drop));
  json document{{"file", o.file}};
  document.update(all.document());
  bool const packed = packed_clips::is_packed(o.file);
  document["packed"] = packed;
  if (packed) {
    packed_clips const clips(o.file);
    o.answer(text("packed: %.3g pictures a second, smallest side %zu", clips.pictures_per_second(), clips.side()));
    document["pictures_per_second"] = clips.pictures_per_second();
    document["side"] = clips.side();
  }
  o.print(document);
  return done;
}

int info_run(info_options const& o) {
  std::size_t const threads = o.threads != 0 ? o.threads : std::max(1u, std::thread::hardware_concurrency());
  if (!o.file.empty()) {
    if (std::filesystem::path(o.file).extension() == ".safetensors") return info_of_checkpoint(o, threads);
    return is_sql_database(packed_clips::index_of(o.file)) ? info_of_index(o) : info_of_media(o);
  }
  if (!o.model.empty()) {
    o.print(describe(describe_model(o.model, o.on), o, threads));
    return done;
  }
  o.answer("l3 " L3_VERSION);
  o.answer(std::string("built for    ") + cpu::name + " (this processor can run it)");
  json precisions{"fp32"};
  if (has_bf16) precisions.push_back("bf16");
  o.answer(std::string("products     fp32") + (has_bf16 ? ", bf16" : ""));
  std::string const cuda = cuda_version();
  o.answer("backends     cpu" + (cuda.empty() ? "" : ", cuda (CUDA " + cuda + ")"));
  o.answer("FFmpeg       " + media_version());
  o.answer(text("threads      %zu", threads));
  json models = json::array();
  for (std::string const& name : model_names) {
    model_facts const f = describe_model(name, {});
    o.answer(text("model        %-6s %s learned numbers, %.3g GFLOP a pair", name.c_str(),
                  short_number(static_cast<double>(f.learned)).c_str(), f.flops * 1e-9));
    models.push_back({{"model", name}, {"learned", f.learned}, {"flops_forward", f.flops}});
  }
  o.print({{"version", L3_VERSION},
           {"arch", cpu::name},
           {"precisions", precisions},
           {"backends", cuda.empty() ? json{"cpu"} : json{"cpu", "cuda"}},
           {"cuda", cuda.empty() ? json() : json(cuda)},
           {"ffmpeg", media_version()},
           {"threads", threads},
           {"models", models}});
  return done;
}

}  // namespace

work add_info(CLI::App& command) {
  auto const o = std::make_shared<info_options>();
  command.footer("Example:\n  l3 info --model paper --batch 16\n  l3 info run/best.safetensors\n  l3 info video.mp4");
  CLI::Option* const file =
      command.add_option("file", o->file, "A checkpoint (.safetensors), an index or a media file; nothing: this build");
  command.add_option("--model", o->model, "Shapes, cost and memory of paper, small or tiny")
      ->check(CLI::IsMember(model_names))
      ->excludes(file);
  o->on.add_to(command);
  command.add_option("--batch", o->batch, "Batch for the memory plan; 0: the model's default")->capture_default_str();
  o->add_to(command);
  return [o, file] {
    if (file->count() > 0 && o->file.empty()) throw setting_error({"file", "the name of one", "an empty one"});
    return info_run(*o);
  };
}

}  // namespace l3::program
