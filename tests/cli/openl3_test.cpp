#ifdef L3_WITH_HDF5
#include <hdf5.h>
#include <sys/stat.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "../support/catch.hpp"
#include "run_program.hpp"

namespace {
namespace fs = std::filesystem;
using nlohmann::json;

fs::path sound_of(std::string const& name, std::string const& seconds, std::string const& filter = "anull") {
  fs::path const file = scratch() / name;
  REQUIRE(std::system(("ffmpeg -v error -y -f lavfi -i 'aevalsrc=0.3*sin(400*t*t)+0.1*random(0):s=48000:d=" + seconds +
                       "' -af '" + filter + "' -c:a pcm_f32le " + quoted(file))
                          .c_str()) == 0);
  return file;
}
std::vector<std::vector<float>> rows_of(fs::path const& sound, fs::path const& checkpoint, std::string const& options) {
  outcome const r = l3("embed audio " + quoted(sound) + "--checkpoint " + quoted(checkpoint) + options +
                       " --quiet --overwrite --format json --out " + quoted(scratch() / "rows"));
  INFO(r.err);
  REQUIRE(r.code == 0);
  return json::parse(content(scratch() / "rows" / sound.filename().replace_extension(".json")))
      .at("embedding")
      .get<std::vector<std::vector<float>>>();
}
}  // namespace

TEST_CASE("centred seconds are those of the sound with silence around it, as many as hold all of it") {
  fs::path const tiny = made_up_run() / "best.safetensors";
  // A computation takes 118 rows together, of 12.7 seconds, the first half of which is silence here.
  for (auto const& [seconds, count] : std::vector<std::pair<std::string, std::size_t>>{
           {"0.3", 1}, {"0.5", 1}, {"0.7", 3}, {"12.2", 118}, {"12.21", 119}, {"14.2", 138}}) {
    INFO(seconds << " seconds");
    fs::path const bare = sound_of("bare.wav", seconds),
                   within = sound_of("within.wav", seconds, "adelay=500,apad=pad_dur=1");
    for (std::string const hop : {"0.1", "0.3"}) {  // sharing work, and not
      auto const centred = rows_of(bare, tiny, "--windows centred --hop " + hop),
                 whole = rows_of(within, tiny, "--hop " + hop);
      CHECK((hop == "0.3" || centred.size() == count));
      REQUIRE(whole.size() >= centred.size());
      for (std::size_t k = 0; k != centred.size(); ++k)
        for (std::size_t d = 0; d != centred[k].size(); ++d)
          REQUIRE(centred[k][d] == Approx(whole[k][d]).epsilon(1e-4).margin(1e-5));
    }
  }
}

