/// @file  include/l3/train/onnx_export.hpp: trained networks as ONNX graphs, with the way from bytes and samples in
/// front of them.
#pragma once
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <l3/core/front_end.hpp>
#include <l3/core/shape.hpp>
#include <l3/files/onnx.hpp>
#include <l3/kernels/mel_filters.hpp>
#include <l3/kernels/region_pool.hpp>
#include <l3/kernels/spectrum.hpp>
#include <l3/layers/sequential.hpp>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// How a layer in use (running averages) is said in ONNX: `add(graph, name, params, x)` adds its operators, whose
/// constants are called `name` and the parameters' names, and returns their result. `params` are the layer's block.
/// Values in the graph are in ONNX's order: (N, C, H, W), or (N, D). Specialise it for layers of your own.
template <class Layer>
struct onnx_form {
  static_assert(sizeof(Layer) == 0, "l3::onnx_form: nobody has said what this layer is in ONNX; specialise it");
};

namespace detail {
inline std::vector<std::int64_t> onnx_extent(extent2 e) {
  return {static_cast<std::int64_t>(e.height), static_cast<std::int64_t>(e.width)};
}

/// x, then all parameters in their order.
template <class Parameters>
std::vector<onnx_value> onnx_inputs(onnx_graph& graph, Parameters const& parameters, std::string const& name,
                                    float const* params, onnx_value const& x) {
  std::vector<onnx_value> inputs{x};
  for (parameter const& p : parameters)
    inputs.push_back(graph.constant(name + "." + std::string(p.name.view()), p.shape(),
                                    std::span<float const>(params + p.offset, p.count())));
  return inputs;
}
}  // namespace detail

template <class In, std::size_t Filters, bool Bias>
struct onnx_form<conv2d<In, Filters, Bias>> {
  static onnx_value add(onnx_graph& graph, std::string const& name, float const* params, onnx_value const& x) {
    auto const inputs = detail::onnx_inputs(graph, conv2d<In, Filters, Bias>::parameters, name, params, x);
    using list = std::vector<std::int64_t>;
    return graph.add("Conv", inputs, {{"kernel_shape", list{3, 3}}, {"pads", list{1, 1, 1, 1}}}, name);
  }
};
template <class In, norm_settings Settings>
struct onnx_form<batch_normalisation<In, Settings>> {
  static onnx_value add(onnx_graph& graph, std::string const& name, float const* params, onnx_value const& x) {
    auto const inputs = detail::onnx_inputs(graph, batch_normalisation<In, Settings>::parameters, name, params, x);
    return graph.add("BatchNormalization", inputs, {{"epsilon", static_cast<float>(Settings.epsilon)}}, name);
  }
};
template <class In>
struct onnx_form<rectifier<In>> {
  static onnx_value add(onnx_graph& graph, std::string const& name, float const*, onnx_value const& x) {
    return graph.add("Relu", {x}, {}, name);
  }
};
template <class In, pool P>
struct onnx_form<max_pool2d<In, P>> {
  static onnx_value add(onnx_graph& graph, std::string const& name, float const*, onnx_value const& x) {
    return graph.add("MaxPool", {x},
                     {{"kernel_shape", detail::onnx_extent(P.window)}, {"strides", detail::onnx_extent(P.stride)}},
                     name);
  }
};
template <class In>
struct onnx_form<global_max_pool2d<In>> {
  static onnx_value add(onnx_graph& graph, std::string const& name, float const*, onnx_value const& x) {
    return graph.add("Flatten", {graph.add("GlobalMaxPool", {x})}, {}, name);
  }
};
template <class In, std::size_t Units>
struct onnx_form<fully_connected<In, Units>> {
  static onnx_value add(onnx_graph& graph, std::string const& name, float const* params, onnx_value const& x) {
    auto const inputs = detail::onnx_inputs(graph, fully_connected<In, Units>::parameters, name, params, x);
    return graph.add("Gemm", inputs, {{"transB", std::int64_t{1}}}, name);
  }
};

