// l3 export: networks for other programs to run.
#include <array>
#include <filesystem>
#include <l3/model/network.hpp>
#include <l3/train/checkpoint.hpp>
#include <l3/train/onnx_export.hpp>
#include <l3/train/openl3_checkpoint.hpp>
#include <memory>
#include <string>
#include <vector>

#include "embedding_size.hpp"
#include "engine.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct export_options : common_options {
  std::string to, what, checkpoint, out, input = "raw";
  embedding_size embedding;
};

/// A graph that grows, and what is said of it.
class network_file {
 public:
  network_file(export_options const& o, checkpoint_facts const& facts)
      : o_(o),
        model_(facts.model),
        graph_("l3_" + o.what),
        input_(o.input == "raw" ? onnx_input::raw : onnx_input::prepared) {
    graph_.metadata("l3.model", model_);
  }

  /// Whether an embedding is to be of a grid's regions, of maps with so many channels.
  bool wants_grid(std::size_t channels, extent2 regions) const {
    return o_.embedding.grid(channels, {channels * regions.height * regions.width});
  }

  /// What the network makes of sounds, of pictures.
  template <class FrontEnd, class Map>
  void hear(float const* params) {
    embed<Map>("audio.", params, sounds<FrontEnd>(), sound_regions);
  }
  template <class Map>
  void see(float const* params, std::size_t side) {
    embed<Map>("vision.", params, pictures<typename Map::input>(side), picture_regions);
  }
  /// Whether picture and sound belong together.
  template <network_config Config>
  void judge(l3_network<cpu, Config> const& net) {
    using network = l3_network<cpu, Config>;
    onnx_value const v = add_to_onnx<typename network::vision>(graph_, "vision.", net.data() + network::vision_offset,
                                                               pictures<typename Config::frame>(Config::frame_side));
    onnx_value const a = add_to_onnx<typename network::audio>(graph_, "audio.", net.data() + network::audio_offset,
                                                              sounds<typename Config::front_end>());
    auto const [logits, probability] =
        add_fusion_to_onnx<typename network::fusion>(graph_, net.data() + network::fusion_offset, v, a);
    graph_.output(probability, {}, "that picture and sound belong together");
    graph_.output(logits, std::array{std::size_t{2}}, "of not belonging together, and of belonging together");
  }

  int finish() {
    make_folder_of(o_.out);
    graph_.write(o_.out);
    auto const bytes = fs::file_size(o_.out);
    std::string shown[2];
    json listed[2];
    for (int const k : {0, 1})
      for (auto const& [name, dims] : k == 0 ? graph_.inputs() : graph_.outputs()) {
        listed[k].push_back({{"name", name}, {"shape", dims}});
        shown[k] += (shown[k].empty() ? "" : ", ") + name + " (N";
        for (std::size_t const d : dims) shown[k] += ", " + std::to_string(d);
        shown[k] += ")";
      }
    o_.say(text("%s: %s -> %s, %sB", o_.out.c_str(), shown[0].c_str(), shown[1].c_str(),
                short_number(static_cast<double>(bytes)).c_str()));
    o_.print({{"output", o_.out},
              {"what", o_.what},
              {"model", model_},
              {"inputs", listed[0]},
              {"outputs", listed[1]},
              {"operator_set", onnx_graph::operator_set},
              {"bytes", bytes}});
    return done;
  }

 private:
  template <class FrontEnd>
  onnx_value sounds() {
    graph_.metadata("l3.front_end", FrontEnd::name);
    graph_.metadata("l3.sample_rate", std::to_string(FrontEnd::sample_rate));
    return add_sounds_to_onnx<FrontEnd>(graph_, input_);
  }
  template <image_shape Picture>
  onnx_value pictures(std::size_t side) {
    graph_.metadata("l3.picture_side", std::to_string(side));
    return add_pictures_to_onnx<Picture>(graph_, input_);
  }
  template <class Map>
  void embed(std::string const& prefix, float const* params, onnx_value const& x, extent2 regions) {
    using map = typename Map::output;
    bool const grid = wants_grid(map::channels, regions);
    if (!grid) regions = {1, 1};
    add_regions_to_onnx<map>(graph_, regions, add_to_onnx<Map>(graph_, prefix, params, x), "embedding");
    graph_.metadata("l3.pool", grid ? "grid" : "global");
    graph_.output("embedding", std::array{map::channels * regions.height * regions.width}, "as a row of l3 embed");
  }