#ifdef L3_WITH_HDF5
namespace {
/// A weight as Keras keeps it.
struct keras_weight {
  std::string name;
  std::vector<hsize_t> shape;
  std::vector<float> values;
};
struct keras_layer {
  std::string name;
  std::vector<keras_weight> weights;
};

/// A weight as l3 names and shapes it.
struct our_weight {
  std::string name;
  std::vector<std::size_t> shape;
};
/// Those of OpenL3's network on so many colours, in order.
std::vector<our_weight> our_weights(std::size_t colours, std::string const& half) {
  std::vector<our_weight> all;
  auto const norm = [&](std::string const& name, std::size_t channels) {
    for (char const* part : {"weight", "bias", "running_mean", "running_var"}) all.push_back({name + part, {channels}});
  };
  norm(half + ".bn0.", colours);
  std::size_t in = colours;
  for (std::size_t block = 1; block <= 4; ++block)
    for (std::size_t k = 1; k <= 2; ++k) {
      std::size_t const out = 32u << block;
      std::string const at = half + ".block" + std::to_string(block) + ".", number = std::to_string(k);
      all.push_back({at + "conv" + number + ".weight", {out, in, 3, 3}});
      all.push_back({at + "conv" + number + ".bias", {out}});
      if (block < 4 || k == 1) norm(at + "bn" + number + ".", out);
      in = out;
    }
  return all;
}
/// Value i of tensor k, as they lie in Keras's file; gains and variances are about one.
float value_of(std::size_t k, std::size_t i, std::string const& name) {
  bool const one = name.find("bn") != std::string::npos && (name.ends_with("weight") || name.ends_with("var"));
  return static_cast<float>((one ? 1 : 0) + 0.05 * std::sin(12.9898 * static_cast<double>(i) + static_cast<double>(k)));
}
/// The network layer by layer, activations without weights included.
std::vector<keras_layer> keras_network(std::size_t colours) {
  std::vector<keras_layer> layers{{"input_1", {}}};
  for (std::size_t k = 0; our_weight const& w : our_weights(colours, "")) {
    std::string const part = w.name.substr(w.name.rfind('.') + 1);
    bool const conv = w.name.find("conv") != std::string::npos;
    if (part == "weight") layers.push_back({(conv ? "conv2d_" : "batch_normalization_") + std::to_string(k), {}});
    char const* const name = part == "running_mean"  ? "moving_mean"
                             : part == "running_var" ? "moving_variance"
                             : part == "weight"      ? (conv ? "kernel" : "gamma")
                                                     : (conv ? "bias" : "beta");
    auto const& s = w.shape;
    std::vector<hsize_t> shape{s[0]};
    if (s.size() == 4) shape = {s[2], s[3], s[1], s[0]};
    keras_weight theirs{layers.back().name + "/" + name + ":0", shape, {}};
    std::size_t count = 1;
    for (hsize_t const n : shape) count *= n;
    for (std::size_t i = 0; i != count; ++i) theirs.values.push_back(value_of(k, i, w.name));
    layers.back().weights.push_back(std::move(theirs));
    if (part == "running_var") layers.push_back({"activation_" + std::to_string(k), {}});
    ++k;
  }
  return layers;
}

void write_names(hid_t at, char const* attribute, std::vector<std::string> const& names, bool any_length) {
  hsize_t const count = names.size();
  hid_t const type = H5Tcopy(H5T_C_S1);
  std::size_t const size =
      1 + std::max_element(names.begin(), names.end(), [](auto& a, auto& b) { return a.size() < b.size(); })->size();
  H5Tset_size(type, any_length ? H5T_VARIABLE : size);
  hid_t const space = H5Screate_simple(1, &count, nullptr);
  hid_t const list = H5Acreate2(at, attribute, type, space, H5P_DEFAULT, H5P_DEFAULT);
  std::vector<char const*> pointers;
  std::vector<char> fixed(names.size() * size);
  for (std::size_t k = 0; k != names.size(); ++k) {
    pointers.push_back(names[k].c_str());
    std::copy(names[k].begin(), names[k].end(), fixed.begin() + static_cast<std::ptrdiff_t>(k * size));
  }
  REQUIRE(H5Awrite(list, type, any_length ? static_cast<void const*>(pointers.data()) : fixed.data()) >= 0);
  H5Aclose(list), H5Sclose(space), H5Tclose(type);
}

/// As Keras's save_weights, or with a group around it as its save.
fs::path write_keras(std::string const& name, std::vector<keras_layer> const& layers, bool whole = false) {
  fs::path const file = scratch() / name;
  hid_t const out = H5Fcreate(file.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  REQUIRE(out >= 0);
  hid_t const root =
      whole ? H5Gcreate2(out, "model_weights", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT) : H5Gopen2(out, "/", H5P_DEFAULT);
  std::vector<std::string> names;
  hid_t const between = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_create_intermediate_group(between, 1);
  for (keras_layer const& layer : layers) {
    names.push_back(layer.name);
    hid_t const group = H5Gcreate2(root, layer.name.c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    std::vector<std::string> weights;
    for (keras_weight const& w : layer.weights) {
      weights.push_back(w.name);
      hid_t const space = H5Screate_simple(static_cast<int>(w.shape.size()), w.shape.data(), nullptr);
      hid_t const data = H5Dcreate2(group, w.name.c_str(), H5T_IEEE_F32LE, space, between, H5P_DEFAULT, H5P_DEFAULT);
      REQUIRE(H5Dwrite(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, w.values.data()) >= 0);
      H5Dclose(data), H5Sclose(space);
    }
    if (weights.empty()) {  // an empty list of numbers
      hsize_t const none = 0;
      hid_t const space = H5Screate_simple(1, &none, nullptr);
      H5Aclose(H5Acreate2(group, "weight_names", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT));
      H5Sclose(space);
    } else {
      write_names(group, "weight_names", weights, whole);
    }
    H5Gclose(group);
  }
  write_names(root, "layer_names", names, whole);
  H5Pclose(between), H5Gclose(root), H5Fclose(out);
  return file;
}

std::vector<keras_layer> const& audio_layers() {
  static auto const made = keras_network(1);
  return made;
}
}  // namespace

TEST_CASE("OpenL3's weights are imported as Keras lays them out, and embed") {
  bool const whole = GENERATE(false, true);
  fs::path const audio = write_keras("openl3_audio_mel128_env-v0_4_0.h5", audio_layers(), whole);
  fs::path const image = write_keras("openl3_image.h5", keras_network(3), whole);
  fs::path const both = scratch() / "both.safetensors", eyes = scratch() / "eyes.safetensors",
                 ears = scratch() / "ears.safetensors";
  outcome const made = l3("import openl3 " + quoted(audio) + quoted(image) + "--out " + quoted(both) + "--json");
  INFO(made.err);
  REQUIRE(made.code == 0);
  CHECK(json::parse(made.out) ==
        json({{"output", both.string()}, {"audio", true}, {"image", true}, {"front_end", "openl3-mel128"}}));
  std::string const bytes = content(both);
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), sizeof header_size);
  json const header = json::parse(bytes.substr(8, header_size));
  for (std::size_t k = 0; our_weight const& w : our_weights(1, "audio")) {
    INFO(w.name);
    CHECK(header.at(w.name).at("shape") == json(w.shape));
    std::size_t const begin = header.at(w.name).at("data_offsets")[0], end = header.at(w.name).at("data_offsets")[1];
    std::vector<float> found((end - begin) / sizeof(float));
    std::memcpy(found.data(), bytes.data() + 8 + header_size + begin, end - begin);
    std::size_t const outs = w.shape[0], ins = w.shape.size() == 4 ? w.shape[1] : 1,
                      pixels = w.shape.size() == 4 ? 9 : 1;
    REQUIRE(found.size() == outs * ins * pixels);
    std::size_t wrong = 0;
    for (std::size_t out = 0; out != outs; ++out)
      for (std::size_t in = 0; in != ins; ++in)
        for (std::size_t pixel = 0; pixel != pixels; ++pixel)
          wrong += found[(out * ins + in) * pixels + pixel] != value_of(k, (pixel * ins + in) * outs + out, w.name);
    CHECK(wrong == 0);
    ++k;
  }
  if (whole) return;