namespace detail {
template <class Shape>
onnx_value onnx_pool(onnx_graph&, no_pool<Shape>, std::string const&, onnx_value const& x) {
  return x;
}
template <class Pool>
onnx_value onnx_pool(onnx_graph& graph, Pool, std::string const& name, onnx_value const& x) {
  return onnx_form<Pool>::add(graph, name, nullptr, x);
}

template <label Name, class Layer>
onnx_value onnx_node(onnx_graph& graph, bound<Name, Layer>, std::string const& prefix, float const* params,
                     onnx_value const& x) {
  return onnx_form<Layer>::add(graph, prefix + std::string(Name.view()), params, x);
}
/// What is one node here is layer after layer in the file: runtimes fuse in their own ways.
template <class Conv, class Norm, bool Rectifies, class Pool, class ConvBound, class NormBound>
onnx_value onnx_node(onnx_graph& graph, fused_layers<conv_norm_node<Conv, Norm, Rectifies, Pool>, ConvBound, NormBound>,
                     std::string const& prefix, float const* params, onnx_value const& x) {
  using node = conv_norm_node<Conv, Norm, Rectifies, Pool>;
  std::string const norm = prefix + std::string(NormBound::name.view());
  onnx_value y = onnx_node(graph, ConvBound{}, prefix, params, x);
  y = onnx_node(graph, NormBound{}, prefix, params + node::norm_offset, y);
  if constexpr (Rectifies) y = graph.add("Relu", {y}, {}, norm + ".relu");
  return onnx_pool(graph, Pool{}, norm + ".pool", y);
}
}  // namespace detail

/// Adds all layers of a `sequential`, in use, to a graph; `params` are laid out as Chain::parameters says, and the
/// constants are called as those are, with `prefix` in front ("audio."). Returns the output.
///
/// Shapes  x and the result as Chain::input and Chain::output say: (N, C, H, W), or (N, D).
/// Errors  setting_error: the same `prefix` again.
template <class Chain>
onnx_value add_to_onnx(onnx_graph& graph, std::string const& prefix, float const* params, onnx_value x) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    ((x = detail::onnx_node(graph, typename Chain::template node<I>{}, prefix,
                            params + Chain::template parameters_before<I>, x)),
     ...);
  }
  (std::make_index_sequence<Chain::length>{});
  return x;
}

