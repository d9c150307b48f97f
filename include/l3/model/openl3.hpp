/// @file  include/l3/model/openl3.hpp: the networks whose weights OpenL3 has released, up to the embedding.
#pragma once
#include <cstddef>
#include <l3/core/front_end.hpp>
#include <l3/layers/sequential.hpp>
#include <l3/model/subnet.hpp>
#include <string_view>

namespace l3::inline L3_ISA {
namespace detail {

inline constexpr norm_settings keras_norm{1e-3, 0.01};  // Keras's defaults, momentum in PyTorch's meaning

/// conv-BN-ReLU; the convolution has a bias though a batch norm follows.
template <label Conv, label Norm, std::size_t Filters>
using openl3_unit = chain<named<Conv, conv3x3<Filters, true>>, named<Norm, batch_norm<keras_norm>>, relu>;

template <std::size_t Filters>
using openl3_block = chain<openl3_unit<"conv1", "bn1", Filters>, openl3_unit<"conv2", "bn2", Filters>, max_pool<>>;

/// The first block of pictures: its second batch norm comes behind the ReLU.
using openl3_picture_block = chain<openl3_unit<"conv1", "bn1", 64>, named<"conv2", conv3x3<64, true>>, relu,
                                   named<"bn2", batch_norm<keras_norm>>, max_pool<>>;

/// Up to the last convolution, which neither batch norm nor ReLU follow; then whatever Top is.
template <image_shape In, class FirstBlock, class... Top>
using openl3_network =
    sequential<In, named<"bn0", batch_norm<keras_norm>>, named<"block1", FirstBlock>,
               named<"block2", openl3_block<128>>, named<"block3", openl3_block<256>>,
               named<"block4", chain<openl3_unit<"conv1", "bn1", 512>, named<"conv2", conv3x3<512, true>>>>, Top...>;

/// The pool that leaves an embedding of so many values, of a map of In's eighth and a grid of `Cells`.
template <image_shape In, extent2 Cells, std::size_t Size>
constexpr pool openl3_pool() {
  static_assert(Size == 512 || Size == 512 * Cells.height * Cells.width,
                "l3::openl3: an embedding has 512 values, or 512 for each cell: 6144 of sounds, 8192 of pictures");
  constexpr extent2 cells = Size == 512 ? extent2{1, 1} : Cells;
  constexpr extent2 window{In::height / 8 / cells.height, In::width / 8 / cells.width};
  return {window, window};
}

}  // namespace detail

using openl3_picture = image<224, 224, 3>;
inline constexpr std::size_t openl3_picture_side = 256;  ///< smallest side of a picture before its middle is taken
/// Stands for the front end in a checkpoint of the image network alone.
inline constexpr char const* openl3_image_alone = "openl3-image";

/// Calls use(FrontEnd{}) with OpenL3's front end of this name; with openl3_linear for openl3_image_alone, for which any
/// will do. False: there is none.
template <class Use>
bool with_openl3_front_end(std::string_view name, Use&& use) {
  if (name == openl3_image_alone) name = openl3_linear::name;
  auto const one_of = [&]<class... FrontEnds>(FrontEnds... all) {
    return (... || (name == FrontEnds::name && (use(all), true)));
  };
  return one_of(openl3_linear{}, openl3_mel128{}, openl3_mel256{}, openl3_04_mel128{}, openl3_04_mel256{},
                openl3_04_librosa_mel128{}, openl3_04_librosa_mel256{});
}

/// OpenL3's audio network on the pictures of FrontEnd (openl3_linear, openl3_mel128, openl3_mel256, or those of OpenL3
/// 0.4), up to the map of its last convolution. Where weights are concerned all front ends are the same.
///
/// Shapes  x (N, FrontEnd::output), y (N, image<F / 8, T / 8, 512>).
/// Source  Cramer, Wu, Salamon & Bello, "Look, Listen and Learn More" (ICASSP 2019); openl3/models.py of OpenL3 0.4.
template <decibel_front_end FrontEnd>
using openl3_audio_map = detail::openl3_network<typename FrontEnd::output, detail::openl3_block<64>>;

/// OpenL3's image network on pictures from -1 to 1, as far. Source  as openl3_audio_map.
using openl3_image_map = detail::openl3_network<openl3_picture, detail::openl3_picture_block>;

/// The same up to OpenL3's embedding of Size values: 512, or 6144 of sounds and 8192 of pictures.
///
/// Shapes  y (N, image<1, 1, 512>), or (N, image<4, 3, 512>) and (N, image<4, 4, 512>): as they lie in memory,
/// OpenL3's. Errors  compile time: another size.
template <decibel_front_end FrontEnd, std::size_t Size = 6144>
using openl3_audio =
    detail::openl3_network<typename FrontEnd::output, detail::openl3_block<64>,
                           max_pool<detail::openl3_pool<typename FrontEnd::output, sound_regions, Size>()>>;
template <std::size_t Size = 8192>
using openl3_image = detail::openl3_network<openl3_picture, detail::openl3_picture_block,
                                            max_pool<detail::openl3_pool<openl3_picture, picture_regions, Size>()>>;

}  // namespace l3::inline L3_ISA
