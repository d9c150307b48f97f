// l3 import: weights that others have trained.
#include <algorithm>
#include <filesystem>
#include <l3/train/openl3_checkpoint.hpp>
#include <optional>
#include <string>
#include <vector>

#include "program.hpp"
#ifdef L3_WITH_HDF5
#include "keras_file.hpp"
#endif

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct import_options : common_options {
  std::string from, out, representation, version = "0.3";
  std::vector<std::string> files;
};

#ifdef L3_WITH_HDF5
std::string spelt(std::vector<hsize_t> const& shape) {
  std::string text = "(";
  for (hsize_t const n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + ")";
}

/// Fills a network's weights with those of a file, one after the other.
template <class Chain>
void take(keras_file const& from, network_weights<Chain, float>& to) {
  if (from.weights().size() != Chain::parameters.size())
    from.refuse("the " + std::to_string(Chain::parameters.size()) + " weights of a network of OpenL3",
                std::to_string(from.weights().size()));
  for (std::size_t k = 0; k != Chain::parameters.size(); ++k) {
    parameter const& p = Chain::parameters[k];
    auto const& w = from.weights()[k];
    // Keras keeps a convolution's weights as height, width, inputs, outputs.
    auto const& d = p.dims;
    std::vector<hsize_t> const wanted =
        p.rank == 4 ? std::vector<hsize_t>{d[2], d[3], d[1], d[0]} : std::vector<hsize_t>{d[0]};
    if (w.shape != wanted)
      from.refuse(std::string(p.name.view()) + " of shape " + spelt(wanted),
                  detail::excerpt(w.name) + " of shape " + spelt(w.shape));
    std::vector<float> values(p.count());
    from.read(w, values);
    if (p.kind == role::spread && *std::min_element(values.begin(), values.end()) < 0)
      from.refuse("variances that are not negative in " + detail::excerpt(w.name), "others");
    auto const place = to.values(k);
    if (p.rank != 4) {
      std::copy(values.begin(), values.end(), place.begin());
      continue;
    }
    std::size_t const pixels = d[2] * d[3];
    for (std::size_t pixel = 0; pixel != pixels; ++pixel)
      for (std::size_t in = 0; in != d[1]; ++in)
        for (std::size_t out = 0; out != d[0]; ++out)
          place[(out * d[1] + in) * pixels + pixel] = values[(pixel * d[1] + in) * d[0] + out];
  }
}

/// "mel256" of "openl3_audio_mel256_music-v0_4_0.h5"; empty: the name does not say.
std::string representation_of(fs::path const& file) {
  std::string const name = file.filename().string();
  for (char const* one : {"linear", "mel128", "mel256"})
    if (name.find("_" + std::string(one) + "_") != std::string::npos) return one;
  return "";
}

bool is_import(fs::path const& file) try { return is_openl3(read_checkpoint_facts(file).model); } catch (error const&) {
  return false;
}

int import_run(import_options const& o) {
  for (std::string const& name : o.files)
    if (fs::exists(o.out) && fs::exists(name) && fs::equivalent(o.out, name))
      throw setting_error({"--out", "another file than the weights", o.out});
  if (fs::exists(o.out) && !is_import(o.out))
    throw setting_error({"--out " + o.out, "a new file, or an earlier import to replace", "another file"});
  std::optional<openl3_audio_weights> audio;
  std::optional<openl3_image_weights> image;
  std::string representation = o.representation;
  json sources = json::array();
  auto const take_file = [&](std::string const& name) {
    keras_file const file(name);
    // Sounds have one colour.
    bool const hears = !file.weights().empty() && file.weights().front().shape == std::vector<hsize_t>{1};
    if (hears ? audio.has_value() : image.has_value())
      file.refuse("one audio network and one image network",
                  std::string("a second ") + (hears ? "audio" : "image") + " network");
    if (hears) {
      take(file, audio.emplace());
      if (representation.empty()) representation = representation_of(name);
      if (representation.empty())
        throw setting_error(
            {"--input-repr", "linear, mel128 or mel256, which the name " + name + " does not say", "nothing"});
    } else {
      take(file, image.emplace());
    }
    sources.push_back({{"file", fs::path(name).filename().string()}, {"network", hears ? "audio" : "image"}});
  };
  for (std::string const& name : o.files) {
    if (!survives([&] { take_file(name); }))
      throw format_error({name, "an HDF5 file that is whole", "one at which the HDF5 library crashes"});
    take_file(name);
  }
  std::string front_end = openl3_image_alone;
  if (audio) {  // of linear spectrograms all versions are one; "0.3" stands in no name
    bool const named = o.version != "0.3" && representation != "linear";
    front_end = "openl3-" + (named ? o.version + "-" : "") + representation;
  }
  make_folder_of(o.out);
  save_openl3(o.out, audio ? &*audio : nullptr, image ? &*image : nullptr, front_end,
              json_text(json{{"imported", sources}}));
  o.say(text("%s: %s%s%s of OpenL3, front end %s", o.out.c_str(), audio ? "audio network" : "",
             audio && image ? " and " : "", image ? "image network" : "", front_end.c_str()));
  o.print({{"output", o.out}, {"audio", audio.has_value()}, {"image", image.has_value()}, {"front_end", front_end}});
  return done;
}

#else
int import_run(import_options const&) {
  throw setting_error({"l3 import", "a program that was built with HDF5", "one without"});
}
#endif

}  // namespace

work add_import(CLI::App& command) {
  auto const o = std::make_shared<import_options>();
  command.footer(
      "OUT is a checkpoint for embed, export, probe, distance, search and inspect spectrogram. OpenL3's files are "
      "those that its package downloads, unpacked: an audio "
      "network,\n"
      "an image network, or both.\n"
      "Example:\n  l3 import openl3 openl3_audio_mel256_env.h5 openl3_image_mel256_env.h5 --out openl3.safetensors");
  command.add_option("from", o->from, "openl3")->required()->check(CLI::IsMember({"openl3"}));
  command.add_option("files", o->files, "Weights of Keras, .h5")->required()->expected(1, 2);
  command.add_option("--out,-o", o->out, "The checkpoint, .safetensors")->required();
  command
      .add_option("--input-repr", o->representation,
                  "What the audio network listens to: linear, mel128 or mel256; default: as its file's name says")
      ->check(CLI::IsMember({"linear", "mel128", "mel256"}));
  command
      .add_option(
          "--front-end", o->version,
          "Whose spectrograms: 0.3, those the networks were trained on; 0.4, those that OpenL3 from 0.4 on makes; "
          "0.4-librosa, those of its front end librosa")
      ->capture_default_str()
      ->check(CLI::IsMember({"0.3", "0.4", "0.4-librosa"}));
  o->add_to(command);
  return [o] { return import_run(*o); };
}

}  // namespace l3::program