/// Adds the largest values of a grid's regions of Map, as `pool_regions` finds them, under `name`: an embedding, in
/// l3's own order.
///
/// Shapes  x (N, C, H, W), the result (N, grid.height * grid.width * C).
template <image_shape Map>
onnx_value add_regions_to_onnx(onnx_graph& graph, extent2 grid, onnx_value x, std::string const& name) {
  if (grid == extent2{1, 1}) {
    x = graph.add("GlobalMaxPool", {x});
  } else if (Map::height % grid.height == 0 && Map::width % grid.width == 0) {
    auto const window = detail::onnx_extent({Map::height / grid.height, Map::width / grid.width});
    x = graph.add("MaxPool", {x}, {{"kernel_shape", window}, {"strides", window}});
  } else {  // neighbours share a line
    auto const along = [&](std::int64_t axis, std::size_t length, std::size_t regions) {
      std::vector<onnx_value> largest;
      for (std::size_t k = 0; k != regions; ++k) {
        auto const place = [&](std::size_t at) { return graph.integers({static_cast<std::int64_t>(at)}); };
        onnx_value const some =
            graph.add("Slice", {x, place(region_dims::begin(k, regions, length)),
                                place(region_dims::end(k, regions, length)), graph.integers({axis})});
        largest.push_back(graph.add("ReduceMax", {some}, {{"axes", std::vector<std::int64_t>{axis}}}));
      }
      x = graph.add("Concat", largest, {{"axis", axis}});
    };
    along(2, Map::height, grid.height);
    along(3, Map::width, grid.width);
  }
  x = graph.add("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 2, 3, 1}}});
  return graph.add("Flatten", {x}, {}, name);
}

namespace detail {
/// |transform|^2 of the first `bins` bins of each frame of front end F, as one convolution with windowed waves: of
/// pictures of one line, the kind that every runtime has.
///
/// Shapes  samples (N, F::samples), the result (N, 1, bins, frames).
template <class F>
onnx_value onnx_powers(onnx_graph& graph, std::size_t bins, std::size_t before, onnx_value const& samples) {
  using list = std::vector<std::int64_t>;
  std::vector<float> waves(2 * bins * F::window);
  for (std::size_t n = 0; n != F::window; ++n) {
    auto const window = static_cast<double>(hann_value(n, F::window));
    for (std::size_t k = 0; k != bins; ++k) {
      double const angle = 2 * std::numbers::pi * static_cast<double>(k * n % F::fft) / F::fft;
      waves[k * F::window + n] = static_cast<float>(window * std::cos(angle));
      waves[(bins + k) * F::window + n] = static_cast<float>(window * std::sin(angle));
    }
  }
  std::size_t const end = (F::frames - 1) * F::hop + F::window, given = before + F::samples;
  onnx_value x = graph.add("Reshape", {samples, graph.integers({0, 1, 1, F::samples})});
  x = graph.add(
      "Conv",
      {x, graph.constant("front_end.waves", std::array{2 * bins, std::size_t{1}, std::size_t{1}, F::window}, waves)},
      {{"kernel_shape", list{1, F::window}},
       {"pads",
        list{0, static_cast<std::int64_t>(before), 0, static_cast<std::int64_t>(end > given ? end - given : 0)}},
       {"strides", list{1, F::hop}}});
  x = graph.add("Mul", {x, x});
  x = graph.add("Reshape", {x, graph.integers({0, 2, static_cast<std::int64_t>(bins), F::frames})});
  return graph.add("ReduceSum", {x, graph.integers({1})});
}
/// scale * ln(max(x, least)).
inline onnx_value onnx_level(onnx_graph& graph, onnx_value const& x, float least, float scale,
                             std::string const& name = "") {
  onnx_value const log = graph.add("Log", {graph.add("Max", {x, graph.constant(least)})});
  return graph.add("Mul", {log, graph.constant(scale)}, {}, name);
}
}  // namespace detail

/// Adds what front end F makes of seconds of sound.
///
/// Shapes   samples (N, F::samples), the result (N, 1, height, width) of F::output.
/// Numbers  the transform is a sum of 480 to 2048 products in float: magnitudes are off by some 1e-7 of the frame's
///          loudest, which shows where they are that small. A sample that is not finite may show nowhere.
template <log_front_end F>
onnx_value add_front_end_to_onnx(onnx_graph& graph, onnx_value const& samples, std::string const& name) {
  onnx_value const powers = detail::onnx_powers<F>(graph, F::output::height * F::bins_pooled, 0, samples);
  if constexpr (F::bins_pooled * F::frames_pooled == 1) {
    return detail::onnx_level(graph, powers, 1e-10f, 0.1f, name);
  } else {
    auto const pooled = detail::onnx_extent({F::bins_pooled, F::frames_pooled});
    return detail::onnx_level(
        graph, graph.add("AveragePool", {graph.add("Sqrt", {powers})}, {{"kernel_shape", pooled}, {"strides", pooled}}),
        1e-5f, 0.2f, name);
  }
}
template <decibel_front_end F>
onnx_value add_front_end_to_onnx(onnx_graph& graph, onnx_value const& samples, std::string const& name) {
  onnx_value x = detail::onnx_powers<F>(graph, F::bins, F::before, samples);
  if constexpr (!F::sums_powers) x = graph.add("Sqrt", {x});
  if constexpr (F::bands != mel_bands::none) {
    mel_filters<F> const filters;
    std::vector<float> weights(filters.rows * F::bins);
    for (std::size_t row = 0; row != filters.rows; ++row)
      filters.each(row, [&](std::size_t k, float weight) { weights[row * F::bins + k] = weight; });
    x = graph.add("MatMul", {graph.constant("front_end.bands", std::array{filters.rows, F::bins}, weights), x});
  }
  x = detail::onnx_level(graph, x, F::least, F::scale);
  x = graph.add("Sub", {x, graph.add("ReduceMax", {x}, {{"axes", std::vector<std::int64_t>{1, 2, 3}}})});
  return graph.add("Max", {x, graph.constant(F::floor)}, {}, name);
}

/// What an exported network is given.
enum class onnx_input : std::uint8_t {
  raw,      ///< samples of sounds, bytes of pictures
  prepared  ///< spectrograms; pictures from -1 to 1, channels first
};

/// Adds an input for seconds of sound, and front end F where they are raw. Returns what a network looks at.
///
/// Shapes  input "samples" (N, F::samples) or "spectrogram", which the result is, (N, 1, height, width).
template <class F>
onnx_value add_sounds_to_onnx(onnx_graph& graph, onnx_input kind) {
  using picture = typename F::output;
  if (kind == onnx_input::prepared)
    return graph.input("spectrogram", onnx_type::float32, std::array{std::size_t{1}, picture::height, picture::width},
                       "front end " + std::string(F::name) + ": frequency from low to high, then time");
  onnx_value const samples =
      graph.input("samples", onnx_type::float32, std::array{F::samples},
                  "one second of mono sound at " + std::to_string(F::sample_rate) + " Hz, full scale 1");
  return add_front_end_to_onnx<F>(graph, samples, "spectrogram");
}
/// Adds an input for pictures of a shape.
///
/// Shapes  input "picture", uint8 (N, H, W, 3) or float (N, 3, H, W), which the result is.
template <image_shape Picture>
onnx_value add_pictures_to_onnx(onnx_graph& graph, onnx_input kind) {
  std::string const name = "picture";
  if (kind == onnx_input::prepared)
    return graph.input(name, onnx_type::float32, std::array{Picture::channels, Picture::height, Picture::width},
                       "red, green and blue, from -1 to 1");
  onnx_value const bytes = graph.input(
      name, onnx_type::uint8, std::array{Picture::height, Picture::width, Picture::channels}, "red, green, blue");
  onnx_value x = graph.add("Cast", {bytes}, {{"to", static_cast<std::int64_t>(onnx_type::float32)}});
  x = graph.add("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 3, 1, 2}}});
  x = graph.add("Mul", {x, graph.constant(2.0f / 255)});
  return graph.add("Sub", {x, graph.constant(1.0f)});
}

/// Adds a fusion head, whose parameters are at `params`: "logits" (N, 2), and "probability" (N) that picture and sound
/// belong together. Returns these two names.
///
/// Shapes  v, a (N, D).
template <class Fusion>
std::pair<onnx_value, onnx_value> add_fusion_to_onnx(onnx_graph& graph, float const* params, onnx_value const& v,
                                                     onnx_value const& a) {
  auto const given = detail::onnx_inputs(graph, Fusion::parameters, "fusion", params,
                                         graph.add("Concat", {v, a}, {{"axis", std::int64_t{1}}}));
  onnx_attribute const as_stored{"transB", std::int64_t{1}};
  onnx_value const hidden = graph.add("Relu", {graph.add("Gemm", {given[0], given[1], given[2]}, {as_stored})});
  onnx_value const logits = graph.add("Gemm", {hidden, given[3], given[4]}, {as_stored}, "logits");
  onnx_value const both = graph.add("Softmax", {logits}, {{"axis", std::int64_t{1}}});
  return {logits, graph.add("Gather", {both, graph.integer(1)}, {{"axis", std::int64_t{1}}}, "probability")};
}

}  // namespace l3::inline L3_ISA