  // An import replaces an import, and nothing else.
  CHECK(l3("import openl3 " + quoted(audio) + "--out " + quoted(both)).code == 0);
  CHECK(l3("import openl3 " + quoted(audio) + quoted(image) + "--out " + quoted(both)).code == 0);
  fs::path const notes = scratch() / "notes.txt";
  std::ofstream(notes) << "keep";
  for (fs::path const& precious : {notes, image}) {
    outcome const over = l3("import openl3 " + quoted(audio) + "--out " + quoted(precious));
    CHECK(over.code == 2);
    CHECK_THAT(over.err, Contains("a new file, or an earlier import to replace"));
  }
  CHECK(content(notes) == "keep");

  fs::path const sound = sound_of("sound.wav", "0.9");
  // What the network takes in can be looked at, though it has no units of ours.
  std::string const look =
      "inspect spectrogram " + quoted(sound) + "--checkpoint " + quoted(both) + "--out " + quoted(scratch() / "looks");
  outcome const looked = l3(look + "--json");
  INFO(looked.err);
  REQUIRE(looked.code == 0);
  CHECK(json::parse(looked.out).at("files").at(0).at("units").empty());
  std::string const arrays = content(scratch() / "looks/sound.spectrogram.npz");
  CHECK_THAT(arrays, Contains("spectrogram.npy") && Contains("(128, 199)"));
  CHECK(l3(look + "--units 3").code == 2);
  auto const few = rows_of(sound, both, "--hop 0.25 --size 512"), many = rows_of(sound, both, "--hop 0.25 --size 6144");
  REQUIRE(few.size() == 3);  // 0.5 + 0.9 seconds
  REQUIRE(many.size() == 3);
  REQUIRE(many[0].size() == 6144);
  for (std::size_t c = 0; c != 512; ++c) {  // channels innermost
    float largest = -std::numeric_limits<float>::infinity();
    for (std::size_t cell = 0; cell != 12; ++cell) largest = std::max(largest, many[2][cell * 512 + c]);
    CHECK(few[2][c] == largest);
  }
  CHECK(rows_of(sound, both, "--hop 0.25 --windows whole").size() == 1);

