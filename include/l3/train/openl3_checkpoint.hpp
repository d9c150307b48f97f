/// @file  include/l3/train/openl3_checkpoint.hpp: OpenL3's weights in a safetensors file, named as those of L³-Nets
/// are.
#pragma once
#include <cmath>
#include <filesystem>
#include <l3/files/safetensors.hpp>
#include <l3/model/openl3.hpp>
#include <l3/model/weights.hpp>
#include <l3/train/checkpoint.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace l3::inline L3_ISA {

/// The weights of a network of OpenL3, whatever its front end and the size of its embedding.
using openl3_audio_weights = network_weights<openl3_audio_map<openl3_linear>, float>;
using openl3_image_weights = network_weights<openl3_image_map, float>;

/// Writes one network or both, whole or not at all; null: not this one. `front_end` is the name of the audio network's
/// (core/front_end.hpp), `settings` a JSON text that says where they are from. Errors: file_error.
///
/// Tensors  audio.bn0.weight, audio.block1.conv1.weight, ..., vision.block4.conv2.bias.
inline void save_openl3(std::filesystem::path const& path, openl3_audio_weights const* audio,
                        openl3_image_weights const* image, std::string const& front_end, std::string settings = "{}") {
  safetensors_writer out;
  auto const add = [&]<class Chain>(std::string const& half, network_weights<Chain, float> const& weights) {
    for (parameter const& p : Chain::parameters)
      out.add(half + "." + std::string(p.name.view()), {p.shape().begin(), p.shape().end()},
              std::span<float const>(weights.data() + p.offset, p.count()));
  };
  if (audio != nullptr) add("audio", *audio);
  if (image != nullptr) add("vision", *image);
  checkpoint_facts facts{.model = front_end, .front_end = front_end, .settings = std::move(settings)};
  if (audio == nullptr) facts.model = facts.front_end = openl3_image_alone;
  detail::add_facts(out, facts);
  out.write(path);
}

/// Whether a checkpoint has anything of the network of `half` "audio" or "vision".
inline bool holds_half(safetensors_file const& file, std::string const& half) {
  auto const first = file.tensors().lower_bound(half + ".");
  return first != file.tensors().end() && first->first.starts_with(half + ".");
}

/// Reads one of them: of `half` "audio" or "vision". The weights stay as they were on any error. Errors: file_error;
/// format_error if the file lacks a tensor, has it in another shape, or holds values that are not finite.
template <class Chain>
void load_openl3(safetensors_file const& file, std::string const& half, network_weights<Chain, float>& weights) {
  network_weights<Chain, float> read;
  for (parameter const& p : Chain::parameters)
    detail::read_finite(file, half + "." + std::string(p.name.view()), p, {read.data() + p.offset, p.count()});
  weights.copy_from(read);
}

/// Whether a model of this name, as checkpoints have it, is one of OpenL3's.
inline bool is_openl3(std::string_view model) { return model.starts_with("openl3-"); }

}  // namespace l3::inline L3_ISA