  export_options const& o_;
  std::string model_;
  onnx_graph graph_;
  onnx_input input_;
};

template <network_config Config>
void add_l3(export_options const& o, network_file& to) {
  using network = l3_network<cpu, Config>;
  network net;
  load_checkpoint<network>(o.checkpoint, net, nullptr);
  float const *const vision = net.data() + network::vision_offset, *const audio = net.data() + network::audio_offset;
  if (o.what == "pair")
    to.judge(net);
  else if (o.what == "image")
    to.see<conv4_2<typename Config::frame, Config::width>>(vision, Config::frame_side);
  else if (to.wants_grid(network::embedding::size, sound_regions))  // of sounds before the ReLU, as the paper has it
    to.hear<typename Config::front_end, conv4_2_before_relu<typename network::sound, Config::width>>(audio);
  else
    to.hear<typename Config::front_end, conv4_2<typename network::sound, Config::width>>(audio);
}

void add_openl3(safetensors_file const& file, std::string const& model, export_options const& o, network_file& to) {
  if (o.what == "pair") throw setting_error({"l3 export of OpenL3's networks", "audio or image", o.what});
  std::string const half = o.what == "image" ? "vision" : "audio";
  if (!holds_half(file, half))
    throw setting_error({"--checkpoint", "a checkpoint with an " + o.what + " network", "one without"});
  bool const known = with_openl3_front_end(model, [&]<class FrontEnd>(FrontEnd) {
    if (o.what == "image") {
      openl3_image_weights weights;
      load_openl3(file, half, weights);
      to.see<openl3_image_map>(weights.data(), openl3_picture_side);
    } else {
      openl3_audio_weights weights;
      load_openl3(file, half, weights);
      to.hear<FrontEnd, openl3_audio_map<FrontEnd>>(weights.data());
    }
  });
  if (!known) throw format_error({file.path().string(), "a model of OpenL3's that l3 knows", detail::excerpt(model)});
}

int export_run(export_options const& o) {
  if (o.what == "pair" && (o.embedding.size != 0 || !o.embedding.pool.empty()))
    throw setting_error(
        {o.embedding.size != 0 ? "--size" : "--pool", "audio or image, whose embedding it is about", o.what});
  if (fs::exists(o.out) && fs::exists(o.checkpoint) && fs::equivalent(o.out, o.checkpoint))
    throw setting_error({"--out", "another file than the checkpoint", o.out});
  if (fs::exists(o.out) && fs::path(o.out).extension() != ".onnx")
    throw setting_error({"--out", "a new file, or an old one that ends in .onnx", o.out + ", another file"});
  safetensors_file const file = safetensors_file::open(o.checkpoint);
  checkpoint_facts const facts = read_checkpoint_facts(file);
  network_file to(o, facts);
  if (is_openl3(facts.model)) {
    add_openl3(file, facts.model, o, to);
  } else {
    std::string const model = model_of_checkpoint(o.checkpoint, facts);
    with_model(model, [&]<class Config>(Config) { add_l3<Config>(o, to); });
  }
  return to.finish();
}

}  // namespace

work add_export(CLI::App& command) {
  auto const o = std::make_shared<export_options>();
  command.footer(
      "OUT takes N items at a time: samples (N, 48000), float, of a second at 48 kHz; picture (N, height, width, 3),\n"
      "bytes of red, green and blue, already scaled and cropped. It gives `embedding`, as `l3 embed` does, or of "
      "pairs\n"
      "`probability`, that they belong together, and `logits`.\n"
      "Example:\n  l3 export onnx audio --checkpoint run/best.safetensors --out audio.onnx");
  command.add_option("to", o->to, "onnx")->required()->check(CLI::IsMember({"onnx"}));
  command.add_option("what", o->what, "audio or image: embeddings; pair: whether both belong together")
      ->required()
      ->check(CLI::IsMember({"audio", "image", "pair"}));
  command.add_option("--checkpoint", o->checkpoint, "Weights, as `l3 train` or `l3 import` writes them")->required();
  command.add_option("--out,-o", o->out, "The network, .onnx")->required();
  command
      .add_option("--input", o->input,
                  "raw: samples and bytes; prepared: spectrogram (N, 1, frequencies, times) and picture\n"
                  "(N, 3, height, width) from -1 to 1, made by whoever calls")
      ->capture_default_str()
      ->check(CLI::IsMember({"raw", "prepared"}));
  o->embedding.add_to(command);
  o->add_to(command);
  return [o] { return export_run(*o); };
}

}  // namespace l3::program