  SECTION("one of the two networks, and OpenL3 0.4's spectrograms") {
    REQUIRE(l3("import openl3 " + quoted(audio) + "--front-end 0.4 --out " + quoted(ears)).code == 0);
    REQUIRE(l3("import openl3 " + quoted(image) + "--out " + quoted(eyes)).code == 0);
    CHECK_THAT(content(ears).substr(0, 20000), Contains("\"l3.front_end\":\"openl3-0.4-mel128\""));
    auto const heard = rows_of(sound, ears, "--hop 0.25");
    CHECK(heard != few);
    REQUIRE(l3("import openl3 " + quoted(audio) + "--front-end 0.4-librosa --out " + quoted(ears)).code == 0);
    CHECK_THAT(content(ears).substr(0, 20000), Contains("\"l3.front_end\":\"openl3-0.4-librosa-mel128\""));
    auto const centred = rows_of(sound, ears, "--hop 0.25");
    CHECK(centred != heard);
    CHECK(centred != few);
    fs::path const picture = scratch() / "picture.png";
    REQUIRE(std::system(
                ("ffmpeg -v error -y -f lavfi -i testsrc=s=320x256:d=1:r=1 -frames:v 1 " + quoted(picture)).c_str()) ==
            0);
    std::string const out = " --size 8192 --out " + quoted(scratch() / "seen");
    CHECK(l3("embed image " + quoted(picture) + "--checkpoint " + quoted(eyes) + out).code == 0);
    outcome const one = l3("export onnx image --checkpoint " + quoted(ears) + "--out " + quoted(scratch() / "x.onnx"));
    CHECK(one.code == 2);
    CHECK_THAT(one.err, Contains("--checkpoint: expected a checkpoint with an image network, found one without"));
    outcome const deaf =
        l3("embed audio " + quoted(sound) + "--checkpoint " + quoted(eyes) + "--out " + quoted(scratch() / "x"));
    CHECK(deaf.code == 2);
    CHECK_THAT(deaf.err, Contains("--checkpoint: expected a checkpoint with an audio network, found one without"));
  }
  SECTION("the transfer experiments read them, and what they do not have is refused by name") {
    std::ofstream meta(scratch() / "meta.csv");
    meta << "filename,fold,category\n";
    for (int k = 0; k != 4; ++k) {
      std::string const name = std::to_string(k) + ".wav";
      sound_of(name, "1", k % 2 == 0 ? "anull" : "lowpass=f=300");
      meta << name << ',' << k / 2 + 1 << ',' << (k % 2 == 0 ? "bright" : "dull") << '\n';
    }
    meta.close();
    std::string const probe = "probe esc50 --meta " + quoted(scratch() / "meta.csv") + "--audio " + quoted(scratch()) +
                              "--hop 1 --json --checkpoint " + quoted(both) + "--out " + quoted(scratch() / "heard");
    outcome const heard = l3(probe + "--cost 0.01");
    INFO(heard.err);
    REQUIRE(heard.code == 0);
    json const result = json::parse(heard.out);
    CHECK(result.at("width") == 6144);
    CHECK(result.at("rows") == 4);
    CHECK(result.at("accuracy") == 1);
    CHECK_THAT(result.at("network").get<std::string>(), StartsWith("openl3-mel128, weights "));
    CHECK_THAT(l3(probe).err, Contains("files to choose --cost by: expected at least four"));  // two teach
    for (std::string const where : {"learn/a", "learn/b", "test/a", "test/b"}) {
      fs::path const folder = scratch() / where;
      fs::create_directories(folder);
      REQUIRE(
          std::system(("ffmpeg -v error -y -f lavfi -i " + std::string(where.back() == 'a' ? "testsrc" : "testsrc2") +
                       "=s=256x256:d=1:r=1 -frames:v 1 " + quoted(folder / "one.png"))
                          .c_str()) == 0);
    }
    outcome const seen = l3("probe imagenet --train " + quoted(scratch() / "learn") + "--val " +
                            quoted(scratch() / "test") + "--views 1 --epochs 1 --pool global --json --checkpoint " +
                            quoted(both) + "--out " + quoted(scratch() / "told apart"));
    INFO(seen.err);
    REQUIRE(seen.code == 0);
    CHECK_THAT(seen.out, Contains("conv4_2, global"));
    std::string const by = "--json --checkpoint " + quoted(both) + "--out " + quoted(scratch() / "compared");
    json const apart = json::parse(
        l3("distance image " + quoted(scratch() / "learn") + "--reference " + quoted(scratch() / "test") + by).out);
    CHECK(apart.at("width") == 512);
    CHECK(apart.at("distance").get<double>() < 1e-9);  // they are the same
    std::string const asked = quoted(scratch() / "learn/b/one.png") + "--in ";
    json const alike = json::parse(l3("search image " + asked + quoted(scratch() / "test") + by).out);
    json const& results = alike.at("queries")[0].at("results");
    CHECK(results.size() == 2);
    CHECK(results[0].at("file") == "b/one.png");
    outcome const across = l3("search audio " + asked + quoted(scratch()) + by);
    CHECK(across.code == 2);
    CHECK_THAT(across.err, Contains("by its image: expected an L3-Net"));

    std::string const embed =
        "embed audio " + quoted(sound) + "--out " + quoted(scratch() / "x") + "--checkpoint " + quoted(both);
    for (auto const& [options, said] : std::vector<std::pair<std::string, std::string>>{
             {"--layer pool1", "--layer of OpenL3's networks: expected conv4_2"},
             {"--precision bf16", "--precision for OpenL3's networks: expected fp32, found bf16"},
             {"--backend cuda", "--backend for OpenL3's networks: expected cpu, found cuda"},
             {"--size 8192", "--size: expected 512 (global) or 6144 (grid), found 8192"}}) {
      outcome const r = l3(embed + options);
      CHECK(r.code != 0);
      CHECK_THAT(r.err, Contains(said));
    }
    outcome const units =
        l3("inspect heatmap " + quoted(sound) + "--out " + quoted(scratch() / "x") + "--checkpoint " + quoted(both));
    CHECK(units.code == 2);
    CHECK_THAT(units.err, Contains("--checkpoint: expected one of paper, small or tiny, found openl3-mel128"));
    outcome const eval = l3("eval --data " + quoted(made_up_videos() / "test.csv") + "--checkpoint " + quoted(both));
    CHECK(eval.code == 1);
    CHECK_THAT(eval.err, Contains("expected a checkpoint of paper, small or tiny, found one of model"));
  }
}

TEST_CASE("weights that are not OpenL3's, or damaged, are refused by file, and nothing is left of them") {
  fs::path const out = scratch() / "none.safetensors";
  auto const refused = [&](fs::path const& file, std::string const& said, std::string const& more = "") {
    outcome const r = l3("import openl3 " + quoted(file) + more + " --out " + quoted(out));
    INFO(said << "\n" << r.err);
    CHECK(r.code != 0);
    CHECK_THAT(r.err, Contains(said));
    CHECK(!fs::exists(out));
  };
  auto const changed = [&](auto&& change) {
    auto layers = audio_layers();
    change(layers);
    return write_keras("openl3_audio_linear_env.h5", layers);
  };
  fs::path const plain = write_keras("audio.h5", audio_layers());
  refused(plain, "--input-repr: expected linear, mel128 or mel256, which the name");
  refused(scratch() / "nowhere.h5", "nowhere.h5: expected a file that can be read");
  std::ofstream(scratch() / "text.h5") << "not HDF5";
  refused(scratch() / "text.h5", "expected an HDF5 file");
  H5Fclose(H5Fcreate((scratch() / "empty.h5").c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  refused(scratch() / "empty.h5", "with a list of layer_names, found none");
  refused(changed([](auto& l) { l.pop_back(); }), "weights of a network of OpenL3");
  refused(changed([](auto& l) {
            l[3].weights[0].shape = {3, 3, 64, 1};
          }),
          "block1.conv1.weight of shape (3, 3, 1, 64)");
  refused(changed([](auto& l) { l[3].weights[0].values[5] = std::numeric_limits<float>::quiet_NaN(); }),
          "expected finite values");
  refused(changed([](auto& l) { l[1].weights[3].values[0] = -1; }), "expected variances that are not negative");
  refused(plain, "expected one audio network and one image network, found a second audio network",
          quoted(plain) + "--input-repr linear");
  // Cut off anywhere.
  std::string const bytes = content(plain);
  for (std::size_t const size : {bytes.size() / 2, bytes.size() - 1, std::size_t{100}, std::size_t{2000}}) {
    std::ofstream(scratch() / "cut.h5", std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(size));
    refused(scratch() / "cut.h5", "cut.h5", "--input-repr linear");
  }
  // Names of any length lie in heaps. Told a place outside of its heap, HDF5 1.10 crashes, and later ones refuse.
  std::string lost = content(write_keras("audio.h5", audio_layers(), true));
  std::size_t const heap = lost.find("GCOL");
  REQUIRE(heap != lost.npos);
  std::string const address(reinterpret_cast<char const*>(&heap), sizeof heap);  // little-endian, as in the file
  std::size_t places = 0;
  for (std::size_t at = lost.find(address); at != lost.npos; at = lost.find(address, at + 1), ++places)
    lost[at + address.size() + 3] = 95;  // the highest byte of the place's number
  CHECK(places > 1);
  std::ofstream(scratch() / "lost.h5", std::ios::binary) << lost;
  refused(scratch() / "lost.h5", "lost.h5: expected ", "--input-repr linear");
  // Values of other files are nobody's weights, and a file that nobody writes to is not waited for.
  auto const turned = [&](auto&& turn) {
    fs::path const file = write_keras("openl3_audio_linear_turned.h5", audio_layers());
    hid_t const into = H5Fopen(file.c_str(), H5F_ACC_RDWR, H5P_DEFAULT);
    keras_layer const& layer = audio_layers()[3];
    turn(into, layer.name, layer.weights[1]);
    H5Fclose(into);
    return file;
  };
  refused(turned([](hid_t into, std::string const& layer, keras_weight const& w) {
            hid_t const group = H5Gopen2(into, layer.c_str(), H5P_DEFAULT), made = H5Pcreate(H5P_DATASET_CREATE),
                        space = H5Screate_simple(1, w.shape.data(), nullptr);
            REQUIRE(H5Ldelete(group, w.name.c_str(), H5P_DEFAULT) >= 0);
            REQUIRE(H5Pset_virtual(made, space, (scratch() / "other.h5").c_str(), "d", space) >= 0);
            H5Dclose(H5Dcreate2(group, w.name.c_str(), H5T_IEEE_F32LE, space, H5P_DEFAULT, made, H5P_DEFAULT));
            H5Sclose(space), H5Pclose(made), H5Gclose(group);
          }),
          "in the file itself, found those of another file");
  fs::path const pipe = scratch() / "pipe.h5";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  refused(pipe, "pipe.h5: expected a file, found a pipe");
  refused(turned([&](hid_t into, std::string const& layer, keras_weight const&) {
            REQUIRE(H5Ldelete(into, layer.c_str(), H5P_DEFAULT) >= 0);
            REQUIRE(H5Lcreate_external(pipe.c_str(), "/", into, layer.c_str(), H5P_DEFAULT, H5P_DEFAULT) >= 0);
          }),
          "expected a group for layer");
  // A network that begins with its spectrogram, as OpenL3's did before 0.4.
  auto const with_spectrogram = changed([](auto& l) {
    l.insert(l.begin() + 1, {"melspectrogram_1", {{"melspectrogram_1/real_kernels:0", {4}, {1, 2, 3, 4}}}});
  });
  CHECK(l3("import openl3 " + quoted(with_spectrogram) + "--out " + quoted(out)).code == 0);
}
#else
TEST_CASE("OpenL3's weights are imported as Keras lays them out, and embed") { std::puts("SKIPPED: no HDF5"); }
#endif
